"""Encrypted OpenDocument: seen, and opened with a password that is known."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from netinspect.files import odf
from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Member, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives

MIMETYPE = b"application/vnd.oasis.opendocument.text"
SALT, VECTOR = b"salt of 16 octet", b"vector 16 octets"


def encrypted(members: Mapping[str, bytes], password: str, rounds: int = 1000, digest: str = "sha256-1k") -> bytes:
    """A document as LibreOffice encrypts it."""
    key = hashlib.pbkdf2_hmac("sha1", hashlib.sha256(password.encode()).digest(), SALT, rounds, 32)
    packed: dict[str, bytes] = {"mimetype": MIMETYPE}
    entries = []
    for name, content in members.items():
        engine = zlib.compressobj(9, zlib.DEFLATED, -15)
        plain = engine.compress(content) + engine.flush()
        checked = plain[:1024] if digest.endswith("1k") else plain
        padding = 16 - len(plain) % 16
        cipher = Cipher(algorithms.AES(key), modes.CBC(VECTOR)).encryptor()
        packed[name] = cipher.update(plain + bytes(padding - 1) + bytes([padding]))
        told = {
            "m:checksum-type": f"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0#{digest}",
            "m:checksum": base64.b64encode(hashlib.sha256(checked).digest()).decode(),
            "m:algorithm-name": "http://www.w3.org/2001/04/xmlenc#aes256-cbc",
            "m:initialisation-vector": base64.b64encode(VECTOR).decode(),
            "m:start-key-generation-name": "http://www.w3.org/2000/09/xmldsig#sha256",
            "m:key-derivation-name": "PBKDF2", "m:iteration-count": str(rounds),
            "m:salt": base64.b64encode(SALT).decode(),
        }  # fmt: skip
        text = " ".join(f'{name}="{value}"' for name, value in told.items())
        entries.append(f'<m:file-entry m:full-path="{name}"><m:encryption-data {text}/></m:file-entry>')
    packed[odf.MANIFEST] = f"<m:manifest>{''.join(entries)}</m:manifest>".encode()
    return archives.make_zip(packed, 0)


def opened(data: bytes, *passwords: str) -> tuple[dict[str, Member], Report]:
    report = Report()
    found = unpack(data, identify(data), "a.odt", Budget(Limits(), lambda: passwords), report)
    return {one.name: one for one in found}, report


PLAIN = {"content.xml": b"<x>letter</x>", "Pictures/a.bin": bytes(range(256)) * 20}


@given(digest=st.sampled_from(["sha256-1k", "sha256"]))
def test_a_known_password_opens_the_document(digest: str) -> None:
    members, report = opened(encrypted(PLAIN, "Sommer24", digest=digest), "wrong", "Sommer24")
    assert {name: members[name].data for name in PLAIN} == PLAIN
    assert [(one.trait, one.detail) for one in report.sights] == [("password", "Sommer24")]
    assert report.encrypted == report.unscanned == []


def test_without_the_password_the_document_is_encrypted() -> None:
    members, report = opened(encrypted(PLAIN, "Sommer24"), "wrong")
    assert "content.xml" not in members
    assert report.encrypted == ["content.xml"]


def test_a_cipher_that_is_not_known_is_encrypted() -> None:
    data = encrypted(PLAIN, "Sommer24").replace(b"aes256-cbc", b"aes256-xyz")
    assert opened(data, "Sommer24")[1].encrypted == ["content.xml"]


def test_a_key_that_costs_too_much_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odf, "ROUNDS", 999)
    assert opened(encrypted(PLAIN, "x"), "x")[1].encrypted == ["content.xml"]


def test_a_document_that_is_not_encrypted_is_given_as_it_is() -> None:
    data = archives.make_zip({"mimetype": MIMETYPE, "content.xml": b"<x/>", odf.MANIFEST: b"<m:manifest/>"}, 0)
    members, report = opened(data)
    assert members["content.xml"].data == b"<x/>"
    assert report == Report()


def test_a_document_without_the_mark_at_its_start_is_one() -> None:
    assert identify(archives.make_zip({"content.xml": b"<x/>", odf.MANIFEST: b"<m:manifest/>"})) == "odf"


@settings(max_examples=60)
@given(at=st.integers(0, 4000), octet=st.integers(0, 255))
def test_a_damaged_document_is_never_silently_without_its_content(at: int, octet: int) -> None:
    data = bytearray(encrypted(PLAIN, "x"))
    data[at % len(data)] = octet
    members, report = opened(bytes(data), "x")
    assert report.encrypted or report.unscanned or report.anomalies or len(members) >= 3


@given(st.binary(max_size=300))
def test_any_manifest_is_read(rubbish: bytes) -> None:
    odf.sealed(b"<m:file-entry m:full-path='a'><m:encryption-data" + rubbish)

"""Encrypted OpenDocument files: which members are, and opening them with a password that is known.

OpenDocument 1.2 part 3 ("Packages") 4.4 and 4.8: the manifest names for each encrypted member its cipher, a salt and
the derivation of the key. What LibreOffice has written since version 3.5 is opened (AES-256-CBC, PBKDF2 over the
SHA-256 of the password, then deflate); Blowfish and what is newer stay closed.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from netinspect.files.budget import Budget, Damaged, Report
from netinspect.files.streams import ERRORS, Deflate, inflate

MANIFEST: Final = "META-INF/manifest.xml"
ROUNDS: Final = 200_000
"""Of the key derivation for one try; LibreOffice writes 100,000."""
_TRIES: Final = 20
"""Passwords for one document: each costs up to 0.1 s."""

_ENTRY = re.compile(r"<(?:\w+:)?file-entry\b(?:(?!</?(?:\w+:)?file-entry\b).){0,8192}", re.DOTALL)
_VALUE = re.compile(
    r"\b(full-path|checksum|checksum-type|initialisation-vector|salt|iteration-count|algorithm-name|"
    r"key-derivation-name|start-key-generation-name)\s*=\s*[\"']([^\"']{0,400})[\"']"
)


@dataclass(frozen=True, slots=True)
class Sealed:
    """How one member is encrypted."""

    checksum: bytes
    digest: str
    vector: bytes
    salt: bytes
    rounds: int


def sealed(manifest: bytes) -> dict[str, Sealed | None]:
    """The encrypted members by name; None where they are in a way that nothing here opens."""
    if b"encryption-data" not in manifest:
        return {}
    found: dict[str, Sealed | None] = {}
    for entry in _ENTRY.finditer(manifest.decode("utf-8", "replace")):
        if "encryption-data" in entry[0]:
            values = {match[1]: match[2] for match in _VALUE.finditer(entry[0])}
            found[values.get("full-path", "")] = _sealed(values)
    return found or {"content.xml": None}


def _sealed(values: Mapping[str, str]) -> Sealed | None:
    told = values.get("checksum-type", "").rpartition("#")[2].lower()
    try:
        one = Sealed(
            _octets(values["checksum"]), told, _octets(values["initialisation-vector"]), _octets(values["salt"]),
            int(values["iteration-count"]),
        )  # fmt: skip
    except (LookupError, ValueError):
        return None
    known = (
        values.get("algorithm-name", "").endswith("aes256-cbc") and values.get("key-derivation-name", "") == "PBKDF2"
        and values.get("start-key-generation-name", "").endswith("sha256") and "sha256" in told
        and len(one.vector) == 16 and 0 < one.rounds <= ROUNDS
    )  # fmt: skip
    return one if known else None


def _octets(text: str) -> bytes:
    return binascii.a2b_base64(text)


class Opener:
    """Opens the encrypted members of one document, with one password."""

    def __init__(self, manifest: bytes, budget: Budget, report: Report) -> None:
        self._sealed = sealed(manifest)
        self._budget = budget
        self._report = report
        self._password: str | None = None
        self._tried = False

    def plain(self, name: str, content: bytes) -> bytes | None:
        """What `content` is when it was not encrypted; None, with a word in the report, when it cannot be opened.

        Raises:
            OverBudget: too much comes out.
        """
        if name not in self._sealed:
            return content
        how = self._sealed[name]
        octets = None
        if how is not None:
            if not self._tried:
                self._tried = True
                self._password = self._find(how, content)
            if self._password is not None:
                octets = _decrypted(how, content, self._password)
        if octets is None:
            if not self._report.encrypted:  # one document, one password
                self._report.encrypted.append(name)
            return None
        try:
            return inflate(memoryview(octets), lambda: Deflate(-15), self._budget, partial=True)[0]
        except (Damaged, *ERRORS):
            self._report.could_not("damaged archive")
            return None

    def _find(self, how: Sealed, content: bytes) -> str | None:
        for password in list(self._budget.passwords)[:_TRIES]:
            if not self._budget.take_try():
                return None
            if _decrypted(how, content, password) is not None:
                self._budget.opened_with(password)
                self._report.saw("password", password)
                return password
        return None


def _decrypted(how: Sealed, data: bytes, password: str) -> bytes | None:
    """The deflated content with its padding; None when the password is wrong."""
    if not data or len(data) % 16:
        return None
    start = hashlib.sha256(password.encode("utf-8", "replace")).digest()
    key = hashlib.pbkdf2_hmac("sha1", start, how.salt, how.rounds, 32)
    engine = Cipher(algorithms.AES(key), modes.CBC(how.vector)).decryptor()
    head = engine.update(data[:1024])
    if "1k" in how.digest:  # of the first 1,024 octets
        last = len(data) <= 1024 and 0 < head[-1] <= 16
        if not any(
            hmac.compare_digest(hashlib.sha256(octets).digest(), how.checksum)
            for octets in ((head[: -head[-1]], head) if last else (head,))
        ):
            return None
        return head + engine.update(data[1024:])
    plain = head + engine.update(data[1024:])
    padding = plain[-1]
    whole = plain[:-padding] if 0 < padding <= 16 else plain
    return plain if hmac.compare_digest(hashlib.sha256(whole).digest(), how.checksum) else None

"""Any octets under any kind: members and a report come out, never an exception, within the budget."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files import kind as kinds
from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives, cfb, office
from tests.files import made

LIMITS = Limits(archive_members=50, archive_bytes=2_000_000, member_bytes=1_000_000, password_tries=3)
WORD = "x"
MEMBERS = {"a.txt": b"content of a file " * 30, "b.exe": b"MZ" + bytes(200)}


@cache
def seeds() -> dict[str, bytes]:
    return {
        "zip": archives.make_zip(MEMBERS), "lzma": archives.make_zip(MEMBERS, 14), "tar": archives.make_tar(MEMBERS),
        "gzip": archives.make_gzip(b"x" * 500), "7z": made.packed(MEMBERS, "SevenZip"), "rar": made.rar5(MEMBERS),
        "cab": made.cab(MEMBERS), "lzh": made.lzh(MEMBERS), "arj": made.arj(MEMBERS), "ar": made.ar(MEMBERS),
        "cpio": made.cpio(MEMBERS), "wim": made.packed(MEMBERS, "Wim"), "doc": office.melissa_doc(),
        "docm": office.melissa_docm(), "closed": made.packed(MEMBERS, "SevenZip", password=WORD, names_too=True),
        "compound": cfb.write({"a/\x01Ole10Native": b"\x20\0\0\0\x02\0a\0b\0\0\0\3\0\2\0\0\0a\0\1\0\0\0x"}),
    }  # fmt: skip


def survive(data: bytes, kind: str) -> None:
    report = Report()
    size = 0
    for member in unpack(data, kind, "x", Budget(LIMITS, lambda: ["a", "b"]), report):
        size += len(member.data)
    assert size <= LIMITS.archive_bytes


@pytest.mark.parametrize("name", sorted(seeds()))
def test_damaged_files_of_each_kind_raise_nothing(name: str) -> None:
    whole = seeds()[name]
    for seed in range(40):
        chance = random.Random(f"{name}{seed}")
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            width = chance.choice((1, 1, 2, 4))
            data[at : at + width] = chance.choice((b"\0", b"\xff", chance.randbytes(1))) * width
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        survive(bytes(data), kinds.identify(bytes(data)))


_OTHERS = {"rtf", "pdf", "onenote", "eml", "html", "text", "exe", "tnef"}
_KINDS = sorted(kinds.ARCHIVES | kinds.ZIPS | kinds.OLES | _OTHERS)


@given(st.sampled_from(_KINDS), st.binary(max_size=400))
def test_any_octets_as_any_kind_raise_nothing(kind: str, data: bytes) -> None:
    survive(data, kind)


_MARKS = (
    b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c\0\4", b"Rar!\x1a\x07\x01\0", b"%PDF-1.4 /JS ", b"{\\rtf1\\object ",
    b"MSCF\0\0\0\0", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"<html>atob base64,",
)  # fmt: skip


@given(st.binary(max_size=300))
def test_marks_in_front_of_rubbish_raise_nothing(tail: bytes) -> None:
    for magic in _MARKS:
        survive(magic + tail, kinds.identify(magic + tail))

"""OneNote sections: the files that were put into them ([MS-ONESTORE] 2.6.13, FileDataStoreObject)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

from netinspect.files.budget import Budget, Member, Report

_OBJECT: Final = uuid.UUID("bde316e7-2665-4511-a4c4-8d4d0b7a9eac").bytes_le
# The other packaging ([MS-ONESTORE] 2.8) holds them as plain stretches among other data: told by how files begin.
PACKAGED: Final = uuid.UUID("638de92f-a6d4-4bc1-9a36-b3fc2511a5b7").bytes_le
_BEGINNINGS: Final = (
    b"MZ\x90\x00", b"MZP\x00", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"%PDF-", b"L\0\0\0\x01\x14\x02\0",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"<html", b"<HTA", b"<script", b"MSCF\0\0\0\0",
)  # fmt: skip
_CARVED: Final = 8


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the embedded files; their names stand elsewhere, so they are numbered. Raises OverBudget."""
    number = 0
    at = data.find(_OBJECT)
    while at >= 0:
        # GUID (16), length (8), unused (4), reserved (8), the file.
        length = int.from_bytes(data[at + 16 : at + 24], "little")
        content = data[at + 36 : at + 36 + length]
        if content:
            number += 1
            report.saw("package", f"file{number}")
            if len(content) < length:
                report.could_not("damaged document")
            yield Member(f"file{number}", budget.take(content))
        at = data.find(_OBJECT, at + 36 + len(content))
    if number or PACKAGED not in data[:64]:
        return
    for beginning in _BEGINNINGS:
        at = data.find(beginning)
        while at >= 0 and number < _CARVED:
            number += 1
            report.saw("package", f"file{number}")
            yield Member(f"file{number}", budget.take(data[at:]))
            at = data.find(beginning, at + len(beginning))

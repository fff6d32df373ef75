"""Objects in RTF, through oletools' `rtfobj`: packages, compound files, and what is none of both."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from oletools import rtfobj

from netinspect.files import ole
from netinspect.files.budget import Budget, Member, Report

LONGEST: Final = 33_554_432
"""Octets; the parser is Python."""

# Pictures are hexadecimal as well, so nothing is parsed where no object can be.
_MARKS: Final = (b"\\obj", b"d0cf11e0", b"D0CF11E0", b"\\bin", b"\\ob")
_ERRORS: Final = (
    ValueError, LookupError, struct.error, OverflowError, TypeError, AttributeError, OSError, RuntimeError,
)  # fmt: skip


class Objects:
    """The embedded objects of one document. `damaged`: the parser stopped before the end."""

    __slots__ = ("_data", "damaged", "found")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.damaged = False
        parser = rtfobj.RtfObjParser(data)
        try:
            parser.parse()
        except _ERRORS:
            # What was found before is in its list: Word opens such files up to the damage too.
            self.damaged = True
        self.found = list(parser.objects)

    def of(self, data: bytes) -> bool:
        """Whether these are the objects of exactly `data`."""
        return self._data is data


_last: list[Objects] = []


def objects(data: bytes, *, keep: bool = False) -> Objects:
    """Take `data` apart: slow, a second for a megabyte of text.

    With `keep` the answer waits for the next who asks about the same octets: the office engine looks first, the
    unpacker after it.
    """
    kept = _last.pop() if _last else None
    answer = kept if kept is not None and kept.of(data) else Objects(data)
    if keep:
        _last.append(answer)
    return answer


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the content of each object. Raises OverBudget."""
    if not any(mark in data for mark in _MARKS):
        return
    if len(data) > LONGEST:
        report.could_not("document too long")
        return
    budget.check_time()
    told = objects(data)
    if told.damaged:
        report.could_not("damaged document")
    for number, found in enumerate(told.found, 1):
        if found.is_package:
            report.saw("package", str(found.filename or ""))
            file = str(found.filename or f"package{number}").replace("\\", "/").rpartition("/")[2]
            yield Member(file, budget.take(bytes(found.olepkgdata or b"")))
        elif found.is_ole and found.oledata:
            content = bytes(found.oledata)
            if content.startswith(b"\xd0\xcf\x11\xe0"):
                yield Member(f"object{number}", budget.take(content))
            else:
                yield from ole.native_member(content, budget, report, sized=False)
                yield Member(f"object{number}", budget.take(content))
        elif found.rawdata:
            yield Member(f"raw{number}", budget.take(bytes(found.rawdata)))

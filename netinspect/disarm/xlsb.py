"""The records of a binary workbook ([MS-XLSB] 2.1.4): names that start macros, objects and controls on a sheet."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from netinspect.disarm.contract import CannotClean

RECORDS: Final = 3_000_000
"""Records of one part; each cell is one."""

EMPTY_SHEET: Final = b"\x81\x01\x00\x91\x01\x00\x92\x01\x00\x82\x01\x00"
"""BrtBeginSheet, BrtBeginSheetData, BrtEndSheetData, BrtEndSheet."""

_NAME: Final = 39
_HIDDEN, _FUNCTION, _MACRO, _PROCEDURE, _BUILTIN = 0x1, 0x2, 0x4, 0x8, 0x20
# 2.1.4: what stands between these two is about objects and controls of the sheet.
_RANGES: Final = {638: 640, 643: 645}
_START: Final = "auto_".encode("utf-16-le")


def clean(data: bytes, *, objects: bool) -> tuple[bytes, list[tuple[str, str]]]:
    """Edit one part; the same object and `[]` when nothing was to be done.

    `objects`: the objects and controls that it names are gone.
    """
    out: list[bytes] = []
    removed: list[tuple[str, str]] = []
    at = until = 0
    for kind, start, body, end in _records(data):
        if until:
            if kind == until:
                until, at = 0, end
            continue
        if objects and kind in _RANGES:
            out.append(data[at:start])
            until = _RANGES[kind]
            at = end
            removed.append(("object", "records"))
        elif kind == _NAME:
            edited = _name(data[body:end])
            if edited is not None:
                out += (data[at:body], edited)
                at = end
                removed.append(("xlm", "name"))
    if until:
        raise CannotClean("damaged document")
    if not removed:
        return data, []
    out.append(data[at:])
    return b"".join(out), list(dict.fromkeys(removed))


def _records(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """`(type, start, start of the content, end)`."""
    at, size_of_all = 0, len(data)
    for _ in range(RECORDS):
        if at >= size_of_all:
            return
        start = at
        kind = data[at]
        at += 1
        if kind & 0x80:
            if at >= size_of_all:
                raise CannotClean("damaged document")
            kind = kind & 0x7F | (data[at] & 0x7F) << 7
            at += 1
        size = shift = 0
        while True:
            if at >= size_of_all or shift > 21:
                raise CannotClean("damaged document")
            octet = data[at]
            size |= (octet & 0x7F) << shift
            shift += 7
            at += 1
            if not octet & 0x80:
                break
        if at + size > size_of_all:
            raise CannotClean("damaged document")
        yield kind, start, at, at + size
        at += size
    raise CannotClean("document too long")


def _name(record: bytes) -> bytes | None:
    """BrtName (2.4.725) of what starts or is a macro, renamed in place: formulas count names by their order."""
    if len(record) < 13:
        return None
    flags, _, _, length = struct.unpack_from("<IBII", record)
    name = record[13 : 13 + 2 * length]
    starts = _START in name.lower()
    if not starts and not flags & (_FUNCTION | _MACRO | _PROCEDURE):
        return None
    flags &= ~(_FUNCTION | _MACRO | _PROCEDURE)
    if starts:
        flags &= ~_BUILTIN
        low = name.lower()
        place = low.find(_START)
        name = name[:place] + "none_".encode("utf-16-le") + name[place + len(_START) :]
    return struct.pack("<I", flags) + record[4:13] + name + record[13 + 2 * length :]

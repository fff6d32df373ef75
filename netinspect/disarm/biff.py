"""A workbook stream ([MS-XLS]) without Excel 4 macros, DDE and links to objects.

Records are changed in place or made shorter, never longer: what the globals lose is filled behind their end, so every
offset in the file stays right. Sheets keep their number (formulas count them): a macro sheet becomes an empty one.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from netinspect.disarm.contract import CannotClean, Removal

RECORDS: Final = 3_000_000
"""Records that are walked; each cell is one, 65,536 rows of 256 columns would be more than a mail holds."""

_EOF, _SHEET, _NAME, _PASSWORD = 0x000A, 0x0085, 0x0018, 0x002F
_SUPBOOK, _EXTERNSHEET, _CONTINUE = 0x01AE, 0x0017, 0x003C
_EXTERNNAMES: Final = frozenset({0x0023, 0x0223})
_EXTSST: Final = 0x00FF
# ObProj, ObNoMacros: with them and without a project Excel says that the workbook lost something.
_PROJECT: Final = frozenset({0x00D3, 0x01BD})
_BOFS: Final = frozenset({0x0009, 0x0209, 0x0409, 0x0809})
_GLOBALS, _WORKSHEET = 0x0005, 0x0010
_MACROS: Final = frozenset({0x0006, 0x0040})
"""Substreams of Visual Basic modules (Excel 95) and of macro sheets."""
_FILLER: Final = 0x0000

_BUILTIN_STARTS: Final = frozenset({1, 2, 10, 11})
_AUTO = re.compile(rb"a(\0?)u\1t\1o\1_", re.IGNORECASE)
# EXEC, REGISTER, CALL, INITIATE, POKE, EXECUTE, FOPEN, FWRITELN, FWRITE as PtgFunc and PtgFuncVar (2.5.198.62 f.).
_CALLS = re.compile(
    rb"[\x21\x41\x61][\x69-\x6c\x84\x89\x8a\x95\x96\x6e]\x00|[\x22\x42\x62].[\x69-\x6c\x84\x89\x8a\x95\x96\x6e][\x00\x80]",
    re.DOTALL,
)
_ADDIN: Final = b"\x01\x00\x01\x3a"
"""2.4.271: a SupBook for functions of add-ins. Its names stand for nothing."""
_NO_NAME: Final = b"\0\0\0\0\0\0\x01\0_\0\0"
"""2.4.105, AddinUdf: no flags, reserved, the name `_`, no further octets."""


def clean(stream: bytes) -> tuple[bytes, list[Removal]]:
    """Clean one workbook stream; the same object and `[]` when nothing was to be done.

    Raises:
        CannotClean: encrypted, damaged or too long.
    """
    book = _Book(stream)
    book.globals()
    book.sheets()
    if not book.removed:
        return stream, []
    return bytes(book.out), list(dict.fromkeys(book.removed))


def _records(stream: bytes | bytearray, at: int) -> list[tuple[int, int, int]]:
    """`(type, start, end)` of the records of one substream, those nested in it too, with the end record."""
    records: list[tuple[int, int, int]] = []
    depth, length = 0, len(stream)
    while at + 4 <= length:
        kind = stream[at] | stream[at + 1] << 8
        end = at + 4 + (stream[at + 2] | stream[at + 3] << 8)
        if end > length or len(records) >= RECORDS:
            raise CannotClean("damaged workbook")
        records.append((kind, at, end))
        at = end
        if kind in _BOFS:
            depth += 1
        elif kind == _EOF:
            depth -= 1
            if depth <= 0:
                return records
    raise CannotClean("damaged workbook")


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack("<HH", kind, len(content)) + content


class _Book:
    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self.out = bytearray(stream)
        self.removed: list[Removal] = []
        self._sheets: list[tuple[int, bool]] = []

    def globals(self) -> None:
        """Go over the globals, and write them anew where something goes."""
        stream = self._stream
        records = _records(stream, 0)
        kind, start, _ = records[0]
        if kind not in _BOFS or int.from_bytes(stream[start + 6 : start + 8], "little") not in (_GLOBALS, 0x0100):
            raise CannotClean("workbook too old")
        self._biff8 = int.from_bytes(stream[start + 4 : start + 6], "little") == 0x0600
        end = records[-1][2]
        out = bytearray()
        lost = linked = skipping = False
        cut_before_table = 0
        for kind, start, stop in records:
            content = stream[start + 4 : stop]
            new: bytes | None = stream[start:stop]
            if kind == _PASSWORD:
                raise CannotClean("encrypted")
            if kind == _CONTINUE and skipping:
                new = None
            elif kind == _SHEET and len(content) > 6:
                new = self._sheet(content)
            elif kind == _NAME and len(content) > 15:
                new = _record(kind, self._name(content))
            elif kind == _SUPBOOK:
                # 2.4.271: 0x03 parts the server from the topic; the two others are this workbook and add-ins.
                linked = content[2:4] not in (b"\x01\x04", b"\x01\x3a") and b"\x03" in content[5:]
                skipping = linked
                if linked:
                    self.removed.append(Removal("dde", _shown(content[5:])))
                    new = _record(kind, _ADDIN)
            elif kind == _EXTERNSHEET and not self._biff8 and b"\x03" in content[2:]:
                self.removed.append(Removal("dde", _shown(content[2:])))
                new = _record(kind, b"\x01\x3a".ljust(len(content), b"\0"))
            elif kind in _EXTERNNAMES:
                skipping = linked
                if linked:
                    new = _record(kind, _NO_NAME)
            elif kind in _PROJECT:
                new, lost = None, True
            elif kind == _EXTSST:
                cut_before_table = start - len(out)
                new = _record(kind, _moved(content, cut_before_table))
            if kind not in (_CONTINUE, _SUPBOOK, *_EXTERNNAMES):
                skipping = False
            if new is not None:
                out += new
        if lost:
            self.removed.append(Removal("vba", "ObProj"))
        gap = end - len(out)
        if gap < 0:
            raise CannotClean("links of the workbook")
        if self.removed:
            self.out[:end] = out + _filler(gap)

    def _sheet(self, content: bytes) -> bytes:
        """2.4.28: dt tells what the sheet is."""
        at = int.from_bytes(content[:4], "little")
        macro = content[5] in (1, 6)
        self._sheets.append((at, macro))
        if not macro:
            return _record(_SHEET, content)
        self.removed.append(Removal("xlm" if content[5] == 1 else "vba", _sheet_name(content, self._biff8)))
        return _record(_SHEET, content[:5] + b"\0" + content[6:])

    def _name(self, content: bytes) -> bytes:
        """2.4.150: a name that starts macros, or is one, becomes one that does nothing."""
        at = 15 if self._biff8 else 14
        size, length = content[3], int.from_bytes(content[4:6], "little")
        wide = self._biff8 and content[14] & 1
        stop = at + size * (2 if wide else 1)
        name = content[at:stop]
        formula = content[stop : stop + length]
        flags = int.from_bytes(content[:2], "little")
        builtin = flags & 0x20 and name[:1] and name[0] in _BUILTIN_STARTS
        started = None if flags & 0x20 else _AUTO.search(name)
        macro = flags & 0x0E
        calls = _CALLS.search(formula)
        if not (builtin or started or macro or calls):
            return content
        flags &= ~0x0E
        if builtin:
            flags &= ~0x20
            name = bytes((0xC0 + name[0],)) + name[1:]  # a letter of its own for each
        elif started:
            name = name[: started.start()] + _NONE[bool(started[1])] + name[started.end() :]
        if calls:
            formula = b"\x1c\x1d" + b"\x15" * (len(formula) - 2)  # #NAME? in parentheses
        self.removed.append(Removal("xlm", "name"))
        return struct.pack("<H", flags) + content[2:at] + name + formula + content[stop + length :]

    def sheets(self) -> None:
        """Empty the macro sheets."""
        stream = self._stream
        for at, macro in self._sheets:
            if at == 0 or at + 8 > len(stream):
                continue
            kind = stream[at] | stream[at + 1] << 8
            what = int.from_bytes(stream[at + 6 : at + 8], "little")
            if kind not in _BOFS or what == _GLOBALS or not (macro or what in _MACROS):
                continue
            if not macro:
                self.removed.append(Removal("xlm", "sheet"))
            records = _records(stream, at)
            end = records[-1][2]
            head = bytearray(stream[at : records[0][2]])
            struct.pack_into("<H", head, 6, _WORKSHEET)
            body = bytes(head) + _record(_EOF, b"")
            if end - at < len(body):
                raise CannotClean("damaged workbook")
            self.out[at:end] = body + _filler(end - at - len(body))


_NONE: Final = {False: b"none_", True: "none_".encode("utf-16-le")[:9]}


def _filler(size: int) -> bytes:
    """Octets between two substreams: records that mean nothing, for readers that go on from one to the next."""
    out = b""
    while size >= 4:
        length = min(size - 4, 8224)
        if 0 < size - 4 - length < 4:
            length -= 4
        out += _record(_FILLER, bytes(length))
        size -= 4 + length
    return out + bytes(size)


def _moved(content: bytes, back: int) -> bytes:
    """2.4.107: where in the stream each bucket of shared strings is."""
    if not back:
        return content
    out = bytearray(content)
    for place in range(2, len(out) - 7, 8):
        (at,) = struct.unpack_from("<I", out, place)
        struct.pack_into("<I", out, place, max(at - back, 0))
    return bytes(out)


def _shown(path: bytes) -> str:
    return path.replace(b"\0", b"").replace(b"\x03", b"|").decode("latin-1")[:200]


def _sheet_name(content: bytes, biff8: bool) -> str:
    name = content[8:] if biff8 else content[7:]
    return name.replace(b"\0", b"").decode("latin-1")[:200]

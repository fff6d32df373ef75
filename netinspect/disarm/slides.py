"""The streams of a PowerPoint 97 presentation ([MS-PPT]) without macros, objects and clicks that start programs.

Records stay where they are, for others name them by offset: an object's record is filled with an empty compound file,
an action becomes none. The pictures of objects are elsewhere and stay.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from netinspect.disarm import compound
from netinspect.disarm.contract import CannotClean, Removal
from netinspect.disarm.fields import may_link

RECORDS: Final = 1_000_000
DEEPEST: Final = 64

_OBJECT: Final = 0x1011
_VBA_ATOM: Final = 0x0400
_INTERACTIVE: Final = 0x0FF3
_HYPERLINK: Final = 0x0FD7
_STRING: Final = 0x0FBA
# [MS-PPT] 2.8.2, action: 1 macro, 2 program, 5 object. 4 is a hyperlink.
_ACTIONS: Final = {1: "macro", 2: "program", 5: "object"}
# 2.10.34: as a byte search sees the records of objects, packed and plain.
_MARKS: Final = (b"\x10\x00\x11\x10", b"\x00\x00\x11\x10")


_EMPTY: Final = compound.write(compound.Entry("Root Entry"))
_PACKED: Final = struct.pack("<I", len(_EMPTY)) + zlib.compress(_EMPTY, 9)


def _empty_object(size: int) -> bytes:
    """Content for an object's record of `size` octets: unpacked size, an empty compound file, zeros."""
    return _PACKED.ljust(size, b"\0") if len(_PACKED) <= size else bytes(size)


def is_encrypted(current_user: bytes) -> bool:
    """2.3.2: headerToken tells."""
    return current_user[12:16] == b"\xdf\xc4\xd1\xf3"


def clean(stream: bytes) -> tuple[bytes, list[Removal]]:
    """Clean the stream `PowerPoint Document`; the same object and `[]` when nothing was to be done.

    Raises:
        CannotClean: damaged, or too many records.
    """
    deck = _Deck(stream)
    deck.walk(0, len(stream), 0)
    deck.search()
    if not deck.removed:
        return stream, []
    return bytes(deck.out), list(dict.fromkeys(deck.removed))


class _Deck:
    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self.out = bytearray(stream)
        self.removed: list[Removal] = []
        self._count = 0

    def walk(self, at: int, end: int, depth: int, inside: int = 0) -> None:
        """Walk over the records between two offsets."""
        if depth > DEEPEST:
            raise CannotClean("damaged document")
        stream = self._stream
        while at + 8 <= end:
            self._count += 1
            if self._count > RECORDS:
                raise CannotClean("document too long")
            version, kind, length = struct.unpack_from("<HHI", stream, at)
            start, stop = at + 8, at + 8 + length
            if stop > end:
                if depth:
                    raise CannotClean("damaged document")
                stop = end  # what follows the last record is read by nobody
            if kind == _OBJECT:
                self._object(at, start, stop)
            elif version & 0xF == 0xF:
                self.walk(start, stop, depth + 1, kind)
            elif kind == _VBA_ATOM and length >= 12:
                self._vba(start)
            elif kind == _INTERACTIVE and length >= 9:
                self._action(start)
            elif kind == _STRING and inside == _HYPERLINK and version >> 4 == 1:
                self._link(start, stop)
            at = stop

    def search(self) -> None:
        """Objects that no walk leads to: other programs find them by their first octets."""
        for mark in _MARKS:
            at = self._stream.find(mark)
            while at >= 0:
                length = int.from_bytes(self._stream[at + 4 : at + 8], "little")
                content = self._stream[at + 8 : at + 18]
                stop = min(at + 8 + length, len(self._stream))
                after = at + 4
                if length > 12 and (content[4:5] == b"\x78" or content.startswith(compound.MAGIC)):
                    self._object(at, at + 8, stop)
                    after = stop
                at = self._stream.find(mark, after)

    def _object(self, at: int, start: int, stop: int) -> None:
        """2.10.34: a storage, packed or as it is."""
        empty = _empty_object(stop - start)
        if self.out[start:stop] == empty and self.out[at : at + 2] == b"\x10\0":
            return
        self.out[at : at + 2] = b"\x10\0"
        self.out[start:stop] = empty
        self.removed.append(Removal("object", f"{at:#x}"))

    def _vba(self, start: int) -> None:
        """2.4.11: where the project is, and whether there is one."""
        if any(self._stream[start : start + 8]):
            self.out[start : start + 8] = bytes(8)
            self.removed.append(Removal("vba", "VbaInfoAtom"))

    def _action(self, start: int) -> None:
        action = _ACTIONS.get(self._stream[start + 8])
        if action is not None:
            self.out[start + 8] = 0
            self.removed.append(Removal("action", action))

    def _link(self, start: int, stop: int) -> None:
        """2.10.18: where a hyperlink leads."""
        target = self._stream[start:stop].decode("utf-16-le", "replace").rstrip("\0")
        # A slide of the same document has its number and title, with commas.
        if not target.strip() or may_link(target) or target.split(",")[0].strip("-").isdigit():
            return
        self.out[start:stop] = b" \0" * ((stop - start) // 2) + bytes((stop - start) % 2)
        self.removed.append(Removal("hyperlink", "".join(c for c in target if c.isprintable())[:200]))

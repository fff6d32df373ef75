"""The streams of a Word document ([MS-DOC]) without fields that fetch or start, and without the template elsewhere.

Everything is changed in place: characters of a field's code become blanks, so that every position stays right.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from netinspect.disarm.contract import CannotClean, Removal
from netinspect.disarm.fields import DEEPEST, Code

_WORD_97: Final = 0x00C1
_FIB: Final = 0x9A
"""Where the table of places begins (2.5.1); each is an offset in the table stream and a length."""
_COMMANDS, _ASSOCIATED, _PIECES = 24, 32, 33
_FIELD_TABLES: Final = (16, 17, 18, 19, 48, 57, 59)
# 2.9.90: INCLUDEPICTURE, INCLUDETEXT, LINK, DDE, DDEAUTO, IMPORT, INCLUDE, DATABASE, RD
_FIELD_TYPES: Final = frozenset({36, 45, 46, 55, 56, 67, 68, 78, 11, 51})
_LONGEST: Final = 4_000_000
"""Characters of a document, 40 times those of a long book."""
# 0x13 begins a field, and its code may be in one or two octets a character, in pieces that are nowhere in order.
_RAW = re.compile(rb"\x13\0*(?:[ \"]\0*){0,64}(?:D\0*D\0*E\0*)", re.IGNORECASE)
_REMOTE = re.compile(r"\s*\"?(?:[a-z][a-z0-9+.\-]+:|[\\/]{2})", re.IGNORECASE)
_BEGIN, _SEPARATE, _DONE = "\x13", "\x14", "\x15"


@dataclass(slots=True)
class Streams:
    """What is changed: WordDocument and the table stream."""

    document: bytearray
    table: bytearray
    removed: list[Removal] = field(default_factory=list)


def clean(document: bytes, table: bytes) -> Streams:
    """Clean both streams; `removed` is empty when nothing was to be done.

    Raises:
        CannotClean: encrypted, older than Word 97 (its macros are where nobody looks), or damaged.
    """
    if len(document) < _FIB + 8 * (_PIECES + 1):
        raise CannotClean("damaged document")
    ident, version = struct.unpack_from("<HH", document)
    if ident != 0xA5EC or version < _WORD_97:
        raise CannotClean("no document of Word 97 or later")
    if document[11] & 0x01:
        raise CannotClean("encrypted")
    streams = Streams(bytearray(document), bytearray(table))
    _fields(streams)
    _raw(streams)
    if streams.removed:
        _field_types(streams)
    _template(streams)
    return streams


def drop_commands(streams: Streams) -> None:
    """Forget key and menu assignments, which name macros (2.9.322)."""
    at = _FIB + 8 * _COMMANDS
    struct.pack_into("<II", streams.document, at, 0, 0)


def table_name(document: bytes) -> str:
    """Which table stream the document has (2.5.2, fWhichTblStm)."""
    return "1Table" if len(document) > 11 and document[11] & 0x02 else "0Table"


def _place(streams: Streams, index: int) -> tuple[int, int]:
    """Offset and length of a structure in the table stream, both 0 where it is not there."""
    at, size = struct.unpack_from("<II", streams.document, _FIB + 8 * index)
    return (at, size) if size and at + size <= len(streams.table) else (0, 0)


# --- fields ---------------------------------------------------------------------------------------------------------


def _pieces(streams: Streams) -> list[tuple[int, int, int]]:
    """`(offset, characters, octets a character)` of the text in order (2.8.35, 2.9.177); `[]` without a table."""
    at, size = _place(streams, _PIECES)
    end = at + size
    table = streams.table
    while at < end and table[at] == 1:  # Prc: formatting of pieces
        at += 3 + int.from_bytes(table[at + 1 : at + 3], "little")
    if at + 5 > end or table[at] != 2:
        return []
    length = int.from_bytes(table[at + 1 : at + 5], "little")
    at += 5
    count = (length - 4) // 12
    if count <= 0 or at + length > end:
        return []
    places = struct.unpack_from(f"<{count + 1}I", table, at)
    found = []
    for number in range(count):
        (offset,) = struct.unpack_from("<I", table, at + 4 * (count + 1) + 8 * number + 2)
        characters = places[number + 1] - places[number]
        width = 1 if offset & 0x40000000 else 2
        offset &= 0x3FFFFFFF
        offset = offset // 2 if width == 1 else offset
        if characters <= 0 or offset + characters * width > len(streams.document):
            raise CannotClean("damaged document")
        found.append((offset, characters, width))
    if sum(piece[1] for piece in found) > _LONGEST:
        raise CannotClean("document too long")
    return found


@dataclass(slots=True)
class _Field:
    code: Code = field(default_factory=Code)
    in_code: bool = True
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Characters of the code, by position in the text."""
    results: list[tuple[int, int]] = field(default_factory=list)
    blank: bool = True


_EDGE = re.compile("[\x13-\x15]")


def _fields(streams: Streams) -> None:
    pieces = _pieces(streams)
    texts = []
    for offset, characters, width in pieces:
        octets = bytes(streams.document[offset : offset + characters * width])
        # Positions must stay: an octet is a character, and so is each half of a surrogate pair.
        texts.append(octets.decode("latin-1") if width == 1 else _units(octets))
    text = "".join(texts)
    if _BEGIN not in text:
        return
    found: list[tuple[int, int]] = []
    for done, kind in _walk(text):
        code = "".join(stretch for _, stretch in done.code.pieces)
        streams.removed.append(Removal("dde" if kind == "dde" else "field", _printable(code)[:200]))
        found += done.spans
    starts = list(accumulate((piece[1] for piece in pieces), initial=0))
    for start, end in found:
        _blank(streams, pieces, starts, start, end)


def _walk(text: str) -> list[tuple[_Field, str]]:
    """The fields that must go, and why."""
    gone: list[tuple[_Field, str]] = []
    stack: list[_Field] = []
    at = 0
    for edge in [*_EDGE.finditer(text), None]:
        end = edge.start() if edge else len(text)
        if stack and end > at and edge:
            top = stack[-1]
            top.blank = top.blank and not text[at:end].strip()
            if top.in_code:
                top.code.add("code", text[at : min(end, at + 4096)])
                top.spans.append((at, end))
            elif len(stack) > 1:
                top.results.append((at, end))
        at = end + 1
        kind = edge[0] if edge else ""
        if kind == _BEGIN:
            if len(stack) >= DEEPEST:
                raise CannotClean("fields too deep")
            stack.append(_Field())
        elif stack and kind == _SEPARATE:
            stack[-1].in_code = False
        elif stack and kind == _DONE:
            _settle(stack, gone)
    while stack:
        _settle(stack, gone)
    return gone


def _settle(stack: list[_Field], gone: list[tuple[_Field, str]]) -> None:
    done = stack.pop()
    kind = done.code.active()
    if kind:
        gone.append((done, kind))
    if stack:
        outer = stack[-1]
        if outer.in_code:
            outer.spans += done.spans + done.results
            outer.blank = outer.blank and done.blank
            if not done.blank:  # one that was taken out before says nothing
                outer.code.add("odd")


def _units(octets: bytes) -> str:
    return "".join(map(chr, struct.unpack(f"<{len(octets) // 2}H", octets)))


def _blank(streams: Streams, pieces: list[tuple[int, int, int]], starts: list[int], start: int, end: int) -> None:
    """Write blanks over the characters from `start` to `end`, which may lie in several pieces."""
    for number in range(bisect_right(starts, start) - 1, len(pieces)):
        offset, characters, width = pieces[number]
        position = starts[number]
        if position >= end:
            return
        low, high = max(start, position), min(end, position + characters)
        at = offset + (low - position) * width
        streams.document[at : at + (high - low) * width] = (b" " if width == 1 else b" \0") * (high - low)


def _raw(streams: Streams) -> None:
    """What looks like DDE anywhere in the stream: programs that read broken files go by such a search."""
    for match in list(_RAW.finditer(bytes(streams.document))):
        place = match.start() + 1
        octets = bytes(streams.document[place : match.end()])
        streams.document[place : match.end()] = re.sub(rb"[^\0]", b" ", octets)
        streams.removed.append(Removal("dde", "WordDocument"))


def _field_types(streams: Streams) -> None:
    """The tables of fields (2.8.25) say what each is, too."""
    for index in _FIELD_TABLES:
        at, size = _place(streams, index)
        count = (size - 4) // 6
        for number in range(max(count, 0)):
            place = at + 4 * (count + 1) + 2 * number
            if streams.table[place] & 0x1F == 0x13 and streams.table[place + 1] in _FIELD_TYPES:
                streams.table[place + 1] = 1  # of no known type


# --- template -------------------------------------------------------------------------------------------------------


def _template(streams: Streams) -> None:
    """SttbfAssoc (2.9.274): its second string names the template."""
    at, size = _place(streams, _ASSOCIATED)
    strings = bytes(streams.table[at : at + size])
    if len(strings) < 10 or strings[:2] != b"\xff\xff":
        return
    place = 8 + 2 * int.from_bytes(strings[6:8], "little")
    if place + 2 > len(strings):
        return
    length = 2 * int.from_bytes(strings[place : place + 2], "little")
    target = strings[place + 2 : place + 2 + length].decode("utf-16-le", "replace")
    if not _REMOTE.match(target):
        return
    streams.removed.append(Removal("template", _printable(target)[:200]))
    shorter = strings[:place] + b"\0\0" + strings[place + 2 + length :]
    streams.table[at : at + size] = shorter.ljust(size, b"\0")
    struct.pack_into("<I", streams.document, _FIB + 8 * _ASSOCIATED + 4, len(shorter))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()

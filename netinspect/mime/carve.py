"""Parts found without their boundary: each line of dashes, and each blank line, that is followed by MIME fields.

A multipart whose boundary this parser reads in one way and a mail program in another (quotes, comments, escapes,
charsets, blanks, a field in two versions) still has its parts, and each has a header behind a line of dashes. Taking
that line for a delimiter, whatever the field said, finds the parts of every such program at once. Line ends, blanks
and control characters before a field count as little as they can, and so does a missing or an early blank line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from netinspect.mime.headers import deciding_field, hidden_field

if TYPE_CHECKING:
    from collections.abc import Iterator

# The line's start is looked at afterwards: a search that begins with a literal passes base64 at memory speed.
_DASHES: Final = re.compile(rb"--([^\r\n]*+)(?:\r\n?|\n|\Z)")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n(?=[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-)")
_LINE: Final = re.compile(rb"([^\r\n]{0,65536})(?:\r\n|\n|\r|\Z)")
_FIELD: Final = re.compile(rb"[\0-\x20]{0,64}([A-Za-z][A-Za-z0-9_-]{0,60})[ \t]{0,64}:(.*)", re.DOTALL)
_BLANKS: Final = b" \t\x0b\x0c"
_BEFORE: Final = 8  # octets before the dashes that do not show
_INVISIBLE: Final = b"\0 \t\x0b\x0c\xef\xbb\xbf"
_WORD: Final = 4096  # longer than any boundary

_LINES: Final = 500  # of one header
_BETWEEN: Final = 4  # lines of dashes in front of a header, or in it
_WORDS: Final = 16  # different lines of dashes that count as delimiters
_PARTS: Final = 10_000
_STEPS: Final = 400_000  # lines looked at, each a step of Python

_Head: TypeAlias = tuple[tuple[tuple[str, bytes], ...], int, int]


@dataclass(frozen=True, slots=True)
class Carved:
    """One part: its fields, and where its body begins and ends. `junk` is where it begins when the first line of the
    body was no content (-1: there is no other way to see it)."""

    fields: tuple[tuple[str, bytes], ...]
    start: int
    stop: int
    junk: int = -1


def carve(message: bytes, steps: Steps, limit: int = _PARTS) -> Iterator[Carved]:
    """The message itself, and the parts in it whose header stands behind a line of dashes or a blank line."""
    heads: list[tuple[_Head, bool]] = []
    words: dict[bytes, None] = {}
    root = _header(message, 0, steps)
    if root is not None:
        heads.append((root, False))
    lines: list[tuple[int, int]] = []  # where each line of dashes starts, with its line break, and where its word does
    anchors: list[tuple[int, bytes | None]] = [(blank.end(), None) for blank in _BLANK_LINE.finditer(message)]
    for dashes in _DASHES.finditer(message):
        if steps.spent():
            break
        start = _line_start(message, dashes.start())
        if start >= 0:
            lines.append((start, dashes.start(1)))
            if len(dashes[1]) <= _WORD:
                anchors.append((dashes.end(), dashes[1].strip(_BLANKS)))
    anchors.sort(key=lambda anchor: anchor[0])
    for position, word in anchors:
        if steps.spent():
            break
        if len(heads) > limit:
            steps.left = -1
            break
        header = _header(message, position, steps)
        if header is not None:
            heads.append((header, True))
            if word is not None and len(words) < _WORDS:
                words[word] = None
    starts = tuple(words)
    ends = [(start, after) for start, after in lines if start and message.startswith(starts, after)]
    afters = [after for _, after in ends]
    for (fields, start, junk), part in heads:
        stop = len(message)
        if part:
            at = bisect_right(afters, start)
            stop = max(start, ends[at][0]) if at < len(ends) else stop
        yield Carved(fields, start, stop, junk if junk < stop else -1)


def _line_start(message: bytes, dashes: int) -> int:
    """Where the line break before `dashes` starts, 0 for the first line; -1 when something stands before them."""
    start = dashes
    while start and dashes - start <= _BEFORE and message[start - 1] in _INVISIBLE:
        start -= 1
    if not start:
        return 0
    if message[start - 1] == 0x0A:
        return start - 2 if message[start - 2 : start - 1] == b"\r" else start - 1
    return start - 1 if message[start - 1] == 0x0D else -1


class Steps:
    """What all of one message may cost. Where `left` is below 0, not all parts were looked for."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _STEPS

    def spent(self) -> bool:
        """Take one step; whether that was one too many."""
        self.left -= 1
        return self.left < 0


def _header(message: bytes, position: int, steps: Steps) -> _Head | None:
    """Fields, start of the body, and its start without its first line (-1) when that is one nobody can read."""
    fields: list[tuple[str, bytes]] = []
    mime = False
    dashes = 0
    size = len(message)
    for number in range(_LINES):
        if position >= size or steps.spent():
            break
        match = _LINE.match(message, position)
        if match is None:
            break
        line = match[1]
        after = match.end()
        if after == position:
            break
        text = line.strip(b" \t\r\n\0\x0b\x0c")
        if not text:
            position = after
            if number == 0 or not fields:
                if number > 1:
                    break
                continue
            return (tuple(fields), position, -1) if mime else None
        if text.startswith(b"--"):
            dashes += 1
            if dashes > _BETWEEN:
                return None
            position = after
            continue
        folded = line[:1] in (b" ", b"\t")
        if folded and fields and not hidden_field(line):
            fields[-1] = (fields[-1][0], fields[-1][1] + b"\r\n" + line)
        elif (field := _field(line)) is not None:
            mime = mime or field[0][:8].lower() == "content-"
            fields.append(field)
        elif (torn := _torn(message, line, after)) is not None:
            mime = True
            fields.append(torn[0])
            after = torn[1]
        elif not mime:
            return None
        else:
            # The blank line is missing, or this one is a field to somebody.
            return tuple(fields), position, after
        position = after
    return (tuple(fields), position, -1) if mime else None


def _field(line: bytes) -> tuple[str, bytes] | None:
    """Name and value; the name of a MIME field as it should be spelt."""
    field = _FIELD.fullmatch(line)
    if field is not None:
        return field[1].decode("ascii"), field[2]
    name, colon, value = line.partition(b":")
    word = deciding_field(name) if colon else ""
    return (word, value) if word else None


def _torn(message: bytes, line: bytes, after: int) -> tuple[tuple[str, bytes], int] | None:
    """A field whose name goes on in the next line, and where the line after that starts."""
    if b":" in line or message[after : after + 1] not in (b" ", b"\t"):
        return None
    match = _LINE.match(message, after)
    if match is None:
        return None
    field = _field(line + match[1])
    return (field, match.end()) if field is not None and deciding_field(field[0].encode()) else None

"""Parts found without their boundary: each line that starts with two dashes and is followed by MIME fields.

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

from netinspect.mime.headers import hidden_field

if TYPE_CHECKING:
    from collections.abc import Iterator

_DASHES: Final = re.compile(rb"(?:\A|(?<=[\r\n]))[ \t\x0b\x0c]{0,8}--([^\r\n]{0,4096})(?:\r\n?|\n)")
_LINE: Final = re.compile(rb"([^\r\n]{0,65536})(?:\r\n|\n|\r|\Z)")
_FIELD: Final = re.compile(rb"[\0-\x20]{0,64}([A-Za-z][A-Za-z0-9_-]{0,60})[ \t]{0,64}:(.*)", re.DOTALL)
_ENDS: Final = re.compile(rb"(?:\r\n|[\r\n])[ \t\x0b\x0c]{0,8}--")
_BLANKS: Final = b" \t\x0b\x0c"

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


def carve(message: bytes, limit: int = _PARTS) -> Iterator[Carved]:
    """The message itself, and the parts in it whose header stands behind a line of dashes."""
    found: list[tuple[_Head, bool]] = []
    words: dict[bytes, None] = {}
    steps = _Steps()
    root = _header(message, 0, steps)
    if root is not None:
        found.append((root, False))
    for dashes in _DASHES.finditer(message):
        if steps.spent() or len(found) > limit:
            break
        header = _header(message, dashes.end(), steps)
        if header is not None:
            found.append((header, True))
            if len(words) < _WORDS:
                words[dashes[1].strip(_BLANKS)] = None
    starts = tuple(words)
    ends: list[int] = []
    afters: list[int] = []
    for end in _ENDS.finditer(message):
        if steps.spent():
            break
        if message.startswith(starts, end.end()):
            ends.append(end.start())
            afters.append(end.end())
    for (fields, start, junk), part in found:
        stop = len(message)
        if part:
            at = bisect_right(afters, start)
            stop = max(start, ends[at]) if at < len(ends) else stop
        yield Carved(fields, start, stop, junk if junk < stop else -1)


class _Steps:
    """What all of one message may cost."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _STEPS

    def spent(self) -> bool:
        self.left -= 1
        return self.left < 0


def _header(message: bytes, position: int, steps: _Steps) -> _Head | None:
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
        field = _FIELD.fullmatch(line)
        folded = line[:1] in (b" ", b"\t")
        if field is not None and (not folded or not fields or hidden_field(line)):
            name = field[1].decode("ascii")
            mime = mime or name[:8].lower() == "content-"
            fields.append((name, field[2]))
        elif folded and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + b"\r\n" + line)
        elif not mime:
            return None
        else:
            # The blank line is missing, or this one is a field to somebody.
            return tuple(fields), position, after
        position = after
    return (tuple(fields), position, -1) if mime else None

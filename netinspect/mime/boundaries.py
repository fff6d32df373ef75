"""The multiparts that are open, and the search for the next line that is a delimiter of one of them (RFC 2046 §5.1.1).

The nearest enclosing multipart wins; a delimiter of an outer one ends the inner ones. The line has to be the whole
delimiter: `--`, the boundary, `--` when it closes, blanks. Nothing is done line by line: the next delimiter is found
by searching for the boundary itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from netinspect.mime.part import Part

# RFC 5322 §2.1.1: a line has 998 octets at most; a delimiter with more blanks behind it is none.
_PADDING: Final = 998
# Up to so many boundaries are searched for one by one; beyond, for what they have in common.
_SINGLE: Final = 4


@dataclass(slots=True)
class Open:
    """A multipart whose delimiters count. After its closing delimiter it stays, for parts that come all the same."""

    part: Part
    boundary: bytes
    closed: bool = False
    parts: int = 0
    ends: int = 0
    """Closing delimiters so far: each has a text behind it."""


@dataclass(frozen=True, slots=True)
class Delimiter:
    """A delimiter line. `start` is its preceding LF, `end` its own LF or the end of the message.

    `level` is the index of its multipart; `closing` tells `--boundary--`.
    """

    start: int
    end: int
    level: int
    closing: bool


@dataclass(frozen=True, slots=True)
class Undecided:
    """What starts at `start` (the preceding LF) may become a delimiter with the next octets."""

    start: int


class Boundaries:
    """The stack of open multiparts.

    `marks` are the delimiters of the innermost ones. `suspects` collects offsets of lines that start with a boundary
    and go on with something else: some programs take them for delimiters (RFC 2046 §5.1.1 lets them).
    """

    __slots__ = ("_longest", "_needles", "_prefixes", "_tokens", "marks", "stack", "suspects")

    def __init__(self) -> None:
        self.stack: list[Open] = []
        self.suspects: list[int] = []
        self._renew()

    def push(self, part: Part, boundary: bytes) -> None:
        """Open a multipart."""
        self.stack.append(Open(part, boundary))
        self._renew()

    def cut(self, level: int) -> list[Open]:
        """Forget all multiparts inside the one at `level`; return them, innermost first."""
        gone = self.stack[level + 1 :]
        if gone:
            del self.stack[level + 1 :]
            self._renew()
        gone.reverse()
        return gone

    def close(self, level: int) -> None:
        """The closing delimiter was seen."""
        self.stack[level].closed = True
        self._renew()

    def _renew(self) -> None:
        tokens: dict[bytes, tuple[int, bool]] = {}
        # Later entries win: open ones over closed ones, then inner ones over outer ones.
        for closed in (True, False):
            for level, entry in enumerate(self.stack):
                if entry.closed is closed:
                    tokens[entry.boundary] = (level, False)
                    tokens[entry.boundary + b"--"] = (level, True)
        self._tokens = tokens
        # Innermost first: its delimiters come next in most messages, and bound the search for the others.
        boundaries = list(dict.fromkeys(entry.boundary for entry in reversed(self.stack)))
        self._prefixes = tuple(boundaries)
        self.marks = tuple([b"--" + boundary for boundary in boundaries[:_SINGLE]])
        self._longest = max(map(len, boundaries), default=0)
        if len(boundaries) > _SINGLE:
            boundaries = [_common(boundaries)]
        self._needles = [b"\n--" + boundary for boundary in boundaries]

    def search(self, buffer: bytearray, start: int, stop: int, *, final: bool) -> Delimiter | Undecided | None:
        """Find the first delimiter whose LF is at `start` or behind, before `stop`.

        `final` tells that nothing follows the buffer. Costs one pass over the buffer for each boundary.
        """
        size = len(buffer)
        needles = self._needles
        longest = self._longest + 4 + _PADDING
        # One octet is found many times as fast as four, and base64 has none of these.
        dash = buffer.find(b"-", start + 1, stop + 1)
        if dash < 0:
            return None
        start = dash - 1
        # For each needle its next place and how far it was looked for, so that no octet is searched twice for it.
        places = [-1] * len(needles)
        looked = [start] * len(needles)
        while True:
            hit = stop
            for index, needle in enumerate(needles):
                at = places[index]
                if at < start:
                    at = buffer.find(needle, looked[index], hit + len(needle))
                    places[index] = at
                    looked[index] = at + 1 if at >= 0 else max(looked[index], hit)
                if 0 <= at < hit:
                    hit = at
            if hit >= stop:
                return None
            end = buffer.find(b"\n", hit + 1, hit + 1 + longest)
            if end < 0:
                if size - hit - 1 < longest:
                    if not final:
                        return Undecided(hit)
                    end = size
                else:
                    end = hit + 1 + longest
            token = bytes(buffer[hit + 3 : end]).rstrip(b" \t\r")
            found = self._tokens.get(token)
            if found is not None and end - hit <= longest:
                return Delimiter(hit, end, found[0], found[1])
            if token.startswith(self._prefixes):
                self.suspects.append(hit)
            start = hit + 1

    def unfinished(self, buffer: bytearray, position: int) -> int:
        """Where the last line starts (its preceding LF) if it may still become a delimiter, else -1."""
        line = buffer.rfind(b"\n", max(position, len(buffer) - self._longest - 3))
        if line < 0:
            return -1
        tail = bytes(buffer[line + 1 : line + 3])
        return line if b"--".startswith(tail) else -1


def _common(words: list[bytes]) -> bytes:
    """The longest start that all have: that of the two that stand farthest apart in order."""
    first, last = min(words), max(words)
    for index, octet in enumerate(first):
        if octet != last[index]:
            return first[:index]
    return first

"""uuencode: as a transfer encoding and as blocks in a text (POSIX.1 uuencode; RFC 2045 never knew it).

begin 644 name
M<...60 characters for 45 octets...
`
end
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final

import pybase64

from netinspect.mime.words import to_text

_BEGIN: Final = re.compile(rb"begin[ \t]{1,8}[0-7]{3,6}[ \t]{1,8}([^\r\n]{1,1024})(?:\r?\n|\Z)")
# Full lines in a row: 45 octets in 60 characters each. Decoded with one call.
_RUN: Final = re.compile(rb"(?:M[ -`]{60}\r?\n)++")
_BLANK: Final = re.compile(rb"[\r\n]++")
_TO_BASE64: Final = bytes.maketrans(
    bytes(range(0x20, 0x60)) + b"`", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/A"
)
_LINE: Final = 1200  # longer than any `begin` line or line of data
_STEPS: Final = 100_000  # odd lines and lines that only look like a beginning, each a step of Python


@dataclass(frozen=True, slots=True)
class UuBegin:
    """A file starts."""

    name: str


@dataclass(frozen=True, slots=True)
class UuEnd:
    """The file is over; `broken` when a line was wrong or `end` is missing."""

    broken: bool


UuEvent = UuBegin | bytes | UuEnd


class UuScanner:
    """Finds blocks in a text that comes in any cuts; between `UuBegin` and `UuEnd` come the decoded octets.

    A `begin` line with no line of data after it is prose, not a block. `outside` tells that there was text around
    the blocks, `overflow` that the work was given up at a limit, `begins` that "begin" stands somewhere.
    """

    __slots__ = ("_carry", "_inside", "_middle", "_name", "_steps", "begins", "outside", "overflow")

    def __init__(self) -> None:
        self._carry = b""
        self._name: bytes | None = None  # of the block that begins or runs
        self._inside = False  # UuBegin was given
        self._middle = False  # the next octets go on an overlong line
        self._steps = 0
        self.begins = False
        self.outside = False
        self.overflow = False

    def feed(self, data: bytes) -> list[UuEvent]:
        """Take the next octets of the text."""
        return self._run(self._carry + data if self._carry else data, final=False)

    def finish(self) -> list[UuEvent]:
        """End of the text."""
        events = self._run(self._carry, final=True)
        self._end(events, broken=True)
        return events

    def _run(self, text: bytes, *, final: bool) -> list[UuEvent]:
        events: list[UuEvent] = []
        self._carry = b""
        position = 0
        if self._middle:
            position = text.find(b"\n") + 1
            if not position:
                return events
            self._middle = False
        stop = len(text) if final else text.rfind(b"\n") + 1
        while position < stop:
            if self.overflow:
                return events
            if self._name is None:
                position = self._seek(text, position, stop)
            else:
                position = self._lines(text, position, stop, events)
        rest = text[max(stop, position) :]
        if len(rest) <= _LINE:
            self._carry = rest
        else:
            self._end(events, broken=True)
            self._middle = self.outside = True
        return events

    def _step(self) -> bool:
        self._steps += 1
        if self._steps > _STEPS:
            self.overflow = True
        return self.overflow

    def _seek(self, text: bytes, position: int, stop: int) -> int:
        """Look for the next `begin` line; return where to go on."""
        start = position
        while True:
            at = text.find(b"begin", position, stop)
            if at < 0:
                self._around(text, start, stop)
                return stop
            self.begins = True
            position = at + 5
            # Position 0 is a line's start: a line that was cut is carried over whole.
            if at and text[at - 1] != 0x0A:
                continue
            if self._step():
                return stop
            match = _BEGIN.match(text, at, stop)
            if match is not None:
                self._around(text, start, at)
                self._name = match[1]
                return match.end()

    def _around(self, text: bytes, start: int, stop: int) -> None:
        if not self.outside and stop > start and text[start:stop].strip():
            self.outside = True

    def _lines(self, text: bytes, position: int, stop: int, events: list[UuEvent]) -> int:
        """Decode lines until the block ends or the text does; return where to go on."""
        while position < stop:
            run = _RUN.match(text, position, stop)
            if run:
                self._data(_full_lines(run[0]), events)
                position = run.end()
                continue
            blank = _BLANK.match(text, position, stop)
            if blank:
                position = blank.end()
                continue
            if self._step():
                self._end(events, broken=True)
                return stop
            end = text.find(b"\n", position, stop)
            if end < 0:
                end = stop
            line = text[position:end].rstrip(b"\r") if end - position <= _LINE else b"~"
            if line.rstrip(b" \t") == b"end":
                self._begin(events)
                self._end(events, broken=False)
                return end + 1
            data = _line(line, strict=not self._inside)
            if data is None:
                self._end(events, broken=True)
                return position
            self._data(data, events)
            position = end + 1
        return position

    def _begin(self, events: list[UuEvent]) -> None:
        if not self._inside:
            self._inside = True
            events.append(UuBegin(to_text((self._name or b"").strip(b' \t"'))))

    def _data(self, data: bytes, events: list[UuEvent]) -> None:
        if data:
            self._begin(events)
            events.append(data)

    def _end(self, events: list[UuEvent], *, broken: bool) -> None:
        if self._inside:
            events.append(UuEnd(broken))
        elif self._name is not None:
            self.outside = True
        self._inside = False
        self._name = None


def bare_lines(text: bytes) -> bytes:
    """Lines of data without `begin`; empty when one of them is no such line."""
    out: list[bytes] = []
    for line in text.split(b"\n", _STEPS)[:_STEPS]:
        line = line.rstrip(b"\r")
        if not line or line in (b"end", b"`"):
            continue
        data = _line(line, strict=True)
        if data is None:
            return b""
        out.append(data)
    return b"".join(out)


def _full_lines(run: bytes) -> bytes:
    if b"\r" in run:
        run = run.replace(b"\r", b"")
    return pybase64.b64decode(run.replace(b"\nM", b"")[1:-1].translate(_TO_BASE64))


def _line(line: bytes, *, strict: bool) -> bytes | None:
    """One line's octets, None when it is no line of data.

    Blanks lost at its end and a check character behind it are borne; the first line of a block (`strict`) has to
    be whole, or prose after a `begin` would be a file.
    """
    if not 0x20 <= line[0] <= 0x60:
        return None
    size = (line[0] - 0x20) & 63
    chars = (size + 2) // 3 * 4
    if len(line) > chars + 3 or (strict and len(line) < chars - 1):
        return None
    try:
        return binascii.a2b_uu(line[: 1 + chars])
    except binascii.Error:
        return None

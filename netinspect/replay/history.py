"""What arrived out of its turn, and what was given out lately: the two places where copies of an octet meet.

Positions are octets from the beginning of what a side said, not sequence numbers: they never wrap.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

HISTORY: Final = 16_777_216
"""Octets of all connections that are kept after they were given out, to compare later copies with. A copy that comes
after so much other mail is not a retransmission; it is looked at in the second reading."""
OVERHEAD: Final = 200
"""What a segment costs beside its octets: objects and their places in lists and dicts (measured, CPython 3.13)."""
LOOSE: Final = 64
"""Pieces walked over before they are joined: a walk over octets that came one by one would not end."""
JOINED: Final = 65_536


@dataclass(frozen=True, slots=True)
class Gap:
    """`size` octets that nobody has."""

    size: int


Piece: TypeAlias = bytes | Gap
Copy: TypeAlias = tuple[int, bytes, bool]
"""Position, octets, whether they differ from those that were there."""


class Later:
    """Segments behind a hole, none of which overlaps another; of two copies the first stays."""

    __slots__ = ("copies", "order", "parts", "size")

    def __init__(self) -> None:
        self.order: list[int] = []
        self.parts: dict[int, tuple[bytes, int, int]] = {}
        """By position: octets, acknowledgement, time."""
        self.size = 0
        self.copies = 0
        """Times that octets came again."""

    def add(self, at: int, octets: bytes, ack: int, time: int) -> Sequence[Copy]:
        """Keep what is not there yet. Returns what was there already."""
        order, parts = self.order, self.parts
        end = at + len(octets)
        copies: list[Copy] = []
        index = bisect_right(order, at)
        if index and order[index - 1] + len(parts[order[index - 1]][0]) > at:
            index -= 1
        while at < end and index < len(order) and order[index] < end:
            start = order[index]
            have = parts[start][0]
            low, high = max(start, at), min(start + len(have), end)
            copy = octets[low - at : high - at]
            copies.append((low, copy, have[low - start : high - start] != copy))
            self.copies += 1
            if low > at:
                self._put(at, octets[: low - at], ack, time)
                index += 1
            octets = octets[high - at :]
            at = high
            index += 1
        if at < end:
            self._put(at, octets, ack, time)
        return copies

    def _put(self, at: int, octets: bytes, ack: int, time: int) -> None:
        insort(self.order, at)
        self.parts[at] = (octets, ack, time)
        self.size += len(octets)

    def pop(self) -> tuple[bytes, int, int]:
        """The first segment."""
        part = self.parts.pop(self.order.pop(0))
        self.size -= len(part[0])
        return part

    def moved(self, by: int) -> Later:
        """The same with other positions; what falls in front of the beginning is left out."""
        other = Later()
        for at in self.order:
            octets, ack, time = self.parts[at]
            cut = max(-(at + by), 0)
            if cut < len(octets):
                other.add(at + by + cut, octets[cut:], ack, time)
        return other


class Turn:
    """What one side said in one go, after it was given out. Without pieces once it is forgotten."""

    __slots__ = ("pieces", "size", "start")

    def __init__(self, start: int, size: int, pieces: list[Piece]) -> None:
        self.start = start
        self.size = size
        self.pieces: list[Piece] | None = pieces


class History:
    """The turns of all connections that were given out last."""

    def __init__(self, most: int = HISTORY) -> None:
        self._turns: deque[Turn] = deque()
        self._size = 0
        self._most = most

    def add(self, turn: Turn) -> None:
        self._turns.append(turn)
        self._size += turn.size + OVERHEAD
        while self._size > self._most:
            old = self._turns.popleft()
            self._size -= old.size + OVERHEAD
            old.pieces = None


def size_of(piece: Piece) -> int:
    return piece.size if isinstance(piece, Gap) else len(piece)


def overlaps(pieces: list[Piece], end: int, low: int, high: int) -> Iterator[tuple[int, Piece]]:
    """Pieces with octets in [low, high) and where each begins, last one first. The last one of `pieces` ends at `end`.

    Pieces walked over may be joined in place, so that the next walk is short.
    """
    index = len(pieces)
    while index and end > low:
        index -= 1
        end -= size_of(pieces[index])
        if end < high:
            yield end, pieces[index]
    if len(pieces) - index > LOOSE:
        pieces[index:] = join(pieces[index:])


def join(pieces: list[Piece]) -> list[Piece]:
    """The same octets in few pieces."""
    out: list[Piece] = []
    run: list[bytes] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, Gap):
            if run:
                out.append(b"".join(run))
                run, size = [], 0
            out.append(piece)
            continue
        run.append(piece)
        size += len(piece)
        if size >= JOINED:
            out.append(b"".join(run))
            run, size = [], 0
    if run:
        out.append(b"".join(run))
    return out

"""The second reading: connections with copies of octets that differ, as they are when the last copy wins.

The first reading keeps the first copy, and what it gave out is gone when another one comes. So the capture is read once
more for these connections alone. All that was said goes to a file, in the order of the first reading, and every further
copy of an octet behind it; at the end of the connection the last copy of each octet is put in its place, or, where that
is the first one again, the last that differs. Both readings have the same turns and the same holes.

Two readings are all there are when one copy differs from one segment. Who sends more can have a server drop some of
them (time to live, checksum, options) and take others, in any mix: `LastFlow.mixed`.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from netinspect.replay.connections import Dissect, Suspect
from netinspect.replay.flows import FlowTable
from netinspect.replay.history import join, size_of
from netinspect.replay.tcp import Budget, Flow, Gap, Half, Piece, Turn
from netinspect.smtp.events import Side

DISK: Final = 1_073_741_824
"""Octets in the file for all connections: those of a busy mail server in an hour."""
INDEX: Final = 100_000
"""Entries (runs of octets, and copies) for all connections, about 250 octets of memory each."""
READ: Final = 262_144
CUTS: Final = 100_000
"""Segments of a connection whose ends are kept (8 octets each)."""


class Store:
    """A file without a name, appended to; octets may be replaced by as many others."""

    def __init__(self, directory: str | None = None, most: int = DISK, entries: int = INDEX) -> None:
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (closed by `close`)
        self._size = 0
        self._left = entries
        self._most = most

    def append(self, octets: bytes) -> int:
        """Where the octets stand; -1 when it is full. Raises OSError."""
        if self._size + len(octets) > self._most or not self._left:
            return -1
        self._left -= 1
        at = self._size
        self.replace(at, octets)
        self._size += len(octets)
        return at

    def replace(self, at: int, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            written = os.pwrite(self._file.fileno(), view, at)
            at += written
            view = view[written:]

    def read(self, at: int, size: int) -> bytes:
        parts = []
        while size:
            part = os.pread(self._file.fileno(), size, at)
            if not part:
                raise OSError("the file of the second reading is shorter than it was")
            parts.append(part)
            at += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()


Run = tuple[int, int]
"""Place and size of octets in the file."""


class _Said:
    """Where in the file the octets of one side stand, by their positions."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.runs: list[Run] = []
        self.copies: list[tuple[int, Run]] = []
        """Position and run, in the order in which they came."""
        self.begin: list[tuple[int, Run]] = []
        """Those that came before the first octet was known."""
        self.cuts = array("Q")
        """Where segments of the first reading end."""

    def add(self, at: int, run: Run) -> None:
        self.starts.append(at)
        self.runs.append(run)

    def places(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Position, place and size of what is there of [low, high)."""
        for index in range(max(bisect_right(self.starts, low) - 1, 0), len(self.starts)):
            start, (place, size) = self.starts[index], self.runs[index]
            if start >= high:
                return
            at, end = max(low, start), min(high, start + size)
            if at < end:
                yield at, place + at - start, end - at


class LastFlow(Flow):
    """A connection that keeps all copies."""

    __slots__ = ("mixed", "said", "store", "told", "unread")

    def __init__(self, first: int, store: Store, budget: Budget) -> None:
        super().__init__(first, [], budget)
        self.store = store
        self.said = {Side.CLIENT: _Said(), Side.SERVER: _Said()}
        self.told: list[tuple[Side, list[Run | Gap], int, int]] = []
        self.unread = False
        """There was more than the bounds allow."""
        self.mixed = False
        """There are more readings than two. Known when `differs` is done."""

    def flush(self) -> None:
        """The turn goes to the file."""
        at = end = self.turn_start
        cuts = self.said[self.speaker.side].cuts
        for piece in self.pieces:
            end += size_of(piece)
            if len(cuts) < CUTS:
                cuts.append(end)
        super().flush()
        self.dirty.clear()
        for side, pieces, time, number in self.turns:
            runs: list[Run | Gap] = []
            for piece in join(pieces):
                if isinstance(piece, Gap):
                    runs.append(piece)
                    at += piece.size
                    continue
                place = -1 if self.unread else self.store.append(piece)
                if place < 0:
                    self.unread = True
                    continue
                runs.append((place, len(piece)))
                self.said[side].add(at, (place, len(piece)))
                at += len(piece)
            if not self.unread:
                self.told.append((side, runs, time, number))
        self.turns.clear()

    def copied(self, half: Half, at: int, octets: bytes) -> None:
        """Keep a further copy."""
        place = -1 if self.unread else self.store.append(octets)
        if place < 0:
            self.unread = True
            return
        said = self.said[half.side]
        (said.copies if half.begun else said.begin).append((at, (place, len(octets))))

    def shifted(self, half: Half, by: int) -> None:
        """The first octet of this side is known."""
        said = self.said[half.side]
        said.copies = [(at + by, run) for at, run in said.begin] + said.copies
        said.begin = []

    def differs(self) -> bool:
        """Put the other copies in their places; whether that changed anything. Once, after the end. Raises OSError."""
        contrary = self._contrary()
        changed = False
        for said in self.said.values():
            changed = self._put(said, said.copies + said.begin) or changed
        if not changed:
            for said, copy in contrary:
                changed = self._put(said, [copy]) or changed
        for said in self.said.values():
            said.copies.clear()
        return changed

    def _contrary(self) -> list[tuple[_Said, tuple[int, Run]]]:
        """One copy of each side that differs from the first reading: the last one. Finds out whether there are more."""
        found: list[tuple[_Said, tuple[int, Run]]] = []
        known: tuple[_Said, int, bytes] | None = None
        for said in self.said.values():
            last: tuple[int, Run] | None = None
            for at, (place, size) in said.copies + said.begin:
                copy = self.store.read(place, size)
                first = [
                    (start, copy[start - at : start - at + length], self.store.read(where, length))
                    for start, where, length in said.places(max(at, 0), at + size)
                ]
                first = [one for one in first if one[1] != one[2]]
                if not first:
                    continue
                last = at, (place, size)
                if known is None:
                    places = [start + at for start, here, there in first for at in _differing(here, there)]
                    known = said, at, copy
                    self.mixed = self._cut(said, places[0], places[-1])
                elif known != (said, at, copy):
                    self.mixed = True
            if last is not None:
                found.append((said, last))
        return found

    def _cut(self, said: _Said, low: int, high: int) -> bool:
        """Whether the octets from `low` to `high` came in several segments first."""
        cuts = said.cuts
        return len(cuts) >= CUTS or bisect_right(cuts, low) != bisect_right(cuts, high)

    def _put(self, said: _Said, copies: list[tuple[int, Run]]) -> bool:
        """Put the last of these copies in their places; whether that changed anything."""
        store = self.store
        changed = False
        done = _Ranges()
        for at, (place, size) in reversed(copies):
            for low, high in done.add(max(at, 0), at + size):
                copy = store.read(place + low - at, high - low)
                for start, where, length in said.places(low, high):
                    part = copy[start - low : start - low + length]
                    if store.read(where, length) != part:
                        store.replace(where, part)
                        changed = True
        return changed

    def reading(self) -> Iterator[Turn]:
        """The turns; what one side said in one go may come in several. Raises OSError."""
        for side, runs, time, number in self.told:
            pieces: list[Piece] = []
            size = 0
            for run in runs:
                if isinstance(run, Gap):
                    pieces.append(run)
                    continue
                pieces.append(self.store.read(*run))
                size += run[1]
                if size >= READ:
                    yield side, pieces, time, number
                    pieces, size = [], 0
            if pieces:
                yield side, pieces, time, number


def _differing(one: bytes, other: bytes) -> list[int]:
    """Where two of the same size differ."""
    return [at for at, (here, there) in enumerate(zip(one, other, strict=True)) if here != there]


class _Ranges:
    """Ranges of positions."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, low: int, high: int) -> list[tuple[int, int]]:
        """Add one; returns what of it was not there."""
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, low)
        last = bisect_right(starts, high)
        fresh = []
        at = low
        for index in range(first, last):
            if at < starts[index]:
                fresh.append((at, starts[index]))
            at = max(at, ends[index])
        if at < high:
            fresh.append((at, high))
        if first < last:
            low, high = min(low, starts[first]), max(high, ends[last - 1])
        starts[first:last] = [low]
        ends[first:last] = [high]
        return fresh


class SecondReading(FlowTable):
    """Reads the connections that the first reading suspects: feed it all frames of the capture again, `finish` it, and
    take the `readings`. `close` it in any case.

    Raises OSError when the disk is full.
    """

    _trusts = True

    def __init__(self, dissect: Dissect, suspects: Iterable[Suspect], directory: str | None = None) -> None:
        wanted = list(suspects)
        keys = {one.key for one in wanted}
        super().__init__(dissect, lambda key, other: key in keys or other in keys)
        self._wanted = {one.first for one in wanted}
        self._store = Store(directory)
        self.unread = 0
        """Connections that could not be read again: they were beyond the bounds."""

    def _flow(self, number: int) -> Flow:
        return LastFlow(number, self._store, self._budget)

    def readings(self) -> Iterator[tuple[LastFlow, Iterator[Turn]]]:
        """Give each connection in which the last copies say something else, and its turns, in the order of the capture.

        The turns come from the file: take them before the next connection. Raises OSError.
        """
        for flow in sorted(self.ended, key=lambda one: one.first):
            if flow.first not in self._wanted or not isinstance(flow, LastFlow):
                continue
            self._wanted.remove(flow.first)
            if flow.unread:
                self.unread += 1
            elif flow.differs():
                if not flow.conflicts:  # the first copy was forgotten when the second came
                    flow.note("tcp_overlap_conflict", flow.client, 0)
                yield flow, flow.reading()
        self.ended.clear()
        self.unread += len(self._wanted)
        self._wanted.clear()

    def close(self) -> None:
        """The file is gone."""
        self._store.close()

"""Fragments of IP datagrams put together again (RFC 791 §3.2, RFC 8200 §4.5), in any order and however often they come.

Overlapping IPv4 fragments that differ have no one meaning: some hosts keep the first copy, some the last. Both readings
are given. For IPv6 such a datagram is none (RFC 5722 §4); what comes of it later is dropped too. A datagram that is
never complete is forgotten: the TCP above sees the hole.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final, NamedTuple

MOST: Final = 65_535
"""Octets of a datagram: what its length field can say."""
IN_WORK: Final = 1_000
"""Incomplete datagrams; the oldest is forgotten first. Linux's ipfrag_high_thresh of 4 MB is about as many."""
OCTETS: Final = 16_777_216
"""Octets kept for incomplete datagrams (a far fragment costs the octets in front of it too)."""
PATIENCE: Final = 60 * 10**9
"""Nanoseconds of the capture from the first fragment on: RFC 8200 §4.5, RFC 1122 §3.3.2."""


class Whole(NamedTuple):
    """A datagram's payload. `protocol` is that of its first fragment; `other` is the reading in which the last copy
    wins, where fragments contradict each other."""

    protocol: int
    octets: bytes
    other: bytes | None = None


@dataclass(slots=True)
class _Datagram:
    began: int
    octets: bytearray
    last: bytearray | None
    have: list[tuple[int, int]]
    """First and last+1 octet of what is there: disjoint, in order."""
    size: int = -1
    protocol: int = -1
    dropped: bool = False


class Fragments:
    """Datagrams in work. `anomalies` counts what was wrong, by kind."""

    def __init__(self) -> None:
        self._work: dict[bytes, _Datagram] = {}
        self._held = 0
        self.anomalies: dict[str, int] = {}

    def take(
        self, key: bytes, protocol: int, offset: int, more: bool, payload: bytes, now: int, *, strict: bool
    ) -> Whole | None:
        """One fragment: the datagram if it is complete now. `offset` is in octets, `now` in nanoseconds of the capture;
        `key` tells the datagram from all others; `strict`: overlaps make it void (IPv6)."""
        self._forget(now)
        if more:
            payload = payload[: len(payload) & ~7]  # only the last one's size is free (RFC 791 §3.2)
        stop = offset + len(payload)
        if stop > MOST:
            self._odd("ip_fragment_oversize")
            return None
        if stop == offset:
            return None
        datagram = self._work.get(key)
        if datagram is None:
            datagram = self._work[key] = _Datagram(now, bytearray(), None, [])
            if len(self._work) > IN_WORK:
                self._drop(next(iter(self._work)))
        if datagram.dropped:
            return None
        if not self._fits(datagram, stop, more) or not self._write(datagram, offset, stop, payload, strict):
            if strict:
                self._void(datagram)
            return None
        if not offset and datagram.protocol < 0:
            datagram.protocol = protocol
        if datagram.size >= 0 and datagram.have[0] == (0, datagram.size):
            self._drop(key)
            last = datagram.last
            return Whole(datagram.protocol, bytes(datagram.octets), None if last is None else bytes(last))
        while self._held > OCTETS and self._work:
            self._drop(next(iter(self._work)))
        return None

    def _fits(self, datagram: _Datagram, stop: int, more: bool) -> bool:
        """The end of the datagram is where its first last fragment says; nothing lies behind."""
        size = datagram.size
        if size >= 0 and (stop > size or (not more and stop != size)):
            self._odd("ip_fragment_beyond_end")
            return False
        if size < 0 and not more:
            if datagram.have and datagram.have[-1][1] > stop:
                self._odd("ip_fragment_beyond_end")
                return False
            datagram.size = stop
        return True

    def _write(self, datagram: _Datagram, start: int, stop: int, payload: bytes, strict: bool) -> bool:
        """Put the octets where they belong; False: they contradict what is there, and that makes the datagram void."""
        octets, have = datagram.octets, datagram.have
        if len(octets) < stop:
            self._grow(datagram, stop)
        first = bisect_left(have, start, key=lambda piece: piece[1])
        after = first
        while after < len(have) and have[after][0] <= stop:
            after += 1
        known = have[first:after]  # what it overlaps or touches
        fresh, differs, overlaps = bytearray(payload), False, False
        for low, high in known:
            low, high = max(low, start), min(high, stop)
            if low < high:
                overlaps = True
                differs = differs or octets[low:high] != payload[low - start : high - start]
                fresh[low - start : high - start] = octets[low:high]
        # An exact copy is no overlap: the network doubles packets, a mirror port doubles all (RFC 8200 §4.5).
        if strict and overlaps and (differs or not any(low <= start and stop <= high for low, high in known)):
            self._odd("ip_fragment_overlap")
            return False
        if differs and datagram.last is None:
            self._odd("ip_fragment_overlap")
            datagram.last = bytearray(octets)
            self._held += len(octets)
        octets[start:stop] = fresh
        if datagram.last is not None:
            datagram.last[start:stop] = payload
        bounds = [start, stop, *(edge for piece in known for edge in piece)]
        have[first:after] = [(min(bounds), max(bounds))]
        return True

    def _grow(self, datagram: _Datagram, size: int) -> None:
        for octets in (datagram.octets, datagram.last):
            if octets is not None:
                self._held += size - len(octets)
                octets.extend(bytes(size - len(octets)))

    def _void(self, datagram: _Datagram) -> None:
        """Remembered without its octets, so that late fragments do not begin it anew."""
        self._held -= len(datagram.octets)
        datagram.octets, datagram.have, datagram.dropped = bytearray(), [], True

    def _drop(self, key: bytes) -> None:
        datagram = self._work.pop(key)
        self._held -= len(datagram.octets) + len(datagram.last or b"")

    def _forget(self, now: int) -> None:
        """Drop what waits for too long; a clock that jumps back counts as well."""
        while self._work:
            key, oldest = next(iter(self._work.items()))
            if -PATIENCE <= now - oldest.began <= PATIENCE:
                return
            self._drop(key)

    def _odd(self, kind: str) -> None:
        self.anomalies[kind] = self.anomalies.get(kind, 0) + 1

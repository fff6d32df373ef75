"""The newer capture file (draft-ietf-opsawg-pcapng): sections of either byte order, several interfaces with names and
clocks of their own, comments, and keys of TLS sessions.

What else it may hold (names of hosts, statistics, blocks of other programs) is passed over by its length.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from netinspect.replay.frame import UDP_TUNNELS, UNKNOWN, Interface, Taker
from netinspect.replay.pcap import FRAGMENT, MOST, SYN, TCP, UDP, Damaged, Layout, layout_at, layouts

MAGIC: Final = b"\x0a\x0d\x0d\x0a"
"""The type of a section header, the same in both byte orders."""

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, PACKET, SECRETS = 0x0A0D0D0A, 1, 2, 3, 6, 10
TLS_KEY_LOG: Final = 0x544C534B
COMMENT, NAME, DESCRIPTION, RESOLUTION, OFFSET = 1, 2, 3, 9, 14

COMMENTS: Final = 10_000
"""Comments that are kept."""
KEYS: Final = 16_777_216
"""Octets of keys that are kept: some 100,000 sessions."""
INTERFACES: Final = 65_536
"""Interfaces of a section."""
AHEAD: Final = 1_048_576
"""Octets of a block that is to be found behind damage; a larger one is not waited for."""
LATEST: Final = 253_402_300_799 * 1_000_000_000
"""The end of the year 9999, ns: a later time is damage, and nobody can write it down."""

_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_LEAST: Final = {SECTION: 28, INTERFACE: 20, OLD_PACKET: 32, SIMPLE_PACKET: 16, PACKET: 32, SECRETS: 20}
_TYPES: Final = {
    order: re.compile(
        b"|".join(re.escape(struct.pack(order + "I", kind)) for kind in (SECTION, PACKET, INTERFACE, SIMPLE_PACKET))
    )
    for order in "<>"
}


class _Source(NamedTuple):
    """An interface, and how its frames are read.

    A time is `ticks * multiplier // divisor + offset` ns.
    """

    interface: Interface
    layouts: tuple[Layout, Layout] | None
    snapshot: int
    multiplier: int
    divisor: int
    offset: int


class Pcapng:
    """Reads one file. `damaged` is told `bad_block` (the next good one is searched for), `bad_interface` (of a packet;
    it is left out), or `truncated`.

    `keys` are the key logs of TLS in it, `comments` those of the file (frame 0) and of frames.
    """

    def __init__(self, damaged: Damaged) -> None:
        self.wanted = 12
        self.time = 0
        self.keys: list[bytes] = []
        self.comments: list[tuple[int, str]] = []
        self.every = False
        self._damaged = damaged
        self._number = 0
        self._order = ""
        self._sources: list[_Source] = []
        self._current = -1
        self._searching = False

    def feed(self, block: bytes, taker: Taker, *, last: bool = False) -> int:
        at, began, before = 0, -1, self._number
        while True:
            if self._searching:
                at = self._search(block, at, last=last)
                if self._searching:
                    break
            at = self._fast(block, at, taker)
            if began < 0 and self._number > before:
                began = self.time
            step = self._other(block, at, taker, last=last)
            if not step and not self._searching:
                break
            at += step
            if began < 0 and self._number > before:
                began = self.time
        if at:
            taker.block(self._number, max(began, 0), self.time, at)
        return at

    def _fast(self, block: bytes, at: int, taker: Taker) -> int:
        """The loop that passes over most of the capture, as in `pcap`; stops in front of every other block."""
        current = self._current
        if current < 0:
            return at
        sources, number = self._sources, self._number
        interface, both, _, multiplier, divisor, offset = sources[current]
        if both is None or self.every:
            return at
        known, ordinary, frame, unknown = taker.known, taker.ordinary, taker.frame, UNKNOWN
        some = FRAGMENT[self._order]
        unpack, need, _, tag4, mark4, marks6, ip = layout_at(both, block, at + 28)
        least4, least6 = ip + 40, ip + 60
        end = len(block)
        safe = end - need
        while at <= safe:
            kind, total, source, upper, lower, size, wire, tag, mark, part, protocol, key, flags = unpack(block, at)
            if kind != PACKET:
                break
            if source != current:
                if source >= len(sources) or sources[source].layouts is None:
                    break
                current = source
                interface, both, _, multiplier, divisor, offset = sources[current]
                unpack, need, _, tag4, mark4, marks6, ip = layout_at(both, block, at + 28)
                least4, least6 = ip + 40, ip + 60
                safe = end - need
                continue
            if at + total > end:
                break
            if total != size + 35 & -4:  # there are options, or it is damaged
                if total < size + 32 or total & 3:
                    break
                self._remark(block, at + 28 + (size + 3 & -4), at + total - 4, number + 1)
            number += 1
            done = at
            if protocol == TCP and mark == mark4 and not part & some and size >= least4 and tag == tag4:
                half = known(key, unknown)
                if half is not None or flags & SYN:
                    time = (upper << 32 | lower) * multiplier // divisor + offset
                    if time > LATEST:
                        time = LATEST
                    ordinary(number, time, interface, block, at + 28 + ip, at + 28 + size, key, flags, half)
                at += total
                continue
            if protocol == UDP and mark == mark4 and not part & some and size >= least4 and tag == tag4:
                if key[10:] not in UDP_TUNNELS:
                    at += total
                    continue
            elif mark in marks6 and size >= least6 and block[at + ip + 34] == TCP and tag == tag4:
                key = block[at + ip + 36 : at + ip + 72]
                half = known(key, unknown)
                flags = block[at + ip + 81]
                if half is not None or flags & SYN:
                    time = (upper << 32 | lower) * multiplier // divisor + offset
                    if time > LATEST:
                        time = LATEST
                    ordinary(number, time, interface, block, at + 28 + ip, at + 28 + size, key, flags, half)
                at += total
                continue
            time = (upper << 32 | lower) * multiplier // divisor + offset
            if time > LATEST:
                time = LATEST
            frame(number, (time, interface, block, at + 28, at + 28 + size, wire))
            at += total
        if number > self._number:
            self._number = number
            self._current, upper, lower = struct.unpack_from(self._order + "III", block, done + 8)
            self.time = _time(sources[self._current], upper << 32 | lower)
        return at

    # --- one block ------------------------------------------------------------------------------------------------

    def _other(self, block: bytes, at: int, taker: Taker, *, last: bool) -> int:
        """Take one block of any kind; returns its octets, 0 when it is not whole yet or damaged."""
        have = len(block) - at
        self.wanted = 12
        if have < 12:
            if last and have:
                self._damaged("truncated", "")
                return have
            return 0
        kind, total = self._head(block, at)
        if total < _LEAST.get(kind, 12) or total & 3 or total > MOST:
            return self._bad(f"{total} octets")
        if total > have:
            if not last:
                self.wanted = total
                return 0
            self._damaged("truncated", "")
            if kind == PACKET and have > 28:
                self._packet(block, at, len(block), taker)
            return have
        stop = at + total
        if kind == PACKET:
            if not self._packet(block, at, stop - 4, taker):
                return self._bad(f"frame {self._number + 1}")
            return total
        if struct.unpack_from(self._order + "I", block, stop - 4)[0] != total:
            return self._bad(f"type {kind}, its two lengths differ")
        body, stop = at + 8, stop - 4
        if kind == SECTION:
            self._sources = []
            self._current = -1
            self._remark(block, body + 16, stop, 0)
        elif kind == INTERFACE:
            self._interface(block, body, stop)
        elif kind == SECRETS:
            self._secrets(block, body, stop)
        elif kind == OLD_PACKET:
            source, _, upper, lower, size, wire = struct.unpack_from(self._order + "HHIIII", block, body)
            self._give(source, upper << 32 | lower, wire, block, body + 20, min(body + 20 + size, stop), taker)
        elif kind == SIMPLE_PACKET:
            self._simple(block, body, stop, taker)
        return total

    def _head(self, block: bytes, at: int) -> tuple[int, int]:
        """Type and length of a block; a section header says in which byte order it is written."""
        if block.startswith(MAGIC, at):
            order = _ORDERS.get(block[at + 8 : at + 12], "")
            if not order:
                return SECTION, 0
            self._order = order
        kind, total = struct.unpack_from(self._order + "II", block, at)
        return kind, total

    def _packet(self, block: bytes, at: int, stop: int, taker: Taker) -> bool:
        """An enhanced packet block (§4.3); False: it does not fit into its block."""
        source, upper, lower, size, wire = struct.unpack_from(self._order + "IIIII", block, at + 8)
        begin = at + 28
        whole = begin + size <= stop
        if not whole and stop != len(block):
            return False
        number = self._number
        self._give(source, upper << 32 | lower, wire, block, begin, min(begin + size, stop), taker)
        if whole and self._number > number:
            self._remark(block, begin + (size + 3 & -4), stop, self._number)
        return True

    def _simple(self, block: bytes, body: int, stop: int, taker: Taker) -> None:
        """A simple packet block (§4.4): of the first interface, without a time; it gets that of the one before."""
        (wire,) = struct.unpack_from(self._order + "I", block, body)
        if not self._sources:
            self._damaged("bad_interface", f"0 in frame {self._number + 1}")
            return
        source = self._sources[0]
        size = min(wire, source.snapshot or wire, stop - body - 4)
        self._number += 1
        taker.frame(self._number, (self.time, source.interface, block, body + 4, body + 4 + size, wire))

    def _give(self, source: int, ticks: int, wire: int, block: bytes, begin: int, stop: int, taker: Taker) -> None:
        if source >= len(self._sources):
            self._damaged("bad_interface", f"{source} in frame {self._number + 1}")
            return
        self._current = source
        found = self._sources[source]
        self.time = _time(found, ticks)
        self._number += 1
        taker.frame(self._number, (self.time, found.interface, block, begin, stop, wire))

    def _interface(self, block: bytes, body: int, stop: int) -> None:
        """An interface description block (§4.2)."""
        if len(self._sources) >= INTERFACES:
            return
        linktype, _, snapshot = struct.unpack_from(self._order + "HHI", block, body)
        names = {NAME: "", DESCRIPTION: ""}
        multiplier, divisor, offset = 1000, 1, 0
        for code, value in self._options(block, body + 8, stop):
            if code in names:
                names[code] = _text(value)
            elif code == RESOLUTION and len(value) == 1:
                multiplier, divisor = _clock(value[0])
            elif code == OFFSET and len(value) == 8:
                offset = struct.unpack(self._order + "q", value)[0] * 1_000_000_000
            elif code == COMMENT:
                self._comment(0, value)
        interface = Interface(linktype, len(self._sources), names[NAME], names[DESCRIPTION])
        both = layouts(self._order + "IIIIIII", linktype) if offset >= 0 else None
        self._sources.append(_Source(interface, both, snapshot, multiplier, divisor, offset))

    def _secrets(self, block: bytes, body: int, stop: int) -> None:
        """A decryption secrets block (§4.7)."""
        kind, size = struct.unpack_from(self._order + "II", block, body)
        if kind == TLS_KEY_LOG and sum(map(len, self.keys)) + size <= KEYS:
            self.keys.append(block[body + 8 : min(body + 8 + size, stop)])

    # --- options --------------------------------------------------------------------------------------------------

    def _options(self, block: bytes, at: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Code and value of each option (§3.5)."""
        while at + 4 <= stop:
            code, size = struct.unpack_from(self._order + "HH", block, at)
            if not code or at + 4 + size > stop:
                return
            yield code, block[at + 4 : at + 4 + size]
            at += 4 + (size + 3 & -4)

    def _remark(self, block: bytes, at: int, stop: int, number: int) -> None:
        for code, value in self._options(block, at, stop):
            if code == COMMENT:
                self._comment(number, value)

    def _comment(self, number: int, value: bytes) -> None:
        if len(self.comments) < COMMENTS:
            self.comments.append((number, _text(value)))

    # --- damage ---------------------------------------------------------------------------------------------------

    def _bad(self, detail: str) -> int:
        self._damaged("bad_block", detail)
        self._searching = True
        return 0

    def _search(self, block: bytes, at: int, *, last: bool) -> int:
        """Look for the next block: it has the same length in front and behind, and its packet an interface."""
        self._order = order = self._order or "<"
        self.wanted = 12
        for found in _TYPES[order].finditer(block, at + 1):
            at = found.start()
            if at + 12 > len(block):
                if last:
                    continue
                self.wanted = 12
                return at - 1
            kind, total = self._head(block, at)
            here, self._order = self._order, order
            if total < _LEAST[kind] or total & 3 or total > AHEAD:
                continue
            if kind == PACKET and struct.unpack_from(here + "I", block, at + 8)[0] >= len(self._sources):
                continue
            if at + total > len(block):
                if last:
                    continue
                self.wanted = total + 1
                return at - 1
            if struct.unpack_from(here + "I", block, at + total - 4)[0] == total:
                self._searching = False
                return at
        return len(block) if last else max(at, len(block) - 4)


def _time(source: _Source, ticks: int) -> int:
    return min(max(ticks * source.multiplier // source.divisor + source.offset, 0), LATEST)


def _clock(resolution: int) -> tuple[int, int]:
    """Multiplier and divisor from ticks to ns (if_tsresol): a negative power of 10, or with the upper bit one of 2."""
    units: int = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
    return (1_000_000_000 // units, 1) if 1_000_000_000 % units == 0 else (1_000_000_000, units)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")

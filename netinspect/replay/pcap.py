"""The classic capture file (draft-ietf-opsawg-pcap): both byte orders, micro- and nanoseconds, and the records with
eight octets more that old Linux kernels wrote.

A reader of a container takes octets and gives frames; it opens nothing. `feed` is given a piece of the file, gives the
frames that are whole in it to the taker, and returns how many octets it has used: what is left is given again, with
more behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from netinspect.replay.frame import UDP_TUNNELS, UNKNOWN, V4, V6, VLAN, Interface, Taker

MOST: Final = 16_777_216
"""Octets of one record or block; one that says more is damage. Nobody's snapshot length is near it."""
ORDINARY: Final = 262_144
"""The largest snapshot length that capture programs set (libpcap MAXIMUM_SNAPLEN); some write a smaller one into the
file than its frames have."""
DAY: Final = 86_400
"""Seconds that a record behind damage may be away from the one before it, to be believed."""

MAGICS: Final[dict[bytes, tuple[str, int, int]]] = {
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16), b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16), b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\xcd\x34": (">", 1000, 24), b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
}  # fmt: skip
"""Byte order, nanoseconds of one fraction, octets of a record's header."""

SYN: Final = 2
TCP, UDP = 6, 17
FRAGMENT: Final = {">": 0x3FFF, "<": 0xFF3F}
"""By byte order: what is not zero in octets 6 and 7 of an IPv4 header that is a fragment (RFC 791 §3.1)."""

Damaged = Callable[[str, str], None]
"""Told what is wrong: kind and detail."""


class Reader(Protocol):
    """A reader of a container."""

    wanted: int
    """Octets that the next piece must have at least for anything to come of it."""
    time: int
    """Of the last frame, ns since 1970."""
    every: bool
    """Each frame is given to `taker.frame`, and nothing passed over."""

    def feed(self, block: bytes, taker: Taker, *, last: bool = False) -> int:
        """Give the frames in `block`; returns how many of its octets are done with. `last`: nothing follows."""


class Layout(NamedTuple):
    """Where the fixed octets of ordinary frames stand, behind the head of a record.

    `unpack` gives what is in the head, and of the frame: tag, mark, fragment field, protocol, key, TCP flags. `size` is
    what it needs, `place` where the tag or the mark begins in the frame, `ip` where the IP header does.
    """

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    size: int
    place: int
    tag: bytes
    mark4: bytes
    marks6: frozenset[bytes]
    ip: int


def layouts(head: str, linktype: int) -> tuple[Layout, Layout] | None:
    """For frames without and with a VLAN tag; `head` is the struct format of a record's head. None: no such octets."""
    if linktype not in V4:
        return None
    place, mark = V4[linktype]
    found = []
    # In the formats of two octets there is no type in front of IP that could be a tag's.
    for tag in (b"", VLAN) if len(mark) == 3 else (b"", b""):
        skip = 2 if tag else 0
        form = struct.Struct(f"{head}{place}x{len(tag)}s{skip}x{len(mark)}s5xHxB2x12s9xB")
        ip = place + len(tag) + skip + len(mark) - 1
        found.append(Layout(form.unpack_from, form.size, place, tag, mark, V6.get(linktype, frozenset()), ip))
    return found[0], found[1]


def layout_at(both: tuple[Layout, Layout], block: bytes, frame: int) -> Layout:
    """The one for the frame that begins here; those behind it are likely to be like it."""
    return both[block.startswith(VLAN, frame + both[0].place)]


class Pcap:
    """Reads one file. `damaged` is told `bad_header`, `bad_record` (what follows is searched for), or `truncated`."""

    def __init__(self, damaged: Damaged) -> None:
        self.wanted = 24
        self.time = 0
        self.every = False
        self._damaged = damaged
        self._number = 0
        self._head = 0
        self._searching = False

    def feed(self, block: bytes, taker: Taker, *, last: bool = False) -> int:
        start = 0
        if not self._head:
            if len(block) < 24:
                if last:
                    self._damaged("bad_header", "")
                return 0
            self._begin(block)
            start = 24
        at, began = start, -1
        while True:
            if self._searching:
                at = self._search(block, at, last=last)
                if self._searching:
                    break
            if began < 0 and at + self._head <= len(block):
                began = self._record(block, at)[0]
            at = self._plain(block, self._fast(block, at, taker), taker)
            if not self._broken(block, at):
                break
        if last and at < len(block) and not self._searching:
            self._damaged("truncated", "")
            at = self._rest(block, at, taker)
        if at > start:
            taker.block(self._number, max(began, 0), self.time, at - start)
        return at

    def _begin(self, block: bytes) -> None:
        self._order, self._scale, self._head = MAGICS[block[:4]]
        snapshot, link = struct.unpack_from(self._order + "II", block, 16)
        # The upper half holds the length of a checksum that may follow the frames; IP knows its own length.
        self._interface = Interface(link & 0xFFFF)
        self._limit = max(ORDINARY, snapshot) if snapshot <= MOST else MOST
        self._header = struct.Struct(self._order + "IIII").unpack_from
        self._layouts = layouts(f"{self._order}IIII{self._head - 16}x", link & 0xFFFF)
        self.wanted = self._head

    def _fast(self, block: bytes, at: int, taker: Taker) -> int:
        """The loop that passes over most of the capture; stops in front of what it cannot decide from fixed places."""
        if self._layouts is None or self.every:
            return at
        head = self._head
        unpack, need, _, tag4, mark4, marks6, place = layout_at(self._layouts, block, at + head)
        ip, least4, least6 = head + place, place + 40, place + 60
        known, ordinary, frame, unknown = taker.known, taker.ordinary, taker.frame, UNKNOWN
        some = FRAGMENT[self._order]
        interface, scale, number = self._interface, self._scale, self._number
        end = len(block)
        safe = end - need
        while at <= safe:
            seconds, fraction, size, wire, tag, mark, fragment, protocol, key, flags = unpack(block, at)
            stop = at + head + size
            if stop > end:
                break
            number += 1
            done = at
            if protocol == TCP and mark == mark4 and not fragment & some and size >= least4 and tag == tag4:
                half = known(key, unknown)
                if half is not None or flags & SYN:
                    time = seconds * 1_000_000_000 + fraction * scale
                    ordinary(number, time, interface, block, at + ip, stop, key, flags, half)
                at = stop
                continue
            if protocol == UDP and mark == mark4 and not fragment & some and size >= least4 and tag == tag4:
                if key[10:] not in UDP_TUNNELS:
                    at = stop
                    continue
            elif mark in marks6 and size >= least6 and block[at + ip + 6] == TCP and tag == tag4:
                key = block[at + ip + 8 : at + ip + 44]
                half = known(key, unknown)
                flags = block[at + ip + 53]
                if half is not None or flags & SYN:
                    time = seconds * 1_000_000_000 + fraction * scale
                    ordinary(number, time, interface, block, at + ip, stop, key, flags, half)
                at = stop
                continue
            frame(number, (seconds * 1_000_000_000 + fraction * scale, interface, block, at + head, stop, wire))
            at = stop
        if number > self._number:
            self._number = number
            self.time = self._record(block, done)[0]
        return at

    def _plain(self, block: bytes, at: int, taker: Taker) -> int:
        """The same for records that are too short for the loop, and for link types without fixed places."""
        end, head = len(block), self._head
        while at + head <= end:
            time, size, wire = self._record(block, at)
            stop = at + head + size
            if stop > end:
                break
            self._number += 1
            self.time = time
            taker.frame(self._number, (time, self._interface, block, at + head, stop, wire))
            at = stop
        return at

    def _record(self, block: bytes, at: int) -> tuple[int, int, int]:
        """Time (ns), octets, and octets on the wire that a record says."""
        seconds, fraction, size, wire = self._header(block, at)
        return seconds * 1_000_000_000 + fraction * self._scale, size, wire

    # --- damage ---------------------------------------------------------------------------------------------------

    def _broken(self, block: bytes, at: int) -> bool:
        """Whether the record at which reading stopped is damaged, and not only not whole yet."""
        self.wanted = self._head
        if at + self._head > len(block):
            return False
        size = self._record(block, at)[1]
        if size <= self._limit:
            self.wanted += size
            return False
        self._damaged("bad_record", f"{size} octets in frame {self._number + 1}")
        self._searching = True
        return True

    def _search(self, block: bytes, at: int, *, last: bool) -> int:
        """Look for the next record: its time is near the last one, and a second such record follows it."""
        upper = struct.pack(self._order + "I", min(self.time // 1_000_000_000, 0xFFFFFFFF))
        place = 2 if self._order == "<" else 0
        needle = upper[place : place + 2]
        self.wanted = self._head
        while self.time and (found := block.find(needle, at + place)) >= 0:
            at = found - place
            follower = self._credible(block, at)
            if follower > len(block) - self._head:
                if not last:
                    self.wanted = follower + self._head - at
                    return at
                credible = follower == len(block)
            else:
                credible = bool(follower and self._credible(block, follower))
            if credible:
                self._searching = False
                return at
            at += 1
        return len(block) if last or not self.time else max(at, len(block) - 3)

    def _credible(self, block: bytes, at: int) -> int:
        """Where the record behind this one begins if this is one, else 0."""
        if at + self._head > len(block):
            return at + self._head
        time, size, wire = self._record(block, at)
        fraction = self._header(block, at)[1] * self._scale
        near = abs(time - self.time) < DAY * 1_000_000_000
        return at + self._head + size if near and fraction < 1_000_000_000 and 0 < size <= min(wire, self._limit) else 0

    def _rest(self, block: bytes, at: int, taker: Taker) -> int:
        """What is left of the last record when the file was cut in it."""
        if at + self._head < len(block):
            time, _, wire = self._record(block, at)
            self._number += 1
            self.time = time
            taker.frame(self._number, (time, self._interface, block, at + self._head, len(block), wire))
        return len(block)

"""For the tests of the readers: what came out of one, however it was read, and all sorts of frames."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from netinspect.replay.flows import FlowTable
from netinspect.replay.frame import ETHERNET, IPV4, LINUX_SLL, NULL, RAW, Frame, Interface
from netinspect.replay.pcap import Pcap
from netinspect.replay.pcapng import Pcapng
from tests.replay.make import START, Talk, Timed, fragments, ip, link, packet

Told = list[tuple[str, str]]
"""What was said about damage."""

LINKTYPES = (ETHERNET, RAW, IPV4, LINUX_SLL, NULL)


class Seen(FlowTable):
    """Writes down what the flow table would be given; `passed` are the keys it knows to be something else."""

    def __init__(self, passed: frozenset[bytes] = frozenset()) -> None:
        super().__init__(lambda frame: None)
        self.seen: list[tuple[Any, ...]] = []
        self.blocks: list[tuple[int, int, int, int]] = []
        self._table.update(dict.fromkeys(passed))

    def ordinary(
        self,
        number: int,
        time: int,
        interface: Interface,
        block: bytes,
        ip: int,
        stop: int,
        key: bytes,
        flags: int,
        half: Any,
    ) -> None:
        self.seen.append((number, time, interface, block[ip:stop], key, flags))

    def _unusual(self, frame: Frame, number: int) -> None:
        time, interface, block, start, stop, wire = frame
        self.seen.append((number, time, interface, block[start:stop], wire))

    def block(self, number: int, first: int, last: int, octets: int) -> None:
        self.blocks.append((number, first, last, octets))


Make = Callable[[Callable[[str, str], None]], Pcap | Pcapng]


def read(
    make: Make, octets: bytes, size: int = 0, *, every: bool = False, passed: frozenset[bytes] = frozenset()
) -> tuple[Seen, Told, Pcap | Pcapng]:
    """Read a file in pieces of `size` octets (0: whole), as `Capture.parse` does."""
    told: Told = []
    reader = make(lambda kind, detail: told.append((kind, detail)))
    reader.every = every
    seen = Seen(passed)
    left = b""
    for at in range(0, len(octets), size or len(octets) or 1):
        left += octets[at : at + (size or len(octets))]
        if len(left) >= reader.wanted:
            used = reader.feed(left, seen)
            assert 0 <= used <= len(left)
            left = left[used:]
    reader.feed(left, seen, last=True)
    return seen, told, reader


def traffic(linktype: int = ETHERNET) -> list[Timed]:
    """Ordinary mail, other connections, and what a network has besides."""
    four = Talk().session(b"Subject: one\r\n\r\n" + b"text\r\n" * 400)
    six = Talk(("2001:db8::1", 40001), ("2001:db8::19", 25)).session(b"Subject: six\r\n\r\nsix\r\n")
    web = Talk(("192.0.2.10", 50000), ("203.0.113.80", 80)).open().client(b"GET / HTTP/1.0\r\n\r\n").server(b"x" * 5000)
    packets = [packet(one) for talk in (four, six, web) for one in talk.segments]
    udp = struct.pack("!HHHH", 53, 5353, 40, 0) + bytes(32)
    tunnel = struct.pack("!HHHH", 5353, 4789, 40, 0) + bytes(32)
    packets += [
        ip("192.0.2.1", "192.0.2.2", 17, udp),
        ip("192.0.2.1", "192.0.2.2", 17, tunnel),
        ip("192.0.2.1", "192.0.2.2", 17, udp[:8]),
        ip("192.0.2.1", "192.0.2.2", 1, bytes(60)),
        ip("192.0.2.1", "192.0.2.2", 47, bytes(60)),
        ip("192.0.2.1", "192.0.2.2", 6, bytes(60), options=b"\1\1\1\1"),
        ip("2001:db8::1", "2001:db8::2", 17, udp),
        *fragments(packet(max(four.segments, key=lambda one: len(one.payload))), 512),
    ]
    if linktype in (IPV4, NULL):
        packets = [one for one in packets if one[0] >> 4 == 4]
    made = [link(one, linktype) for one in packets]
    if linktype == ETHERNET:
        made += [link(one, vlans=[(0x8100, 7)]) for one in packets[:4]]
        made += [link(packets[0], vlans=[(0x88A8, 1), (0x8100, 7)])]
    made += [b"", b"\0", bytes(13), bytes(60), made[0][:50], made[0][:33]]
    return [(START + number * 1_000_000, one) for number, one in enumerate(made)]


Change = tuple[float, str, int, bytes]

changes: st.SearchStrategy[list[Change]] = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["octet", "little", "big", "out", "in", "cut"]),
        st.one_of(st.integers(0, 70), st.sampled_from([0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 65536, 5000, 262_144])),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=6,
)
"""Where in the file (a part of it), what is done there, a number and octets for it."""


def changed(octets: bytes, changes: list[Change], keep: int) -> bytes:
    """The same file with octets changed, taken out, put in, or cut off; the first `keep` stay."""
    data = bytearray(octets)
    for place, what, number, added in changes:
        at = int(place * len(data))
        match what:
            case "octet":
                data[at : at + 1] = bytes([number & 0xFF])
            case "little" | "big":
                data[at : at + 4] = number.to_bytes(4, "little" if what == "little" else "big")
            case "out":
                del data[at : at + number % 300]
            case "in":
                data[at:at] = added
            case _:
                del data[at:]
    return octets[:keep] + bytes(data[keep:])

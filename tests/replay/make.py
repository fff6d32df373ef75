"""Captures for tests: a talk of two sides, as segments, as packets, as frames, as pcap or pcapng.

`Talk` writes down who said what; its `segments` may be moved, cut, changed or left out before `frames` makes octets of
them. All checksums are right. Everything below the talk (`tcp`, `ip`, `link`, `fragments`) is usable by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from netinspect.replay.flows import FlowTable, Packet
from netinspect.replay.frame import (
    ETHERNET,
    IPV4,
    IPV6,
    LINUX_SLL,
    LINUX_SLL2,
    LOOP,
    NULL,
    PPP,
    RAW,
    Batch,
    Frame,
    Interface,
)
from netinspect.replay.tcp import Flow, Gap
from netinspect.smtp.events import Side

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MASK: Final = 0xFFFFFFFF
START: Final = 1_700_000_000_000_000_000
"""Time of the first frame of a talk, ns since 1970."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Segment:
    """One TCP segment before it is octets. `ack` is -1 where it has none."""

    time: int
    side: Side
    source: Address
    destination: Address
    seq: int
    ack: int
    flags: int
    payload: bytes = b""
    options: bytes = b""
    window: int = 65535

    def moved(self, octets: int) -> Segment:
        """The same octets but for the first ones (or one before: a negative number is for keep-alives)."""
        return replace(self, seq=(self.seq + octets) & MASK, payload=self.payload[max(octets, 0) :])

    def with_payload(self, payload: bytes) -> Segment:
        return replace(self, payload=payload)


@dataclass
class Talk:
    """A connection. `segments` grows with what is said; `step` is the time between two of them (ns)."""

    client_address: Address = ("192.0.2.10", 40000)
    server_address: Address = ("198.51.100.25", 25)
    client_seq: int = 1000
    server_seq: int = 500_000
    mss: int = 1460
    step: int = 1_000_000
    time: int = START
    options: bytes = b""
    """TCP options of each segment; filled up to four octets."""
    acks: bool = True
    """Each turn is acknowledged by a segment without octets."""
    segments: list[Segment] = field(default_factory=list)

    def open(self) -> Talk:
        """SYN, SYN+ACK, ACK."""
        self._add(Side.CLIENT, SYN)
        self._add(Side.SERVER, SYN | ACK)
        self._add(Side.CLIENT, ACK)
        return self

    def client(self, *said: bytes) -> Talk:
        """What the client says, each in segments of its own."""
        return self._say(Side.CLIENT, said)

    def server(self, *said: bytes) -> Talk:
        return self._say(Side.SERVER, said)

    def close(self, first: Side = Side.CLIENT) -> Talk:
        """FIN from both sides."""
        second = Side.SERVER if first is Side.CLIENT else Side.CLIENT
        self._add(first, FIN | ACK)
        self._add(second, FIN | ACK)
        self._add(first, ACK)
        return self

    def reset(self, side: Side = Side.SERVER) -> Talk:
        self._add(side, RST | ACK)
        return self

    def mail(self, message: bytes, *, sender: str = "a@example.org", recipient: str = "b@example.com") -> Talk:
        """One transaction without pipelining. `message` has CRLF line ends and no lone dots."""
        self.client(b"MAIL FROM:<%s>\r\n" % sender.encode()).server(b"250 2.1.0 Ok\r\n")
        self.client(b"RCPT TO:<%s>\r\n" % recipient.encode()).server(b"250 2.1.5 Ok\r\n")
        self.client(b"DATA\r\n").server(b"354 go on\r\n")
        return self.client(message + b".\r\n").server(b"250 2.0.0 queued\r\n")

    def session(self, *messages: bytes) -> Talk:
        """A whole connection with these messages in it."""
        self.open().server(b"220 mx.example.com ESMTP\r\n").client(b"EHLO client.example.org\r\n")
        self.server(b"250-mx.example.com\r\n250 8BITMIME\r\n")
        for message in messages:
            self.mail(message)
        return self.client(b"QUIT\r\n").server(b"221 2.0.0 bye\r\n").close()

    def said(self) -> dict[Side, bytes]:
        """What each side said."""
        return {side: b"".join(one.payload for one in self.segments if one.side is side) for side in Side}

    def _say(self, side: Side, said: Iterable[bytes]) -> Talk:
        for octets in said:
            for at in range(0, len(octets), self.mss):
                self._add(side, PSH | ACK, octets[at : at + self.mss])
        if self.acks:
            self._add(Side.SERVER if side is Side.CLIENT else Side.CLIENT, ACK)
        return self

    def _add(self, side: Side, flags: int, payload: bytes = b"") -> None:
        mine, other = self.client_seq, self.server_seq
        here, there = self.client_address, self.server_address
        if side is Side.SERVER:
            mine, other, here, there = other, mine, there, here
        ack = other & MASK if flags & ACK else -1
        self.segments.append(Segment(self.time, side, here, there, mine & MASK, ack, flags, payload, self.options))
        self.time += self.step
        used = len(payload) + bool(flags & SYN) + bool(flags & FIN)
        if side is Side.CLIENT:
            self.client_seq += used
        else:
            self.server_seq += used


# --- packets ----------------------------------------------------------------------------------------------------------


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tcp(segment: Segment) -> bytes:
    """The TCP header and its octets."""
    options = segment.options + b"\0" * (-len(segment.options) % 4)
    head = struct.pack(
        "!HHIIBBHHH", segment.source[1], segment.destination[1], segment.seq & MASK, max(segment.ack, 0) & MASK,
        (5 + len(options) // 4) << 4, segment.flags, segment.window, 0, 0,
    )  # fmt: skip
    octets = head + options + segment.payload
    source, destination = ip_address(segment.source[0]).packed, ip_address(segment.destination[0]).packed
    pseudo = source + destination + struct.pack("!II", len(octets), 6)
    return octets[:16] + struct.pack("!H", checksum(pseudo + octets)) + octets[18:]


def ip(source: str, destination: str, protocol: int, payload: bytes, *, identification: int = 0, options: bytes = b"",
       extensions: bytes = b"", length: int | None = None, ttl: int = 64, offset: int = 0,
       more: bool = False) -> bytes:  # fmt: skip
    """An IPv4 or IPv6 packet. `options` are IPv4's; `extensions` are whole IPv6 extension headers whose first octet
    (next header) is right but for the first one's number, which `protocol` names; `length` overrides the header's.
    `offset` (octets, a multiple of 8) and `more` make an IPv4 fragment."""
    here, there = ip_address(source), ip_address(destination)
    if here.version == 6:
        size = len(extensions) + len(payload) if length is None else length
        return struct.pack("!IHBB", 6 << 28, size, protocol, ttl) + here.packed + there.packed + extensions + payload
    options += b"\0" * (-len(options) % 4)
    size = 20 + len(options) + len(payload) if length is None else length
    flags = (0x2000 if more else 0) | offset // 8
    head = struct.pack("!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, size, identification, flags, ttl, protocol, 0,
                       here.packed, there.packed) + options  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def packet(segment: Segment) -> bytes:
    """The IP packet of a segment."""
    return ip(segment.source[0], segment.destination[0], 6, tcp(segment))


def fragments(packet: bytes, size: int, *, identification: int = 7) -> list[bytes]:
    """An IP packet without options or extension headers in fragments of `size` octets (made a multiple of 8)."""
    size -= size % 8
    version = packet[0] >> 4
    body = packet[20:] if version == 4 else packet[40:]
    pieces = [(at, body[at : at + size], at + size < len(body)) for at in range(0, len(body), size)]
    if version == 4:
        source, destination = str(ip_address(packet[12:16])), str(ip_address(packet[16:20]))
        return [ip(source, destination, packet[9], piece, identification=identification, offset=at, more=more)
                for at, piece, more in pieces]  # fmt: skip
    source, destination = str(ip_address(packet[8:24])), str(ip_address(packet[24:40]))
    return [ip(source, destination, 44, piece, extensions=struct.pack("!BBHI", packet[6], 0, at | more, identification))
            for at, piece, more in pieces]  # fmt: skip


# --- frames -----------------------------------------------------------------------------------------------------------

_MACS: Final = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"


def link(packet: bytes, linktype: int = ETHERNET, vlans: Sequence[tuple[int, int]] = ()) -> bytes:
    """An IP packet in a frame. `vlans` (Ethernet only) are tags from the outside: (0x8100 or 0x88A8, VLAN)."""
    six = packet[0] >> 4 == 6
    kind = b"\x86\xdd" if six else b"\x08\0"
    if linktype == ETHERNET:
        return _MACS + b"".join(struct.pack("!HH", *tag) for tag in vlans) + kind + packet
    if linktype in (RAW, IPV4, IPV6):
        return packet
    if linktype == NULL:
        return struct.pack("<I", 30 if six else 2) + packet
    if linktype == LOOP:
        return struct.pack(">I", 30 if six else 2) + packet
    if linktype == PPP:
        return b"\xff\x03" + (b"\0\x57" if six else b"\0\x21") + packet
    if linktype == LINUX_SLL:
        return b"\0\0\0\1\0\6\2\0\0\0\0\1\0\0" + kind + packet
    if linktype == LINUX_SLL2:
        return kind + b"\0\0\0\0\0\2\0\1\0\6\2\0\0\0\0\1\0\0" + packet
    raise ValueError(f"link type {linktype}: build that frame by hand")


Timed = tuple[int, bytes]
"""Time in ns, octets of a frame."""


def frames(segments: Iterable[Segment], linktype: int = ETHERNET, vlans: Sequence[tuple[int, int]] = ()) -> list[Timed]:
    return [(one.time, link(packet(one), linktype, vlans)) for one in segments]


def batch(timed: Iterable[Timed], interface: Interface | None = None) -> Batch:
    """What a reader would give for these frames."""
    where = interface or Interface(ETHERNET)
    return [(time, where, octets, 0, len(octets), len(octets)) for time, octets in timed]


# --- containers -------------------------------------------------------------------------------------------------------


def pcap(
    timed: Iterable[Timed], linktype: int = ETHERNET, *, order: str = "<", nano: bool = False, snaplen: int = 262_144
) -> bytes:
    """A pcap file; frames are cut at `snaplen`."""
    scale = 1 if nano else 1000
    out = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)]
    for time, octets in timed:
        kept = octets[:snaplen]
        out.append(struct.pack(order + "IIII", time // 10**9, time % 10**9 // scale, len(kept), len(octets)) + kept)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += b"\0" * (-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """A pcapng option."""
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def section(order: str = "<") -> bytes:
    """A section header block."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    linktype: int = ETHERNET, *, name: str = "", resolution: int = 9, snaplen: int = 0, order: str = "<"
) -> bytes:
    """An interface description block; times count in 10**-`resolution` seconds."""
    options = (
        option(9, bytes((resolution,)), order)
        + (option(2, name.encode(), order) if name else b"")
        + option(0, b"", order)
    )
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def enhanced(
    time: int, octets: bytes, *, number: int = 0, comment: str = "", resolution: int = 9, order: str = "<"
) -> bytes:
    """An enhanced packet block on interface `number`."""
    stamp = time // 10 ** (9 - resolution)
    body = struct.pack(order + "IIIII", number, stamp >> 32, stamp & MASK, len(octets), len(octets)) + octets
    body += b"\0" * (-len(octets) % 4)
    if comment:
        body += option(1, comment.encode(), order) + option(0, b"", order)
    return block(6, body, order)


def pcapng(timed: Iterable[Timed], linktype: int = ETHERNET, *, name: str = "", order: str = "<") -> bytes:
    """A pcapng file with one section and one interface."""
    blocks = [section(order), interface(linktype, name=name, order=order)]
    return b"".join(blocks + [enhanced(time, octets, order=order) for time, octets in timed])


# --- reading back -----------------------------------------------------------------------------------------------------

Told = list[tuple[Side, bytes, int]]
"""Turns: side, octets, how many more are missing in it."""


def table(dissect: Callable[[Frame], Packet | None] | None = None) -> FlowTable:
    return FlowTable(dissect or (lambda frame: None))


def read(timed: Sequence[Timed], *, linktype: int = ETHERNET, size: int = 50) -> dict[Flow, Told]:
    """What a flow table makes of the frames, in batches of `size`: the turns of each connection, joined where a side
    goes on."""
    flows = table()
    where = Interface(linktype)
    told: dict[Flow, Told] = {}
    for at in range(0, len(timed), size):
        flows.feed(batch(timed[at : at + size], where))
        collect(flows, told)
    flows.finish()
    collect(flows, told)
    return told


def collect(flows: FlowTable, told: dict[Flow, Told]) -> None:
    """Take the turns that are there."""
    for flow in dict.fromkeys(flows.dirty):
        turns, flow.turns = flow.turns, []
        mine = told.setdefault(flow, [])
        for side, pieces, _, _ in turns:
            octets = b"".join(piece for piece in pieces if not isinstance(piece, Gap))
            missing = sum(piece.size for piece in pieces if isinstance(piece, Gap))
            if mine and mine[-1][0] is side:
                mine[-1] = (side, mine[-1][1] + octets, mine[-1][2] + missing)
            else:
                mine.append((side, octets, missing))
    flows.dirty.clear()
    flows.ended.clear()

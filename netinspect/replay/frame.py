"""What a container gives: frames as places in a block of octets, so that nothing is copied before it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

ETHERNET: Final = 1
"""LINKTYPE_ numbers as the tcpdump group registers them; pcap and pcapng use the same."""
NULL, PPP, RAW_BSD, RAW, LOOP, LINUX_SLL = 0, 9, 12, 101, 108, 113
IEEE802_11, IEEE802_11_RADIOTAP, IPV4, IPV6, LINUX_SLL2 = 105, 127, 228, 229, 276


@dataclass(frozen=True, slots=True)
class Interface:
    """Where frames were captured. `number` counts in the file; `name` and `description` only pcapng knows."""

    linktype: int
    number: int = 0
    name: str = ""
    description: str = ""


Frame: TypeAlias = tuple[int, Interface, bytes, int, int, int]
"""Time in ns since 1970, interface, block, first and last+1 octet of the frame in it, octets it had on the wire."""

Batch: TypeAlias = list[Frame]
"""Frames of one block, in the order of the file. Their number in the file goes on from batch to batch."""

TUNNELS: Final = frozenset({4, 41, 47, 51, 97, 137})
"""IP protocols with packets of their own inside: IP in IP, IPv6 in IP, GRE, AH, EtherIP, MPLS."""
UDP_TUNNELS: Final = frozenset((port).to_bytes(2) for port in (2152, 4789, 6081, 6635, 8472))
"""Destination ports of those in UDP: GTP-U, VXLAN, GENEVE, MPLS (RFC 7510), VXLAN as Linux had it first."""

OFFSETS: Final = tuple(offset if (offset := (octet >> 4) * 4) >= 20 else 1 << 20 for octet in range(256))
"""By octet 12 of a TCP header: where its payload begins. A wrong one is behind every frame, so that nothing is read as
payload that is header (RFC 9293 §3.1: at least five words)."""

V4: Final[dict[int, tuple[int, bytes]]] = {
    ETHERNET: (12, b"\x08\x00E"), RAW: (0, b"E"), RAW_BSD: (0, b"E"), IPV4: (0, b"E"), LINUX_SLL: (14, b"\x08\x00E"),
    NULL: (3, b"\x00E"),
}  # fmt: skip
"""Where in a frame the mark of an IPv4 header without options stands, and what it is; the E is its first octet."""
V6: Final[dict[int, frozenset[bytes]]] = {
    linktype: frozenset(mark[:-1].replace(b"\x08\x00", b"\x86\xdd") + bytes([0x60 | traffic]) for traffic in range(16))
    for linktype, (_, mark) in V4.items()
    if linktype not in (IPV4, NULL)
}
"""The marks of an IPv6 header at the same places; behind the version stand four bits of the traffic class."""


VLAN: Final = b"\x81\x00"
"""The type of a frame with a VLAN tag, in the place of IP's; two octets of tag and IP's type follow (IEEE 802.1Q)."""


class Unknown:
    """What a key stands for of which nobody knows yet."""


UNKNOWN: Final = Unknown()


class Taker(Protocol):
    """Who takes frames from the reader of a container (`FlowTable`).

    The reader itself looks at the fixed octets of ordinary frames: IPv4 or IPv6 without options, whole, TCP. Its key is
    the octets of both addresses and both ports as they stand in the frame. Those of a connection that `known` has None
    for are passed over, but for SYNs: this is what most of most captures consist of.
    """

    @property
    def known(self) -> Callable[[bytes, Unknown], Any]:
        """What is known of a key."""

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
        """An ordinary frame; `ip` is where its IP header begins in the block, `half` what is known of its key."""

    def frame(self, number: int, frame: Frame) -> None:
        """Any other frame, counted from 1."""

    def block(self, number: int, first: int, last: int, octets: int) -> None:
        """So many frames are read by now; times of the first and last frame of this block (ns), octets it had."""

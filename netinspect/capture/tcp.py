"""A conversation as the packets it could have been: IPv4 or IPv6 with TCP, checksums right, nothing lost or doubled.

    wire = Wire(("192.0.2.1", 40000), ("198.51.100.2", 25), start=1)
    frames = [*wire.open(), *wire.server(b"220 ...\r\n"), *wire.client(b"EHLO ...\r\n"), *wire.close(by_client=True)]

Acknowledgements ride on the other side's octets, as far as it says any. Frames begin with the IP header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

SEGMENT: Final = 65_475
"""Octets in one packet: with the headers of IPv6 (40) and TCP (20) the 65,535 that captures have room for."""
CLOCK: Final = 4000
"""Nanoseconds in which the number that a connection starts from grows by one (RFC 9293 §3.4.1): a port that is used
again soon starts beyond all numbers of the connection before."""

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_MASK: Final = 0xFFFFFFFF
_WINDOW: Final = 65_535
_SCALE: Final = 14
_SYN_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, SEGMENT, 1, 3, 3, _SCALE)
"""Segment size and window scale (RFC 7323 §2.2): without them a long message looks like more than the window takes."""
_TCP = struct.Struct(">HHIIBBHHH")
_V4 = struct.Struct(">BBHHHBBH4s4s")
_V6 = struct.Struct(">IHBB16s16s")


class Wire:
    """One connection. `client` and `server` are addresses and ports of the same IP version; ValueError else."""

    __slots__ = ("_addresses", "_number", "_ports", "_sums", "_v4")

    def __init__(self, client: tuple[str, int], server: tuple[str, int], start: int) -> None:
        source, destination = ip_address(client[0].partition("%")[0]), ip_address(server[0].partition("%")[0])
        if source.version != destination.version:
            raise ValueError("two versions of IP in one connection")
        self._v4 = source.version == 4
        self._addresses = (source.packed, destination.packed)
        self._ports = (client[1], server[1])
        self._number = [start & _MASK, (start + 0x40000000) & _MASK]
        # Of the pseudo-header, all but the length. Order does not matter, so both directions have the same.
        self._sums = (int.from_bytes(source.packed + destination.packed, "big") + 6) % 0xFFFF

    def open(self) -> Iterator[bytes]:
        """SYN, SYN and ACK, ACK."""
        yield self._frame(0, SYN, options=_SYN_OPTIONS)
        self._number[0] += 1
        yield self._frame(1, SYN | ACK, options=_SYN_OPTIONS)
        self._number[1] += 1
        yield self._frame(0, ACK)

    def client(self, data: bytes) -> Iterator[bytes]:
        """The client says this."""
        return self._say(0, data)

    def server(self, data: bytes) -> Iterator[bytes]:
        """The server says this."""
        return self._say(1, data)

    def close(self, *, by_client: bool) -> Iterator[bytes]:
        """FIN of this side, then of the other."""
        first = 0 if by_client else 1
        for side in (first, 1 - first):
            yield self._frame(side, FIN | ACK)
            self._number[side] += 1
        yield self._frame(first, ACK)

    def reset(self, *, by_client: bool) -> bytes:
        """RST of this side."""
        return self._frame(0 if by_client else 1, RST | ACK)

    def _say(self, side: int, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), SEGMENT):
            piece = data[at : at + SEGMENT] if len(data) > SEGMENT else data
            yield self._frame(side, PSH | ACK, piece)
            self._number[side] += len(piece)

    def _frame(self, side: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
        seq = self._number[side] & _MASK
        ack = self._number[1 - side] & _MASK if flags & ACK else 0
        size = 20 + len(options) + len(payload)
        offset = (20 + len(options)) << 2
        source, destination = self._ports[side], self._ports[1 - side]
        head = _TCP.pack(source, destination, seq, ack, offset, flags, _WINDOW, 0, 0) + options
        checksum = _checksum(self._sums + size, head, payload)
        head = head[:16] + checksum + head[18:]
        return self._ip(side, size) + head + payload

    def _ip(self, side: int, size: int) -> bytes:
        source, destination = self._addresses[side], self._addresses[1 - side]
        if not self._v4:
            return _V6.pack(0x60000000, size, 6, 64, source, destination)
        head = _V4.pack(0x45, 0, 20 + size, 0, 0x4000, 64, 6, 0, source, destination)
        return head[:10] + _checksum(0, head, b"") + head[12:]


def _checksum(start: int, head: bytes, payload: bytes) -> bytes:
    """RFC 1071. A sum of 16-bit words with carries put back is the number modulo 65,535."""
    total = start + int.from_bytes(head, "big") + (int.from_bytes(payload, "big") << ((len(payload) & 1) << 3))
    # Only a sum of nothing but zeros is 0; every other multiple of 65,535 is written 0xFFFF.
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    return (0xFFFF - folded).to_bytes(2, "big")

"""The way of most frames: to be passed over, or to add octets to a side whose turn it is.

Most frames of most captures have nothing to do with mail. What they are is read from the fixed octets of the ordinary
case (`frame.Taker`) where they stand, by the reader of the container already; everything out of the ordinary goes to
`dissect`, and every segment that is not simply the next one to `Connections`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from netinspect.replay.connections import SYN, Connections, Dissect, Packet, reverse
from netinspect.replay.frame import (
    OFFSETS,
    TUNNELS,
    UDP_TUNNELS,
    UNKNOWN,
    V4,
    V6,
    VLAN,
    Batch,
    Frame,
    Interface,
    Unknown,
)
from netinspect.replay.tcp import FAR, MASK, TURN

__all__ = ["Dissect", "FlowTable", "Packet", "reverse"]

TCP, UDP = 6, 17
_PLAIN: Final = frozenset({TCP, UDP}) | TUNNELS
"""Protocols whose fragments are worth putting together."""

_REST4: Final = struct.Struct(">H20xIIB").unpack_from
"""From the total length of an IPv4 header: that, and sequence, acknowledgement and data offset of TCP."""
_REST6: Final = struct.Struct(">H38xIIB").unpack_from
"""The same from the payload length of an IPv6 header."""


class FlowTable(Connections):
    """All connections of a capture, frame by frame."""

    def feed(self, batch: Batch) -> None:
        """Take the frames of one batch: what a reader does for a capture without need for speed."""
        number = self.frames
        for frame in batch:
            number += 1
            self.frame(number, frame)
        if batch:
            self.block(number, batch[0][0], batch[-1][0], len(batch[-1][2]))

    @property
    def known(self) -> Callable[[bytes, Unknown], Any]:
        return self._table.get

    def block(self, number: int, first: int, last: int, octets: int) -> None:
        self.frames = number
        self._batch(first, last, octets)

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
        if len(key) == 12:
            size, seq, ack, offset = _REST4(block, ip + 2)
            end = ip + size
            at = ip + 20 + OFFSETS[offset]
        else:
            size, seq, ack, offset = _REST6(block, ip + 4)
            end = ip + 40 + size
            at = ip + 40 + OFFSETS[offset]
        if end != stop and (end > stop or not size):  # cut by the snapshot length, or the card was to fill it in
            end = stop
        if half is None or half is UNKNOWN:
            if half is None:
                self._forget(key)
            half = self._unknown(key, seq, ack if flags & 16 else -1, flags, block[at:end], interface, number)
            if half is None:
                return
        flow = half.flow
        flow.last = time
        flow.number = number
        if seq != half.next or half.slow or flags & 23 != 16:  # ACK without FIN, SYN, RST
            self._segment(half, key, seq, ack if flags & 16 else -1, flags, block[at:end])
            return
        peer = half.peer
        peer.acked = ack
        if end <= at:
            return
        size = end - at
        if ack != peer.given and (ack - peer.given) & MASK <= FAR:
            half.segment(seq, ack, block[at:end])
            return
        half.next = half.given = (seq + size) & MASK
        half.octets += size
        held = flow.size
        if flow.speaker is half and 0 < held < TURN:
            flow.pieces.append(block[at:end])
            flow.size = held + size
            flow.spoke = time
        else:
            flow.take(half, block[at:end], size)

    def frame(self, number: int, frame: Frame) -> None:
        time, interface, block, start, stop, _ = frame
        linktype = interface.linktype
        if linktype not in V4:
            self._unusual(frame, number)
            return
        place, mark = V4[linktype]
        at = start + place
        ip = at + len(mark) - 1
        if len(mark) == 3 and block[at : at + 2] == VLAN:
            at += 4
            ip += 4
        if ip + 40 > stop:
            self._unusual(frame, number)
            return
        sign = block[at : ip + 1]
        if sign == mark:
            protocol = block[ip + 9]
            whole = not (block[ip + 6] & 0x3F or block[ip + 7])
            key, flags = block[ip + 12 : ip + 24], block[ip + 33]
        elif sign in V6.get(linktype, ()) and ip + 60 <= stop:
            protocol = block[ip + 6]
            whole = True
            key, flags = block[ip + 8 : ip + 44], block[ip + 53]
            if protocol not in (TCP, UDP):  # extension headers
                self._unusual(frame, number)
                return
        else:
            self._unusual(frame, number)
            return
        if whole and protocol == TCP:
            half = self._table.get(key, UNKNOWN)
            if half is not None or flags & SYN:
                self.ordinary(number, time, interface, block, ip, stop, key, flags, half)
        elif protocol in TUNNELS or (protocol in _PLAIN and (not whole or key[-2:] in UDP_TUNNELS)):
            self._unusual(frame, number)

"""Link layers that scapy decodes: 802.11 with all its headers in front, and whatever else it has a link type for.

scapy is loaded when the first such frame comes; it takes longer than most captures.
"""

from __future__ import annotations

import logging
import struct
from typing import Any, Final

from netinspect.replay.frame import IEEE802_11, IEEE802_11_RADIOTAP

_SNAP: Final = b"\xaa\xaa\x03"
_PRISM, _PPI = 119, 192
_RADIO: Final = frozenset({IEEE802_11, _PRISM, IEEE802_11_RADIOTAP, _PPI})
"""802.11 plain, with Prism's, radiotap's and the per-packet (PPI) header."""
_LONGEST: Final = 65_535
"""Octets of headers and frame: what the longest of those headers can say. A frame itself has 11,454 at most."""
_FAULTS: Final = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, RuntimeError,
                  struct.error)  # fmt: skip
"""What scapy's decoders of link layers raise on damaged octets."""


def _data(linktype: int, octets: bytes) -> int:
    """Where SNAP stands in a frame of data (IEEE 802.11-2020 §9.2.4.1.3: type 2); -1 in all others: beacons, which are
    most of a capture and dear to decode, and what is encrypted."""
    if linktype == IEEE802_11:
        start = 0
    elif linktype == _PRISM:
        start = 144
    else:
        start = int.from_bytes(octets[2:4], "little")
    if len(octets) > _LONGEST or start >= len(octets) or octets[start] & 0x0C != 8:
        return -1
    return octets.find(_SNAP, start)


def _size(kind: bytes, packet: bytes) -> int:
    """Octets of the IP packet behind a SNAP header by its own account; 0: it is none."""
    if kind == b"\0\0\0\x08\0" and packet[:1] == b"E":
        return int.from_bytes(packet[2:4])
    if kind == b"\0\0\0\x86\xdd" and packet[:1] == b"`":
        return 40 + int.from_bytes(packet[4:6])
    return 0


class Radio:
    """scapy, as far as it is needed here."""

    def __init__(self) -> None:
        self._layers: dict[int, Any] = {}
        self._ip: tuple[Any, ...] = ()
        self._faults: tuple[type[Exception], ...] = _FAULTS

    def knows(self, linktype: int) -> bool:
        """Whether frames of this link type can be read at all."""
        if linktype in _RADIO:
            return True
        if not self._ip:
            self._load()
        return linktype in self._layers

    def packet(self, linktype: int, octets: bytes) -> bytes | None:
        """The IP packet in a frame."""
        if linktype in _RADIO:
            at = _data(linktype, octets)
            if at < 0:
                return None
            packet = octets[at + 8 :]
            size = _size(octets[at + 3 : at + 8], packet)
            if size and 0 <= len(packet) - size <= 4:  # scapy takes 300 us to find the same
                return packet[:size]
        if not self._ip:
            self._load()
        layer = self._layers.get(linktype)
        if layer is None:
            return None
        try:
            # It stops at IP: what is in there is nothing that scapy should nest as deep as the octets say.
            found = layer(octets, stop_dissection_after=self._ip)
            for one in self._ip:
                packet = found.getlayer(one)
                if packet is not None:
                    return bytes(packet.original)
        except self._faults:
            return None
        return None

    def _load(self) -> None:
        # It warns of what the machine lacks for sending, which nobody does here.
        logging.getLogger("scapy").setLevel(logging.ERROR)
        from scapy.config import conf
        from scapy.error import Scapy_Exception
        from scapy.layers import dot11, inet, inet6, ppi

        del dot11, ppi  # they enter their link types
        self._layers = dict(conf.l2types.num2layer)
        self._ip = (inet.IP, inet6.IPv6)
        self._faults = (*_FAULTS, Scapy_Exception)

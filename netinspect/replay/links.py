"""What is around a TCP segment in frames out of the ordinary: link layers, tags, tunnels, options, fragments.

Each decoder takes (octets, first, last+1, depth) and hands on what it holds to the next; a header that is cut short or
makes no sense ends in None. What is not decoded here goes through scapy (`radio`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from netinspect.replay import frame as link
from netinspect.replay.flows import Packet
from netinspect.replay.fragments import Fragments
from netinspect.replay.frame import TUNNELS, UDP_TUNNELS, Frame
from netinspect.replay.radio import Radio

NESTING: Final = 8
"""Packets in packets. Linux's own limit for tunnels in tunnels is 8 as well (xmit_recursion)."""
TAGS: Final = 8
"""VLAN tags or MPLS labels in a row, and IPv6 extension headers of one packet (RFC 8200 §4.1 lists 7)."""
KINDS: Final = 100
"""Kinds of anomalies kept; a damaged pcapng can name thousands of link types."""

_INSIDE: Final = TUNNELS | {6, 17}
_VLAN: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
_ETHERNET_INSIDE: Final = 0x6558  # NVGRE (RFC 7637), GENEVE, any GRE with Ethernet in it
_EXTENSIONS: Final = frozenset({0, 43, 60, 135, 139, 140})
_FAMILIES: Final = frozenset({2, 10, 23, 24, 28, 30})
"""AF_INET, and AF_INET6 as Linux, Windows and the BSDs have it."""
_PPP: Final = {0x0021: 0x0800, 0x0057: 0x86DD, 0x0281: 0x8847, 0x0031: _ETHERNET_INSIDE}
_SNAP: Final = b"\xaa\xaa\x03"

_Found = Packet | None
_Decoder = Callable[[bytes, int, int, int], _Found]


class Dissector:
    """The decoders and their state: fragments in work, times, what is not supported.

    `anomalies` counts what was wrong by kind: those of `Fragments`, and `linktype_N` for frames nobody here can read.
    """

    def __init__(self) -> None:
        self._fragments = Fragments()
        self.anomalies = self._fragments.anomalies
        self._now = 0
        self._radio = Radio()
        self._links: dict[int, _Decoder] = {
            link.ETHERNET: self._ethernet,
            link.NULL: self._null,
            link.LOOP: self._null,
            link.PPP: self._ppp,
            50: self._ppp,  # PPP_HDLC
            51: self._pppoe,  # PPP_ETHER
            104: self._hdlc,  # C_HDLC
            166: self._ppp_with_direction,  # PPP_PPPD
            204: self._ppp_with_direction,
            link.RAW: self._ip,
            link.RAW_BSD: self._ip,
            14: self._ip,  # OpenBSD's DLT_RAW
            link.IPV4: self._ip,
            link.IPV6: self._ip,
            link.LINUX_SLL: self._cooked,
            link.LINUX_SLL2: self._cooked2,
            239: self._nflog,
        }

    def dissect(self, frame: Frame) -> Packet | None:
        """The TCP segment in a frame; None: none, or not all of its fragments are here yet."""
        self._now, interface, block, start, stop, _ = frame
        decoder = self._links.get(interface.linktype)
        if decoder is not None:
            return decoder(block, start, stop, 0)
        return self._by_scapy(interface.linktype, block[start:stop])

    # --- link layers ----------------------------------------------------------------------------------------------

    def _ethernet(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        if end - at < 14:
            return None
        return self._ethertype(data[at + 12] << 8 | data[at + 13], data, at + 14, end, depth)

    def _ethertype(self, kind: int, data: bytes, at: int, end: int, depth: int) -> _Found:
        """`kind` is an Ethertype, or the length of an LLC frame (IEEE 802.3)."""
        tags = 0
        while kind in _VLAN:
            tags += 1
            if tags > TAGS or end - at < 4:
                return None
            kind = data[at + 2] << 8 | data[at + 3]
            at += 4
        if kind in (0x0800, 0x86DD):
            return self._ip(data, at, end, depth)
        if kind <= 1500:
            return self._llc(data, at, end, depth)
        if kind in (0x8847, 0x8848):
            return self._mpls(data, at, end, depth)
        if kind == 0x8864:
            return self._pppoe(data, at, end, depth)
        if kind == 0x88E7 and depth < NESTING:  # IEEE 802.1ah: provider's bridges, a tag of four octets
            return self._ethernet(data, at + 4, end, depth + 1)
        if kind == _ETHERNET_INSIDE and depth < NESTING:
            return self._ethernet(data, at, end, depth + 1)
        return None

    def _llc(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """LLC with SNAP (RFC 1042), or with IP right behind it."""
        if end - at >= 8 and data[at : at + 3] == _SNAP:
            kind = data[at + 6] << 8 | data[at + 7]
            return self._ethertype(kind, data, at + 8, end, depth) if kind > 1500 else None
        if data[at : min(at + 3, end)] == b"\x06\x06\x03":
            return self._ip(data, at + 3, end, depth)
        return None

    def _mpls(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """A stack of labels (RFC 3032). Nothing in it tells what follows: the first half octet has to."""
        for _ in range(TAGS):
            if end - at < 5:
                return None
            bottom = data[at + 2] & 1
            at += 4
            if bottom:
                break
        else:
            return None
        nibble = data[at] >> 4
        if nibble in (4, 6):
            found = self._ip(data, at, end, depth)
            if found is not None or depth >= NESTING:
                return found
        elif depth >= NESTING:
            return None
        elif nibble == 0:  # a control word (RFC 4385), or a MAC address that begins so
            found = self._ethernet(data, at + 4, end, depth + 1)
            if found is not None:
                return found
        return self._ethernet(data, at, end, depth + 1)

    def _pppoe(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """RFC 2516 §4: session data only."""
        if end - at < 8 or data[at] != 0x11 or data[at + 1]:
            return None
        return self._ppp(data, at + 6, min(end, at + 6 + (data[at + 4] << 8 | data[at + 5])), depth)

    def _ppp(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """RFC 1661, RFC 1662: address, control and half of the protocol may be left out."""
        if end - at < 4:
            return None
        if data[at] == 0xFF and data[at + 1] == 3:
            at += 2
        elif data[at] in (0x0F, 0x8F) and not data[at + 1]:
            return self._hdlc(data, at, end, depth)
        if data[at] & 1:
            protocol, at = data[at], at + 1
        else:
            protocol, at = data[at] << 8 | data[at + 1], at + 2
        kind = _PPP.get(protocol)
        return None if kind is None else self._ethertype(kind, data, at, end, depth)

    def _ppp_with_direction(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        return self._ppp(data, at + 1, end, depth)

    def _hdlc(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """Cisco's HDLC: address, control, Ethertype."""
        if end - at < 5:
            return None
        kind = data[at + 2] << 8 | data[at + 3]
        return self._ethertype(kind, data, at + 4, end, depth) if kind > 1500 else None

    def _null(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """The address family in the byte order of whoever captured."""
        if end - at < 5:
            return None
        family = data[at : at + 4]
        if int.from_bytes(family, "little") not in _FAMILIES and int.from_bytes(family, "big") not in _FAMILIES:
            return None
        return self._ip(data, at + 4, end, depth)

    def _cooked(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """LINKTYPE_LINUX_SLL: 16 octets, the Ethertype last; 4 is LLC."""
        if end - at < 16:
            return None
        return self._ethertype(data[at + 14] << 8 | data[at + 15], data, at + 16, end, depth)

    def _cooked2(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """LINKTYPE_LINUX_SLL2: 20 octets, the Ethertype first."""
        if end - at < 20:
            return None
        return self._ethertype(data[at] << 8 | data[at + 1], data, at + 20, end, depth)

    def _nflog(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """LINKTYPE_NFLOG: four octets, then (length, type, value) in the capturing host's byte order; 9: packet."""
        at += 4
        for _ in range(64):
            if end - at < 4:
                return None
            for order in "<>":
                size, kind = struct.unpack_from(order + "HH", data, at)
                if 4 <= size <= end - at and kind <= 255:
                    break
            else:
                return None
            if kind == 9:
                return self._ip(data, at + 4, at + size, depth)
            at += size + 3 & ~3
        return None

    # --- IP -------------------------------------------------------------------------------------------------------

    def _ip(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        if at >= end or depth > NESTING:
            return None
        version = data[at] >> 4
        if version == 4:
            return self._ip4(data, at, end, depth)
        return self._ip6(data, at, end, depth) if version == 6 else None

    def _ip4(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """RFC 791. A length of 0 is one the network card was to fill in."""
        header = (data[at] & 15) * 4
        if header < 20 or end - at < header:
            return None
        protocol = data[at + 9]
        if protocol not in _INSIDE:
            return None
        size = data[at + 2] << 8 | data[at + 3]
        if size:
            if size < header:
                return None
            end = min(end, at + size)
        source, destination = data[at + 12 : at + 16], data[at + 16 : at + 20]
        place = (data[at + 6] << 8 | data[at + 7]) & 0x3FFF
        if not place:
            return self._transport(protocol, source, destination, data, at + header, end, depth)
        key = data[at + 4 : at + 6] + data[at + 9 : at + 10] + source + destination
        whole = self._fragments.take(
            key, protocol, (place & 0x1FFF) * 8, place >= 0x2000, data[at + header : end], self._now, strict=False
        )
        if whole is None:
            return None
        first = self._transport(protocol, source, destination, whole.octets, 0, len(whole.octets), depth)
        if whole.other is None:
            return first
        second = self._transport(protocol, source, destination, whole.other, 0, len(whole.other), depth)
        if first is None:
            first, second = second, None
        return None if first is None else first._replace(anomaly="ip_fragment_overlap", other=second)

    def _ip6(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """RFC 8200. A length of 0 is a jumbogram's, or one the network card was to fill in."""
        if end - at < 40:
            return None
        size = data[at + 4] << 8 | data[at + 5]
        if size:
            end = min(end, at + 40 + size)
        source, destination = data[at + 8 : at + 24], data[at + 24 : at + 40]
        protocol = data[at + 6]
        at += 40
        for _ in range(TAGS):
            if protocol in _INSIDE and protocol != 51:
                return self._transport(protocol, source, destination, data, at, end, depth)
            if end - at < 8:
                return None
            if protocol == 44:
                protocol, place = data[at], data[at + 2] << 8 | data[at + 3]
                if place & 0xFFF9:  # else whole in one (RFC 6946)
                    key = data[at + 4 : at + 8] + source + destination
                    whole = self._fragments.take(
                        key, protocol, place & 0xFFF8, bool(place & 1), data[at + 8 : end], self._now, strict=True
                    )
                    if whole is None:
                        return None
                    protocol, data, at, end = whole.protocol, whole.octets, 0, len(whole.octets)
                else:
                    at += 8
                continue
            if protocol == 51:
                size = (data[at + 1] + 2) * 4
            elif protocol in _EXTENSIONS:
                size = (data[at + 1] + 1) * 8
            else:
                return None
            if end - at < size:
                return None
            if protocol == 43:
                destination = _last_stop(data[at : at + size]) or destination
            protocol, at = data[at], at + size
        return None

    def _transport(
        self, protocol: int, source: bytes, destination: bytes, data: bytes, at: int, end: int, depth: int
    ) -> _Found:
        if protocol == 6:
            return _tcp(source, destination, data, at, end)
        depth += 1
        if depth > NESTING:
            return None
        if protocol == 17:
            return self._udp(data, at, end, depth)
        if protocol in (4, 41):
            return self._ip(data, at, end, depth)
        if protocol == 47:
            return self._gre(data, at, end, depth)
        if protocol == 51:  # RFC 4302 §2.2: in octets, four times two more than it says
            if end - at < 12:
                return None
            size = (data[at + 1] + 2) * 4
            return self._transport(data[at], source, destination, data, at + size, end, depth)
        if protocol == 137:
            return self._mpls(data, at, end, depth)
        if protocol == 97 and end - at > 2 and data[at] >> 4 == 3:  # RFC 3378
            return self._ethernet(data, at + 2, end, depth)
        return None

    # --- tunnels --------------------------------------------------------------------------------------------------

    def _gre(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """RFC 2784 and 2890 (version 0), RFC 2637 (version 1: PPTP), and what others put in it."""
        if end - at < 4:
            return None
        flags, kind = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
        checksum, routing, has_key, sequence = flags & 0x8000, flags & 0x4000, flags & 0x2000, flags & 0x1000
        if flags & 7 == 1:
            at += 8 + (4 if sequence else 0) + (4 if flags & 0x80 else 0)
            return self._ppp(data, at, end, depth) if kind == 0x880B else None
        if flags & 7 or routing:
            return None
        at += 4 + (4 if checksum else 0) + (4 if has_key else 0) + (4 if sequence else 0)
        if kind == 0x88BE:  # ERSPAN: without a header of its own (I), or with one (II), which always counts packets
            return self._ethernet(data, at + 8 if sequence else at, end, depth)
        if kind == 0x22EB:  # ERSPAN III, whose last bit tells of eight octets more
            if end - at < 12:
                return None
            return self._ethernet(data, at + (20 if data[at + 11] & 1 else 12), end, depth)
        if kind == 0x883E:  # WCCP: version 2 has four octets in front
            return self._ip(data, at if end > at and data[at] >> 4 == 4 else at + 4, end, depth)
        return self._ethertype(kind, data, at, end, depth) if kind > 1500 else None

    def _udp(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        if end - at < 16 or data[at + 2 : at + 4] not in UDP_TUNNELS:
            return None
        port = data[at + 2] << 8 | data[at + 3]
        at += 8
        first = data[at]
        if port in (4789, 8472):  # VXLAN (RFC 7348 §5)
            return self._ethernet(data, at + 8, end, depth) if first & 8 else None
        if port == 6081:  # GENEVE (RFC 8926 §3.4)
            if first >> 6:
                return None
            kind = data[at + 2] << 8 | data[at + 3]
            return self._ethertype(kind, data, at + 8 + (first & 63) * 4, end, depth) if kind > 1500 else None
        if port == 6635:
            return self._mpls(data, at, end, depth)
        return self._gtp(data, at, end, depth)

    def _gtp(self, data: bytes, at: int, end: int, depth: int) -> _Found:
        """GTP-U, the user's packets in a mobile network (3GPP TS 29.281 §5)."""
        flags = data[at]
        if flags >> 5 != 1 or not flags & 16 or data[at + 1] != 255:
            return None
        at += 8
        if flags & 7:
            if end - at < 4:
                return None
            following = data[at + 3] if flags & 4 else 0
            at += 4
            for _ in range(TAGS):
                if not following:
                    break
                if at >= end or not data[at] or end - at < data[at] * 4:
                    return None
                at += data[at] * 4
                following = data[at - 1]
        return self._ip(data, at, end, depth)

    def _by_scapy(self, linktype: int, octets: bytes) -> _Found:
        packet = self._radio.packet(linktype, octets)
        if packet is not None:
            return self._ip(packet, 0, len(packet), 1)
        if not self._radio.knows(linktype):
            kind = f"linktype_{linktype}"
            if kind in self.anomalies or len(self.anomalies) < KINDS:
                self.anomalies[kind] = self.anomalies.get(kind, 0) + 1
        return None


def _tcp(source: bytes, destination: bytes, data: bytes, at: int, end: int) -> _Found:
    if end - at < 20:
        return None
    header = (data[at + 12] >> 4) * 4
    if header < 20:
        return None
    flags = data[at + 13]
    return Packet(
        source,
        destination,
        data[at : at + 4],
        int.from_bytes(data[at + 4 : at + 8]),
        int.from_bytes(data[at + 8 : at + 12]) if flags & 16 else -1,
        flags,
        data[min(at + header, end) : end],
    )


def _last_stop(header: bytes) -> bytes | None:
    """Where a routing header sends the packet in the end, and what both ends count as its address.

    RFC 5095 (type 0), RFC 6275 §6.4 (2): the last of its addresses; RFC 8754 (4): the first.
    """
    kind, left = header[2], header[3]
    if not left or len(header) < 24:
        return None
    if kind in (0, 2):
        return header[-16:]
    return header[8:24] if kind == 4 else None

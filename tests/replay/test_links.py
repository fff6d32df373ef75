"""What is around a segment. scapy builds the frames, so that no decoder is tested by its own author's encoder."""

from __future__ import annotations

import struct
import subprocess
import sys
from ipaddress import ip_address
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS, EoMCW
from scapy.layers.dot11 import Dot11, Dot11QoS, PrismHeader, RadioTap
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import GRE, GRE_PPTP, LLC, SNAP, CookedLinux, Dot1Q, Ether
from scapy.layers.ppi import PPI
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from netinspect.replay.flows import Packet
from netinspect.replay.frame import ETHERNET, IPV4, IPV6, LINUX_SLL, LINUX_SLL2, LOOP, NULL, RAW, Interface
from netinspect.replay.frame import PPP as PPP_LINK
from netinspect.replay.links import NESTING, Dissector

SAID = b"EHLO client.example.org\r\n"
SEGMENT = TCP(sport=40000, dport=25, seq=7, ack=9, flags="PA") / Raw(SAID)
V4 = IP(src="192.0.2.1", dst="198.51.100.25")
V6 = IPv6(src="2001:db8::1", dst="2001:db8::25")
MAIL4 = V4 / SEGMENT
MAIL6 = V6 / SEGMENT
OUTER4 = IP(src="10.0.0.1", dst="10.0.0.2")
OUTER6 = IPv6(src="fd00::1", dst="fd00::2")
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
COOKED2 = struct.pack("!HHIHBB8s", 0x0800, 0, 2, 1, 0, 6, b"\2\0\0\0\0\1\0\0")


def see(octets: bytes | Layer, linktype: int = ETHERNET, dissector: Dissector | None = None) -> Packet | None:
    """Dissect one frame that stands in the middle of a block: what is around it must not be read."""
    octets = bytes(octets)
    block = b"\x45\x00\xff" + octets + MARK
    return (dissector or Dissector()).dissect((0, Interface(linktype), block, 3, 3 + len(octets), len(octets)))


MARK = b"behind the frame" * 8
PADDING = b"\0" * 9
"""More than the checksum of a frame: such ones go through scapy."""

FRAMES = {
    "plain": (ETHERNET, ETHER / MAIL4),
    "plain, IPv6": (ETHERNET, ETHER / MAIL6),
    "padded": (ETHERNET, bytes(ETHER / MAIL4) + b"\0" * 6),
    "VLAN": (ETHERNET, ETHER / Dot1Q(vlan=7) / MAIL4),
    "VLAN, IPv6": (ETHERNET, ETHER / Dot1Q(vlan=7) / MAIL6),
    "QinQ": (ETHERNET, ETHER / Dot1Q(vlan=7, type=0x8100) / Dot1Q(vlan=9) / MAIL4),
    "QinQ, 88a8": (ETHERNET, bytes(ETHER)[:12] + b"\x88\xa8\0\7\x81\0\0\x09\x08\0" + bytes(MAIL4)),
    "QinQ, 9100": (ETHERNET, bytes(ETHER)[:12] + b"\x91\0\0\7\x81\0\0\x09\x08\0" + bytes(MAIL4)),
    "MAC in MAC": (ETHERNET, bytes(ETHER)[:12] + b"\x88\xe7\0\0\0\7" + bytes(ETHER / Dot1Q(vlan=1) / MAIL4)),
    "802.3 with SNAP": (ETHERNET,
                        bytes(ETHER)[:12] + struct.pack("!H", 8 + len(MAIL4)) + bytes(LLC() / SNAP() / MAIL4)),
    "MPLS": (ETHERNET, ETHER / MPLS(label=3, s=0) / MPLS(label=16, s=1) / MAIL4),
    "MPLS, IPv6": (ETHERNET, ETHER / MPLS(label=16, s=1) / MAIL6),
    "MPLS, Ethernet": (ETHERNET, ETHER / MPLS(label=16, s=1) / EoMCW() / ETHER / MAIL4),
    "MPLS, Ethernet without a word": (ETHERNET, ETHER / MPLS(label=16, s=1) / Raw(bytes(ETHER / MAIL4))),
    "PPPoE": (ETHERNET, ETHER / PPPoE() / PPP() / MAIL4),
    "PPPoE, IPv6": (ETHERNET, ETHER / PPPoE() / PPP() / MAIL6),
    "PPP": (PPP_LINK, b"\xff\3\0\x21" + bytes(MAIL4)),
    "PPP, compressed": (PPP_LINK, b"\x21" + bytes(MAIL4)),
    "PPP with HDLC": (50, HDLC() / PPP() / MAIL6),
    "PPP, direction": (204, b"\1\xff\3\0\x57" + bytes(MAIL6)),
    "PPPoE alone": (51, PPPoE() / PPP() / MAIL4),
    "Cisco HDLC": (104, b"\x0f\0\x08\0" + bytes(MAIL4)),
    "null": (NULL, b"\2\0\0\0" + bytes(MAIL4)),
    "null, big": (NULL, b"\0\0\0\2" + bytes(MAIL4)),
    "null, IPv6": (NULL, b"\x1e\0\0\0" + bytes(MAIL6)),
    "loop": (LOOP, b"\0\0\0\x18" + bytes(MAIL6)),
    "raw": (RAW, MAIL4),
    "raw, IPv6": (RAW, MAIL6),
    "IPv4": (IPV4, MAIL4),
    "IPv6": (IPV6, MAIL6),
    "cooked": (LINUX_SLL, CookedLinux() / MAIL4),
    "cooked, VLAN": (LINUX_SLL, CookedLinux(proto=0x8100) / Dot1Q(vlan=7) / MAIL6),
    "cooked 2": (LINUX_SLL2, COOKED2 + bytes(MAIL4)),
    "nflog": (239,
              b"\2\0\0\0\x08\0\1\0\x08\0\1\0\x05\0\x0a\0x\0\0\0"
              + struct.pack("<HH", 4 + len(MAIL4), 9) + bytes(MAIL4)),
    "IPv4 options": (RAW, IP(src="192.0.2.1", dst="198.51.100.25", options=[IPOption_RR(routers=["10.0.0.1"])])
                     / SEGMENT),
    "hop by hop": (RAW, V6 / IPv6ExtHdrHopByHop() / SEGMENT),
    "destination": (RAW, V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / SEGMENT),
    "routing": (RAW, IPv6(src="2001:db8::1", dst="fd00::9")
                / IPv6ExtHdrRouting(type=0, segleft=1, addresses=["2001:db8::25"]) / SEGMENT),
    "routing, done": (RAW, V6 / IPv6ExtHdrRouting(type=0, segleft=0, addresses=["fd00::9"]) / SEGMENT),
    "segment routing": (RAW, IPv6(src="2001:db8::1", dst="fd00::9")
                        / IPv6ExtHdrSegmentRouting(addresses=["2001:db8::25", "fd00::9"], segleft=1, lastentry=1)
                        / SEGMENT),
    "atomic fragment": (RAW, V6 / IPv6ExtHdrFragment(id=7) / SEGMENT),
    "AH": (RAW, V4 / AH(nh=6, payloadlen=4, icv=b"\0" * 12) / SEGMENT),
    "AH, IPv6": (RAW, V6 / AH(nh=6, payloadlen=4, icv=b"\0" * 12) / SEGMENT),
    "IP in IP": (ETHERNET, ETHER / OUTER4 / MAIL4),
    "6in4": (ETHERNET, ETHER / OUTER4 / MAIL6),
    "4in6": (ETHERNET, ETHER / OUTER6 / MAIL4),
    "6in6": (ETHERNET, ETHER / OUTER6 / MAIL6),
    "GRE": (ETHERNET, ETHER / OUTER4 / GRE() / MAIL4),
    "GRE with all": (ETHERNET, ETHER / OUTER4 / GRE(chksum_present=1, key_present=1, seqnum_present=1) / MAIL6),
    "GRE over IPv6": (ETHERNET, ETHER / OUTER6 / GRE() / MAIL4),
    "NVGRE": (ETHERNET, ETHER / OUTER4 / GRE(key_present=1, proto=0x6558) / ETHER / MAIL4),
    "PPTP": (ETHERNET, ETHER / OUTER4 / GRE_PPTP(seqnum_present=1, acknum_present=1) / PPP() / MAIL4),
    "ERSPAN I": (ETHERNET, ETHER / OUTER4 / GRE(proto=0x88BE) / Raw(bytes(ETHER / MAIL4))),
    "ERSPAN II": (ETHERNET, ETHER / OUTER4 / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / ETHER / MAIL4),
    "ERSPAN III": (ETHERNET, ETHER / OUTER4 / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III() / ETHER / MAIL4),
    "GRE, MPLS": (ETHERNET, ETHER / OUTER4 / GRE(proto=0x8847) / MPLS(label=16, s=1) / MAIL4),
    "EtherIP": (RAW, IP(src="10.0.0.1", dst="10.0.0.2", proto=97) / Raw(b"\x30\0" + bytes(ETHER / MAIL4))),
    "MPLS in IP": (RAW, IP(src="10.0.0.1", dst="10.0.0.2", proto=137) / MPLS(label=16, s=1) / MAIL4),
    "VXLAN": (ETHERNET, ETHER / OUTER4 / UDP(sport=5555, dport=4789) / VXLAN(vni=7) / ETHER / MAIL4),
    "VXLAN, old port, VLAN": (ETHERNET, ETHER / OUTER4 / UDP(sport=5555, dport=8472)
                              / Raw(b"\x08\0\0\0\0\0\7\0" + bytes(ETHER / Dot1Q(vlan=5) / MAIL6))),
    "GENEVE": (ETHERNET, ETHER / OUTER6 / UDP(sport=5555, dport=6081)
               / Raw(b"\1\0\x65\x58\0\0\7\0" + b"\0\1\0\0" + bytes(ETHER / MAIL4))),
    "GENEVE, IP": (ETHERNET, ETHER / OUTER4 / UDP(sport=5555, dport=6081) / GENEVE(proto=0x0800) / MAIL4),
    "GTP-U": (ETHERNET, ETHER / OUTER4 / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=7) / MAIL4),
    "GTP-U with more": (ETHERNET, ETHER / OUTER4 / UDP(sport=2152, dport=2152)
                        / Raw(struct.pack("!BBHI", 0x34, 255, 8 + len(MAIL4), 7) + b"\0\0\0\x85\1\0\0\0")
                        / Raw(bytes(MAIL4))),
    "802.11": (105, Dot11(type=2, subtype=0, FCfield=1) / LLC() / SNAP() / MAIL4),
    "802.11, QoS": (105, Dot11(type=2, subtype=8, FCfield=2) / Dot11QoS() / LLC() / SNAP() / MAIL6),
    "radiotap": (127, RadioTap() / Dot11(type=2, subtype=0, FCfield=1) / LLC() / SNAP() / MAIL4),
    "Prism": (119, PrismHeader() / Dot11(type=2, subtype=0, FCfield=2) / LLC() / SNAP() / MAIL4),
    "802.11, padded": (105, bytes(Dot11(type=2, FCfield=1) / LLC() / SNAP() / MAIL4) + PADDING),
    "802.11, WDS": (105, bytes(Dot11(type=2, subtype=8, FCfield=3, addr4="02:00:00:00:00:09") / Dot11QoS() / LLC()
                               / SNAP() / MAIL6) + PADDING),
    "802.11, options": (105, Dot11(type=2, FCfield=1) / LLC() / SNAP()
                        / IP(src="192.0.2.1", dst="198.51.100.25", options=[IPOption_RR(routers=["10.0.0.1"])])
                        / SEGMENT),
    "radiotap, padded": (127, bytes(RadioTap() / Dot11(type=2, FCfield=1) / LLC() / SNAP() / MAIL6) + PADDING),
    "Prism, padded": (119, bytes(PrismHeader() / Dot11(type=2, FCfield=2) / LLC() / SNAP() / MAIL4) + PADDING),
    "PPI, padded": (192, bytes(PPI(dlt=105) / Dot11(type=2, FCfield=1) / LLC() / SNAP() / MAIL4) + PADDING),
    "PPI": (192, PPI(dlt=105) / Dot11(type=2, subtype=0, FCfield=1) / LLC() / SNAP() / MAIL4),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_the_segment_is_found_in(name: str) -> None:
    linktype, octets = FRAMES[name]
    found = see(octets, linktype)
    assert found is not None
    six = len(found.source) == 16
    assert found == Packet(
        ip_address("2001:db8::1" if six else "192.0.2.1").packed,
        ip_address("2001:db8::25" if six else "198.51.100.25").packed,
        struct.pack("!HH", 40000, 25), 7, 9, 0x18, SAID,
    )  # fmt: skip


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_cut_anywhere_gives_nothing_or_fewer_octets(name: str) -> None:
    linktype, octets = FRAMES[name]
    octets = bytes(octets)
    dissector = Dissector()
    step = 1 if linktype < 105 or linktype > 127 else 7
    for size in range(0, len(octets), step):
        found = see(octets[:size], linktype, dissector)
        assert found is None or SAID.startswith(found.payload)


def test_length_of_zero_is_what_the_card_was_to_fill_in() -> None:
    found = see(IP(src="192.0.2.1", dst="198.51.100.25", len=0) / SEGMENT, RAW)
    assert found is not None
    assert found.payload == SAID
    found = see(IPv6(src="2001:db8::1", dst="2001:db8::25", plen=0) / SEGMENT, RAW)
    assert found is not None
    assert found.payload == SAID


def test_no_acknowledgement_is_minus_one() -> None:
    found = see(V4 / TCP(flags="S", seq=5), RAW)
    assert found is not None
    assert (found.seq, found.ack, found.flags) == (5, -1, 2)


@pytest.mark.parametrize("tunnel", [lambda inner: OUTER4 / inner, lambda inner: OUTER4 / GRE() / inner,
                                    lambda inner: OUTER4 / AH(nh=4, payloadlen=4, icv=b"\0" * 12) / inner])  # fmt: skip
def test_nesting_has_an_end(tunnel) -> None:
    packet = MAIL4
    depths = []
    for depth in range(NESTING * 3):
        if see(packet, RAW) is not None:
            depths.append(depth)
        packet = tunnel(packet)
    assert depths == list(range(len(depths)))
    assert NESTING // 2 <= len(depths) <= NESTING + 1


def test_a_whole_frame_of_tags_labels_or_extension_headers_gives_nothing() -> None:
    assert see(bytes(ETHER)[:12] + b"\x81\0\0\1" * 300 + b"\x08\0" + bytes(MAIL4)) is None
    assert see(bytes(ETHER)[:12] + b"\x88\x47" + b"\0\0\0\1" * 300 + bytes(MAIL4)) is None
    assert see(bytes(ETHER)[:12] + b"\x88\x47" + b"\0\0\0\0" * 300 + bytes(MAIL4)) is None
    assert see(OUTER6.copy() / Raw(b""), RAW) is None
    assert see(bytes(IPv6(nh=60, plen=2400)) + b"\x3c\0\0\0\0\0\0\0" * 300, RAW) is None


def test_other_protocols_are_passed_over() -> None:
    assert see(ETHER / V4 / UDP(sport=53, dport=53) / Raw(b"x" * 60)) is None
    assert see(ETHER / IP(proto=1) / Raw(b"x" * 60)) is None
    assert see(bytes(ETHER)[:12] + b"\x08\x06" + b"\0\1\x08\0" * 7) is None


def test_link_types_nobody_knows_are_counted() -> None:
    dissector = Dissector()
    for _ in range(3):
        assert see(b"E" * 80, 182, dissector) is None
    for linktype in range(10_000, 10_300):
        see(b"E" * 80, linktype, dissector)
    assert dissector.anomalies["linktype_182"] == 3
    assert len(dissector.anomalies) == 100


def test_scapy_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from netinspect.replay.links import Dissector; from netinspect.replay.frame import Interface\n"
        "see = lambda n, o: Dissector().dissect((0, Interface(n), o, 0, len(o), len(o)))\n"
        "see(1, b'E' * 80); see(127, b'E' * 80); assert not any(m.startswith('scapy') for m in sys.modules)\n"
        "see(105, b'\\x08' * 30 + b'\\xaa\\xaa\\3' + b'E' * 80); assert 'scapy.layers.dot11' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("type_", [0, 2])
def test_frames_of_radio_cost_little_whatever_is_in_them(type_: int) -> None:
    dissector = Dissector()
    see(FRAMES["802.11, padded"][1], 105, dissector)
    start = process_time()
    for size in (1000, 20_000):
        filler = (b"\0\0" * size)[:size]
        for head in (Dot11(type=type_, subtype=8), RadioTap() / Dot11(type=type_, subtype=8)):
            for octets in (bytes(head) + filler + b"\xaa\xaa\3", bytes(head) + b"\xaa\xaa\3" + filler):
                see(octets, 127 if RadioTap in head else 105, dissector)
    assert process_time() - start < 1


@pytest.mark.parametrize("words", [2, 250, 2000, 15_000])
@pytest.mark.parametrize(("linktype", "word"), [(192, b"\1\0\0\0"), (127, b"\xff\xff\xff\xff")])
def test_what_scapy_refuses_is_no_exception(linktype: int, word: bytes, words: int) -> None:
    head = b"\0\0" + (8 + 4 * words).to_bytes(2, "little") + (struct.pack("<I", 105) if linktype == 192 else word)
    found = see(head + word * words + bytes(Dot11(type=2, FCfield=1) / LLC() / SNAP() / MAIL4) + PADDING, linktype)
    assert found is None or found.payload == SAID


LINKTYPES = st.sampled_from(sorted({linktype for linktype, _ in FRAMES.values()}))


@given(LINKTYPES, st.binary(max_size=200))
def test_nothing_is_raised_on_any_octets(linktype: int, octets: bytes) -> None:
    see(octets, linktype)


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_nothing_is_raised_on_damaged_frames_and_nothing_behind_them_is_read(name: str, data: st.DataObject) -> None:
    linktype, frame = FRAMES[name]
    octets = bytearray(bytes(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(len(octets) // 2, len(octets)))
    found = see(bytes(octets[:size]), linktype)
    assert found is None or b"behind" not in found.payload


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_one_damaged_octet_makes_the_same_of_a_frame_wherever_it_stands(name: str, data: st.DataObject) -> None:
    linktype, frame = FRAMES[name]
    octets = bytearray(bytes(frame))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    whole = bytes(octets)
    alone = Dissector().dissect((0, Interface(linktype), whole, 0, len(whole), len(whole)))
    assert see(whole, linktype) == alone

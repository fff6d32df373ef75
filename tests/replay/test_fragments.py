"""Fragments put together: any order, copies, contradictions, bounds."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.replay.flows import FlowTable, Packet
from netinspect.replay.fragments import IN_WORK, OCTETS, PATIENCE, Fragments, Whole
from netinspect.replay.frame import ETHERNET, RAW, Interface
from netinspect.replay.links import Dissector
from netinspect.smtp.events import Side
from tests.replay.make import START, Segment, Talk, Told, batch, collect, fragments, ip, link, packet, tcp

SAID = b"MAIL FROM:<a@example.org>\r\n" + bytes(range(256)) * 8
Piece = tuple[int, bool, bytes]
"""Offset, more of them follow, octets."""


def pieces(octets: bytes, *sizes: int) -> list[Piece]:
    cuts = [0, *itertools.accumulate(sizes), len(octets)]
    return [(low, high < len(octets), octets[low:high]) for low, high in itertools.pairwise(cuts)]


def feed(work: Fragments, parts: list[Piece], *, key: bytes = b"a", now: int = 0, strict: bool = False) -> list[Whole]:
    found = [work.take(key, 6, at, more, octets, now, strict=strict) for at, more, octets in parts]
    return [one for one in found if one is not None]


@given(st.binary(min_size=9, max_size=600), st.lists(st.integers(1, 8), max_size=8), st.randoms(), st.booleans())
def test_order_and_exact_copies_do_not_matter(octets: bytes, cuts: list[int], random, strict: bool) -> None:
    sizes = [8 * cut for cut in cuts]
    while sum(sizes) >= len(octets):
        sizes.pop()
    parts = pieces(octets, *sizes)
    copies = parts + random.choices(parts, k=2)
    random.shuffle(copies)
    work = Fragments()
    found = feed(work, copies, strict=strict)
    assert found
    assert {one.octets for one in found} == {octets}
    assert not work.anomalies
    assert all(one.other is None for one in found)


@given(st.binary(min_size=64, max_size=300), st.data())
def test_overlaps_that_agree_are_one_reading(octets: bytes, data: st.DataObject) -> None:
    work, found = Fragments(), []
    for _ in range(data.draw(st.integers(0, 6))):
        low = data.draw(st.integers(0, len(octets) // 8 - 1)) * 8
        high = data.draw(st.integers(low // 8 + 1, len(octets) // 8)) * 8
        found += feed(work, [(low, True, octets[low:high])])
    found += feed(work, pieces(octets, 32))
    assert [one.octets for one in found][-1:] in ([octets], [])
    assert all(one == Whole(6, octets) for one in found)
    assert "ip_fragment_overlap" not in work.anomalies


def test_contradictions_give_both_readings_for_ipv4() -> None:
    work = Fragments()
    found = feed(work, [(8, True, b"B" * 16), (16, True, b"C" * 16), (0, True, b"A" * 16), (32, False, b"D" * 3)])
    assert found == [
        Whole(6, b"A" * 8 + b"B" * 16 + b"C" * 8 + b"DDD", b"A" * 16 + b"C" * 16 + b"DDD"),
    ]
    assert work.anomalies == {"ip_fragment_overlap": 1}


@pytest.mark.parametrize("late", [(8, True, b"X" * 8), (8, True, b"B" * 16)])
def test_an_overlap_makes_an_ipv6_datagram_void_until_it_is_forgotten(late: Piece) -> None:
    work = Fragments()
    first, second, last = (0, True, b"A" * 8), (8, True, b"B" * 8), (16, False, b"C")
    assert feed(work, [first, second, late, last, first], strict=True) == []
    assert work.anomalies == {"ip_fragment_overlap": 1}
    assert feed(work, [first, second, last], now=PATIENCE + 1, strict=True) == [Whole(6, b"A" * 8 + b"B" * 8 + b"C")]


def test_ends_that_contradict_each_other() -> None:
    work = Fragments()
    assert feed(work, [(16, False, b"C" * 4), (16, False, b"C" * 8), (24, True, b"D" * 8)]) == []
    assert work.anomalies == {"ip_fragment_beyond_end": 2}
    assert feed(work, [(0, True, b"A" * 16)]) == [Whole(6, b"A" * 16 + b"C" * 4)]
    assert feed(work, [(24, True, b"D" * 8), (8, False, b"B")]) == []
    assert work.anomalies == {"ip_fragment_beyond_end": 3}


def test_nothing_is_longer_than_a_datagram_can_be() -> None:
    work = Fragments()
    assert feed(work, [(65_528, False, b"12345678")]) == []
    assert work.anomalies == {"ip_fragment_oversize": 1}


def test_size_of_all_but_the_last_is_a_multiple_of_eight() -> None:
    work = Fragments()
    assert feed(work, [(0, True, b"A" * 12), (8, False, b"B")]) == [Whole(6, b"A" * 8 + b"B")]
    assert feed(work, [(0, True, b"A" * 7)]) == []


def test_an_incomplete_datagram_is_forgotten_in_time() -> None:
    work = Fragments()
    first, last = pieces(b"A" * 20, 8)
    assert feed(work, [first]) == []
    assert feed(work, [last], now=PATIENCE + 1) == []
    assert feed(work, [first], now=PATIENCE + 2)
    assert feed(work, [first], key=b"b", now=10 * PATIENCE) == []
    assert feed(work, [last], key=b"b", now=0) == []


def test_datagrams_and_octets_in_work_are_bounded() -> None:
    work = Fragments()
    for number in range(IN_WORK + 50):
        feed(work, [(0, True, b"A" * 8)], key=b"%d" % number)
    assert len(work._work) == IN_WORK
    assert feed(work, [(8, False, b"B")], key=b"%d" % (IN_WORK + 49))
    for number in range(2 * OCTETS // 65_000):
        feed(work, [(65_000, True, b"A" * 8), (65_000, True, b"B" * 8)], key=b"far%d" % number)
        assert work._held == sum(len(one.octets) + len(one.last or b"") for one in work._work.values()) <= OCTETS


def test_tiny_fragments_in_the_worst_order_are_quick() -> None:
    work = Fragments()
    octets = bytes(range(256)) * 255
    parts = pieces(octets, *[8] * (len(octets) // 8 - 1))
    assert feed(work, parts[1::2] + parts[::2]) == [Whole(6, octets)]


# --- in frames --------------------------------------------------------------------------------------------------------


def segment(*, six: bool = False, said: bytes = SAID) -> Segment:
    here, there = ("2001:db8::1", "2001:db8::25") if six else ("192.0.2.1", "198.51.100.25")
    return Segment(START, Side.CLIENT, (here, 40000), (there, 25), 1000, 5000, 24, said)


def see(frames: list[bytes], linktype: int = ETHERNET) -> list[Packet]:
    dissector = Dissector()
    where = Interface(linktype)
    found = [dissector.dissect((START + at, where, one, 0, len(one), len(one))) for at, one in enumerate(frames)]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("size", [8, 64, 1000])
def test_a_segment_in_fragments(six: bool, size: int) -> None:
    parts = [link(one) for one in fragments(packet(segment(six=six)), size)]
    for order in (parts, parts[::-1], parts[1::2] + parts[::2], parts * 2):
        found = see(order)
        assert [one.payload for one in found] == [SAID] * (len(order) // len(parts))
        assert (found[0].seq, found[0].ack, found[0].ports) == (1000, 5000, b"\x9c\x40\0\x19")
        assert not found[0].anomaly


@pytest.mark.parametrize("six", [False, True])
def test_fragments_of_a_tunnel(six: bool) -> None:
    inside = packet(segment())
    outer = ip("2001:db8::8", "2001:db8::9", 4, inside) if six else ip("10.0.0.1", "10.0.0.2", 4, inside)
    assert [one.payload for one in see(fragments(outer, 400), RAW)] == [SAID]


def test_both_readings_of_a_segment_whose_fragments_contradict_each_other() -> None:
    one, other = (fragments(packet(segment(said=said * 300)), 1000) for said in (b"good", b"evil"))
    found = see([one[0], other[0], one[1]], RAW)
    assert [(got.payload[:4], got.anomaly, got.other and got.other.payload[:4]) for got in found] == [
        (b"good", "ip_fragment_overlap", b"evil")
    ]


def test_a_fragment_that_never_comes_leaves_nothing() -> None:
    parts = fragments(packet(segment()), 512)
    assert see(parts[:2] + parts[3:], RAW) == []


def test_fragments_of_other_protocols_are_not_kept() -> None:
    dissector = Dissector()
    body = tcp(segment())
    for protocol in (1, 50, 89):
        for one in fragments(ip("192.0.2.1", "198.51.100.25", protocol, body), 512):
            dissector.dissect((0, Interface(RAW), one, 0, len(one), len(one)))
    assert not dissector._fragments._work


def test_fragments_cut_by_the_snapshot_length_leave_a_hole() -> None:
    parts = [one[:200] for one in fragments(packet(segment()), 512)]
    assert see(parts, RAW) == []


def test_a_session_in_fragments_in_a_tunnel_is_the_session() -> None:
    talk = Talk().session(b"Subject: s\r\n\r\n" + b"x" * 5000)
    timed = []
    for one in talk.segments:
        parts = fragments(packet(one), 512, identification=one.seq & 0xFFFF)
        timed += [
            (one.time, link(ip("10.0.0.1", "10.0.0.2", 4, part), vlans=[(0x88A8, 1), (0x8100, 2)])) for part in parts
        ]
    told = turns(timed)
    assert {side: b"".join(said for who, said, _ in told if who is side) for side in Side} == talk.said()


def test_a_contradiction_is_one_of_the_connection() -> None:
    one, other = (Talk().open().client(said * 300) for said in (b"good", b"evil"))
    timed = [(one.time, link(packet(segment))) for segment in one.segments[:3]]
    first, second = fragments(packet(one.segments[3]), 800), fragments(packet(other.segments[3]), 800)
    timed += [(one.time, link(part)) for part in (first[0], second[0], first[1])]
    table = FlowTable(Dissector().dissect)
    table.feed(batch(timed))
    (flow,) = table.flows
    assert "ip_fragment_overlap" in {anomaly.kind for anomaly in flow.anomalies}
    table.finish()
    assert flow.conflicts or flow.unknown
    assert [suspect.key for suspect in table.suspects] == [flow.keys[0]]


def turns(timed: list[tuple[int, bytes]]) -> Told:
    table, told = FlowTable(Dissector().dissect), {}
    table.feed(batch(timed))
    table.finish()
    collect(table, told)
    (only,) = told.values()
    return only

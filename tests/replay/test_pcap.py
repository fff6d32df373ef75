"""The classic container: what it says, whole or cut, good or damaged; beside scapy's reader."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.replay.frame import IEEE802_11
from netinspect.replay.pcap import Pcap
from tests.replay.make import START, Talk, frames, link, packet, pcap
from tests.replay.reading import LINKTYPES, Change, Seen, changed, changes, read, traffic

TRAFFIC = traffic()
FILE = pcap(TRAFFIC)


def scapy_frames(octets: bytes) -> list[tuple[int, bytes, int]]:
    """Time in ns, octets, octets on the wire."""
    from scapy.utils import RawPcapReader

    reader = RawPcapReader(io.BytesIO(octets))
    scale = 1 if reader.nano else 1000
    return [(meta.sec * 10**9 + meta.usec * scale, data, meta.wirelen) for data, meta in reader]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("snaplen", [262_144, 100])
def test_every_frame_and_time_is_the_one_that_scapy_reads(order: str, nano: bool, snaplen: int) -> None:
    octets = pcap([(time + 123_456_789, one) for time, one in TRAFFIC], order=order, nano=nano, snaplen=snaplen)
    got = []

    class Whole(Seen):
        def frame(self, number: int, frame: tuple) -> None:  # type: ignore[type-arg]
            time, _, block, start, stop, wire = frame
            got.append((time, block[start:stop], wire))

    reader = Pcap(lambda kind, detail: pytest.fail(kind))
    reader.every = True
    reader.feed(octets, Whole(), last=True)
    assert got == scapy_frames(octets)
    assert len(got) == len(TRAFFIC)


@pytest.mark.parametrize("linktype", LINKTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_fast_loop_gives_what_the_plain_one_gives(linktype: int, order: str) -> None:
    octets = pcap(traffic(linktype), linktype, order=order)
    fast, told, _ = read(Pcap, octets)
    plain, _, _ = read(Pcap, octets, every=True)
    assert fast.seen == plain.seen
    assert len(fast.seen) > 20
    assert told == []


def test_frames_with_a_vlan_tag_are_passed_over_as_fast() -> None:
    talk = Talk().session(b"Subject: x\r\n\r\nx\r\n")
    octets = pcap(frames(talk.segments, vlans=[(0x8100, 7)]))
    bare = read(Pcap, pcap(frames(talk.segments)))[0].seen
    assert read(Pcap, octets)[0].seen == bare
    other = pcap(frames(talk.segments, vlans=[(0x8100, 7)])[:4] + frames(talk.segments, vlans=[(0x88A8, 7)])[4:])
    assert [len(one) for one in read(Pcap, other)[0].seen] == [6] * 4 + [5] * (len(bare) - 4)
    keys = frozenset(one[4] for one in bare)
    assert read(Pcap, octets, passed=keys)[0].seen == bare[:2]


@given(st.integers(1, 3000))
def test_however_a_read_is_cut_the_frames_are_the_same(size: int) -> None:
    assert read(Pcap, FILE, size)[0].seen == read(Pcap, FILE)[0].seen


def test_frames_of_a_connection_that_is_known_to_be_something_else_are_passed_over() -> None:
    talk = Talk().session(b"Subject: x\r\n\r\nx\r\n")
    octets = pcap(frames(talk.segments))
    everything = read(Pcap, octets)[0].seen
    keys = frozenset(one[4] for one in everything)
    passed = read(Pcap, octets, passed=keys)[0].seen
    assert [one[0] for one in everything] == list(range(1, len(talk.segments) + 1))
    assert passed == [one for one in everything if one[5] & 2]
    assert [one[0] for one in passed] == [1, 2]


@pytest.mark.parametrize("size", [0, 100, 500])
def test_what_only_looks_like_a_known_connection_is_not_passed_over(size: int) -> None:
    whole = packet(Talk().open().client(b"x" * 600).segments[3])
    key = whole[12:24]
    lies = [
        link(whole[:6] + b"\x20\0" + whole[8:]),  # more fragments
        link(whole[:6] + b"\0\7" + whole[8:]),  # the last of them
        link(whole[:9] + b"\x2f" + whole[10:]),  # GRE
        link(whole, vlans=[(0x88A8, 7)]),
        link(b"\x46" + whole[1:]),  # options
        link(whole)[:53],
    ]
    octets = pcap([(START, one) for one in lies])
    seen, _, _ = read(Pcap, octets, size, passed=frozenset({key}))
    assert [one[0] for one in seen.seen] == [1, 2, 3, 4, 5, 6]


def test_a_record_of_the_patched_kernels_has_eight_octets_more() -> None:
    plain = pcap(TRAFFIC)
    octets = struct.pack("<I", 0xA1B2CD34) + plain[4:24]
    at = 24
    while at < len(plain):
        size = struct.unpack_from("<I", plain, at + 8)[0]
        octets += plain[at : at + 16] + b"\7\0\0\0\0\0\0\0" + plain[at + 16 : at + 16 + size]
        at += 16 + size
    assert read(Pcap, octets)[0].seen == read(Pcap, plain)[0].seen


def test_bits_above_the_link_type_are_no_part_of_it() -> None:
    octets = bytearray(FILE)
    octets[20:24] = struct.pack("<I", 0x34000001)
    assert read(Pcap, bytes(octets))[0].seen == read(Pcap, FILE)[0].seen


def test_a_link_type_without_fixed_places_is_given_frame_by_frame() -> None:
    octets = pcap(TRAFFIC, IEEE802_11)
    seen, told, _ = read(Pcap, octets)
    assert [one[3] for one in seen.seen] == [one for _, one in TRAFFIC]
    assert told == []


def test_a_file_that_ends_in_a_frame_gives_what_is_there_of_it() -> None:
    octets = pcap(frames(Talk().session(b"Subject: x\r\n\r\n" + b"x\r\n" * 400).segments[:20]))
    seen, told, _ = read(Pcap, octets)
    cut, told_of_cut, _ = read(Pcap, octets[:-1])
    assert told == []
    assert told_of_cut == [("truncated", "")]
    assert [one[:3] for one in cut.seen] == [one[:3] for one in seen.seen]
    assert cut.seen[:-1] == seen.seen[:-1]
    assert cut.seen[-1][3] == seen.seen[-1][3][:-1]


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_file_that_ends_in_the_header_of_a_record_is_truncated(cut: int) -> None:
    seen, told, _ = read(Pcap, FILE + FILE[24 : 24 + cut])
    assert told == [("truncated", "")]
    assert seen.seen == read(Pcap, FILE)[0].seen


@pytest.mark.parametrize("size", range(4, 24))
def test_a_file_without_a_whole_header_is_told(size: int) -> None:
    seen, told, _ = read(Pcap, FILE[:size])
    assert (seen.seen, told) == ([], [("bad_header", "")])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [0, 700])
def test_behind_a_damaged_record_the_next_good_one_is_found(order: str, size: int) -> None:
    timed = frames(Talk().session(b"Subject: x\r\n\r\n" + b"x\r\n" * 4000).segments)
    octets = bytearray(pcap(timed, order=order))
    at = 24
    for _ in range(9):
        at += 16 + struct.unpack_from(order + "I", octets, at + 8)[0]
    octets[at + 8 : at + 12] = b"\xff\xff\xff\xff"
    seen, told, _ = read(Pcap, bytes(octets), size)
    assert told == [("bad_record", "4294967295 octets in frame 10")]
    assert [one[1] for one in seen.seen] == [time for number, (time, _) in enumerate(timed) if number != 9]


def test_octets_that_are_missing_in_the_middle_cost_no_more_than_their_frames() -> None:
    timed = frames(Talk().session(b"Subject: x\r\n\r\n" + b"x\r\n" * 4000).segments)
    octets = pcap(timed)
    lost = octets[: len(octets) // 2] + octets[len(octets) // 2 + 777 :]
    seen, told, _ = read(Pcap, lost)
    assert [kind for kind, _ in told] == ["bad_record"]
    assert len(seen.seen) >= len(timed) - 4


def test_a_first_record_that_is_damaged_is_told() -> None:
    seen, told, _ = read(Pcap, FILE[:24] + b"\xff" * 16 + FILE[24:])
    assert told == [("bad_record", "4294967295 octets in frame 1")]
    assert seen.seen == []


def test_blocks_say_how_far_the_capture_is_read() -> None:
    seen, _, reader = read(Pcap, FILE, 4000)
    assert seen.blocks[-1][0] == len(TRAFFIC)
    assert sum(octets for _, _, _, octets in seen.blocks) == len(FILE) - 24
    assert all(START <= first <= last for _, first, last, _ in seen.blocks)
    assert reader.time == TRAFFIC[-1][0]


@given(changes, st.integers(0, 2000))
def test_a_mutated_file_is_read_as_far_as_it_goes(how: list[Change], size: int) -> None:
    head = changed(FILE, how, 4)
    for every in (False, True):
        seen, told, _ = read(Pcap, head, size, every=every)
        assert {kind for kind, _ in told} <= {"bad_header", "bad_record", "truncated"}
        assert all(len(one[3]) <= len(head) for one in seen.seen)


@given(changes, st.integers(20, 2000))
def test_a_mutated_file_is_read_the_same_however_it_is_cut(how: list[Change], size: int) -> None:
    head = changed(FILE, how, 4)
    whole, told, _ = read(Pcap, head)
    pieces, told_of_pieces, _ = read(Pcap, head, size)
    assert (pieces.seen, told_of_pieces) == (whole.seen, told)

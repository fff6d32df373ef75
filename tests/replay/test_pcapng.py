"""The newer container: sections, interfaces, clocks, comments, keys; whole, cut, damaged; beside scapy's reader."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.capture import pcapng as writer
from netinspect.replay.frame import ETHERNET, IEEE802_11, RAW, Interface
from netinspect.replay.pcapng import LATEST, Pcapng
from tests.replay.make import START, Talk, block, enhanced, frames, interface, link, option, packet, pcapng, section
from tests.replay.reading import LINKTYPES, Change, changed, changes, read, traffic

TRAFFIC = traffic()
FILE = pcapng(TRAFFIC)
MAIL = frames(Talk().session(b"Subject: x\r\n\r\n" + b"x\r\n" * 2000).segments)


def pcapng_of(octets: bytes, **how: object) -> tuple[list[tuple[object, ...]], list[tuple[str, str]], Pcapng]:
    seen, told, reader = read(Pcapng, octets, **how)  # type: ignore[arg-type]
    assert isinstance(reader, Pcapng)
    return seen.seen, told, reader


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("resolution", [0, 3, 6, 9])
def test_every_frame_and_time_is_the_one_that_scapy_reads(order: str, resolution: int) -> None:
    from scapy.utils import RawPcapNgReader

    octets = section(order) + interface(IEEE802_11, resolution=resolution, order=order)
    octets += b"".join(enhanced(time + 123, one, resolution=resolution, order=order) for time, one in TRAFFIC)
    scapy = []
    for data, meta in RawPcapNgReader(io.BytesIO(octets)):
        ticks = meta.tshigh << 32 | meta.tslow
        scapy.append((ticks * 10 ** (9 - resolution), data, meta.wirelen))
    got, told, _ = pcapng_of(octets)
    assert [(one[1], one[3], one[4]) for one in got] == scapy
    assert told == []


@pytest.mark.parametrize("linktype", LINKTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_fast_loop_gives_what_the_plain_one_gives(linktype: int, order: str) -> None:
    octets = pcapng(traffic(linktype), linktype, order=order)
    fast, told, _ = pcapng_of(octets)
    plain, _, _ = pcapng_of(octets, every=True)
    assert fast == plain
    assert len(fast) > 20
    assert told == []


@given(st.integers(1, 3000))
def test_however_a_read_is_cut_the_frames_are_the_same(size: int) -> None:
    assert pcapng_of(FILE, size=size)[0] == pcapng_of(FILE)[0]


def test_frames_of_a_connection_that_is_known_to_be_something_else_are_passed_over() -> None:
    octets = pcapng(MAIL)
    everything = pcapng_of(octets)[0]
    passed = pcapng_of(octets, passed=frozenset(one[4] for one in everything))[0]  # type: ignore[arg-type]
    assert len(everything) == len(MAIL)
    assert passed == everything[:2]  # the SYNs


def test_frames_have_the_interface_and_the_clock_of_their_own() -> None:
    octets = section() + interface(ETHERNET, name="ext0", resolution=6) + interface(RAW, name="int0", resolution=9)
    raw, ether = packet(Talk().open().segments[0]), link(packet(Talk().open().segments[0]))
    octets += b"".join(
        enhanced(START + number, raw, number=1) + enhanced(START + 1000 * number, ether, number=0, resolution=6)
        for number in range(1, 6)
    )
    octets += interface(RAW, name="late")
    octets += enhanced(START, raw, number=2) + enhanced(START, raw, number=7)
    seen, told, _ = pcapng_of(octets)
    ext, inside = Interface(ETHERNET, 0, "ext0"), Interface(RAW, 1, "int0")
    expected = [pair for number in range(1, 6) for pair in ((START + number, inside), (START + 1000 * number, ext))]
    assert [(one[1], one[2]) for one in seen] == [*expected, (START, Interface(RAW, 2, "late"))]
    assert told == [("bad_interface", "7 in frame 12")]


def test_a_section_begins_with_interfaces_and_a_byte_order_of_its_own() -> None:
    first = pcapng(MAIL[:3], name="one", order="<")
    second = pcapng(MAIL[3:6], name="two", order=">")
    seen, told, _ = pcapng_of(first + second + first)
    assert [one[2].name for one in seen] == ["one"] * 3 + ["two"] * 3 + ["one"] * 3  # type: ignore[attr-defined]
    assert [one[1] for one in seen[:6]] == [time for time, _ in MAIL[:6]]
    assert told == []


@pytest.mark.parametrize(
    ("resolution", "ticks", "time"),
    [
        (0x80 | 10, 1_700_000_000 * 1024 + 512, 1_700_000_000_500_000_000),
        (12, 9_000_000_000_123_456_789, 9_000_000_000_123_456),
        (0, 1_700_000_000, START),
        (6, (1 << 64) - 1, LATEST),
        (0xFF, 1 << 63, 0),
        (127, 1 << 63, 0),
    ],
)
def test_any_clock_is_read(resolution: int, ticks: int, time: int) -> None:
    body = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, 60, 60) + bytes(60)
    seen, told, _ = pcapng_of(section() + interface(IEEE802_11, resolution=resolution) + block(6, body))
    assert seen[0][1] == time
    assert told == []


@pytest.mark.parametrize("seconds", [-1_000_000_000, 3600, -(1 << 63), (1 << 63) - 1])
def test_a_clock_may_count_from_another_time(seconds: int) -> None:
    described = struct.pack("<HHI", ETHERNET, 0, 0) + option(14, struct.pack("<q", seconds)) + option(0, b"")
    octets = section() + block(1, described) + b"".join(enhanced(time, one, resolution=6) for time, one in MAIL[:4])
    seen, _, _ = pcapng_of(octets)
    offset = seconds * 10**9
    assert [one[1] for one in seen] == [min(max(time + offset, 0), LATEST) for time, _ in MAIL[:4]]


def test_comments_of_the_file_and_of_frames_are_kept() -> None:
    head = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(1, b"a file") + option(4, b"program") + option(0, b"")
    octets = block(0x0A0D0D0A, head) + interface()
    octets += enhanced(START, MAIL[0][1], comment="first") + enhanced(START, MAIL[1][1])
    octets += enhanced(START, b"", comment="third")
    for every in (False, True):
        seen, told, reader = pcapng_of(octets, every=every)
        assert reader.comments == [(0, "a file"), (1, "first"), (3, "third")]
        assert told == []
        assert len(seen) == 3


def test_keys_of_tls_are_given_as_they_stand() -> None:
    log = b"CLIENT_RANDOM 00 11\n"
    other = block(10, struct.pack("<II", 0x57474B4C, 4) + b"wire")
    _, told, reader = pcapng_of(writer.section("x") + writer.tls_secrets(log) + other + writer.tls_secrets(log + b"x"))
    assert reader.keys == [log, log + b"x"]
    assert told == []


def test_what_the_recorder_writes_is_read() -> None:
    octets = writer.section("netinspect") + writer.interface(RAW, "ext0", "netinspect zone external")
    raw = packet(Talk().open().segments[0])
    octets += writer.packet(0, START + 7, raw) + writer.packet(0, START + 8, raw, ["rejected"])
    seen, told, reader = pcapng_of(octets)
    where = Interface(RAW, 0, "ext0", "netinspect zone external")
    assert [one[:4] for one in seen] == [(1, START + 7, where, raw), (2, START + 8, where, raw)]
    assert reader.comments == [(2, "rejected")]
    assert told == []


def test_old_and_simple_packets_are_read() -> None:
    ether = MAIL[0][1]
    described = block(1, struct.pack("<HHI", ETHERNET, 0, len(ether)))
    ticks = START // 1000
    old = block(2, struct.pack("<HHIIII", 0, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(ether), 99) + ether)
    simple = block(3, struct.pack("<I", 5000) + ether)
    seen, told, _ = pcapng_of(section() + described + old + simple)
    where = Interface(ETHERNET)
    assert [one[:4] for one in seen] == [(1, START, where, ether[14:]), (2, START, where, ether[14:])]
    assert told == []


def test_other_blocks_are_passed_over() -> None:
    names, statistics, own = block(4, bytes(40)), block(5, bytes(20)), block(0xBAD, bytes(8))
    head = section() + interface()
    octets = names.join([head, *(enhanced(time, one) for time, one in MAIL[:2]), statistics + own])
    seen, told, _ = pcapng_of(octets)
    assert [one[1] for one in seen] == [time for time, _ in MAIL[:2]]
    assert told == []


@pytest.mark.parametrize("size", [0, 500])
@pytest.mark.parametrize("field", [4, 20, "type"])
def test_behind_a_damaged_block_the_next_good_one_is_found(field: int | str, size: int) -> None:
    blocks = [section() + interface(), *(enhanced(time, one) for time, one in MAIL)]
    bad = bytearray(blocks[9])
    if field == "type":
        bad[:8] = b"\x99" * 8
    else:
        bad[field : field + 4] = b"\xff\xff\xff\x7f"  # type: ignore[operator]
    blocks[9] = bytes(bad)
    seen, told, _ = pcapng_of(b"".join(blocks), size=size)
    assert [kind for kind, _ in told] == ["bad_block"]
    assert [one[1] for one in seen] == [time for number, (time, _) in enumerate(MAIL, 1) if number != 9]


def test_octets_that_are_missing_in_the_middle_cost_no_more_than_their_frames() -> None:
    octets = pcapng(MAIL)
    lost = octets[: len(octets) // 2] + octets[len(octets) // 2 + 778 :]
    seen, told, _ = pcapng_of(lost)
    assert [kind for kind, _ in told] == ["bad_block"]
    assert len(seen) >= len(MAIL) - 3


def test_a_file_that_ends_in_a_frame_gives_what_is_there_of_it() -> None:
    octets = pcapng(MAIL[:20])
    seen, _, _ = pcapng_of(octets)
    for cut in (1, 5, 40):
        ended, told, _ = pcapng_of(octets[:-cut])
        assert told == [("truncated", "")]
        assert ended[:-1] == seen[:-1]
        assert ended[-1][0] == 20
        assert ended[-1][3] in MAIL[19][1]
    assert pcapng_of(octets + b"\6\0\0")[1] == [("truncated", "")]


@given(changes, st.integers(0, 2000))
def test_a_mutated_file_is_read_as_far_as_it_goes(how: list[Change], size: int) -> None:
    data = changed(FILE, how, 12)
    for every in (False, True):
        _, told, _ = pcapng_of(data, size=size, every=every)
        assert {kind for kind, _ in told} <= {"bad_block", "bad_interface", "truncated"}


@given(changes, st.integers(20, 2000))
def test_a_mutated_file_is_read_the_same_however_it_is_cut(how: list[Change], size: int) -> None:
    data = changed(FILE, how, 12)
    whole, told, _ = pcapng_of(data)
    pieces, told_of_pieces, _ = pcapng_of(data, size=size)
    assert (pieces, told_of_pieces) == (whole, told)
    assert pcapng_of(data, every=True)[:2] == (whole, told)

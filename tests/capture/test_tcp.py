"""A conversation is made packets that any stack would have sent: numbers, flags, lengths and checksums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.capture import pcapng
from netinspect.capture.tcp import SEGMENT, Wire
from tests.capture.reading import Talk, talks

FOUR = (("192.0.2.1", 40000), ("198.51.100.2", 25))
SIX = (("2001:db8::1", 40000), ("2001:db8:ff::2", 25))
both = pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
Ends = tuple[tuple[str, int], tuple[str, int]]


def talk_of(frames: list[bytes]) -> Talk:
    """Read back; every number and checksum is looked at."""
    head = pcapng.section() + pcapng.interface(pcapng.RAW)
    (talk,) = talks(head + b"".join(pcapng.packet(0, 0, frame) for frame in frames))
    return talk


@both
def test_a_session_is_read_back(ends: Ends) -> None:
    wire = Wire(*ends, start=7)
    talk = talk_of([
        *wire.open(), *wire.server(b"220 hello\r\n"), *wire.client(b"QUIT\r\n"), *wire.server(b"221 bye\r\n"),
        *wire.close(by_client=True),
    ])  # fmt: skip
    assert (talk.client, talk.server) == ends
    assert talk.said == [("S", b"220 hello\r\n"), ("C", b"QUIT\r\n"), ("S", b"221 bye\r\n")]
    assert talk.flags == "C:S S:SA C:A C:FA S:FA C:A "


@both
def test_what_does_not_fit_into_a_packet_is_sent_in_several(ends: Ends) -> None:
    said = bytes(range(256)) * 600
    wire = Wire(*ends, start=0xFFFFFFF0)
    frames = [*wire.open(), *wire.client(said), *wire.server(b"250 ok\r\n"), *wire.close(by_client=False)]
    assert max(map(len, frames)) <= 65_535
    assert len(frames) == 3 + -(-len(said) // SEGMENT) + 1 + 3
    talk = talk_of(frames)
    assert talk.of("C") == said
    assert talk.flags.endswith("S:FA C:FA S:A ")


@both
def test_a_reset_ends_it(ends: Ends) -> None:
    wire = Wire(*ends, start=1)
    assert talk_of([*wire.open(), wire.reset(by_client=False)]).flags.endswith("S:RA ")


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=8), st.integers(0, 2**32 - 1))
def test_every_checksum_is_right_whatever_is_said(said: list[tuple[bool, bytes]], start: int) -> None:
    for ends in (FOUR, SIX):
        wire = Wire(*ends, start=start)
        frames = list(wire.open())
        for by_client, octets in said:
            frames += wire.client(octets) if by_client else wire.server(octets)
        talk = talk_of(frames)
        assert talk.of("C") == b"".join(octets for by_client, octets in said if by_client)
        assert talk.of("S") == b"".join(octets for by_client, octets in said if not by_client)


def test_nothing_said_is_no_packet() -> None:
    assert list(Wire(*FOUR, start=0).client(b"")) == []


def test_both_ends_are_of_one_kind() -> None:
    with pytest.raises(ValueError, match="two versions"):
        Wire(FOUR[0], SIX[1], start=0)


def test_a_zone_index_is_no_part_of_an_address() -> None:
    talk = talk_of(list(Wire(("fe80::1%eth0", 1), ("fe80::2", 25), start=0).open()))
    assert talk.client == ("fe80::1", 1)

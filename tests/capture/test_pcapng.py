"""What is written is pcapng as others read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from netinspect.capture import pcapng
from tests.capture.reading import blocks, frames, options

TIME = 1_790_000_000_123_456_789


def test_a_file_with_two_interfaces_is_read_back() -> None:
    data = b"".join((
        pcapng.section("netinspect test"),
        pcapng.interface(pcapng.RAW, "outside", pcapng.describe_zone("external")),
        pcapng.packet(0, TIME, b"first"),
        pcapng.interface(pcapng.ETHERNET, "eth0"),
        pcapng.packet(1, TIME + 1, b"second one", ["a comment", "zweiter, größer"]),
    ))  # fmt: skip
    one, two = frames(data)
    assert (one.interface, one.description, one.time, one.octets, one.comments) == (
        "outside", "netinspect zone external", TIME, b"first", (),
    )  # fmt: skip
    assert (two.interface, two.time, two.octets) == ("eth0", TIME + 1, b"second one")
    assert two.comments == ("a comment", "zweiter, größer")


def test_scapy_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(
        pcapng.section() + pcapng.interface(pcapng.RAW, "outside")
        + pcapng.packet(0, TIME, b"octets", ["said"]) + pcapng.packet(0, TIME, b"")
    )  # fmt: skip
    with RawPcapNgReader(str(path)) as reader:
        (octets, about), (nothing, _) = list(reader)
    assert (octets, nothing) == (b"octets", b"")
    assert (about.linktype, about.tsresol, about.tshigh << 32 | about.tslow) == (pcapng.RAW, 10**9, TIME)
    assert about.ifname == b"outside"


@given(st.binary(max_size=40), st.lists(st.text(max_size=20), max_size=3), st.integers(0, 2**64 - 1))
def test_every_frame_comes_back(octets: bytes, comments: list[str], time: int) -> None:
    data = pcapng.section() + pcapng.interface(pcapng.RAW) + pcapng.packet(0, time, octets, comments)
    (frame,) = frames(data)
    said = tuple(comment.encode("utf-8", "replace").decode() for comment in comments)
    assert (frame.time, frame.octets, frame.comments) == (time, octets, said)


def test_a_frame_of_which_less_is_here_says_how_long_it_was() -> None:
    *_, (kind, body) = blocks(pcapng.section() + pcapng.interface(pcapng.RAW) + pcapng.packet(0, 0, b"abc", wire=60))
    assert kind == 6
    assert body[12:20] == (3).to_bytes(4, "little") + (60).to_bytes(4, "little")


def test_a_comment_that_is_too_long_is_cut() -> None:
    data = pcapng.section() + pcapng.interface(pcapng.RAW) + pcapng.packet(0, 0, b"", ["x" * 70_000])
    assert frames(data)[0].comments == ("x" * pcapng.OPTION_BYTES,)


@pytest.mark.parametrize("log", [b"", b"CLIENT_RANDOM 00 11\n", b"ab"])
def test_a_key_log_stands_in_a_block_of_its_own(log: bytes) -> None:
    ((kind, body),) = blocks(pcapng.tls_secrets(log))
    assert (kind, body[:4]) == (10, b"KSLT")
    assert body[8 : 8 + int.from_bytes(body[4:8], "little")] == log


def test_the_zone_is_found_in_the_description_and_nowhere_else() -> None:
    assert pcapng.described_zone(pcapng.describe_zone("internal")) == "internal"
    assert pcapng.described_zone("zone internal") == ""
    assert pcapng.described_zone("") == ""


def test_the_section_names_who_wrote_it() -> None:
    ((_, body),) = blocks(pcapng.section("netinspect 1"))
    assert options(body[16:]) == [(4, b"netinspect 1")]

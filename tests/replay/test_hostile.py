"""Captures made by somebody who wants a mail to look clean: whatever is forged, the mail is found or the replay says
that it could not see all."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from netinspect.smtp.events import Side
from tests.replay import make
from tests.replay.captures import Ran, run
from tests.replay.make import ACK, PSH, SYN, Segment, Talk

PROGRAM = base64.b64encode(b"MZ\x90\0" + bytes(200)).decode()
EVIL = (
    "From: a@example.org\r\nTo: b@example.com\r\n"
    'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    "--b\r\n\r\nhello\r\n--b\r\nContent-Type: application/octet-stream\r\n"
    'Content-Disposition: attachment; filename="bill.exe"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    f"{PROGRAM}\r\n--b--\r\n"
).encode()
HARMLESS = EVIL.replace(b".exe", b".txt").replace(PROGRAM.encode(), b"aGVs" * (len(PROGRAM) // 4))
ENVELOPE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"
COMMANDS = b"EHLO c\r\n" + ENVELOPE + b"DATA\r\n" + EVIL + b".\r\n"


def judged(folder: Path, segments: list[Segment]) -> Ran:
    path = folder / "a.pcap"
    path.write_bytes(make.pcap(make.frames(segments)))
    return run(folder, str(path), events="-", progress=False)


def place_of(segments: list[Segment], octets: bytes) -> int:
    return next(number for number, one in enumerate(segments) if octets in one.payload)


def greeted() -> Talk:
    talk = Talk().open().server(b"220 mx ESMTP\r\n").client(b"EHLO c\r\n")
    return talk.server(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n").client(ENVELOPE).server(b"250 ok\r\n250 ok\r\n")


def test_the_mail_itself_is_refused_and_its_harmless_copy_is_not(tmp_path: Path) -> None:
    assert judged(tmp_path, Talk().session(EVIL).segments).status == 1
    assert judged(tmp_path, Talk().session(HARMLESS).segments).status == 0


def test_a_copy_between_two_harmless_ones_is_found(tmp_path: Path) -> None:
    segments = Talk().session(EVIL).segments
    at = place_of(segments, b".exe")
    harmless = segments[at].with_payload(segments[at].payload.replace(EVIL, HARMLESS))
    ran = judged(tmp_path, [*segments[:at], harmless, segments[at], harmless, *segments[at + 1 :]])
    assert [one["verdict"]["action"] for one in ran.of("verdict")] == ["accept", "reject"]


def test_copies_in_several_places_are_never_clean(tmp_path: Path) -> None:
    """The server takes the first copy of one segment and the last copy of another: neither reading has that mail."""
    talk = Talk(mss=250).session(EVIL)
    segments = talk.segments
    first, second = (at for at, one in enumerate(segments) if len(one.payload) == 250 and one.side is Side.CLIENT)
    one, two = segments[first], segments[second]
    noise = [part.with_payload(part.payload[:99] + b"?" + part.payload[100:]) for part in (one, two)]
    ran = judged(tmp_path, [*segments[:first], noise[0], one, two, noise[1], *segments[second + 1 :]])
    assert ran.status == 1
    last = [one["verdict"] for one in ran.of("verdict") if one.get("tcp_reading") == "last"]
    assert last
    assert all("replay: copies differ" in one["unscanned"] and not one["clean"] for one in last)


@pytest.mark.parametrize("side", list(Side))
def test_a_forged_syn_does_not_make_the_server_the_client(tmp_path: Path, side: Side) -> None:
    segments = Talk().session(EVIL).segments
    if side is Side.CLIENT:  # it answers a SYN that nobody sent
        forged = replace(segments[2], seq=7, ack=segments[1].seq + 1, flags=SYN | ACK)
    else:
        forged = replace(segments[1], seq=7, ack=-1, flags=SYN)
    for at in (1, 2, 3):
        assert [one["verdict"]["action"] for one in judged(tmp_path, [*segments[:at], forged, *segments[at:]]).of(
            "verdict")] == ["reject"]  # fmt: skip


def test_fragments_with_three_copies_are_never_clean(tmp_path: Path) -> None:
    segments = Talk().session(EVIL).segments
    at = place_of(segments, b".exe")
    one = segments[at]
    evil, clean = (
        [(one.time, make.link(part)) for part in make.fragments(make.packet(one.with_payload(octets)), 296)]
        for octets in (one.payload, one.payload.replace(EVIL, HARMLESS))
    )
    copies = [frame for each in zip(clean, evil, clean, strict=True) for frame in each]
    path = tmp_path / "a.pcap"
    path.write_bytes(make.pcap([*make.frames(segments[:at]), *copies, *make.frames(segments[at + 1 :])]))
    ran = run(tmp_path, str(path), events="-", progress=False)
    assert ran.status == 1
    assert ran.of("verdict")[0]["verdict"]["unscanned"] == ["replay: copies differ"]


def test_octets_that_are_passed_over_are_told(tmp_path: Path) -> None:
    segments = Talk().session(EVIL).segments
    forged = replace(segments[2], seq=0x70000000, flags=PSH | ACK, payload=b"STARTTLS\r\n")
    for at in (1, 2, 3):
        assert judged(tmp_path, [*segments[:at], forged, *segments[at:]]).status == 1


def test_a_reply_that_was_forged_in_advance_hides_nothing(tmp_path: Path) -> None:
    """The copy of the reply is the real one, but it comes before the command: all others are off by one then."""
    segments = Talk().session(EVIL).segments
    at = place_of(segments, b"250 2.1.0")
    early = replace(segments[at], ack=1)
    ran = judged(tmp_path, [*segments[: at - 1], early, *segments[at - 1 :]])
    assert ran.status == 1


@pytest.mark.parametrize(
    "replies", [b"250 ok\r\n", b"554 no\r\n", b"354-go\r\n", b"334 go\r\n"], ids=lambda one: one[:3].decode()
)
def test_a_message_that_the_replies_make_commands_of_is_not_passed_over(tmp_path: Path, replies: bytes) -> None:
    talk = greeted().client(b"DATA\r\n").server(replies).client(EVIL + b".\r\n").server(b"250 queued\r\n")
    assert judged(tmp_path, talk.close().segments).status == 1


@pytest.mark.parametrize("size", [b"99999999999999999999", b"-5"])
def test_a_chunk_whose_size_is_a_lie_is_not_passed_over(tmp_path: Path, size: bytes) -> None:
    talk = greeted().client(b"BDAT " + size + b"\r\n" + EVIL).server(b"250 ok\r\n").client(b"BDAT 0 LAST\r\n")
    ran = judged(tmp_path, talk.server(b"250 queued\r\n").close().segments)
    assert ran.status == 1
    assert not any(one["verdict"]["action"] == "accept" and one["verdict"].get("clean") for one in ran.of("verdict"))


@pytest.mark.parametrize(
    "head",
    [
        lambda rest: b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(rest).to_bytes(2, "big"),
        lambda rest: b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        lambda rest: b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n",
        lambda rest: b"PROXY nonsense\r\n",
    ],
)
def test_a_header_of_a_proxy_swallows_nothing(tmp_path: Path, head: Callable[[bytes], bytes]) -> None:
    talk = Talk(mss=4000).open().client(head(COMMANDS) + COMMANDS)
    talk.server(b"220 mx ESMTP\r\n" + b"500 what\r\n" * 3 + b"250 ok\r\n" * 3 + b"354 go\r\n250 queued\r\n")
    assert judged(tmp_path, talk.close().segments).status == 1

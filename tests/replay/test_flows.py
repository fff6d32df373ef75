"""All connections of a capture: which are mail, when one ends, what many of them cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from netinspect.replay import connections
from netinspect.replay.drive import mine_of
from netinspect.replay.flows import FlowTable
from netinspect.replay.tcp import Flow
from netinspect.smtp.events import Side
from tests.replay import make
from tests.replay.make import ACK, PSH, SYN, Talk
from tests.replay.test_tcp import kinds, segment

C, S = Side.CLIENT, Side.SERVER
SECOND = 10**9


def talk(port: int = 25, *, source: int = 40000, client: int = 1, server: int = 2, start: int = make.START) -> Talk:
    return Talk(("192.0.2.10", source), ("198.51.100.25", port), client, server, time=start)


def read(*talks: Talk) -> list[tuple[tuple[str, int, str, int], make.Told]]:
    told = make.read(make.frames([one for talk in talks for one in talk.segments]))
    return [(flow.addresses, turns) for flow, turns in told.items()]


def feed(segments: Sequence[make.Segment], size: int = 50) -> FlowTable:
    table = make.table()
    timed = make.frames(segments)
    for at in range(0, len(timed), size):
        table.feed(make.batch(timed[at : at + size]))
    return table


def said(table: FlowTable) -> list[bytes]:
    """All of each connection, in the order in which they ended."""
    table.finish()
    told: dict[Flow, make.Told] = {}
    ended = list(table.ended)
    make.collect(table, told)
    return [b"".join(octets for _, octets, _ in told.get(flow, [])) for flow in ended]


# --- what is mail -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [25, 465, 587, 2525])
def test_ports_of_mail_are_mail_whatever_is_said(port: int) -> None:
    found = read(talk(port).open().client(b"\x16\x03\x01\0\x05hello").server(b"\x16\x03\x03").close())
    assert [addresses for addresses, _ in found] == [("192.0.2.10", 40000, "198.51.100.25", port)]


@pytest.mark.parametrize("banner", [b"220 mx.example.com ESMTP\r\n", b"220-welcome\r\n220 mx\r\n", b"554 no\r\n"])
def test_a_server_that_greets_and_a_client_that_says_hello_are_mail_on_any_port(banner: bytes) -> None:
    found = read(talk(40025).open().server(banner).client(b"ehlo a\r\n").server(b"250 mx\r\n").close())
    assert [turns for _, turns in found] == [[(S, banner, 0), (C, b"ehlo a\r\n", 0), (S, b"250 mx\r\n", 0)]]


def test_a_client_that_says_hello_before_the_greeting_is_one() -> None:
    found = read(talk(40025).open().client(b"EHLO a\r\n").server(b"220 mx\r\n"))
    assert found[0][0] == ("192.0.2.10", 40000, "198.51.100.25", 40025)


def test_a_proxy_header_may_come_first() -> None:
    for header in (b"PROXY TCP4 192.0.2.1 192.0.2.2 5 25\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\x01" * 12):
        found = read(talk(40025).open().client(header).server(b"220 mx\r\n").client(b"EHLO a\r\n"))
        assert len(found) == 1
        assert found[0][1][0][:2] == (C, header)


def test_a_banner_that_names_the_protocol_is_enough() -> None:
    assert len(read(talk(40025).open().server(b"220 mx.example.com ESMTP ready\r\n").client(b"QUIT\r\n"))) == 1


@pytest.mark.parametrize(
    "made",
    [
        talk(21).open().server(b"220 FTP server\r\n").client(b"USER a\r\n").server(b"331 password\r\n").close(),
        talk(21).open().server(b"220 FTP server\r\n").close(),
        talk(80).open().client(b"GET / HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 200 OK\r\n\r\n").close(),
        talk(80, source=2525).open().client(b"GET / HTTP/1.1\r\n\r\n").server(b"HTTP/1.1 200 OK\r\n\r\n").close(),
        talk(9000).open().server(b"220 \x00\x00binary").client(b"\x01\x02\x03\x04\x05").close(),
    ],
)
def test_other_protocols_are_passed_over(made: Talk) -> None:
    assert read(made) == []


def test_what_a_connection_in_the_middle_says_may_tell_too() -> None:
    middle = [one for one in talk(40025).open().mail(b"a: b\r\n\r\nc\r\n").segments if one.payload]
    table = feed(middle)
    assert b"a: b" in said(table)[0]


def test_a_first_segment_that_comes_late_still_decides() -> None:
    segments = talk(40025).open().server(b"220 mx ESMTP\r\n").client(b"EHLO a\r\n", b"MAIL FROM:<>\r\n").segments
    data = [one for one in segments if one.payload]
    assert said(feed([*segments[:3], data[2], data[1], data[0]])) == [b"220 mx ESMTP\r\nEHLO a\r\nMAIL FROM:<>\r\n"]


def test_the_same_ports_may_be_mail_after_they_were_something_else() -> None:
    web = talk(40025).open().client(b"GET / HTTP/1.1\r\n\r\n")
    mail = talk(40025, client=9, server=8).open().server(b"220 mx\r\n").client(b"EHLO a\r\n")
    found = read(web, mail)
    assert [turns for _, turns in found] == [[(S, b"220 mx\r\n", 0), (C, b"EHLO a\r\n", 0)]]


def test_of_two_ports_of_mail_the_one_that_was_called_is_the_server() -> None:
    found = read(talk(25, source=587).open().server(b"220 mx\r\n"))
    assert found[0][0] == ("192.0.2.10", 587, "198.51.100.25", 25)
    middle = talk(25, source=587).open().server(b"220 mx\r\n")
    middle.segments = middle.segments[3:]
    assert read(middle)[0][0] == ("192.0.2.10", 587, "198.51.100.25", 25)


# --- one after the other ----------------------------------------------------------------------------------------------


def test_a_new_connection_on_the_ports_of_one_that_is_over() -> None:
    for end in (Talk.close, Talk.reset):
        first = end(talk().open().server(b"220 one\r\n"))
        second = talk(client=500_000, server=700_000).open().server(b"220 two\r\n").close()
        assert said(feed([*first.segments, *second.segments])) == [b"220 one\r\n", b"220 two\r\n"]


def test_a_new_connection_on_the_ports_of_one_whose_end_nobody_saw() -> None:
    for client in (500_000, 20):
        first = talk().open().server(b"220 one\r\n").client(b"EHLO one\r\n")
        second = talk(client=client, server=700_000).open().server(b"220 two\r\n")
        table = feed([*first.segments, *second.segments])
        assert said(table) == [b"220 one\r\nEHLO one\r\n", b"220 two\r\n"]


def test_a_new_connection_of_which_only_the_client_was_captured() -> None:
    first = talk().open().client(b"EHLO one\r\n")
    second = talk(client=500_000, server=700_000).open().client(b"EHLO two\r\n")
    both = [one for one in (*first.segments, *second.segments) if one.side is C]
    assert said(feed(both)) == [b"EHLO one\r\n", b"EHLO two\r\n"]


def test_a_forged_syn_does_not_end_a_connection() -> None:
    made = talk().open().server(b"220 one\r\n").client(b"EHLO one\r\n")
    forged = segment(C, 77_000, 0, flags=SYN)
    table = feed([*made.segments[:5], forged, *made.segments[5:]])
    assert said(table) == [b"220 one\r\nEHLO one\r\n"]


def test_a_syn_that_came_twice_or_late_is_the_same() -> None:
    made = talk().open().server(b"220 one\r\n").client(b"EHLO one\r\n")
    syn, answer, *rest = made.segments
    for order in (
        [syn, syn, answer, answer, *rest, syn, answer],
        [*rest, answer, syn],
        [*rest[:2], syn, *rest[2:], answer],
    ):
        table = feed(order)
        table.finish()
        flow = table.ended[0]
        assert [len(table.ended), flow.client.syn, flow.server.syn, kinds(flow)] == [1, True, True, set()]


def test_another_connection_whose_beginning_nobody_saw_is_told_apart() -> None:
    first = talk().open().server(b"220 one\r\n").client(b"EHLO one\r\n")
    second = talk(client=0x70000000, server=0x60000000)
    for at in range(8):
        second.client(b"line %d\r\n" % at)
    table = feed([*first.segments, *second.segments])
    one, two = said(table)
    assert one == b"220 one\r\nEHLO one\r\n"
    assert two.endswith(b"line 7\r\n")
    assert two.startswith(b"line 2")


def test_the_first_frame_of_a_connection_is_that_of_its_syn() -> None:
    table = feed([segment(C, 1, 0, flags=SYN), *talk(source=5).open().server(b"220 x\r\n").segments,
                  segment(S, 9, 2, b"220 y\r\n")])  # fmt: skip
    table.finish()
    assert sorted(flow.first for flow in table.ended) == [1, 2]


# --- frames that say less than they should ----------------------------------------------------------------------------


def test_a_frame_cut_by_the_snapshot_length_leaves_a_gap() -> None:
    timed = make.frames(talk().open().server(b"220 " + b"x" * 500 + b"\r\n").client(b"EHLO a\r\n").segments)
    told = next(iter(make.read([(time, octets[:200]) for time, octets in timed]).values()))
    assert told == [(S, (b"220 " + b"x" * 500)[:146], 360), (C, b"EHLO a\r\n", 0)]


def test_a_length_the_card_was_to_fill_in_is_that_of_the_frame() -> None:
    timed = make.frames(talk().open().server(b"220 x\r\n").segments)
    timed = [(time, octets[:16] + b"\0\0" + octets[18:]) for time, octets in timed]
    assert next(iter(make.read(timed).values())) == [(S, b"220 x\r\n", 0)]


def test_padding_of_short_frames_is_not_said() -> None:
    timed = [(time, octets.ljust(60, b"\0")) for time, octets in make.frames(talk().open().server(b"2\r\n").segments)]
    assert next(iter(make.read(timed).values())) == [(S, b"2\r\n", 0)]


@pytest.mark.parametrize("offset", [0x00, 0x40, 0xF0])
def test_a_wrong_data_offset_makes_no_octets(offset: int) -> None:
    timed = make.frames(talk().open().server(b"220 one\r\n").client(b"EHLO a\r\n").segments)
    place = next(number for number, (_, octets) in enumerate(timed) if b"220 one" in octets)
    time, octets = timed[place]
    timed[place] = (time, octets[:46] + bytes((offset,)) + octets[47:])
    assert next(iter(make.read(timed).values())) == [(S, b"", 9), (C, b"EHLO a\r\n", 0)]


# --- how long and how many --------------------------------------------------------------------------------------------


def test_a_silent_connection_ends_and_one_damaged_time_ends_nothing() -> None:
    made = talk().open().server(b"220 x\r\n")
    busy = [
        replace(one, time=one.time + number * 20 * SECOND) for number, one in enumerate(talk(source=7).open().segments)
    ]
    table = feed(made.segments)
    far = replace(segment(S, 1, 1, flags=ACK), time=make.START + 10**18, destination=("192.0.2.10", 7))
    table.feed(make.batch(make.frames([busy[0], far])))
    assert not table.ended
    table.feed(make.batch(make.frames([replace(one, time=make.START + 2000 * SECOND) for one in busy])))
    assert [flow.addresses[1] for flow in table.ended] == [40000]


def test_turns_that_go_on_are_given_out_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FLUSH", 5000)
    table = make.table()
    made = talk().open().client(b"x" * 20_000)
    for frame in make.frames(made.segments):
        table.feed(make.batch([frame] * 1))
    turns = table.dirty[0].turns
    assert len(turns) > 2
    assert {turn[0] for turn in turns} == {C}


def test_a_flood_of_syns_makes_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OPENED", 1000)
    table = make.table()
    flood = [replace(segment(C, 5, 0, flags=SYN), source=(f"10.0.{at >> 8}.{at & 255}", 9)) for at in range(5000)]
    began = time.process_time()
    table.feed(make.batch(make.frames(flood)))
    assert time.process_time() - began < 1
    assert not table.flows
    assert not table._table
    assert len(table._opened) <= 1002


def test_with_too_many_connections_those_silent_longest_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FLOWS", 80)
    many = [
        replace(segment(C, 5, 7, b"EHLO a\r\n"), source=(f"10.0.{at >> 8}.{at & 255}", 9), time=make.START + at)
        for at in range(500)
    ]
    table = feed(many)
    assert len(table.flows) <= 80
    assert len(table.flows) + len(table.ended) == 500
    assert max(flow.last for flow in table.ended) < min(flow.last for flow in table.flows)


def test_connections_that_are_no_mail_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PASSED", 50)
    web = [replace(segment(C, 5, 7, b"GET / HTTP/1.0\r\n"), source=(f"10.0.0.{at}", 9), destination=("192.0.2.1", 80))
           for at in range(250)]  # fmt: skip
    table = feed(web)
    assert len(table._table) <= 102


def test_a_connection_costs_little() -> None:
    flow = Flow(1, [])
    size = sum(sys.getsizeof(one) for one in (flow, flow.client, flow.server))
    assert size < 1000


@pytest.mark.parametrize("shares", [2, 3])
def test_shares_have_all_connections_once(shares: int) -> None:
    segments = [one for source in range(20) for one in talk(source=source).session(b"a: b\r\n\r\nc\r\n").segments]
    timed = make.frames(segments)
    found: list[tuple[int, int]] = []
    for share in range(shares):
        table = FlowTable(lambda frame: None, mine_of(share, shares))
        table.feed(make.batch(timed))
        table.finish()
        found += [(flow.first, flow.addresses[1]) for flow in table.ended]
    assert sorted(port for _, port in found) == list(range(20))
    assert len(found) == 20


def test_a_connection_with_itself_is_none() -> None:
    here = ("192.0.2.1", 25)
    one = replace(segment(C, 1, 1, b"EHLO a\r\n", PSH | ACK), source=here, destination=here)
    assert make.read(make.frames([one])) == {}


def test_an_anomaly_below_tcp_is_on_record_and_both_readings_of_the_packet_are_taken() -> None:
    made = talk().open().server(b"220 one\r\n")
    segments = [*made.segments[:3]]
    table = make.table(lambda frame: connections.Packet(
        b"\xc6\x33\x64\x19", b"\xc0\x00\x02\x0a", b"\0\x19\x9c\x40", 3, 2, ACK, b"220 one\r\n", "ip_fragment_overlap",
        connections.Packet(b"\xc6\x33\x64\x19", b"\xc0\x00\x02\x0a", b"\0\x19\x9c\x40", 3, 2, ACK, b"220 two\r\n"),
    ))  # fmt: skip
    table.feed(make.batch([*make.frames(segments), (make.START, b"unusual")]))
    table.finish()
    flow = table.ended[0]
    assert kinds(flow) == {"ip_fragment_overlap", "tcp_overlap_conflict"}
    assert len(table.suspects) == 1

"""One connection: what waits, what is given up, what is odd about its segments."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from netinspect.replay import half, tcp
from netinspect.replay.history import History, Later, join, overlaps
from netinspect.replay.tcp import Budget, Flow, Gap
from netinspect.smtp.events import Side
from tests.replay import make
from tests.replay.make import ACK, FIN, PSH, RST, SYN

C, S = Side.CLIENT, Side.SERVER
CLIENT, SERVER = ("192.0.2.10", 40000), ("198.51.100.25", 25)


def segment(side: Side, seq: int, ack: int, payload: bytes = b"", flags: int = PSH | ACK) -> make.Segment:
    here, there = (CLIENT, SERVER) if side is C else (SERVER, CLIENT)
    return make.Segment(make.START, side, here, there, seq & make.MASK, ack & make.MASK, flags, payload)


def opened(client: int = 0, server: int = 0) -> list[make.Segment]:
    """SYN and SYN+ACK; the first octets have the numbers 1 more than these."""
    return [segment(C, client, 0, flags=SYN), segment(S, server, client + 1, flags=SYN | ACK)]


def read(*segments: make.Segment) -> tuple[Flow, make.Told]:
    told = make.read(make.frames(segments))
    assert len(told) == 1
    return next(iter(told.items()))


def kinds(flow: Flow) -> set[str]:
    return {one.kind for one in flow.anomalies}


def test_a_hole_is_given_up_at_the_window_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "WINDOW", 300)
    flow, told = read(*opened(), *(segment(C, 11 + at * 100, 1, b"x" * 100) for at in range(8)))
    assert told == [(C, b"x" * 800, 10)]
    assert kinds(flow) == {"tcp_gap"}
    assert flow.anomalies[0].offset == 0


def test_many_tiny_segments_behind_a_hole_are_given_up_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "SEGMENTS", 20)
    table = make.table()
    segments = [*opened(), *(segment(C, 5 + 2 * at, 1, b"x") for at in range(100))]
    table.feed(make.batch(make.frames(segments)))
    flow = next(iter(table.flows))
    assert flow.client.later is not None
    assert len(flow.client.later.order) <= 20


def test_octets_for_a_hole_that_was_given_up_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "WINDOW", 100)
    flow, told = read(*opened(), segment(C, 11, 1, b"x" * 101), segment(C, 1, 1, b"late octet"))
    assert told == [(C, b"x" * 101, 10)]
    assert kinds(flow) == {"tcp_gap", "tcp_late_data"}


def test_a_side_that_waits_for_the_other_is_let_go_at_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "WINDOW", 250)
    table = make.table()
    segments = [*opened(), *(segment(C, 1 + at * 100, 21, b"x" * 100) for at in range(4))]
    table.feed(make.batch(make.frames(segments)))
    flow = next(iter(table.flows))
    assert flow.server.octets == 20
    assert flow.client.octets == 400
    assert not flow.client.held


def test_thousands_of_exchanges_behind_one_lost_octet_come_out_in_order() -> None:
    segments = opened()
    for at in range(1500):
        segments.append(segment(C, 1 + at, 2 + at, b"c"))
        segments.append(segment(S, 2 + at, 2 + at, b"s"))
    missing = segment(S, 1, 1, b"S")
    _, told = read(*segments, missing)
    assert told[0] == (S, b"S", 0)
    assert [side for side, _, _ in told] == [S, C] * 1500 + [S]


def test_connections_together_hold_no_more_than_the_budget() -> None:
    budget = Budget(10_000)
    flows = [Flow(number, [], budget) for number in range(50)]
    for size in (1000, 100):
        for flow in flows:
            flow.client.start(1, syn=True)
            flow.server.start(1, syn=True)
            flow.client.segment(5000 + size, 1, b"x" * size)
            assert budget.used <= 10_000
    assert sum(flow.cost for flow in flows) == budget.used
    for flow in flows:
        flow.finish()
    assert budget.used == 0


def test_the_one_that_holds_most_gives_up_first() -> None:
    budget = Budget(3000)
    small, big = Flow(1, [], budget), Flow(2, [], budget)
    for flow, size in ((small, 500), (big, 1500), (small, 600)):
        if not flow.client.begun:
            flow.client.start(1, syn=True)
            flow.server.start(1, syn=True)
        flow.client.segment(size * 20, 1, b"x" * size)
    assert big.client.later is None
    assert small.client.later is not None


def test_a_keep_alive_is_no_copy() -> None:
    for octet in (b"", b"\0"):
        flow, told = read(*opened(), segment(C, 1, 1, b"HELO"), segment(S, 1, 5, flags=ACK), segment(C, 4, 1, octet),
                          segment(S, 1, 5, flags=ACK))  # fmt: skip
        assert told == [(C, b"HELO", 0)]
        assert flow.anomalies == []
        assert flow.conflicts == 0


def test_a_zero_window_probe_is_the_next_octet() -> None:
    flow, told = read(*opened(), segment(C, 1, 1, b"ab"), segment(S, 1, 3, flags=ACK), segment(C, 3, 1, b"c"),
                      segment(S, 1, 3, flags=ACK), segment(C, 3, 1, b"cde"))  # fmt: skip
    assert told == [(C, b"abcde", 0)]
    assert flow.anomalies == []


def test_what_a_reset_carries_was_not_said_and_what_comes_behind_it_is_marked() -> None:
    flow, told = read(
        *opened(), segment(C, 1, 1, b"ab"), segment(C, 3, 1, b"go away", RST | ACK), segment(C, 3, 1, b"cd")
    )
    assert told == [(C, b"abcd", 0)]
    assert kinds(flow) == {"tcp_data_after_reset"}


def test_the_acknowledgement_of_a_fin_is_no_octet() -> None:
    flow, told = read(*opened(), segment(C, 1, 1, b"QUIT"), segment(S, 1, 5, b"221", PSH | ACK | FIN),
                      segment(C, 5, 5, b"more"), segment(C, 9, 5, flags=FIN | ACK))  # fmt: skip
    assert told == [(C, b"QUIT", 0), (S, b"221", 0), (C, b"more", 0)]
    assert flow.anomalies == []


def test_what_was_acknowledged_at_the_end_and_is_not_there_is_missing() -> None:
    flow, told = read(*opened(), segment(C, 1, 1, b"QUIT"), segment(S, 1, 25, flags=ACK))
    assert told == [(C, b"QUIT", 20)]
    assert kinds(flow) >= {"tcp_gap"}


def test_a_segment_from_nowhere_is_left_out_and_marked() -> None:
    flow, told = read(*opened(), segment(C, 1, 1, b"ab"), segment(C, 0x60000000, 1, b"forged"), segment(C, 3, 1, b"cd"))
    assert told == [(C, b"abcd", 0)]
    assert "tcp_forged_segment" in kinds(flow)


def test_the_copy_behind_a_hole_that_came_first_wins_over_a_longer_one_from_the_front() -> None:
    flow, told = read(*opened(), segment(C, 3, 1, b"cd"), segment(C, 1, 1, b"abXX"))
    assert told == [(C, b"abcd", 0)]
    assert flow.conflicts == 1
    assert flow.anomalies[0].offset == 2


def test_time_is_that_of_the_octets_and_not_of_what_let_them_go() -> None:
    segments = [*opened(), segment(C, 3, 1, b"cd"), segment(C, 1, 1, b"ab")]
    table = make.table()
    table.feed(make.batch(make.frames([replace(one, time=at * 1000) for at, one in enumerate(segments)])))
    table.finish()
    assert [turn[2] for flow in table.ended for turn in flow.turns] == [2000]


def test_octet_by_octet_and_each_twice_takes_no_longer_than_it_must() -> None:
    segments = opened()
    for at in range(6000):
        segments.append(segment(C, 1 + at, 1, b"%d" % (at % 10)))
        segments.append(segment(C, 1 + at // 2, 1, b"".join(b"%d" % ((at // 2 + n) % 10) for n in range(2))))
    timed = make.batch(make.frames(segments))
    table = make.table()
    began = time.process_time()
    table.feed(timed)
    assert time.process_time() - began < 2
    assert next(iter(table.flows)).conflicts == 0


def test_endless_holes_take_no_longer_than_they_must() -> None:
    segments = [*opened(), *(segment(C, 100_000 - 2 * at, 1, b"x") for at in range(6000))]
    timed = make.batch(make.frames(segments))
    table = make.table()
    began = time.process_time()
    table.feed(timed)
    table.finish()
    assert time.process_time() - began < 2


def test_history_forgets_the_oldest_turns() -> None:
    budget = Budget(history=History(1500))
    flow = Flow(1, [], budget)
    flow.client.start(1, syn=True)
    flow.server.start(1, syn=True)
    for _ in range(3):
        flow.client.segment(flow.client.next, flow.server.next, b"x" * 300)
        flow.server.segment(flow.server.next, flow.client.next, b"y")
    flow.client.segment(301, 1, b"Z" * 300)
    assert flow.conflicts == 1
    assert flow.unknown == 0
    flow.client.segment(1, 1, b"x" * 300)
    assert (flow.conflicts, flow.unknown) == (1, 1)


def test_joined_pieces_are_the_same_octets() -> None:
    pieces: list[tcp.Piece] = [b"ab", Gap(3), *[b"x"] * 200, b"y" * 70_000, b"z"]
    found = list(overlaps(pieces, 1000 + 2 + 3 + 200 + 70_001, 1000, 1005))
    assert [at for at, _ in found] == [1002, 1000]
    assert pieces == join([b"ab", Gap(3), *[b"x"] * 200, b"y" * 70_000, b"z"])
    assert len(pieces) == 4


def test_later_keeps_the_first_copy_of_each_octet() -> None:
    later = Later()
    assert later.add(10, b"cccc", 1, 0) == []
    assert later.add(20, b"dd", 1, 0) == []
    assert later.add(8, b"aaXcccbbbbbbdde", 1, 0) == [(10, b"Xccc", True), (20, b"dd", False)]
    assert [(at, later.parts[at][0]) for at in later.order] == [
        (8, b"aa"), (10, b"cccc"), (14, b"bbbbbb"), (20, b"dd"), (22, b"e"),
    ]  # fmt: skip
    assert later.size == 15

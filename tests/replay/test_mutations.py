"""However a conversation was cut, moved and copied on its way into the capture, the same is read out of it."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from netinspect.replay.tcp import Flow
from netinspect.smtp.events import Side
from tests.replay import make

Script = list[tuple[Side, bytes]]

scripts = st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=12).map(
    lambda said: [((Side.SERVER, Side.CLIENT)[number % 2], octets) for number, octets in enumerate(said)]
)
numbers = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(0xFFFFFF00, 0xFFFFFFFF))
seeds = st.integers(0, 1 << 32)


def talk(script: Script, *, client: int = 1, server: int = 2, mss: int = 100, acks: bool = True) -> make.Talk:
    made = make.Talk(client_seq=client, server_seq=server, mss=mss, acks=acks).open()
    for side, octets in script:
        (made.client if side is Side.CLIENT else made.server)(octets)
    return made.close()


def only(told: dict[Flow, make.Told]) -> tuple[Flow, make.Told]:
    assert len(told) == 1
    return next(iter(told.items()))


def whole(script: Script) -> make.Told:
    return [(side, octets, 0) for side, octets in script]


def shuffled(segments: list[make.Segment], window: int, rnd: random.Random) -> list[make.Segment]:
    """No segment is moved by more than about `window` places."""
    order = sorted(range(len(segments)), key=lambda place: place + rnd.uniform(0, window))
    return [segments[place] for place in order]


def recut(segments: list[make.Segment], rnd: random.Random) -> list[make.Segment]:
    """Some segments once more, in other cuts: a part, or joined with the one before."""
    out: list[make.Segment] = []
    before: dict[Side, make.Segment] = {}
    for one in segments:
        out.append(one)
        if not one.payload:
            continue
        last = before.get(one.side)
        follows = last is not None and (last.seq + len(last.payload)) & make.MASK == one.seq and last.ack == one.ack
        if last is not None and follows and rnd.random() < 0.4:
            cut = rnd.randrange(len(last.payload))
            out.append(replace(last.moved(cut), payload=last.payload[cut:] + one.payload, ack=one.ack))
        elif rnd.random() < 0.4:
            low = rnd.randrange(len(one.payload))
            part = one.moved(low)
            out.append(part.with_payload(part.payload[: rnd.randint(1, len(part.payload))]))
        before[one.side] = one
    return out


@given(scripts, numbers, numbers, st.integers(1, 200), st.booleans(), st.integers(1, 60))
def test_what_was_said_comes_out_in_turns_wherever_the_numbers_begin(
    script: Script, client: int, server: int, mss: int, acks: bool, size: int
) -> None:
    made = talk(script, client=client, server=server, mss=mss, acks=acks)
    flow, told = only(make.read(make.frames(made.segments), size=size))
    assert told == whole(script)
    assert flow.anomalies == []


@given(scripts, numbers, numbers, st.integers(1, 200), seeds, st.integers(1, 100))
def test_shuffled_duplicated_and_overlapping_copies_change_nothing(
    script: Script, client: int, server: int, mss: int, seed: int, window: int
) -> None:
    rnd = random.Random(seed)
    segments = talk(script, client=client, server=server, mss=mss).segments
    segments = [one for one in recut(segments, rnd) for _ in range(rnd.choice((1, 1, 2)))]
    flow, told = only(make.read(make.frames(shuffled(segments, window, rnd))))
    assert told == whole(script)
    assert flow.conflicts == 0


@given(scripts, numbers, numbers, st.integers(1, 200), seeds)
def test_a_shuffled_connection_without_its_syn_is_the_same(
    script: Script, client: int, server: int, mss: int, seed: int
) -> None:
    rnd = random.Random(seed)
    segments = talk(script, client=client, server=server, mss=mss).segments[3:]
    flow, told = only(make.read(make.frames(shuffled(segments, 20, rnd))))
    assert told == whole(script)
    assert "tcp_no_syn" in {one.kind for one in flow.anomalies}


@given(scripts, numbers, numbers, st.integers(1, 200), seeds)
def test_what_was_lost_is_counted_in_gaps(script: Script, client: int, server: int, mss: int, seed: int) -> None:
    rnd = random.Random(seed)
    segments = talk(script, client=client, server=server, mss=mss).segments
    lost = {number for number, one in enumerate(segments) if one.payload and rnd.random() < 0.3}
    left = [one for number, one in enumerate(segments) if number not in lost]
    said = {side: sum(len(octets) for who, octets in script if who is side) for side in Side}
    told = make.read(make.frames(left))
    if not any(one.payload for one in left):
        assert not told
        return
    flow, turns = only(told)
    for side in Side:
        assert sum(len(octets) + gap for who, octets, gap in turns if who is side) == said[side]
        missing = sum(len(one.payload) for number, one in enumerate(segments) if number in lost and one.side is side)
        assert sum(gap for who, _, gap in turns if who is side) == missing
    if len({segments[number].side for number in lost}) < 2:  # else nobody knows which of the gaps was first
        assert [side for side, _, _ in turns] == [side for side, _ in script]
    assert ("tcp_gap" in {one.kind for one in flow.anomalies}) == bool(lost)


@given(scripts, numbers, numbers, st.sampled_from(Side), seeds)
def test_one_direction_alone_keeps_the_turns_of_the_other_as_gaps(
    script: Script, client: int, server: int, side: Side, seed: int
) -> None:
    segments = [one for one in talk(script, client=client, server=server).segments if one.side is side]
    told = make.read(make.frames(segments))
    if not any(one.payload for one in segments):
        assert not told
        return
    flow, turns = only(told)
    assert turns == [(who, octets, 0) if who is side else (who, b"", len(octets)) for who, octets in script]
    assert "tcp_one_direction" in {one.kind for one in flow.anomalies}


@given(scripts, numbers, seeds, st.integers(0, 30))
def test_a_copy_that_differs_is_never_passed_over(script: Script, client: int, seed: int, window: int) -> None:
    rnd = random.Random(seed)
    segments = talk(script, client=client, mss=90).segments
    place = rnd.choice([number for number, one in enumerate(segments) if one.payload])
    one = segments[place]
    at = rnd.randrange(len(one.payload))
    other = one.payload[:at] + bytes((one.payload[at] ^ 1,)) + one.payload[at + 1 :]
    if len(other) == 1:
        other += b"?"  # one octet in front of the next number could be a keep-alive
        if at + 1 == len(one.payload):
            return
    copies = [*segments[: place + 1], one.with_payload(other), *segments[place + 1 :]]
    flow, turns = only(make.read(make.frames(shuffled(copies, window, rnd))))
    assert flow.conflicts
    assert "tcp_overlap_conflict" in {one.kind for one in flow.anomalies}
    said = {side: sum(len(octets) for who, octets in script if who is side) for side in Side}
    for side in Side:
        assert sum(len(octets) + gap for who, octets, gap in turns if who is side) == said[side]


@given(st.lists(st.tuples(st.integers(0, 39), st.integers(0, 255)), max_size=8), seeds)
def test_damaged_headers_never_crash_and_never_add_octets_unseen(damage: list[tuple[int, int]], seed: int) -> None:
    rnd = random.Random(seed)
    script: Script = [(Side.SERVER, b"220 mx ESMTP\r\n"), (Side.CLIENT, b"x" * 500), (Side.SERVER, b"250 ok\r\n")]
    timed = make.frames(talk(script).segments)
    for offset, octet in damage:
        place = rnd.randrange(len(timed))
        time, octets = timed[place]
        at = 14 + offset
        timed[place] = (time, octets[:at] + bytes((octet,)) + octets[at + 1 :])
    for flow, turns in make.read(timed).items():
        if flow.keys[0][-4:] == b"\x9c\x40\x00\x19" and not flow.anomalies and not flow.unknown:
            for side, octets, _ in turns:
                assert any(octets in said for who, said in script if who is side) or octets.startswith(b"x" * 500)


@given(scripts, seeds)
def test_ipv6_is_no_different(script: Script, seed: int) -> None:
    rnd = random.Random(seed)
    made = make.Talk(("2001:db8::10", 40000), ("2001:db8::25", 25), mss=100).open()
    for side, octets in script:
        (made.client if side is Side.CLIENT else made.server)(octets)
    flow, told = only(make.read(make.frames(shuffled(made.segments, 10, rnd))))
    assert told == whole(script)
    assert flow.addresses == ("2001:db8::10", 40000, "2001:db8::25", 25)


@given(scripts, seeds, st.integers(1, 200))
def test_another_port_is_no_different(script: Script, seed: int, mss: int) -> None:
    rnd = random.Random(seed)
    script = [(Side.SERVER, b"220 mx\r\n"), (Side.CLIENT, b"EHLO a\r\n"), *script]
    made = make.Talk(server_address=("198.51.100.25", 40025), mss=mss).open()
    for side, octets in script:
        (made.client if side is Side.CLIENT else made.server)(octets)
    _, told = only(make.read(make.frames([*made.segments[:3], *shuffled(made.segments[3:], 10, rnd)]), size=7))
    assert told == whole(script)


@given(scripts, seeds)
def test_octets_in_the_syn_are_the_first_ones(script: Script, seed: int) -> None:
    rnd = random.Random(seed)
    segments = talk(script, mss=1000).segments
    place = next(number for number, one in enumerate(segments) if one.payload)
    first = segments.pop(place)
    number = 0 if first.side is Side.CLIENT else 1
    segments[number] = segments[number].with_payload(first.payload)
    _, told = only(make.read(make.frames(shuffled(segments, 5, rnd))))
    assert told == whole(script)

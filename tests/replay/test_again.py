"""Connections in which copies differ are read a second time, with the last copies."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.replay import again
from netinspect.replay.again import SecondReading, Store
from netinspect.replay.connections import Suspect
from netinspect.replay.tcp import Gap
from netinspect.smtp.events import Side
from tests.replay import make
from tests.replay.test_mutations import Script, scripts, seeds, shuffled, talk


def suspects(timed: Sequence[make.Timed]) -> list[Suspect]:
    table = make.table()
    table.feed(make.batch(timed))
    table.finish()
    return table.suspects


def second(timed: Sequence[make.Timed], wanted: list[Suspect] | None = None) -> list[make.Told]:
    """What the second reading says, turns joined."""
    reading = SecondReading(lambda frame: None, suspects(timed) if wanted is None else wanted)
    reading.feed(make.batch(timed))
    reading.finish()
    out = []
    for _, turns in reading.readings():
        told: make.Told = []
        for side, pieces, _, _ in turns:
            octets = b"".join(piece for piece in pieces if not isinstance(piece, Gap))
            missing = sum(piece.size for piece in pieces if isinstance(piece, Gap))
            if told and told[-1][0] is side:
                told[-1] = (side, told[-1][1] + octets, told[-1][2] + missing)
            else:
                told.append((side, octets, missing))
        out.append(told)
    assert reading.unread == 0
    reading.close()
    return out


SCRIPT: Script = [(Side.SERVER, b"220 mx ESMTP\r\n"), (Side.CLIENT, b"EHLO a\r\n"), (Side.SERVER, b"250 mx\r\n"),
                  (Side.CLIENT, b"MAIL FROM:<good@example.org>\r\n"), (Side.SERVER, b"250 ok\r\n")]  # fmt: skip


def changed(segments: list[make.Segment], octets: bytes, other: bytes) -> int:
    """Where the segment with these octets is, after a copy with others was put behind it."""
    place = next(number for number, one in enumerate(segments) if octets in one.payload)
    segments.insert(place + 1, segments[place].with_payload(segments[place].payload.replace(octets, other)))
    return place


def test_the_last_copy_stands_in_its_place() -> None:
    segments = talk(SCRIPT).segments
    changed(segments, b"good", b"evil")
    assert second(make.frames(segments)) == [
        [*[(side, octets, 0) for side, octets in SCRIPT[:3]], (Side.CLIENT, b"MAIL FROM:<evil@example.org>\r\n", 0),
         (Side.SERVER, b"250 ok\r\n", 0)]
    ]  # fmt: skip


def test_a_copy_between_two_others_is_read_too() -> None:
    segments = talk(SCRIPT).segments
    place = changed(segments, b"good", b"evil")
    segments.insert(place + 2, segments[place])
    timed = make.frames(segments)
    assert len(suspects(timed)) == 1
    assert [told[3][1] for told in second(timed)] == [b"MAIL FROM:<evil@example.org>\r\n"]


def mixed(segments: list[make.Segment]) -> list[bool]:
    timed = make.frames(segments)
    reading = SecondReading(lambda frame: None, suspects(timed))
    reading.feed(make.batch(timed))
    reading.finish()
    made = [flow.mixed for flow, turns in reading.readings() if list(turns)]
    reading.close()
    return made


def test_one_copy_of_one_segment_leaves_two_readings() -> None:
    segments = talk(SCRIPT).segments
    place = changed(segments, b"good", b"evil")
    assert mixed(segments) == [False]
    segments.insert(place + 2, segments[place + 1])
    assert mixed(segments) == [False]


def test_copies_in_two_places_leave_more_readings_than_two() -> None:
    segments = talk(SCRIPT).segments
    changed(segments, b"good", b"evil")
    changed(segments, b"EHLO a", b"EHLO b")
    assert mixed(segments) == [True]


def test_a_copy_over_two_segments_leaves_more_readings_than_two() -> None:
    segments = talk(SCRIPT, mss=12).segments
    place = next(number for number, one in enumerate(segments) if b"<" in one.payload)
    both = segments[place].payload + segments[place + 1].payload
    segments.insert(place + 2, segments[place].with_payload(bytes(octet ^ 1 for octet in both)))
    assert mixed(segments) == [True]


def test_a_copy_far_behind_in_the_capture_is_compared_in_the_second_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from netinspect.replay import history

    monkeypatch.setattr(history.History.__init__, "__defaults__", (500,))
    segments = talk([*SCRIPT, *[(side, b"x" * 300) for side in (Side.CLIENT, Side.SERVER) * 4]]).segments
    late = next(one for one in segments if b"good" in one.payload)
    for other, told in ((b"good", 0), (b"evil", 1)):
        timed = make.frames([*segments, late.with_payload(late.payload.replace(b"good", other))])
        assert len(suspects(timed)) == 1
        assert len(second(timed)) == told


def test_other_connections_of_the_same_ports_are_left_alone() -> None:
    first = talk(SCRIPT)
    changed(first.segments, b"good", b"evil")
    later = (
        make.Talk(client_seq=77_000, server_seq=99_000, mss=100, time=first.time).open().server(b"220 x\r\n").close()
    )
    timed = make.frames([*first.segments, *later.segments])
    assert [told[3][1] for told in second(timed)] == [b"MAIL FROM:<evil@example.org>\r\n"]


def test_copies_before_the_beginning_was_known_count_too() -> None:
    segments = talk(SCRIPT).segments
    changed(segments, b"good", b"evil")
    shuffled_in = [*segments[5:], *segments[:5]]  # with the SYNs at the end
    assert [one[1] for told in second(make.frames(shuffled_in)) for one in told if b"evil" in one[1]]


@given(scripts, st.integers(0, 0xFFFFFFFF), seeds, st.integers(1, 100), st.integers(0, 20))
def test_last_copies_win_wherever_they_come(script: Script, client: int, seed: int, mss: int, window: int) -> None:
    rnd = random.Random(seed)
    segments = talk(script, client=client, mss=mss).segments
    said = [bytearray(b"".join(octets for who, octets in script if who is side)) for side in Side]
    starts = {Side.CLIENT: client + 1, Side.SERVER: 3}
    segments = shuffled(segments, window, rnd)
    last = [bytearray(octets) for octets in said]
    for _ in range(rnd.randint(1, 6)):
        one = rnd.choice([one for one in segments if one.payload])
        low = rnd.randrange(len(one.payload))
        part = one.moved(low)
        other = rnd.randbytes(rnd.randint(1, len(part.payload)))
        if len(other) == 1:
            continue  # it may be a keep-alive
        segments.append(part.with_payload(other))
        at = (part.seq - starts[one.side]) & make.MASK
        last[list(Side).index(one.side)][at : at + len(other)] = other
    told = second(make.frames(segments))
    if last == said:
        assert told == []
        return
    assert len(told) == 1
    for number, side in enumerate(Side):
        assert b"".join(octets for who, octets, _ in told[0] if who is side) == last[number]
    assert [(side, len(octets)) for side, octets, _ in told[0]] == [(side, len(octets)) for side, octets in script]


def test_what_is_beyond_the_bounds_is_counted_and_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = talk(SCRIPT).segments
    changed(segments, b"good", b"evil")
    timed = make.frames(segments)
    monkeypatch.setattr(again, "Store", lambda directory: Store(directory, most=40))
    reading = SecondReading(lambda frame: None, suspects(timed))
    reading.feed(make.batch(timed))
    reading.finish()
    assert list(reading.readings()) == []
    assert reading.unread == 1
    reading.close()

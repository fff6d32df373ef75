"""What only a capture knows: octets of the client that nobody has, and replies that were never seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.smtp.events import ChunkEnd, CommandReceived, Event, MessageData, MessageEnd, Reply, Side
from netinspect.smtp.session import Phase, Session

GO = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


def begun(*, chunked: bool = False) -> Session:
    """A session in which a message may begin."""
    session = Session(Limits())
    session.feed(Side.SERVER, b"220 mx\r\n")
    session.feed(Side.CLIENT, GO)
    session.feed(Side.SERVER, b"250 Ok\r\n250 Ok\r\n")
    if not chunked:
        session.feed(Side.CLIENT, b"DATA\r\n")
        session.feed(Side.SERVER, b"354 go on\r\n")
    return session


def content(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, MessageData))


def test_message_goes_on_behind_a_hole_and_its_size_counts_it() -> None:
    session = begun()
    events = session.feed(Side.CLIENT, b"one\r\n") + session.lost(100) + session.feed(Side.CLIENT, b"two\r\n.\r\n")
    assert content(events) == b"one\r\ntwo\r\n"
    (end,) = [event for event in events if isinstance(event, MessageEnd)]
    assert (end.size, end.smuggling) == (110, False)


@pytest.mark.parametrize("before", [b"one\r\n", b"one\r", b"one", b"one\r\n."])
def test_hole_makes_no_end_of_data_of_what_stands_around_it(before: bytes) -> None:
    session = begun()
    session.feed(Side.CLIENT, before)
    session.lost(1)
    session.feed(Side.CLIENT, b"\r\nstill\r\n")
    assert session.phase is Phase.DATA


@pytest.mark.parametrize("behind", [b".\r\n", b"\n.\r\n", b"\r\n.\r\n"])
def test_end_of_data_right_behind_a_hole_is_one(behind: bytes) -> None:
    session = begun()
    session.feed(Side.CLIENT, b"one")
    session.lost(5)
    assert any(isinstance(event, MessageEnd) for event in session.feed(Side.CLIENT, behind))


def test_chunk_counts_the_hole() -> None:
    session = begun(chunked=True)
    session.feed(Side.CLIENT, b"BDAT 10\r\nabc")
    events = session.lost(7)
    assert [event for event in events if isinstance(event, ChunkEnd)] == [ChunkEnd(10)]
    assert session.phase is Phase.COMMAND


def test_hole_over_the_end_of_a_chunk_leaves_commands() -> None:
    session = begun(chunked=True)
    session.feed(Side.CLIENT, b"BDAT 10 LAST\r\nabc")
    events = session.lost(50)
    assert any(isinstance(event, MessageEnd) for event in events)
    assert session.phase is Phase.COMMAND


def test_line_that_was_begun_is_forgotten() -> None:
    session = begun()
    session.feed(Side.CLIENT, b".\r\n")
    session.feed(Side.SERVER, b"250 Ok\r\n")
    session.feed(Side.CLIENT, b"MAIL FR")
    session.lost(20)
    (event,) = session.feed(Side.CLIENT, b"NOOP\r\n")
    assert isinstance(event, CommandReceived)
    assert event.command.verb == "NOOP"


def test_held_octets_can_be_taken_back_and_fed_again() -> None:
    session = begun()
    session.feed(Side.CLIENT, b".\r\n")
    session.feed(Side.SERVER, b"250 Ok\r\n")
    session.feed(Side.CLIENT, b"STARTTLS\r\nhello")
    due = session.due
    assert due is not None
    assert (due.verb, session.backlog) == ("STARTTLS", 5)
    assert (session.take_held(), session.backlog) == (b"hello", 0)
    assert session.reply(Reply(454, ("no",), b"454 no\r\n"))
    assert session.feed(Side.CLIENT, b"\r\nNOOP\r\n")


def test_nothing_is_due_while_a_message_comes() -> None:
    session = begun()
    assert session.due is None
    session.feed(Side.CLIENT, b".\r\n")
    assert session.due is not None
    assert session.due_message


@given(st.data())
def test_cut_of_the_octets_changes_nothing_around_a_hole(data: st.DataObject) -> None:
    before = data.draw(st.sampled_from([b"one\r\n.\r", b"a\r\n", b"..\n"]))
    behind = data.draw(st.sampled_from([b"two\r\n.\r\nNOOP\r\n", b"\n..\r\n.\r\n"]))
    whole, cut = begun(), begun()
    wanted = whole.feed(Side.CLIENT, before) + whole.lost(9) + whole.feed(Side.CLIENT, behind)
    found: list[Event] = []
    for octets in (before, None, behind):
        if octets is None:
            found += cut.lost(9)
            continue
        at = data.draw(st.integers(0, len(octets)))
        found += cut.feed(Side.CLIENT, octets[:at]) + cut.feed(Side.CLIENT, octets[at:])
    kinds = [type(event) for event in wanted if not isinstance(event, MessageData)]
    assert content(found) == content(wanted)
    assert [type(event) for event in found if not isinstance(event, MessageData)] == kinds

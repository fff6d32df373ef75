"""However the octets are cut, a conversation tells the same; and nothing a peer sends raises."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.smtp.events import CommandReceived, MessageAccepted, MessageEnd, Replied, Side, TransactionStarted
from netinspect.smtp.session import Session
from tests.smtp.conversations import (
    CONVERSATIONS,
    ENVELOPE,
    GO,
    HELLO,
    MANY,
    OK,
    TO_DATA,
    C,
    Conversation,
    S,
    Step,
    bytewise,
    canonical,
    content,
    play,
    run,
)


def by_name(conversation: Conversation) -> str:
    return conversation.name


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=by_name)
def test_byte_by_byte_tells_the_same(conversation: Conversation) -> None:
    _, expected = play(conversation)
    _, events = play(conversation, bytewise)
    assert canonical(events) == canonical(expected)


@pytest.mark.parametrize("size", [2, 3, 5, 7])
@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=by_name)
def test_short_reads_tell_the_same(conversation: Conversation, size: int) -> None:
    _, expected = play(conversation)
    _, events = play(conversation, lambda data: [data[i : i + size] for i in range(0, len(data), size)])
    assert canonical(events) == canonical(expected)


@given(conversation=st.sampled_from(CONVERSATIONS), seed=st.integers(0, 2**32))
@MANY
def test_random_cuts_tell_the_same(conversation: Conversation, seed: int) -> None:
    rng = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        marks = sorted(rng.sample(range(len(data) + 1), k=min(len(data), rng.randint(0, 6))))
        return [data[i:j] for i, j in zip([0, *marks], [*marks, len(data)], strict=True)]

    _, expected = play(conversation)
    _, events = play(conversation, cut)
    assert canonical(events) == canonical(expected)


# Octets that mean something to the body reader, so that short examples reach its corners.
BODIES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"x", b"\r\n.", b"..", b"\n.\n"]), max_size=24
).map(b"".join)


@given(
    body=BODIES, sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8), normalize=st.booleans(), bdat=st.booleans()
)
@MANY
def test_any_body_in_any_cut_tells_the_same(body: bytes, sizes: list[int], normalize: bool, bdat: bool) -> None:
    steps: tuple[Step, ...]
    if bdat:
        half = len(body) // 2
        first, second = body[:half], body[half:]
        octets = b"BDAT %d\r\n%sBDAT %d LAST\r\n%sNOOP\r\n" % (len(first), first, len(second), second)
        steps = (*ENVELOPE, C(octets), OK, OK, OK)
    else:
        steps = (*TO_DATA, C(body + b"\r\n.\r\nNOOP\r\n"), OK, OK, GO)
    conversation = Conversation("", steps, bare_newline="normalize" if normalize else "reject")

    def cut(data: bytes) -> list[bytes]:
        pieces = []
        turn = 0
        while data:
            size = sizes[turn % len(sizes)]
            pieces.append(data[:size])
            data = data[size:]
            turn += 1
        return pieces

    _, expected = play(conversation)
    _, events = play(conversation, cut)
    assert canonical(events) == canonical(expected)
    _, events = play(conversation, bytewise)
    assert canonical(events) == canonical(expected)


@given(data=st.data())
@MANY
def test_replies_may_come_at_any_time_behind_their_commands(data: st.DataObject) -> None:
    """The server answers while the client still sends: what was said and decided is the same."""
    commands = [
        *(b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<b@x>\r\n", b"RCPT TO:<c@x>\r\n", b"BDAT 5\r\nhelloBDAT 3 LAST\r\n\r\n."),
        *(b"MAIL FROM:<d@x>\r\n", b"RCPT TO:<e@x>\r\n", b"DATA\r\n.\r\n", b"NOOP\r\n"),
    ]
    replies = [b"250 1", b"250 2", b"550 3", b"250 4\r\n250 5", b"250 6", b"250 7", b"354 8\r\n250 9", b"250 10"]
    expected, whole = run(*HELLO, C(b"".join(commands)), S(b"\r\n".join([*replies, b""])))
    assert [event.envelope.mail_from for event in whole if isinstance(event, MessageAccepted)] == ["a@x", "d@x"]

    session, events = run(*HELLO)
    said = answered = 0
    while answered < len(replies):
        if said < len(commands) and (said == answered or data.draw(st.booleans())):
            events += session.feed(Side.CLIENT, commands[said])
            said += 1
        else:
            events += session.feed(Side.SERVER, replies[answered] + b"\r\n")
            answered += 1
    for kind in (CommandReceived, Replied, MessageAccepted, MessageEnd, TransactionStarted):
        assert [event for event in events if isinstance(event, kind)] == [
            event for event in whole if isinstance(event, kind)
        ]
    assert content(events) == content(whole)
    assert session.envelope == expected.envelope


FRAGMENTS = [
    b"EHLO x\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"DATA\r\n",
    b"BDAT 3\r\n",
    b"BDAT 2 LAST\r\n",
    b"abc",
    b"\r\n.\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN eA==\r\n",
    b"STARTTLS\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"XCLIENT A=b\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"220 hi\r\n",
    b"250 ok\r\n",
    b"250-a\r\n",
    b"354 go\r\n",
    b"334 \r\n",
    b"235 ok\r\n",
    b"421 bye\r\n",
    b"550 no\r\n",
    b"503 no\r\n",
]
TALK = st.lists(
    st.tuples(st.sampled_from(Side), st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20), st.none())),
    max_size=40,
)


@given(talk=TALK, normalize=st.booleans(), small=st.booleans())
@MANY
def test_nothing_a_peer_sends_raises(talk: list[tuple[Side, bytes | None]], normalize: bool, small: bool) -> None:
    limits = (
        Limits(
            command_line=16,
            auth_line=24,
            reply_line=12,
            reply_lines=2,
            recipients=1,
            message_size=4,
            pipeline_backlog=16,
            pipeline_commands=2,
        )
        if small
        else Limits()
    )
    session = Session(limits, bare_newline="normalize" if normalize else "reject")
    for side, data in talk:
        events = session.eof(side) if data is None else session.feed(side, data)
        assert session.backlog <= limits.pipeline_backlog
        assert session.unanswered <= limits.pipeline_commands
        for event in events:
            if isinstance(event, MessageEnd):
                assert event.truncated == (event.size > limits.message_size)
    session.eof(Side.CLIENT)
    session.eof(Side.SERVER)
    assert session.ended
    assert session.eof(Side.SERVER) == []

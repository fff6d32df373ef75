"""Whole conversations, one for each sentence of the protocol, and the means to play them in any cut.

A conversation is a list of steps in causal order: whoever speaks in a step knows all steps before. `C` and `S` are
what the client and the server send; `CE` and `SE` are their ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import settings

from netinspect.limits import Limits
from netinspect.smtp.events import Event, MessageData, Side
from netinspect.smtp.session import Session

MANY = settings(max_examples=6 * settings().max_examples)
"""For properties that cost little and are worth many examples."""

Step = tuple[Side, bytes | None]
Cut = Callable[[bytes], Iterable[bytes]]


def C(data: bytes) -> Step:
    """The client sends."""
    return (Side.CLIENT, data)


def S(data: bytes) -> Step:
    """The server sends."""
    return (Side.SERVER, data)


CE: Step = (Side.CLIENT, None)
SE: Step = (Side.SERVER, None)


@dataclass(frozen=True)
class Conversation:
    """One conversation; `cut_server` is false where the server's packets themselves carry meaning."""

    name: str
    steps: tuple[Step, ...]
    bare_newline: Literal["reject", "normalize"] = "reject"
    cut_server: bool = True
    limits: Limits = field(default_factory=Limits)


def whole(data: bytes) -> Iterable[bytes]:
    """One read a step."""
    return [data]


def bytewise(data: bytes) -> Iterable[bytes]:
    """One read an octet."""
    return [data[i : i + 1] for i in range(len(data))]


def play(conversation: Conversation, cut: Cut = whole) -> tuple[Session, list[Event]]:
    """Feed all steps, each cut by `cut`."""
    session = Session(conversation.limits, bare_newline=conversation.bare_newline)
    events: list[Event] = []
    for side, data in conversation.steps:
        if data is None:
            events += session.eof(side)
            continue
        pieces = whole(data) if side is Side.SERVER and not conversation.cut_server else cut(data)
        for piece in pieces:
            events += session.feed(side, piece)
    return session, events


def run(*steps: Step, **settings: object) -> tuple[Session, list[Event]]:
    """Play steps given one by one."""
    return play(replace(Conversation("", steps), **settings))  # type: ignore[arg-type]


def canonical(events: list[Event]) -> list[Event | bytes]:
    """All events in order, but a message's pieces joined into one and put before the event that ends the message."""
    result: list[Event | bytes] = []
    pieces: list[bytes] = []
    for event in events:
        if isinstance(event, MessageData):
            pieces.append(event.data)
            continue
        if type(event).__name__ in ("MessageEnd", "TransactionReset", "SessionEnded") and pieces:
            result.append(b"".join(pieces))
            pieces = []
        result.append(event)
    if pieces:
        result.append(b"".join(pieces))
    return result


def content(events: list[Event]) -> bytes:
    """All message octets."""
    return b"".join([event.data for event in events if isinstance(event, MessageData)])


def kinds(events: list[Event]) -> list[str]:
    """The names of the events; runs of MessageData count once."""
    names: list[str] = []
    for event in events:
        name = type(event).__name__
        if name != "MessageData" or names[-1:] != ["MessageData"]:
            names.append(name)
    return names


# --- the parts ------------------------------------------------------------------------------------------------------

GREETING = S(b"220 mx.example ESMTP\r\n")
EHLO = C(b"EHLO client.example\r\n")
EHLO_OK = S(
    b"250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 SIZE 1000000\r\n"
)
HELLO = (GREETING, EHLO, EHLO_OK)
MAIL = C(b"MAIL FROM:<a@example.org> SIZE=100 BODY=8BITMIME\r\n")
RCPT = C(b"RCPT TO:<b@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@example.com\r\n")
DATA = C(b"DATA\r\n")
OK = S(b"250 2.0.0 Ok\r\n")
GO = S(b"354 go\r\n")
NO = S(b"550 5.7.1 No\r\n")
BAD_SEQUENCE = S(b"503 5.5.1 Bad sequence\r\n")
QUIT = C(b"QUIT\r\n")
BYE = S(b"221 bye\r\n")
ENVELOPE = (*HELLO, MAIL, OK, RCPT, OK)
TO_DATA = (*ENVELOPE, DATA, GO)
BODY = b"Subject: x\r\n\r\n..one dot\r\n.\t.x\r\ntext\r\n"
GROUP = C(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\n")


def _smuggled(sequence: bytes) -> tuple[Step, ...]:
    inner = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nevil\r\n.\r\n"
    return (*TO_DATA, C(b"first" + sequence + inner), OK, QUIT, BYE)


SMUGGLING: dict[str, bytes] = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "LF.CR": b"\n.\r",
    "CRLF.LF": b"\r\n.\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF NUL .CRLF": b"\r\n\0.\r\n",
    "CRLF. NUL CRLF": b"\r\n.\0\r\n",
    "LF NUL . NUL LF": b"\n\0\0\0.\0\0\n",
    "CRLF. NUL .CRLF": b"\r\n.\0.\r\n",
}
"""What some server took for end-of-data, by the name it has in the anomaly."""

CONVERSATIONS: tuple[Conversation, ...] = (
    Conversation("one message", (*TO_DATA, C(BODY + b".\r\n"), OK, QUIT, BYE, CE, SE)),
    Conversation("empty message", (*TO_DATA, C(b".\r\n"), OK, QUIT, BYE)),
    Conversation("two messages", (*TO_DATA, C(BODY + b".\r\n"), OK, MAIL, OK, RCPT, OK, DATA, GO, C(b"x\r\n.\r\n"),
        NO)),
    Conversation("helo", (GREETING, C(b"HELO client\r\n"), OK, MAIL, OK, RCPT, NO, QUIT, BYE)),
    Conversation("ehlo refused, helo taken", (GREETING, EHLO, S(b"502 no\r\n"), C(b"helo client\r\n"), OK, QUIT,
        BYE)),
    Conversation("other commands", (*HELLO, C(b"NOOP\r\nVRFY a\r\nEXPN l\r\nHELP\r\nFOO bar\r\n"), S(
        b"250 ok\r\n252 maybe\r\n502 no\r\n214-help\r\n214 more\r\n500 what\r\n"), QUIT, BYE)),
    Conversation("pipelined, replies coalesced", (*HELLO, GROUP, S(b"250 a\r\n250 b\r\n550 c\r\n354 go\r\n"), C(
        BODY + b".\r\nMAIL FROM:<>\r\nRCPT TO:<d@example.com>\r\nDATA\r\n"),
        S(b"250 m\r\n250 a\r\n250 b\r\n354 go\r\n"),
        C(b"bounce\r\n.\r\nQUIT\r\n"), S(b"250 m\r\n221 bye\r\n"))),
    Conversation("body sent before 354", (*HELLO, MAIL, OK, RCPT, OK, C(b"DATA\r\n" + BODY + b".\r\nQUIT\r\n"), GO,
        OK, BYE)),
    Conversation("body sent before 354, DATA refused", (*HELLO, C(b"DATA\r\nQUIT\r\n.\r\n"), BAD_SEQUENCE, BYE)),
    Conversation("all recipients refused", (*HELLO, GROUP, S(b"250 a\r\n550 b\r\n550 c\r\n554 no\r\n"),
        C(b"RSET\r\n"), OK)),
    Conversation("rset accepted", (*ENVELOPE, C(b"RSET\r\n"), OK, MAIL, OK, QUIT, BYE)),
    Conversation("rset refused", (*ENVELOPE, C(b"RSET\r\n"), NO, DATA, GO, C(BODY + b".\r\n"), OK)),
    Conversation("ehlo in mid-envelope", (*ENVELOPE, EHLO, EHLO_OK, DATA, BAD_SEQUENCE, QUIT, BYE)),
    Conversation("ehlo in mid-envelope refused", (*ENVELOPE, EHLO, NO, DATA, GO, C(BODY + b".\r\n"), OK)),
    Conversation("second mail refused", (*ENVELOPE, C(b"MAIL FROM:<x@y>\r\n"), BAD_SEQUENCE, DATA, GO,
        C(b"\r\n.\r\n"), OK)),
    Conversation("second mail accepted", (*ENVELOPE, C(b"MAIL FROM:<x@y>\r\nRCPT TO:<z@y>\r\nDATA\r\n"), OK, OK,
        GO, C(b".\r\n"), OK)),
    Conversation("bdat", (*ENVELOPE, C(b"BDAT 7\r\nab\r\n.\r\nBDAT 3 LAST\r\nc\r\n"), OK, OK, QUIT, BYE)),
    Conversation("bdat 0 last", (*ENVELOPE, C(b"BDAT 5\r\nabc\r\nbdat 0 last\r\nNOOP\r\n"), OK, OK, OK, QUIT, BYE)),
    Conversation("bdat empty message", (*ENVELOPE, C(b"BDAT 0 LAST\r\n"), OK, QUIT, BYE)),
    Conversation("bdat, mail in the same segment", (*HELLO, C(
        b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 5 LAST\r\nQUIT\n"
        b"MAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n"),
        S(b"250 a\r\n250 b\r\n250 m\r\n250 c\r\n250 d\r\n550 m\r\n221 bye\r\n"))),
    Conversation("bdat without a transaction", (*HELLO, C(b"BDAT 6 LAST\r\nDATA\r\nNOOP\r\n"), BAD_SEQUENCE, OK,
        QUIT, BYE)),
    Conversation("bdat with malformed counts", (*ENVELOPE, C(
        b"BDAT -1\r\nBDAT abc\r\nBDAT 99999999999999999999\r\nBDAT\r\nBDAT 5 FIRST\r\nNOOP\r\n"), NO, NO, NO, NO,
        NO, OK)),
    Conversation("bdat over the size limit", (*ENVELOPE, C(b"BDAT 50 LAST\r\n" + b"x" * 50 + b"NOOP\r\n"), NO, OK),
                 limits=Limits(message_size=20)),
    Conversation("data over the size limit", (*TO_DATA, C(b"x" * 19 + b"\r\n..y\r\n.\r\nNOOP\r\n"), NO, OK),
                 limits=Limits(message_size=20)),
    Conversation("bdat reset in the middle", (*ENVELOPE,
        C(b"BDAT 4\r\nab\r\nRSET\r\nMAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nBDAT 2 LAST\r\nzz"),
                 OK, OK, OK, OK, OK, QUIT, BYE)),
    Conversation("bdat chunk refused", (*ENVELOPE, C(b"BDAT 4\r\nab\r\nBDAT 2 LAST\r\nzz"), NO, NO, QUIT, BYE)),
    Conversation("data after bdat", (*ENVELOPE, C(b"BDAT 4\r\nab\r\nDATA\r\n"), OK, GO, C(b"cd\r\n.\r\n"), OK)),
    Conversation("bdat with a bare line end over a chunk border", (*ENVELOPE, C(
        b"BDAT 3\r\nab\rBDAT 3\r\nc\r\rBDAT 4\r\n\n.\r\nBDAT 2 LAST\r\nx\n"), OK, OK, OK, OK)),
    Conversation("auth plain", (*HELLO, C(b"AUTH PLAIN AGEAc2VjcmV0\r\n"), S(b"235 ok\r\n"), MAIL, OK, QUIT, BYE)),
    Conversation("auth login", (*HELLO, C(b"auth LOGIN\r\n"), S(b"334 VXNlcg==\r\n"), C(b"dXNlcg==\r\n"), S(
        b"334 UGFzcw==\r\n"), C(b"c2VjcmV0\r\n"), S(b"235 ok\r\n"), QUIT, BYE)),
    Conversation("auth cancelled", (*HELLO, C(b"AUTH PLAIN\r\n"), S(b"334 \r\n"), C(b"*\r\nNOOP\r\n"),
        S(b"501 no\r\n"), OK)),
    Conversation("auth refused, credentials sent all the same", (*HELLO,
        C(b"AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n"), NO, NO, NO)),
    Conversation("starttls with injected commands", (*HELLO, C(b"STARTTLS\r\nMAIL FROM:<evil@x>\r\nRCPT"),
        S(b"220 go\r\n"),
                 EHLO, S(b"250-mx\r\n250 SIZE\r\n"), MAIL, OK)),
    Conversation("starttls refused", (*HELLO, C(b"STARTTLS\r\nNOOP\r\n"), S(b"454 later\r\n"), OK)),
    Conversation("starttls response injection", (*HELLO, C(b"STARTTLS\r\n"), S(b"220 go\r\n250 evil\r\n25"), EHLO,
        EHLO_OK),
                 cut_server=False),
    Conversation("421 out of the blue", (*HELLO, S(b"421 4.3.2 shutting down\r\n"), SE)),
    Conversation("421 in the middle of data", (*TO_DATA, C(b"abc\r\n"), S(b"421 timeout\r\n"), SE)),
    Conversation("final reply before the end of data", (*TO_DATA, C(b"abc\r\n"), S(b"552 too big\r\n"),
        C(b"d\r\n.\r\n"), QUIT, BYE)),
    Conversation("a server that takes LF.LF for the end", (GREETING, C(b"HELO x\n"), OK, C(b"MAIL FROM:<a@x>\n"), OK,
        C(b"RCPT TO:<b@x>\n"), OK, C(b"DATA\n"), GO, C(b"text\n.\n"), OK, C(b"QUIT\n"), BYE)),
    Conversation("client gone in the middle of data", (*TO_DATA, C(b"abc\r\n.\r"), CE, SE)),
    Conversation("client gone behind its message", (*TO_DATA, C(b"abc\r\n.\r\nQUIT\r\n"), CE, OK, BYE, SE)),
    Conversation("client gone in the envelope", (*ENVELOPE, CE)),
    Conversation("server gone before the final reply", (*TO_DATA, C(b"abc\r\n.\r\n"), SE)),
    Conversation("server gone behind pipelined bdat", (*HELLO,
        C(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 1 LAST\r\nx"), SE)),
    Conversation("greeting refuses", (S(b"554-no\r\n554 service\r\n"), QUIT, BYE)),
    Conversation("early talker", (EHLO, GREETING, EHLO_OK, QUIT, BYE)),
    Conversation("capture from the middle", (C(b"RCPT TO:<b@x>\r\n"), OK, DATA, GO, C(b"x\r\n.\r\n"), OK)),
    Conversation("malformed replies", (*HELLO, C(b"NOOP\r\nNOOP\r\nNOOP\r\n"), S(
        b"what\r\n250 ok\n250-a\r\n251 b\r\n250-x\r\nnoise\r\n250 y\r\n999 z\r\n199 z\r\n25\r\n2500 q\r\n\r\n"),
        QUIT, BYE)),
    Conversation("too long replies", (*HELLO, C(b"NOOP\r\nNOOP\r\n"), S(
        b"250 " + b"x" * 100 + b"\r\n" + b"250-r\r\n" * 9 + b"250 end\r\n"), QUIT, BYE),
        limits=Limits(reply_line=64, reply_lines=8)),
    Conversation("malformed commands", (*HELLO, C(
        b"\r\nNOOP\nRSET\r\r\nNO\0OP\r\nNOOP "
        + b"x" * 100 + b"\r\n MAIL FROM:<a@x>\r\n\xff\xfe\r\n<>\r\nDATA now\r\n"),
        *[S(b"500 what\r\n")] * 9, QUIT, BYE), limits=Limits(command_line=64, auth_line=80)),
    Conversation("bare newline commands normalised", (*HELLO, C(b"MAIL FROM:<a@x>\nRCPT TO:<b@x>\nDATA\n"), OK, OK,
        GO, C(b".\r\n"), OK),
                 bare_newline="normalize"),
    Conversation("too many unanswered commands", (*HELLO, C(b"NOOP\r\n" * 11 + b"QUIT\r\n"), *[OK] * 11, BYE),
                 limits=Limits(pipeline_commands=4)),
    Conversation("one command at a time", (*HELLO, C(
        b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 3\r\nabcBDAT 1 LAST\r\ndRSET\r\nQUIT\r\n"), *[OK] * 5, BYE),
        limits=Limits(pipeline_commands=1)),
    Conversation("backlog exceeded", (*ENVELOPE, C(b"DATA\r\n" + b"x" * 40), GO, C(b"\r\n.\r\n"), CE, SE),
                 limits=Limits(pipeline_backlog=32)),
    Conversation("too many recipients", (*HELLO, MAIL, OK, C(b"RCPT TO:<b@x>\r\n" * 5), OK, OK, OK, OK, OK),
                 limits=Limits(recipients=2)),
    Conversation("bare line ends and NUL in the body", (*TO_DATA, C(b"a\r\nb\nc\rd\0e\r\r\n\n\r\r\n.\r\n"), OK)),
    Conversation("bare line ends normalised", (*TO_DATA,
        C(b"a\r\nb\nc\rd\r\r\n\n.e\n..f\n.\n\r.\r\n\r.\r\r\n.\r\n"), OK),
                 bare_newline="normalize"),
    *[Conversation("smuggling " + name, _smuggled(octets)) for name, octets in SMUGGLING.items()],
    *[Conversation("normalised " + name, _smuggled(octets), bare_newline="normalize") for name,
        octets in SMUGGLING.items()],
)  # fmt: skip

"""What is fuzzed: functions that take any octets and end without an exception, and what has to hold then.

A malformed input is a value (docs/contributing.md), so whatever one of these raises is a fault of ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from netinspect.files.tnef import SIGNATURE, TnefError, members
from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser
from netinspect.mime.embedded import embedded_files
from netinspect.mime.headers import Headers
from netinspect.mime.names import other_names
from netinspect.mime.readings import other_readings
from netinspect.smtp.events import MessageData, Side
from netinspect.smtp.session import Session
from netinspect.spool import Spool, SpoolBudget
from tests.fuzz import cleaners, links, replaying, seeds, unpackers

LIMITS: Final = Limits()
TIGHT: Final = replace(
    LIMITS, header_bytes=200, header_count=4, mime_depth=4, mime_parts=6, mime_readings=3, name_length=16,
    command_line=64, auth_line=64, reply_line=64, reply_lines=3, recipients=2, pipeline_backlog=64, pipeline_commands=3,
)  # fmt: skip


def mime(data: bytes) -> None:
    """The MIME parser and the other readings. The first octet says how the message is cut, and the limits."""
    if not data:
        return
    limits = TIGHT if data[0] & 1 else LIMITS
    raw = data[1:]
    whole = _leaves(raw, len(raw) or 1, limits)
    if len(raw) < 4096:
        assert whole == _leaves(raw, data[0] // 2 + 1, limits), "the cuts changed the leaves"


def _leaves(raw: bytes, size: int, limits: Limits) -> list[tuple[str, str, str, tuple[str, ...]]]:
    budget = SpoolBudget(limits.spool_memory_total)
    message = Spool(limits, budget)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    leaves: list[Leaf] = []
    for at in range(0, len(raw), size):
        message.write(raw[at : at + size])
        leaves += parser.feed(raw[at : at + size])
    leaves += parser.close()
    leaves += other_readings(parser, leaves, message)
    assert parser.mail is not None
    paths = [leaf.path for leaf in leaves]
    assert len(paths) == len(set(paths)), "two leaves at one path"
    for leaf in leaves:
        assert hashlib.sha256(leaf.content.getvalue()).hexdigest() == leaf.sha256
        assert leaf.undecoded == bool(leaf.why)
    found = [(leaf.path, leaf.sha256, leaf.name, leaf.why) for leaf in leaves]
    for leaf in leaves:
        leaf.content.close()
    message.close()
    assert budget.used == 0, "memory was not given back"
    return found


def smtp(data: bytes) -> None:
    """The SMTP core. Each piece has an octet in front: its length, and in the highest bit whose it is."""
    for limits, newline in ((LIMITS, "reject"), (TIGHT, "normalize")):
        session = Session(limits, bare_newline="reject" if newline == "reject" else "normalize")
        sent = told = at = 0
        while at < len(data):
            side = Side.SERVER if data[at] & 0x80 else Side.CLIENT
            piece = data[at + 1 : at + 1 + (data[at] & 0x7F)]
            at += 1 + (data[at] & 0x7F)
            sent += len(piece) if side is Side.CLIENT else 0
            told += sum(len(event.data) for event in session.feed(side, piece) if isinstance(event, MessageData))
            assert session.backlog <= limits.pipeline_backlog + 0x7F
            _ = session.phase, session.envelope, session.waiting, session.unanswered, session.recipients
        for side in (Side.CLIENT, Side.SERVER):
            told += sum(len(event.data) for event in session.eof(side) if isinstance(event, MessageData))
        # A line end may be put in where the last line had none, and two octets stand for one when they are normalised.
        assert told <= 2 * sent + 2, "more was told than sent"


def tnef(data: bytes) -> None:
    """TNEF, its signature put in front."""
    try:
        for name, content in members(SIGNATURE + data):
            assert isinstance(name, str)
            assert len(content) <= 4_194_304 or len(content) <= len(data)
    except TnefError:
        pass


def text(data: bytes) -> None:
    """Files in texts, and names in fields."""
    for file in embedded_files(data, 10_000):
        assert len(file.data) <= 10_000 or not file.over
    headers = Headers()
    for number, field in enumerate(data.split(b"\n\n")[:4]):
        headers.add(("Content-Type", "Content-Disposition")[number % 2], field)
    other_names(headers, "a.txt", 64)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "mime": mime, "smtp": smtp, "tnef": tnef, "text": text, **unpackers.TARGETS, **cleaners.TARGETS,
    **links.TARGETS, **replaying.TARGETS,
}  # fmt: skip


def conversation(*pieces: tuple[Side, bytes]) -> bytes:
    """A seed for `smtp`."""
    out = b""
    for side, data in pieces:
        for at in range(0, len(data), 0x7F):
            part = data[at : at + 0x7F]
            out += bytes((len(part) | (0x80 if side is Side.SERVER else 0),)) + part
    return out


_MAIL: Final = (
    b"From: =?utf-8?q?a?= <a@example.org>\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"; boundary=c\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogcw0KDQpoaQ==\r\n--b\r\nContent-Type: a/b; name*0=x;\r\n"
    b" name*1*=y%20z\r\nContent-Disposition: attachment; filename=\"file\".zip\r\nContent-Transfer-Encoding:"
    b" quoted-printable (c)\r\n\r\na=3Db=0X=\r\n--b\r\n\r\nbegin 644 f\r\n#86)C\r\n`\r\nend\r\n--b--\r\nafter\r\n"
)
_HELLO: Final = (
    (Side.SERVER, b"220 mx ESMTP\r\n"), (Side.CLIENT, b"EHLO c\r\n"),
    (Side.SERVER, b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"),
    (Side.CLIENT, b"MAIL FROM:<a@b> SIZE=9\r\nRCPT TO:<c@d>\r\n"), (Side.SERVER, b"250 ok\r\n250 ok\r\n"),
)  # fmt: skip
SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "mime": (b"\x08" + _MAIL, b"\x09" + _MAIL, b"\x02" + _MAIL.replace(b"\r\n", b"\n"),
             *(b"\x40" + mail for mail in seeds.mails())),
    "smtp": (
        conversation(*_HELLO, (Side.CLIENT, b"DATA\r\n"), (Side.SERVER, b"354 go\r\n"),
                     (Side.CLIENT, b"Subject: s\r\n\r\n..x\r\n\n.\r\n\r\n.\r\nQUIT\r\n"),
                     (Side.SERVER, b"250 ok\r\n221 bye\r\n")),
        conversation(*_HELLO, (Side.CLIENT, b"BDAT 5\r\nhelloBDAT 3 LAST\r\nabc"),
                     (Side.SERVER, b"250 a\r\n250 b\r\n")),
        conversation(*_HELLO[:3], (Side.CLIENT, b"AUTH PLAIN\r\n"), (Side.SERVER, b"334 \r\n"),
                     (Side.CLIENT, b"eA==\r\n"), (Side.SERVER, b"235 ok\r\n"),
                     (Side.CLIENT, b"STARTTLS\r\n"), (Side.SERVER, b"220 go\r\n")),
    ),
    "tnef": seeds.winmail(),
    "text": (b"=ybegin line=128 size=2 name=x\r\nab\r\n=yend size=2\r\nbegin-base64 644 x\nQQ==\n====\n"
             b"(converted with BinHex 4.0)\r\n:\"@9dFf&b3'9KBQ:\r\n",),
    **unpackers.SEEDS,
    **cleaners.SEEDS,
    **links.SEEDS,
    **replaying.SEEDS,
}  # fmt: skip

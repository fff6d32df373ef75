"""Mail behind TLS: from frames to records, with the secrets and without."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netinspect.assembly import inspector_of
from netinspect.replay.engine import Replay
from netinspect.replay.flows import FlowTable
from netinspect.replay.keylog import KeyLog
from netinspect.replay.links import Dissector
from netinspect.smtp.events import Side
from tests.replay.captures import mail, settings
from tests.replay.make import Talk, batch, frames
from tests.replay.tls_talk import Wire, contexts

MAIL = mail(7, subject="behind TLS", attachment=bytes(range(256)) * 100)
INSIDE = (
    (Side.CLIENT, b"EHLO client.example.org\r\n"),
    (Side.SERVER, b"250-mx.example.com\r\n250 PIPELINING\r\n"),
    (Side.CLIENT, b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"),
    (Side.SERVER, b"250 Ok\r\n250 Ok\r\n354 go on\r\n"),
    (Side.CLIENT, MAIL + b".\r\n"),
    (Side.SERVER, b"250 2.0.0 queued\r\n"),
    (Side.CLIENT, b"QUIT\r\n"),
    (Side.SERVER, b"221 bye\r\n"),
)


def session(folder: Path, version: ssl.TLSVersion, *, port: int) -> Talk:
    """A mail over STARTTLS, or over TLS from the first octet on (465)."""
    wire = Wire(*contexts(folder, version)).handshake()
    if port == 465:
        wire.say(Side.SERVER, b"220 mx.example.com ESMTP\r\n")
    for side, octets in INSIDE:
        wire.say(side, octets)
    wire.close(Side.CLIENT)
    talk = Talk(server_address=("198.51.100.25", port)).open()
    if port != 465:
        talk.server(b"220 mx.example.com ESMTP\r\n").client(b"EHLO client.example.org\r\n")
        talk.server(b"250-mx.example.com\r\n250 STARTTLS\r\n").client(b"STARTTLS\r\n").server(b"220 go on\r\n")
    for side, octets in wire.octets:
        (talk.client if side is Side.CLIENT else talk.server)(octets)
    return talk.close()


def judged(folder: Path, talk: Talk, keys: KeyLog | None) -> list[dict[str, Any]]:
    """The records of a capture."""
    made: list[dict[str, Any]] = []

    async def run() -> None:
        inspector = inspector_of(settings(folder))
        await inspector.panel.start()
        try:
            replay = Replay(inspector, lambda flow: "external", lambda one: made.extend(one.records), "it", keys=keys)
            table = FlowTable(Dissector().dissect)
            table.feed(batch(frames(talk.segments)))
            replay.take(table)
            table.finish()
            replay.take(table)
            await replay.drain(0)
        finally:
            await inspector.panel.close()

    asyncio.run(run())
    return made


def mails(records: list[dict[str, Any]]) -> list[str]:
    return [one["email"].get("subject", "") for one in records if one["event_type"] == "smtp" and "email" in one]


def verdicts(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["verdict"] for one in records if one["event_type"] == "verdict"]


@pytest.mark.parametrize("port", [25, 465, 587])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_with_the_keys_the_mail_is_judged(tmp_path: Path, version: ssl.TLSVersion, port: int) -> None:
    talk = session(tmp_path, version, port=port)
    records = judged(tmp_path, talk, KeyLog.load(str(tmp_path / "keys")))
    assert mails(records) == ["behind TLS"]
    assert [(one["action"], one["unscanned"]) for one in verdicts(records)] == [("accept", [])]
    smtp = next(one["smtp"] for one in records if one["event_type"] == "smtp")
    assert (smtp["helo"], smtp["mail_from"]) == ("client.example.org", "<a@example.org>")
    assert smtp.get("tls", True)


@pytest.mark.parametrize("port", [25, 465])
@pytest.mark.parametrize("keys", [None, KeyLog()])
def test_without_them_it_is_on_record_as_encrypted(tmp_path: Path, port: int, keys: KeyLog | None) -> None:
    records = judged(tmp_path, session(tmp_path, ssl.TLSVersion.TLSv1_3, port=port), keys)
    assert mails(records) == []
    assert ["encrypted" in str(one["unscanned"]) for one in verdicts(records)] == [True]


def test_a_hole_behind_tls_is_never_clean(tmp_path: Path) -> None:
    talk = session(tmp_path, ssl.TLSVersion.TLSv1_3, port=25)
    keys = KeyLog.load(str(tmp_path / "keys"))
    message = [number for number, one in enumerate(talk.segments) if len(one.payload) == 1460]
    for number in message[::5]:
        lossy = replace(talk, segments=talk.segments[:number] + talk.segments[number + 1 :])
        said = verdicts(judged(tmp_path, lossy, keys))
        assert said
        assert all(one["unscanned"] for one in said)

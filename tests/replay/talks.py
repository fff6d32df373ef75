"""Turns of a connection straight into a `Conversation`, without packets; and what goes on record of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.inspector import Inspector
from netinspect.policy.facts import Zone
from netinspect.replay.engine import Outcome, Replay
from netinspect.replay.flows import FlowTable
from netinspect.replay.tcp import Flow, Gap, Piece
from netinspect.replay.verdict import STANDARD, Terms
from netinspect.smtp.events import Side
from tests.replay.captures import settings

C, S = Side.CLIENT, Side.SERVER
Turn: TypeAlias = tuple[Side, Sequence[Piece]]
Record: TypeAlias = dict[str, Any]


def client(*pieces: bytes | int) -> Turn:
    """What the client says; a number is a gap of so many octets."""
    return C, [Gap(one) if isinstance(one, int) else one for one in pieces]


def server(*pieces: bytes | int) -> Turn:
    return S, [Gap(one) if isinstance(one, int) else one for one in pieces]


HELLO = [server(b"220 mx\r\n"), client(b"EHLO c.example.org\r\n"), server(b"250-mx\r\n250 PIPELINING\r\n")]
ENVELOPE = [
    client(b"MAIL FROM:<a@example.org>\r\n"), server(b"250 Ok\r\n"),
    client(b"RCPT TO:<b@example.com>\r\n"), server(b"250 Ok\r\n"),
]  # fmt: skip
DATA = [client(b"DATA\r\n"), server(b"354 go on\r\n")]
START = [*HELLO, *ENVELOPE, *DATA]
QUIT = [client(b"QUIT\r\n"), server(b"221 bye\r\n")]
TAKEN = server(b"250 2.0.0 queued\r\n")
MAIL = b"Subject: one\r\n\r\nhello\r\n"


def mail(subject: str = "one", body: str = "hello") -> bytes:
    return f"From: a@example.org\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


def replay(
    *flows: Sequence[Turn],
    closed: bool = True,
    syn: bool = True,
    terms: Terms = STANDARD,
    zone: Zone = "external",
    configuration: Settings | None = None,
) -> list[Record]:
    """The records of connections that said this, one after the other."""
    made: list[Record] = []

    def take(outcome: Outcome) -> None:
        made.extend(outcome.records)

    async def run(inspector: Inspector) -> None:
        await inspector.panel.start()
        try:
            engine = Replay(inspector, lambda flow: zone, take, "it.pcap", terms=terms)
            table = FlowTable(lambda frame: None)
            number = 0
            for index, turns in enumerate(flows):
                flow = Flow(number + 1, table.dirty)
                flow.addresses = ("192.0.2.1", 40000 + index, "198.51.100.25", 25)
                flow.client.syn = flow.server.syn = syn
                flow.closing = closed
                for side, pieces in turns:
                    number += 1
                    flow.number = table.frames = number
                    flow.turns.append((side, list(pieces), number * 1_000_000, number))
                table.dirty.append(flow)
                engine.take(table)
                await engine.drain()
                table.ended.append(flow)
            engine.take(table)
            await engine.drain(0)
        finally:
            await inspector.panel.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(inspector_of(configuration or settings(Path(folder)))))
    return made


def of(records: list[Record], kind: str) -> list[Any]:
    """The inner objects of one event type."""
    return [one[kind] for one in records if one["event_type"] == kind]


def subjects(records: list[Record]) -> list[str]:
    """One for each mail on record."""
    return [one["email"].get("subject", "") for one in records if one["event_type"] == "smtp" and "email" in one]


def actions(records: list[Record]) -> list[str]:
    return [one["action"] for one in of(records, "verdict")]


def unscanned(records: list[Record]) -> list[list[str]]:
    return [one["unscanned"] for one in of(records, "verdict")]


def anomalies(records: list[Record]) -> set[str]:
    return {one["event"] for one in of(records, "anomaly")}

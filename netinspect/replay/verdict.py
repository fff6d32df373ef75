"""What a conversation comes to: verdicts, and what they are made of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final, Literal

from netinspect.anomaly import Anomaly
from netinspect.config import Settings
from netinspect.inspector import Inspection, Judgement, flow_id_of
from netinspect.policy.facts import Facts, SessionFacts, Zone
from netinspect.scan.contract import Unscanned
from netinspect.smtp.events import Command, Envelope, MessageEnd, Reply

ENGINE: Final = "replay"
GAP: Final = Unscanned(ENGINE, "gap")
ENCRYPTED: Final = Unscanned(ENGINE, "encrypted")
UNKNOWN: Final = Unscanned(ENGINE, "replies missing")
COPIES: Final = Unscanned(ENGINE, "copies differ")


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the gateway's settings changes a judgement."""

    bare_newline: Literal["reject", "normalize"] = "reject"

    @classmethod
    def of(cls, settings: Settings) -> Terms:
        """The terms of a gateway with these settings."""
        return cls(settings.gateway.bare_newline)


STANDARD: Final = Terms()
"""Those of a gateway whose settings say nothing about it."""


@dataclass(slots=True)
class Verdict:
    """One transaction, or one session that has something to be said about: what goes on record.

    `judgement` may still be under way. `number` is the frame that completed it, `first` the first one of its
    connection: the order of the records. `bare`: nothing is decided, there are malformations to be told.
    """

    first: int
    number: int
    time: int
    tx_id: int
    judgement: asyncio.Future[Judgement]
    reply: str = ""
    gaps: int = 0
    inspection: Inspection | None = None
    """Whoever has written the record closes it."""
    bare: bool = False


@dataclass(slots=True)
class Refused:
    """A session that the policy refuses for what it said."""

    judgement: Judgement
    command: Command | None
    given: bool = False
    kept_out: bool = False
    """The server refused it, too."""


@dataclass(slots=True, eq=False)
class Message:
    """A message on its way."""

    inspection: Inspection
    envelope: Envelope
    chunked: bool
    refused: Refused | None
    """What its session was refused for before it began."""
    end: MessageEnd | None = None
    anomalies: tuple[Anomaly, ...] = ()
    missing: int = 0
    hole: bool = False
    mixed: bool = False
    """Copies of its octets differ, and not all readings are judged."""


@dataclass(slots=True)
class Errors:
    """What the gateway would count."""

    count: int = 0
    last_word: str = ""
    at: int = -1
    """Transactions there had been when the last word came."""


def session_facts(zone: Zone, addresses: tuple[str, int, str, int]) -> SessionFacts:
    """What is known before anything was said. `addresses` are the client's and the server's."""
    client, client_port, server, server_port = addresses
    return SessionFacts(
        zone, client, client_port, server, server_port, flow_id_of((client, client_port), (server, server_port))
    )


def with_more(facts: Facts, hole: bool, anomalies: tuple[Anomaly, ...]) -> Facts:
    """The facts with what was wrong below SMTP; `hole`: not all octets were there."""
    return replace(
        facts,
        unscanned=(*facts.unscanned, GAP) if hole else facts.unscanned,
        anomalies=(*facts.anomalies, *anomalies),
    )


def done(judgement: Judgement) -> asyncio.Future[Judgement]:
    """A judgement that waits for nothing."""
    future: asyncio.Future[Judgement] = asyncio.get_running_loop().create_future()
    future.set_result(judgement)
    return future


def text_of(reply: Reply | None) -> str:
    """The reply as one line for the record."""
    return reply.raw.decode("utf-8", "replace").strip().replace("\r\n", " | ") if reply else ""

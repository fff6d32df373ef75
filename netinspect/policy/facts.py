"""All that the policy may look at, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.files.artifact import Artifact
from netinspect.scan.contract import Finding, Unscanned

Zone = Literal["external", "internal"]


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Who is talking to whom. Addresses are textual, ports are integers."""

    zone: Zone
    src_ip: str
    src_port: int
    dest_ip: str
    dest_port: int
    flow_id: int = 0
    helo: str = ""
    authenticated: bool = False
    tls: bool = False


@dataclass(frozen=True, slots=True)
class EnvelopeFacts:
    """The transaction."""

    mail_from: str = ""
    recipients: tuple[str, ...] = ()
    size: int = 0
    smuggling: bool = False


@dataclass(frozen=True, slots=True)
class MailFacts:
    """The header of the message as a reader would see it."""

    from_: str = ""
    to: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything about one transaction."""

    session: SessionFacts
    envelope: EnvelopeFacts = EnvelopeFacts()
    mail: MailFacts | None = None
    artifacts: tuple[Artifact, ...] = ()
    findings: tuple[Finding, ...] = ()
    unscanned: tuple[Unscanned, ...] = ()
    anomalies: tuple[Anomaly, ...] = field(default=())

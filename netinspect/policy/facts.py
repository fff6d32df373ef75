"""All that the policy may look at, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.files.artifact import Artifact
from netinspect.policy.coverage import Coverage
from netinspect.scan.contract import EngineState, Finding, Unscanned

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
    headers: tuple[tuple[str, bytes], ...] = ()
    """The fields of the message's header in their order: names as they came, values raw with their folds. Bounded by
    `header_bytes` and `header_count`; nobody decodes them before a rule asks."""
    coverage: Coverage | None = None
    """How much was looked at; `None` where there is no message."""
    engines: tuple[EngineState, ...] = ()
    """The engines that looked."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found (severity 3 is information) in a message that was wholly covered."""
        return (
            self.coverage is not None
            and self.coverage.complete
            and not self.unscanned
            and all(finding.severity == 3 for finding in self.findings)
        )

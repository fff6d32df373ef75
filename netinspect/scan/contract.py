"""What an engine gives. No answer is never "clean": it is `Unscanned` with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.files.artifact import Artifact

Category = Literal[
    "malware", "macro", "macro-autoexec", "macro-suspicious", "macro-replication", "xlm-macro", "dde",
    "embedded-object", "external-template", "encrypted", "archive-limit", "disguised-type", "banned-type", "exploit",
    "ambiguous-mime", "smuggling", "spoof", "lookalike", "authentication", "outbreak",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `severity` 1 is the highest, 3 is information. `sha256`: of the artifact, "" for the session."""

    engine: str
    signature: str
    category: Category
    severity: Literal[1, 2, 3]
    sha256: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unscanned:
    """An engine could not look, or not at all of it. `reason` is a short stable phrase (`clamd: timeout`)."""

    engine: str
    reason: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A content that a password opened, for an engine that sees only what it was closed in. `data` None: too much."""

    sha256: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Examination:
    """All that is known of one content: artifacts (itself first), what was found, what could not be looked at.

    `opened` is on its way from the workers to clamd and is empty in what the panel gives.
    """

    artifacts: tuple[Artifact, ...] = ()
    findings: tuple[Finding, ...] = ()
    unscanned: tuple[Unscanned, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    opened: tuple[Opened, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineState:
    """An engine that is on, as it stands on record.

    `signatures` names the version of what it looks for (clamd: number of the daily database), `signature_age` is the
    age of that in days. `None` where an engine has no such thing or does not say.
    """

    name: str
    version: str = ""
    signatures: str = ""
    signature_age: int | None = None

"""The records of one transaction, read back into what the page shows of it.

A report can be made of records alone (also of those in a file that somebody else may have written), so nothing here
trusts their shape: what is not of the type that docs/records.md names counts as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

ARTIFACTS: Final = 60
"""Shown of one mail; an archive has up to 10,000 members (limits.archive_members). The events have all."""
LINES: Final = 25
"""Shown of one mail and kind: findings, anomalies, reasons, recipients."""

ACTIONS: Final = ("accept", "tag", "disarm", "quarantine", "tempfail", "reject", "drop")
STOPPED: Final = frozenset(("quarantine", "tempfail", "reject", "drop"))
"""Actions after which the recipient does not have the mail."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding. `severity` 1 is the highest, 3 is information."""

    category: str
    signature: str
    engine: str
    severity: int
    sha256: str
    detail: str


@dataclass(slots=True)
class Node:
    """An artifact with what was found in it and what it holds."""

    path: str
    name: str
    magic: str
    size: int
    sha256: str
    truncated: bool
    alerts: list[Alert] = field(default_factory=list)
    skipped: str = ""
    removed: str = ""
    children: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mail:
    """One verdict. Times are milliseconds since 1970, UTC."""

    capture: str = ""
    time: int = 0
    tx_id: int = 0
    flow: str = ""
    client: str = ""
    client_port: int = 0
    server: str = ""
    server_port: int = 0
    helo: str = ""
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    message: bool = False
    from_: str = ""
    to: list[str] = field(default_factory=list)
    subject: str = ""
    message_id: str = ""
    action: str = ""
    zone: str = ""
    reply: str = ""
    reason: str = ""
    rules: list[str] = field(default_factory=list)
    incident: str = ""
    unscanned: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    coverage: dict[str, int] = field(default_factory=dict)
    engines: list[tuple[str, str]] = field(default_factory=list)
    gaps: int = 0
    reading: str = ""
    other: str = ""
    """What another policy says of it, where that is something else (`replay --policy`)."""
    alerts: list[Alert] = field(default_factory=list)
    anomalies: list[tuple[str, str, int, str]] = field(default_factory=list)
    crypto: list[str] = field(default_factory=list)
    artifacts: list[Node] = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        return self.action in STOPPED

    @property
    def unseen(self) -> list[str]:
        """Why not all of it was looked at, each reason once; `[]` where all was."""
        return list(dict.fromkeys([*self.unscanned, *(reason for _, reason in self.skipped)]))

    @property
    def worst(self) -> int:
        """Severity of the gravest finding; 4 where there is none."""
        return min((alert.severity for alert in self.alerts), default=4)

    @property
    def marks(self) -> list[tuple[str, int]]:
        """Each category of findings once with its gravest severity, the gravest first."""
        worst: dict[str, int] = {}
        for alert in self.alerts:
            worst[alert.category] = min(alert.severity, worst.get(alert.category, 3))
        return sorted(worst.items(), key=lambda item: (item[1], item[0]))

    @property
    def interest(self) -> int:
        """How much somebody who reads the report wants to see it: where not all fit, the lowest go first."""
        if self.stopped or self.worst < 3:
            return 3
        if self.unscanned or self.skipped or self.other or self.action not in ("accept", ""):
            return 2
        return 1 if self.alerts or self.anomalies else 0


def read(records: Iterable[Mapping[str, Any]], capture: str = "") -> Mail:
    """Digest the records of one transaction."""
    mail = Mail(capture=capture)
    for number, record in enumerate(records):
        if number == 0:
            _connection(mail, record)
        handler = _HANDLERS.get(_text(record.get("event_type")))
        if handler is not None:
            handler(mail, record)
    return mail


def capture_anomalies(records: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """What is malformed in a capture itself; `None` where the records are those of a connection."""
    found: list[str] = []
    for record in records:
        anomaly = _object(record.get("anomaly"))
        if "src_ip" in record or anomaly.get("layer") != "capture":
            return None
        found.append(f"{_text(anomaly.get('event')).replace('_', ' ')} {_text(anomaly.get('detail'))}".rstrip())
    return found


def tree(mail: Mail) -> tuple[list[Node], list[Alert]]:
    """Give the first `ARTIFACTS`, each below what holds it, and the findings about none of them.

    A member's path begins with that of its container and a `/`, but names of members have slashes too: the nearest
    container is the longest such path that is an artifact's.
    """
    roots: list[Node] = []
    shown = mail.artifacts[:ARTIFACTS]
    by_path: dict[str, Node] = {}
    by_hash: dict[str, list[Node]] = {}
    for node in shown:
        above = _container(node.path, by_path)
        (roots if above is None else above.children).append(node)
        by_path.setdefault(node.path, node)
        by_hash.setdefault(node.sha256, []).append(node)
    for path, reason in mail.skipped:
        if path in by_path:
            by_path[path].skipped = reason
    loose: list[Alert] = []
    for alert in sorted(mail.alerts, key=lambda one: one.severity):
        places = by_hash.get(alert.sha256, []) if alert.sha256 else []
        for node in places:
            if len(node.alerts) < LINES:
                node.alerts.append(alert)
        if not places:
            loose.append(alert)
    return roots, loose


def _container(path: str, by_path: Mapping[str, Node]) -> Node | None:
    above = path
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in by_path:
            return by_path[above]
    return None


# --- one kind of record each ------------------------------------------------------------------------------------------


def _connection(mail: Mail, record: Mapping[str, Any]) -> None:
    mail.capture = _text(record.get("pcap_filename")) or _text(record.get("file")) or mail.capture
    mail.time = _milliseconds(_text(record.get("timestamp")))
    mail.tx_id = _number(record.get("tx_id"))
    mail.flow = str(record.get("flow_id", ""))[:40]
    mail.client, mail.client_port = _text(record.get("src_ip")), _number(record.get("src_port"))
    mail.server, mail.server_port = _text(record.get("dest_ip")), _number(record.get("dest_port"))
    mail.reading = _text(record.get("tcp_reading"))


def _smtp(mail: Mail, record: Mapping[str, Any]) -> None:
    smtp = _object(record.get("smtp"))
    mail.helo = _text(smtp.get("helo"))
    if "mail_from" in smtp:
        mail.sender = _text(smtp.get("mail_from"))
    mail.recipients = _texts(smtp.get("rcpt_to"))
    if "email" not in record:
        return
    email = _object(record.get("email"))
    mail.message = True
    mail.from_, mail.to = _text(email.get("from")), _texts(email.get("to"))
    mail.subject, mail.message_id = _text(email.get("subject")), _text(email.get("message_id"))


def _fileinfo(mail: Mail, record: Mapping[str, Any]) -> None:
    info = _object(record.get("fileinfo"))
    mail.artifacts.append(
        Node(
            _text(info.get("path")),
            _text(info.get("filename")),
            _text(info.get("magic")),
            _number(info.get("size")),
            _text(info.get("sha256")),
            info.get("state") == "TRUNCATED",
        )
    )


def _alert(mail: Mail, record: Mapping[str, Any]) -> None:
    alert = _object(record.get("alert"))
    severity = _number(alert.get("severity"))
    mail.alerts.append(
        Alert(
            _text(alert.get("category")),
            _text(alert.get("signature")),
            _text(alert.get("engine")),
            severity if severity in (1, 2, 3) else 1,
            _text(record.get("sha256")),
            _text(alert.get("detail")),
        )
    )


def _anomaly(mail: Mail, record: Mapping[str, Any]) -> None:
    anomaly = _object(record.get("anomaly"))
    mail.anomalies.append(
        (
            _text(anomaly.get("event")),
            _text(anomaly.get("layer")),
            _number(anomaly.get("offset")),
            _text(anomaly.get("detail")),
        )
    )


def _crypto(mail: Mail, record: Mapping[str, Any]) -> None:
    crypto = _object(record.get("crypto"))
    words = [_text(crypto.get("scheme")) or "protected"]
    words += [word for word in ("encrypted", "signed") if crypto.get(word) is True]
    if signature := _text(crypto.get("signature")):
        words.append(f"signature {signature}")
    mail.crypto.append(" ".join(words))


def _verdict(mail: Mail, record: Mapping[str, Any]) -> None:
    verdict = _object(record.get("verdict"))
    mail.action, mail.zone = _text(verdict.get("action")), _text(verdict.get("zone"))
    mail.reply, mail.reason = _text(verdict.get("reply")), _text(verdict.get("reason"))
    mail.rules, mail.incident = _texts(verdict.get("rules")), _text(verdict.get("incident_id"))
    mail.unscanned, mail.gaps = _texts(verdict.get("unscanned")), _number(verdict.get("gaps"))
    coverage = _object(verdict.get("coverage"))
    mail.coverage = {key: value for key, value in coverage.items() if isinstance(value, int) and value >= 0}
    mail.skipped = [
        (_text(one.get("path")), _text(one.get("reason"))) for one in map(_object, _list(coverage.get("skipped")))
    ]
    for engine in map(_object, _list(verdict.get("engines"))):
        parts = [_text(engine.get("version"))]
        if signatures := _text(engine.get("signatures")):
            parts.append(f"signatures {signatures}")
        if isinstance(engine.get("signature_age"), int):
            parts.append(f"{engine['signature_age']} days old")
        mail.engines.append((_text(engine.get("name")), ", ".join(part for part in parts if part)))
    other = _object(verdict.get("other"))
    if verdict.get("changed") is True:
        reason = _text(other.get("reason"))
        mail.other = _text(other.get("action")) + (f": {reason}" if reason else "")
    places = {node.path: node for node in mail.artifacts}
    for one in map(_object, _list(verdict.get("disarm"))):
        node = places.get(_text(one.get("path")))
        if node is not None:
            what = ", ".join(_texts(one.get("removed"))[:LINES])
            node.removed = f"replaced by a text: {what}" if one.get("replaced") is True else f"taken out: {what}"


_HANDLERS: Final[dict[str, Callable[[Mail, Mapping[str, Any]], None]]] = {
    "smtp": _smtp,
    "fileinfo": _fileinfo,
    "alert": _alert,
    "anomaly": _anomaly,
    "crypto": _crypto,
    "verdict": _verdict,
}


# --- values whose type nobody vouches for -----------------------------------------------------------------------------


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [one for one in _list(value) if isinstance(one, str)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else 0


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)

"""Event records: JSON lines in the field names of Suricata's EVE, so that the tools people have read them.

`transaction_records` is pure: facts and decision in, dictionaries out, in the order smtp, fileinfo, alert, anomaly,
verdict. `serialize` gives the lines, `RecordWriter` appends them. docs/records.md describes every field.

Addresses of the envelope stand in angle brackets, as Suricata writes them; `<>` is the null sender. No record holds a
secret: neither AUTH exchanges nor message text get into facts.
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from netinspect.anomaly import Anomaly
from netinspect.errors import EnvironmentFault
from netinspect.files.artifact import Artifact
from netinspect.policy.conditions import unscanned_text
from netinspect.policy.decision import Decision, Disarmed
from netinspect.policy.facts import EnvelopeFacts, Facts, MailFacts, SessionFacts
from netinspect.scan.contract import EngineState, Finding

Record = dict[str, Any]

logger = logging.getLogger(__name__)

# ASCII only: whatever a name or subject holds, a line stays one line and valid UTF-8 for every reader.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, check_circular=False).encode

_STANDARD_OUTPUT = "-"


def transaction_records(
    facts: Facts,
    decision: Decision | None,
    *,
    now: datetime,
    incident_id: str = "",
    tx_id: int = 0,
    reply: str = "",
) -> list[Record]:
    """Make the records of one transaction, or of a session that was refused before it had one.

    With `facts.mail` the smtp record has an `email` object, even an empty one; without (reset, refused) it has none,
    and a session that said nothing at all has no smtp record. `reply` is what the client was told, `tx_id` counts
    transactions in the session from 0. Without a decision there is no verdict record. `now` must know its time zone.
    """
    common = _common(facts.session, now, tx_id)
    records: list[Record] = []
    smtp = _smtp(facts)
    if smtp or facts.mail is not None:
        record: Record = {**common, "event_type": "smtp", "smtp": smtp}
        if facts.mail is not None:
            record["email"] = _email(facts.mail)
        records.append(record)
    for artifact in facts.artifacts:
        records.append({**common, "event_type": "fileinfo", "fileinfo": _fileinfo(artifact)})
    for finding in facts.findings:
        record = {**common, "event_type": "alert", "alert": _alert(finding)}
        if finding.sha256:
            record["sha256"] = finding.sha256
        records.append(record)
    for anomaly in facts.anomalies:
        records.append({**common, "event_type": "anomaly", "anomaly": _anomaly(anomaly)})
    if decision is not None:
        verdict = _verdict(facts, decision, incident_id, reply)
        records.append({**common, "event_type": "verdict", "verdict": verdict})
    return records


def session_records(
    session: SessionFacts,
    decision: Decision | None,
    *,
    now: datetime,
    findings: tuple[Finding, ...] = (),
    anomalies: tuple[Anomaly, ...] = (),
    mail_from: str = "",
    recipients: tuple[str, ...] = (),
    incident_id: str = "",
    tx_id: int = 0,
    reply: str = "",
) -> list[Record]:
    """Make the records of a refused session, or of a transaction that was reset (no decision)."""
    envelope = EnvelopeFacts(mail_from=mail_from, recipients=recipients)
    facts = Facts(session, envelope, findings=findings, anomalies=anomalies)
    return transaction_records(facts, decision, now=now, incident_id=incident_id, tx_id=tx_id, reply=reply)


def serialize(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Give the records as JSON lines, each with its line end."""
    lines = [_encode(record) for record in records]
    lines.append("")
    return "\n".join(lines).encode("ascii")


def timestamp(now: datetime) -> str:
    """Give a time as Suricata writes it: `2026-11-22T05:00:00.123456+0000`."""
    text = now.isoformat(timespec="microseconds")
    return text[:-3] + text[-2:]  # the zone without its colon; a fifth of what strftime costs


def _common(session: SessionFacts, now: datetime, tx_id: int) -> Record:
    return {
        "timestamp": timestamp(now),
        "flow_id": session.flow_id,
        "event_type": "",
        "src_ip": session.src_ip,
        "src_port": session.src_port,
        "dest_ip": session.dest_ip,
        "dest_port": session.dest_port,
        "proto": "TCP",
        "tx_id": tx_id,
    }


def _smtp(facts: Facts) -> Record:
    smtp: Record = {}
    envelope = facts.envelope
    if facts.session.helo:
        smtp["helo"] = _text(facts.session.helo)
    if envelope.mail_from or envelope.recipients or facts.mail is not None:
        smtp["mail_from"] = f"<{_text(envelope.mail_from)}>"
        smtp["rcpt_to"] = [f"<{_text(recipient)}>" for recipient in envelope.recipients]
    return smtp


def _email(mail: MailFacts) -> Record:
    email: Record = {}
    if mail.from_:
        email["from"] = _text(mail.from_)
    if mail.to:
        email["to"] = [_text(address) for address in mail.to]
    if mail.subject:
        email["subject"] = _text(mail.subject)
    if mail.message_id:
        email["message_id"] = _text(mail.message_id)
    if mail.attachments:
        email["attachment"] = [_text(name) for name in mail.attachments]
    return email


def _fileinfo(artifact: Artifact) -> Record:
    hashes = artifact.hashes
    info: Record = {
        "filename": _text(artifact.name),
        "magic": artifact.magic,
        "size": artifact.size,
        "md5": hashes.md5,
        "sha1": hashes.sha1,
        "sha256": hashes.sha256,
        "state": artifact.state,
        "path": _text(artifact.path),
    }
    if artifact.parent_sha256:
        info["parent_sha256"] = artifact.parent_sha256
    return info


def _alert(finding: Finding) -> Record:
    alert: Record = {
        "signature": _text(finding.signature),
        "category": finding.category,
        "severity": finding.severity,
        "engine": finding.engine,
    }
    if finding.detail:
        alert["detail"] = _text(finding.detail)
    return alert


def _anomaly(anomaly: Anomaly) -> Record:
    # Suricata's words for the type: what is wrong below the application is the stream's.
    record: Record = {
        "type": "stream" if anomaly.layer == "tcp" else "applayer",
        "layer": anomaly.layer,
        "event": anomaly.kind,
        "offset": anomaly.offset,
    }
    if anomaly.detail:
        record["detail"] = _text(anomaly.detail)
    return record


def _verdict(facts: Facts, decision: Decision, incident_id: str, reply: str) -> Record:
    verdict: Record = {
        "action": decision.action,
        "reply": _text(reply),
        "reason": _text(decision.reason),
        "rules": list(decision.rules),
        "incident_id": incident_id,
        # Many leaves may share one reason; each stands there once, in the order of their appearance.
        "unscanned": list(dict.fromkeys(_text(unscanned_text(entry)) for entry in facts.unscanned)),
        "zone": facts.session.zone,
    }
    coverage = facts.coverage
    if coverage is not None:
        verdict["clean"] = facts.clean
        verdict["coverage"] = {
            "parts": coverage.parts,
            "bytes": coverage.bytes,
            "decoded": coverage.decoded,
            "decoded_bytes": coverage.decoded_bytes,
            "scanned": coverage.scanned,
            "scanned_bytes": coverage.scanned_bytes,
            "skipped": [{"path": _text(one.path), "reason": _text(one.reason)} for one in coverage.skipped],
        }
        verdict["engines"] = _engines(facts.engines)
    if decision.disarmed:
        verdict["disarm"] = [_disarmed(one) for one in decision.disarmed]
    return verdict


def _disarmed(one: Disarmed) -> Record:
    return {
        "path": _text(one.path),
        "filename": _text(one.filename),
        "sha256": one.sha256,
        "disarmed_sha256": one.disarmed_sha256,
        "removed": [_text(what) for what in one.removed],
        "replaced": one.replaced,
    }


@functools.lru_cache(8)
def _engines(engines: tuple[EngineState, ...]) -> list[Record]:
    """The same for every message until an engine changes; nobody changes what is given."""
    made: list[Record] = []
    for engine in engines:
        record: Record = {"name": engine.name}
        if engine.version:
            record["version"] = engine.version
        if engine.signatures:
            record["signatures"] = engine.signatures
        if engine.signature_age is not None:
            record["signature_age"] = engine.signature_age
        made.append(record)
    return made


def _text(text: str) -> str:
    """Replace lone surrogates (octets that were no UTF-8): strict JSON readers refuse them."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


class RecordWriter:
    """Appends records to a file (`-`: standard output, empty: nowhere).

    One transaction is one write in append mode, so several processes can share a file and log rotation cuts between
    lines. A fault while writing (disk full, reader gone) never gets into the mail path: what was lost is counted in
    `lost` and logged once until it works again.
    """

    def __init__(self, path: str, *, fsync: bool = False) -> None:
        """Open the file.

        Raises:
            EnvironmentFault: it cannot be opened for appending.
        """
        self._path = path
        self._fsync = fsync
        self._torn = False
        self._failing = False
        self.lost = 0
        """Transactions whose records could not be written whole."""
        try:
            self._fd = self._open()
        except OSError as error:
            message = f"records cannot be written: {error.strerror}"
            raise EnvironmentFault(message, place=path, remedy="set file in [records]") from error

    def write(self, data: bytes) -> None:
        """Append the lines of one transaction. Blocks as long as the disk (or the reader of standard output) does."""
        if self._fd < 0 or not data:
            return
        # After half a line the next one starts afresh: one transaction is lost, not two.
        whole = b"\n" + data if self._torn else data
        try:
            rest = len(whole) - os.write(self._fd, whole)
            if rest:
                # A disk that just ran full takes a part without an error; the second try names the reason.
                self._torn = True
                rest -= os.write(self._fd, whole[-rest:])
            if rest:
                raise OSError(errno.EIO, "short write")
            if self._fsync and self._path != _STANDARD_OUTPUT:
                os.fsync(self._fd)
        except OSError as error:
            self.lost += 1
            if not self._failing:
                self._failing = True
                logger.error("records: %s: %s; mail goes on, records are lost until this is mended", self._path, error)
            return
        self._torn = False
        if self._failing:
            self._failing = False
            logger.warning("records: %s: writing again, %d transactions were lost so far", self._path, self.lost)

    def reopen(self) -> None:
        """Open the file anew after a rotation (SIGHUP). If that fails the old one stays in use."""
        if self._fd < 0 or self._path == _STANDARD_OUTPUT:
            return
        try:
            fresh = self._open()
        except OSError as error:
            logger.error("records: cannot reopen %s: %s; the old file stays in use", self._path, error)
            return
        old, self._fd = self._fd, fresh
        self._torn = False
        os.close(old)

    def close(self) -> None:
        """Close the file; further records are dropped."""
        if self._fd >= 0 and self._path != _STANDARD_OUTPUT:
            os.close(self._fd)
        self._fd = -1

    def _open(self) -> int:
        if not self._path:
            return -1
        if self._path == _STANDARD_OUTPUT:
            return 1
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

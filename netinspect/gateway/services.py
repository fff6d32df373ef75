"""What the layers of all sessions share: settings, the inspector, the record, and the listeners they came in by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from netinspect import records
from netinspect.anomaly import Anomaly
from netinspect.config import Settings
from netinspect.gateway.hooks import SmtpFlow
from netinspect.gateway.recorder import Recorder
from netinspect.gateway.replies import NOT_DISARMED, NOT_STORED
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspection, Inspector, incident_id
from netinspect.policy.decision import Decision
from netinspect.policy.facts import EnvelopeFacts, Facts, SessionFacts, Zone
from netinspect.policy.rules import instead_of_disarm
from netinspect.smtp.events import Envelope
from netinspect.store.quarantine import Quarantine

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """One place where clients connect. The zone is the listener's: nothing in a packet can forge it."""

    name: str
    zone: Zone
    host: str
    port: int
    transparent: bool
    upstream: tuple[str, int] | None = None


@dataclass(slots=True)
class Counters:
    """What the gateway did since it started."""

    sessions: int = 0
    messages: int = 0
    delivered: int = 0
    refused: int = 0


class Services:
    """Handed to every layer."""

    def __init__(
        self,
        settings: Settings,
        inspector: Inspector,
        writer: records.RecordWriter,
        quarantine: Quarantine | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.settings = settings
        self.inspector = inspector
        self.identity: Identity = inspector.identity
        self.writer = writer
        self._quarantine = quarantine
        self.recorder = recorder
        self.counters = Counters()
        self.wanted: Callable[[str], bool] = lambda _: True
        """Whether any addon implements the hook of this name; one that nobody does is not asked."""

    async def store(self, flow: SmtpFlow) -> None:
        """Put a message into quarantine, off the event loop, and set `flow.stored`.

        If that fails `flow.decision` becomes a temporary refusal, so that the message stays with the sender. A message
        that an addon wants disarmed is disarmed here, or `flow.decision` says what becomes of it instead.
        """
        inspection = flow.inspection
        if inspection is None:
            return
        decision = await self._disarmed(flow, inspection)
        if decision is None or decision.action not in ("quarantine", "disarm"):
            return
        facts = flow.judgement.facts if flow.judgement else inspection.facts_without_scan("not judged")
        incident = flow.judgement.incident_id if flow.judgement else incident_id(facts)
        error = "no quarantine directory is set"
        if self._quarantine is not None:
            with inspection.in_use():
                try:
                    await asyncio.to_thread(
                        self._quarantine.put, inspection.spool.chunks(), facts, decision, incident
                    )
                except OSError as fault:
                    error = fault.strerror or str(fault)
                else:
                    flow.stored = True
                    return
        logger.error("quarantine: %s; message %s refused for now", error, incident)
        flow.decision = replace(NOT_STORED, reason=f"quarantine: {error}", rules=decision.rules)

    async def _disarmed(self, flow: SmtpFlow, inspection: Inspection) -> Decision | None:
        """The decision, once what it wants disarmed is disarmed."""
        decision = flow.decision
        if decision is None or decision.action != "disarm" or inspection.rewritten is not None:
            return decision
        if flow.judgement is None:
            flow.decision = replace(NOT_DISARMED, rules=decision.rules)  # nobody knows what is in it
        else:
            flow.judgement = await inspection.disarm(replace(flow.judgement, decision=decision))
            flow.decision = flow.judgement.decision
        return flow.decision

    def instead_of_disarm(self, flow: SmtpFlow, decision: Decision, why: str) -> Decision:
        """Quarantine for a message that cannot be disarmed any more."""
        facts = flow.judgement.facts if flow.judgement else Facts(flow.session)
        why = f"cannot be disarmed: {why}"
        return instead_of_disarm(decision, self.inspector.policy, "quarantine", facts, why)

    def record_message(
        self, flow: SmtpFlow, tx_id: int, reply: str, why: str, anomalies: tuple[Anomaly, ...] = ()
    ) -> None:
        """Write the records of one message. `reply` is what the client was told, `why` a reason not the policy's.

        `anomalies` belong to a message that was never complete.
        """
        inspection = flow.inspection
        decision = flow.decision
        if flow.judgement is not None:
            facts, incident = flow.judgement.facts, flow.judgement.incident_id
        elif inspection is not None:
            facts, incident = inspection.facts_without_scan(why or "not judged"), ""
            if flow.envelope is not None and facts.envelope == EnvelopeFacts():  # nobody told the inspection
                envelope = EnvelopeFacts(flow.envelope.mail_from, tuple(flow.envelope.recipients))
                facts = replace(facts, envelope=envelope, anomalies=(*anomalies, *facts.anomalies))
        else:
            return
        if decision is None:
            decision = Decision("tempfail", why or "not judged", 451, "4.7.0", "", rules=("fail-safe",))
        elif why:
            decision = replace(decision, reason=f"{decision.reason}; {why}" if decision.reason else why)
        self.counters.messages += 1
        if decision.delivers and reply.startswith("2"):
            self.counters.delivered += 1
        else:
            self.counters.refused += 1
        self._write(facts, decision, incident, tx_id, reply)

    def record_reset(
        self, flow: SmtpFlow, tx_id: int, envelope: Envelope, why: str, anomalies: tuple[Anomaly, ...] = ()
    ) -> None:
        """Write the record of a transaction that ended without a message."""
        known = EnvelopeFacts(envelope.mail_from, tuple(envelope.recipients))
        facts = Facts(flow.session, known, anomalies=anomalies)
        self._write(facts, Decision("accept", f"no message: {why}"), "", tx_id, "")

    def record_envelope(self, flow: SmtpFlow, tx_id: int, decision: Decision, reply: str) -> None:
        """Write the record of a message that was refused at DATA."""
        envelope = flow.envelope
        known = EnvelopeFacts(envelope.mail_from, tuple(envelope.recipients)) if envelope else EnvelopeFacts()
        self.counters.refused += 1
        self._write(Facts(flow.session, known), decision, "", tx_id, reply)

    def record_session(self, flow: SmtpFlow, decision: Decision, reply: str) -> None:
        """Write the record of a session that was refused before it had a message."""
        judgement = flow.judgement
        facts = judgement.facts if judgement else Facts(flow.session)
        self.counters.refused += 1
        self._write(facts, decision, judgement.incident_id if judgement else "", 0, reply)

    def record_failure(self, flow: SmtpFlow, why: str, reply: str) -> None:
        """Write the record of a session that ended before the server greeted."""
        self._write(Facts(flow.session), Decision("tempfail", why, 421, "4.4.1"), "", 0, reply)

    def record_turned_away(self, session: SessionFacts, reply: str) -> None:
        """Write the record of a client that came when there were too many sessions."""
        self._write(Facts(session), Decision("tempfail", "too many sessions", 421, "4.3.2"), "", 0, reply)

    def _write(self, facts: Facts, decision: Decision, incident: str, tx_id: int, reply: str) -> None:
        if self.recorder is not None:
            self.recorder.verdict(facts.session.flow_id, decision, incident)
        self.writer.write(
            records.serialize(
                records.transaction_records(
                    facts,
                    decision,
                    now=datetime.now(UTC),
                    incident_id=incident,
                    tx_id=tx_id,
                    reply=reply,
                )
            )
        )

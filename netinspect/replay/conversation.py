"""One connection of a capture, judged as the gateway would have judged it.

What `wire` reads goes through the same `smtp.Session` as at the gateway, and what comes out of that through the same
`Inspector`. Nothing is decided here: a message of which not all is known (a hole, a session that was cut or is
encrypted) gets an `Unscanned`, and the policy decides on it.

Where the gateway puts something on record, the same comes out here: the rules are those of `gateway.holding` and
`gateway.ends`. docs/replay.md lists what only the gateway can know.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.inspector import Inspection, Inspector, Judgement, incident_id
from netinspect.policy.decision import Decision
from netinspect.policy.facts import EnvelopeFacts, Facts, SessionFacts, Zone
from netinspect.policy.failsafe import NOT_DISARMED, safe
from netinspect.policy.rules import decide, instead_of_disarm
from netinspect.replay.tcp import Flow, Piece
from netinspect.replay.verdict import (
    COPIES,
    ENCRYPTED,
    GAP,
    STANDARD,
    UNKNOWN,
    Errors,
    Message,
    Refused,
    Terms,
    Verdict,
    done,
    session_facts,
    text_of,
    with_more,
)
from netinspect.replay.wire import Decrypts, Wire
from netinspect.scan.contract import Finding
from netinspect.smtp import events as smtp
from netinspect.smtp.events import Envelope, Reply, Side

ANOMALIES: Final = 100
"""Malformations kept for one message, as in the gateway."""

FORGED: Final = frozenset({"tcp_data_after_reset", "tcp_forged_segment", "tcp_late_data", "tcp_overlap_conflict"})
"""Malformations after which what a side said may not be what its peer heard."""
LEFT: Final = "client left"
SERVED: Final = frozenset({
    "AUTH", "BDAT", "DATA", "EHLO", "EXPN", "HELO", "HELP", "MAIL", "NOOP", "QUIT", "RCPT", "RSET", "STARTTLS", "VRFY",
})  # fmt: skip
"""Commands that the gateway takes; any other is an error of the client."""
_GREETINGS: Final = (b"220 ", b"220-")


class Conversation:
    """Takes the turns of one flow; `give` gets each verdict once it is complete but for the engines' answers."""

    def __init__(
        self,
        flow: Flow,
        inspector: Inspector,
        zone: Zone,
        give: Callable[[Verdict], None],
        terms: Terms = STANDARD,
        decryptor: Callable[[], Decrypts] | None = None,
        *,
        mixed: bool = False,
    ) -> None:
        """`mixed`: copies of octets differ so that there are more readings of the connection than are judged."""
        self._flow = flow
        self._mixed = mixed
        self._inspector = inspector
        self._give = give
        self._wire = Wire(
            inspector.limits,
            self,
            bare_newline=terms.bare_newline,
            middle=not flow.client.syn,
            decryptor=decryptor,
        )
        self._facts = session_facts(zone, flow.addresses)
        self._turned = False  # the one who was taken for the client is the server
        self._message: Message | None = None  # its octets still come
        self._complete: deque[Message] = deque()  # without a reply so far
        self._refused: Refused | None = None
        self._errors = Errors()
        self._anomalies: list[Anomaly] = []
        self._told = 0  # of the flow's own malformations
        self._transactions = 0
        self._said = False
        self._dismissed = False  # the server had said 421
        self._taken = False  # the last reply was a good one
        self._adrift = False  # replies that belong to no command, or are none
        self._astray = self._no_command = False  # commands that are none, or a transaction without a message
        self._time = 0
        self._number = 0

    # --- what the flow tells --------------------------------------------------------------------------------------

    def turn(self, side: Side, pieces: Sequence[Piece], time: int, number: int) -> None:
        """One side said something."""
        self._time, self._number = time, number
        if not self._said:
            self._said = True
            first = pieces[0]
            if side is Side.CLIENT and isinstance(first, bytes) and first.startswith(_GREETINGS):
                here, here_port, there, there_port = self._flow.addresses
                self._facts = session_facts(self._facts.zone, (there, there_port, here, here_port))
                self._turned = True
            self._look(self._inspector.identity.check_client(self._facts), None)
        if self._turned:
            side = Side.SERVER if side is Side.CLIENT else Side.CLIENT
        self._wire.turn(side, pieces)

    def end(self, number: int) -> None:
        """The connection is over, or the capture; `number` is the frame at which that became known."""
        self._number = number
        wire = self._wire
        wire.end(closed=self._flow.closing)
        while self._complete:
            self._judge(self._complete.popleft(), None, None)
        if self._message is not None:
            self._cut(self._why())
        if self._errors.at == self._transactions and self._refused is None:
            facts, decision = Facts(self._facts_now()), Decision("tempfail", "too many errors", 421, "4.4.1")
            self._put(Judgement(facts, decision, ""), 0, self._errors.last_word)
        self._tell_refusal(None)
        missing, hole = wire.take_missing()
        misled = self._misled()
        if wire.unreadable or hole or wire.doubt or misled or (self._mixed and not self._transactions):
            self._unseen(missing, hole, misled)
        rest = self._flow_anomalies()
        if rest:
            judgement = Judgement(Facts(self._facts, anomalies=rest), Decision("accept"), "")
            verdict = Verdict(self._flow.first, number, self._time, 0, done(judgement), bare=True)
            self._give(verdict)

    # --- what was said --------------------------------------------------------------------------------------------

    def handle(self, events: Sequence[smtp.Event]) -> None:
        """Take what the session tells."""
        for at, event in enumerate(events):
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
            elif type(event) is smtp.CommandReceived:
                self._command(event.command, events[at + 1] if at + 1 < len(events) else None)

    def forget_message(self) -> None:
        """What was taken for a message is none."""
        message, self._message = self._message, None
        if message is not None:
            message.inspection.close()

    def _facts_now(self) -> SessionFacts:
        envelope, facts = self._wire.session.envelope, self._facts
        if (facts.helo, facts.authenticated, facts.tls) != (envelope.helo, envelope.authenticated, envelope.tls):
            facts = self._facts = replace(
                facts, helo=envelope.helo, authenticated=envelope.authenticated, tls=envelope.tls
            )
        return facts

    def _command(self, command: smtp.Command, following: smtp.Event | None) -> None:
        verb = command.verb
        if command.error or verb not in SERVED:
            self._astray = self._no_command = True
        if command.error:
            self._errors.count += verb != "BDAT"
        elif verb not in SERVED or verb == "STARTTLS":
            self._errors.count += 1
        elif verb == "BDAT":
            self._errors.count += self._message is None and type(following) is not smtp.MessageStarted
        else:
            self._identify(command)
            if verb == "MAIL":
                size = command.params.get("SIZE", "")
                self._errors.count += size.isdecimal() and int(size[:20]) > self._inspector.limits.message_size

    def _identify(self, command: smtp.Command) -> None:
        """Whether this client may use the name that it says."""
        if self._refused is not None:
            return
        identity = self._inspector.identity
        if command.verb in ("EHLO", "HELO"):
            self._look(identity.check_helo(self._facts_now(), command.argument), command)
        elif command.verb == "MAIL":
            sender = command.path if command.path is not None else command.argument.partition(":")[2].strip(" <>")
            self._look(identity.check_mail_from(self._facts_now(), sender), command, sender)

    def _look(self, finding: Finding | None, command: smtp.Command | None, mail_from: str = "") -> None:
        """What a session is refused for goes on record; what it says after that is looked at all the same."""
        if finding is None:
            return
        judgement = self._inspector.judge_session(self._facts_now(), finding, mail_from)
        if not judgement.decision.delivers:
            self._refused = Refused(judgement, command)

    def _greeted(self, event: smtp.Greeted) -> None:
        self._tell_refusal(event.reply)

    def _replied(self, event: smtp.Replied) -> None:
        command, reply = event.command, event.reply
        self._dismissed = reply.code == 421
        self._taken = 200 <= reply.code < 400
        if command is not None:
            if command.error and reply.positive:
                self._identify(command)  # the gateway would not have sent it on; this server took it
            elif command.verb == "DATA" and not reply.intermediate and not self._wire.session.envelope.recipients:
                self._errors.count += 1
        refused = self._refused
        if refused is not None and not refused.given and (command is refused.command or reply.code >= 400):
            self._tell_refusal(reply)
        if reply.code == 421 and self._errors.count >= self._inspector.limits.errors_per_session:
            self._errors.last_word, self._errors.at = text_of(reply), self._transactions

    def _tell_refusal(self, reply: Reply | None) -> None:
        refused = self._refused
        if refused is not None and not refused.given:
            refused.given = True
            refused.kept_out = reply is not None and reply.code >= 400
            self._put(refused.judgement, 0, text_of(reply))

    # --- a message ------------------------------------------------------------------------------------------------

    def _started(self, event: smtp.MessageStarted) -> None:
        inspection = self._inspector.begin(self._facts_now())
        self._message = Message(
            inspection, event.envelope, event.envelope.transfer == "BDAT", self._refused
        )

    def _data(self, event: smtp.MessageData) -> None:
        if self._message is not None:
            self._message.inspection.feed(event.data)

    def _chunk_end(self, event: smtp.ChunkEnd) -> None:
        self._errors.count += event.size == 0

    def _ended(self, event: smtp.MessageEnd) -> None:
        message, self._message = self._message, None
        if message is not None:
            message.end = event
            message.anomalies = tuple(self._anomalies)
            self._anomalies.clear()
            message.missing, message.hole = self._wire.take_missing()
            self._complete.append(message)

    def _accepted(self, event: smtp.MessageAccepted) -> None:
        if self._complete:
            # Judged only now: with pipelining the replies before this one have made the envelope.
            self._judge(self._complete.popleft(), event.envelope, event.reply)

    def _judge(self, message: Message, envelope: Envelope | None, reply: Reply | None) -> None:
        """All of it was said. Without a reply the connection ended before there was one."""
        envelope = envelope or message.envelope
        inspection, end, refused = message.inspection, message.end, message.refused
        nobody = not envelope.recipients and message.chunked and reply is not None and not reply.positive
        unheard = reply is None and refused is not None and refused.kept_out
        if end is None or nobody or unheard:
            self._errors.count += nobody
            inspection.close()  # what was said to a closed door is no message
            return
        if "bdat_after_refusal" in [one.kind for one in self._anomalies]:
            message.anomalies += tuple(self._anomalies)
            self._anomalies.clear()
        # There are two readings of fragments, too, and no telling how many there may be.
        message.mixed = self._mixed or any(one.kind == "ip_fragment_overlap" for one in self._flow.anomalies)
        inspection.end(envelope, end, message.anomalies)
        anomalies = self._flow_anomalies()
        if end.truncated:
            facts = with_more(inspection.facts_without_scan("not judged"), message.hole, anomalies)
            decision = Decision("reject", "message over the size limit", 552, "5.3.4", rules=("limits",))
            judgement = done(Judgement(facts, decision, ""))
        else:
            left = reply is None and self._why() == LEFT
            judgement = asyncio.ensure_future(self._judged(message, anomalies, left=left))
        self._transactions += 1
        self._give(
            Verdict(
                self._flow.first,
                self._number,
                self._time,
                self._transactions,
                judgement,
                text_of(reply),
                message.missing,
                inspection,
            )
        )

    async def _judged(self, message: Message, anomalies: tuple[Anomaly, ...], *, left: bool) -> Judgement:
        inspection, policy = message.inspection, self._inspector.policy
        judgement = await inspection.judge()
        facts, decision = judgement.facts, judgement.decision
        if message.hole or anomalies:
            facts = with_more(facts, message.hole, anomalies)
        if message.mixed:
            facts = replace(facts, unscanned=(*facts.unscanned, COPIES))
        if message.hole or message.mixed:
            decision = decide(facts, policy)
            if decision.action == "disarm":
                why = "cannot be disarmed: not all octets are certain"
                decision = instead_of_disarm(decision, policy, "quarantine", facts, why)
        decision = safe(
            decision, smuggling=message.end is not None and message.end.smuggling, failed=inspection.failed
        )
        if decision.action == "disarm" and inspection.rewritten is None:
            decision = NOT_DISARMED
        if message.refused is not None and decision.delivers:
            # The gateway would have ended the session before.
            session = message.refused.judgement.decision
            decision = replace(session, reason=f"in a refused session: {session.reason}")
        if left:
            why = "client left before the verdict"
            decision = replace(decision, reason=f"{decision.reason}; {why}" if decision.reason else why)
        return Judgement(facts, decision, judgement.incident_id)

    def _cut(self, why: str) -> None:
        """The message was never complete."""
        message, self._message = self._message, None
        if message is None:
            return
        missing, hole = self._wire.take_missing()
        envelope = EnvelopeFacts(message.envelope.mail_from, tuple(message.envelope.recipients))
        facts = replace(message.inspection.facts_without_scan(why), envelope=envelope)
        facts = replace(facts, anomalies=(*self._anomalies, *facts.anomalies))
        self._anomalies.clear()
        if self._wire.unreadable:
            facts = replace(facts, unscanned=(*facts.unscanned, ENCRYPTED))
        decision = Decision("tempfail", why, 451, "4.7.0", "", rules=("fail-safe",))
        judgement = Judgement(with_more(facts, hole, self._flow_anomalies()), decision, "")
        self._transactions += 1
        self._put(judgement, self._transactions, "", missing, message.inspection)

    # --- no message -----------------------------------------------------------------------------------------------

    def _reset(self, event: smtp.TransactionReset) -> None:
        for message in self._complete:
            if message.envelope is event.envelope:
                self._complete.remove(message)
                self._judge(message, event.envelope, None)
                return
        if self._message is not None:
            self._cut(self._why() if event.why.endswith("_eof") else event.why)
            return
        self._astray = True
        self._transactions += 1
        missing, hole = self._wire.take_missing()
        envelope = EnvelopeFacts(event.envelope.mail_from, tuple(event.envelope.recipients))
        facts = Facts(self._facts, envelope, anomalies=tuple(self._anomalies))
        self._anomalies.clear()
        facts = with_more(facts, hole, self._flow_anomalies())
        why = "client_eof" if event.why.endswith("_eof") else event.why  # as the gateway, which ends both sides
        decision = decide(facts, self._inspector.policy) if hole else Decision("accept", f"no message: {why}")
        self._put(Judgement(facts, decision, ""), self._transactions, "", missing)

    def _anomaly(self, event: Anomaly) -> None:
        self._adrift = self._adrift or event.kind == "unsolicited_reply" or event.kind.startswith("reply_")
        if len(self._anomalies) < ANOMALIES:
            self._anomalies.append(event)
        if event.kind == "bdat_unseen":
            self._wire.hole = True
            for message in self._complete:
                message.hole = True

    def _unseen(self, missing: int, hole: bool, misled: bool) -> None:
        """Something was said in this connection that nobody could read."""
        wire = self._wire
        reasons = (
            (ENCRYPTED, wire.unreadable), (GAP, hole), (UNKNOWN, wire.doubt or misled), (COPIES, self._mixed)
        )  # fmt: skip
        session = replace(self._facts_now(), tls=self._facts.tls or wire.unreadable)
        facts = Facts(
            session,
            unscanned=tuple(one for one, there in reasons if there),
            anomalies=(*self._anomalies, *self._flow_anomalies()),
        )
        self._anomalies.clear()
        judgement = Judgement(facts, decide(facts, self._inspector.policy), incident_id(facts))
        self._put(judgement, 0, "", missing)

    # --- what goes on record --------------------------------------------------------------------------------------

    def _misled(self) -> bool:
        """Whether a message may be hidden behind a SYN or replies that are not those which client and server had."""
        flow = self._flow
        held, unanswered = self._wire.left
        forged = any(one.kind in FORGED and one.detail == Side.SERVER.value for one in flow.anomalies)
        return (
            flow.passed
            or (self._astray and (self._adrift or forged))
            # A server that refuses and goes leaves commands without a reply; one that took something does not.
            or (self._taken and (held > 0 or (self._no_command and unanswered > 0)))
        )

    def _put(
        self,
        judgement: Judgement,
        tx_id: int,
        reply: str,
        missing: int = 0,
        inspection: Inspection | None = None,
    ) -> None:
        """Give what needs no engine."""
        self._give(
            Verdict(self._flow.first, self._number, self._time, tx_id, done(judgement), reply, missing, inspection)
        )

    def _flow_anomalies(self) -> tuple[Anomaly, ...]:
        """What was malformed below SMTP, each once."""
        known: list[Anomaly] = [*self._wire.oddities, *getattr(self._flow, "anomalies", ())]
        fresh = tuple(known[self._told :])
        self._told = len(known)
        return fresh

    def _why(self) -> str:
        """How the connection ended, in the gateway's words."""
        if self._flow.closing and not self._dismissed:
            return LEFT
        return "session ended in the middle of a message"


_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    Anomaly: Conversation._anomaly,
    smtp.ChunkEnd: Conversation._chunk_end,
    smtp.Greeted: Conversation._greeted,
    smtp.MessageAccepted: Conversation._accepted,
    smtp.MessageData: Conversation._data,
    smtp.MessageEnd: Conversation._ended,
    smtp.MessageStarted: Conversation._started,
    smtp.Replied: Conversation._replied,
    smtp.TransactionReset: Conversation._reset,
}

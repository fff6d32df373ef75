"""One message at a time: taken in, held, judged, and then sent on or refused.

The client's 354 and the replies to its chunks are ours. The server hears DATA only after the verdict, and the client
gets the server's own final reply: so a message is never refused and delivered, nor acknowledged and lost.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netinspect.anomaly import Anomaly
from netinspect.gateway import delivery, hooks, replies
from netinspect.gateway.client_side import Slot
from netinspect.policy.decision import Decision
from netinspect.smtp.events import ChunkEnd, MessageData, MessageEnd, MessageStarted, Reply

if TYPE_CHECKING:
    from netinspect.gateway.layer import SmtpLayer
    from netinspect.inspector import Inspection

KEPT = ("quarantine", "disarm")
"""Actions before which the message as it came is put into quarantine."""

ANOMALIES = 100
"""Malformations of SMTP kept for one message."""


class Stage(enum.Enum):
    """Where the message is."""

    NONE = enum.auto()
    """No message, or its octets still arrive."""
    ASKING = enum.auto()
    """The envelope hook is asked: before 354, or before a message that came in chunks is judged."""
    COMPLETE = enum.auto()
    """All of it is here; replies to commands before it are still to come (pipelined BDAT)."""
    JUDGING = enum.auto()
    DELIVERING = enum.auto()


@dataclass(slots=True, eq=False)
class Message:
    """What is known of the message only as long as it lasts."""

    inspection: Inspection
    chunked: bool
    cut: delivery.CutThrough | None = None
    end: MessageEnd | None = None
    slot: Slot | None = None
    """The client's expectation of the final reply."""
    body: Iterator[bytes] | None = None
    piece: bytes | None = None
    """The next piece to send; None once the server has all."""
    why: str = ""
    """A reason that is not the policy's."""


class Holding:
    """The message of the running transaction."""

    def __init__(self, layer: SmtpLayer) -> None:
        self._layer = layer
        self._flow = layer.flow
        self._message: Message | None = None
        self._data_slot: Slot | None = None
        self._chunk_slot: Slot | None = None
        self._cutting = False
        self.stage = Stage.NONE
        self.anomalies: list[Anomaly] = []

    @property
    def running(self) -> bool:
        """Octets of a message are here."""
        return self._message is not None

    # --- taking it in --------------------------------------------------------------------------------------------

    def may_start(self) -> Reply | None:
        """DATA is the next to be answered: refuse it, or ask the envelope hook and then say 354."""
        layer = self._layer
        envelope = layer.session.envelope
        if not envelope.recipients:
            layer.count_error()
            return replies.NO_RECIPIENTS
        self._data_slot = layer.client_side.next
        self._ask()
        return None

    def _ask(self) -> None:
        self._flow.envelope = self._layer.session.envelope
        self._flow.decision = None
        self._flow.judgement = None  # of the message before
        self.stage = Stage.ASKING
        if self._layer.services.wanted(hooks.SmtpEnvelopeHook.name):
            self._layer.hook(hooks.SmtpEnvelopeHook(self._flow))
        else:
            self.envelope_passed()

    def envelope_passed(self) -> None:
        """The envelope hook is through."""
        if self.stage is not Stage.ASKING:
            return
        decision = self._flow.decision
        refused = decision is not None and not decision.delivers
        message = self._message
        if message is not None:
            self.stage = Stage.JUDGING
            if refused:
                self.judged()
            else:
                self._judge(message)
            return
        self.stage = Stage.NONE
        slot, self._data_slot = self._data_slot, None
        if slot is not None:
            if decision is not None and refused:
                self._refuse_data(slot, decision)
            else:
                self._take_data(slot)
        self._layer.pump()

    def _refuse_data(self, slot: Slot, decision: Decision) -> None:
        """Answer DATA with a refusal; sender and recipients stand, here and at the server (RFC 5321 §3.3)."""
        layer = self._layer
        if decision.action == "drop":
            layer.refused_by(decision)
            return
        reply = replies.from_decision(decision, "")
        layer.services.record_envelope(self._flow, layer.next_transaction(), decision, replies.text_of(reply))
        layer.client_side.answer(slot, reply)

    def _take_data(self, slot: Slot) -> None:
        layer = self._layer
        if layer.server_side.gone:
            layer.end_session(replies.SERVER_LOST_421)
        elif layer.settings.delivery == "cut-through":
            slot.forwarded = True
            layer.server_side.command(b"DATA\r\n", lambda reply: self._server_took_data(slot, reply))
        else:
            layer.client_side.answer(slot, replies.GO_AHEAD)

    def _server_took_data(self, slot: Slot, reply: Reply) -> None:
        self._cutting = reply.code == 354
        self._layer.client_side.answer(slot, reply)

    def chunk_opened(self, slot: Slot) -> None:
        """A BDAT command came, whose octets follow."""
        self._chunk_slot = slot

    def started(self, event: MessageStarted) -> None:
        """The first octets follow."""
        layer, flow = self._layer, self._flow
        flow.inspection = layer.services.inspector.begin(layer.session_facts())
        flow.envelope = event.envelope
        flow.decision = None
        flow.judgement = None
        chunked = event.envelope.transfer == "BDAT"
        cut = delivery.CutThrough() if self._cutting and not chunked else None
        self._cutting = False
        self._message = Message(flow.inspection, chunked, cut)

    def data(self, event: MessageData) -> None:
        """A piece of the message."""
        message = self._message
        if message is None:
            return
        message.inspection.feed(event.data)
        if self._layer.shown is not None:
            self._layer.shown.mail(event.data)
        if message.cut is not None and not self._layer.server_side.gone:
            self._layer.send(message.cut.feed(event.data))

    def chunk_end(self, event: ChunkEnd) -> None:
        """A BDAT chunk that is not the last is here."""
        layer = self._layer
        if event.size == 0:
            layer.count_error()  # has no use, and costs us a reply
        if self._chunk_slot is not None:
            taken = replies.chunk_taken(event.size)
            self._chunk_slot.decide = lambda: taken if layer.session.envelope.recipients else replies.NO_RECIPIENTS
            layer.client_side.drain()

    def anomaly(self, event: Anomaly) -> None:
        """A malformation. Smuggling in a message that already flows on stops it before the octets in question do."""
        if len(self.anomalies) < ANOMALIES:
            self.anomalies.append(event)
        if event.kind == "smuggling" and self._message is not None and self._message.cut is not None:
            self._layer.break_server()

    def end(self, event: MessageEnd) -> None:
        """All of it is here."""
        message = self._message
        if message is None:
            return
        message.end = event
        self.stage = Stage.COMPLETE
        client_side = self._layer.client_side
        if message.chunked and self._chunk_slot is not None:
            message.slot = self._chunk_slot
        else:
            message.slot = client_side.open(None)
        message.slot.decide = self._may_judge
        client_side.drain()

    # --- judging -------------------------------------------------------------------------------------------------

    def _may_judge(self) -> Reply | None:
        """All replies before that to the message are out: now it counts which recipients the server took."""
        layer, message = self._layer, self._message
        envelope = layer.session.envelope
        if message is None or not envelope.recipients:
            self.forget()
            layer.count_error()
            self._reset_server()  # it still has the sender, and the next MAIL must not be nested
            return replies.NO_RECIPIENTS
        layer.backlog = layer.session.backlog
        if message.chunked:
            self._ask()
        else:
            self.stage = Stage.JUDGING
            self._judge(message)
        return None

    def _judge(self, message: Message) -> None:
        layer, flow, end = self._layer, self._flow, message.end
        if end is None:
            raise AssertionError("a message is judged before its end")
        flow.envelope = layer.session.envelope
        flow.decision = None
        message.inspection.end(flow.envelope, end, tuple(self.anomalies))
        if end.truncated:
            flow.decision = replies.as_decision(replies.TOO_BIG, "message over the size limit")
            self.judged()
        else:
            layer.hook(hooks.SmtpMessageHook(flow))

    def judged(self) -> None:
        """The message hook is through. Without a decision the sender keeps the mail."""
        flow = self._flow
        if self.stage is not Stage.JUDGING:
            return
        if flow.decision is None:
            flow.decision = flow.judgement.decision if flow.judgement else replies.UNJUDGED
        if self._layer.services.wanted(hooks.SmtpVerdictHook.name):
            self._layer.hook(hooks.SmtpVerdictHook(flow))
        else:
            self.decided()

    def decided(self) -> None:
        """The decision stands; what must be kept is stored before anybody is told."""
        flow, message = self._flow, self._message
        if self.stage is not Stage.JUDGING or message is None:
            return
        flow.decision = self._safe(flow.decision or replies.UNJUDGED, message)
        if flow.decision.action in KEPT and not flow.stored:
            self._layer.hook(hooks.SmtpStoreHook(flow))
        else:
            self._act(message, flow.decision)

    def stored(self) -> None:
        """The quarantine has it, or `flow.decision` says why not."""
        flow, message = self._flow, self._message
        if self.stage is not Stage.JUDGING or message is None:
            return
        decision = flow.decision or replies.UNJUDGED
        if decision.action in KEPT and not flow.stored:
            decision = flow.decision = replies.NOT_STORED
        self._act(message, decision)

    def _safe(self, decision: Decision, message: Message) -> Decision:
        """No rule and no addon can have delivered what is not whole, or what another server reads as two messages."""
        if decision.delivers and message.end is not None and message.end.smuggling:
            return replies.SMUGGLED
        if decision.delivers and message.inspection.failed:
            return replies.NOT_HELD
        if decision.action == "disarm" and message.cut is not None:
            return self._layer.services.instead_of_disarm(self._flow, decision, "its octets have flowed on already")
        return decision

    def _act(self, message: Message, decision: Decision) -> None:
        """Carry out the decision."""
        layer = self._layer
        if decision.action == "disarm" and (message.inspection.rewritten is None or message.cut is not None):
            # The last gate, whoever made this decision and whatever the hooks before did.
            decision = self._flow.decision = replies.NOT_DISARMED
        if layer.client_eof:
            message.why = "client left before the verdict"
            self._answer(replies.CLIENT_LEFT)
        elif decision.delivers:
            if layer.server_side.gone:
                self._answer(replies.SERVER_LOST)
            else:
                self._deliver(message, decision)
        elif decision.action == "drop":
            reply = replies.from_decision(decision, layer.incident())
            self.record(None if decision.reset else reply, "")
            layer.last_word(decision, reply)
        else:
            if message.cut is not None:
                layer.break_server()
            else:
                self._reset_server()
            self._answer(replies.from_decision(decision, layer.incident(), stored=self._flow.stored))

    def _reset_server(self) -> None:
        """Make the server forget a transaction that is over for the client."""
        if not self._layer.server_side.gone:
            self._layer.server_side.command(b"RSET\r\n", _reset_answered)

    # --- sending it on -------------------------------------------------------------------------------------------

    def _deliver(self, message: Message, decision: Decision) -> None:
        layer = self._layer
        self.stage = Stage.DELIVERING
        if message.cut is not None:
            layer.server_side.expect(self._final_reply)
            layer.send(message.cut.end())
        elif message.chunked and "CHUNKING" in layer.session.extensions:
            size, message.body = delivery.as_chunk(message.inspection, decision)
            layer.server_side.command(b"BDAT %d LAST\r\n" % size, self._final_reply)
            self._next_piece(message)
            self.send_body()
        else:
            # Also for chunks of a client that was not offered any: this server would take them for commands.
            message.body = delivery.as_data(message.inspection, decision)
            message.piece = b""
            layer.server_side.command(b"DATA\r\n", self._data_reply)

    def _data_reply(self, reply: Reply) -> None:
        message = self._message
        if message is None:
            return
        if reply.code != 354:
            message.piece = None
            self._reset_server()
            self._answer(reply)
        else:
            self._layer.server_side.expect(self._final_reply)
            self._next_piece(message)
            self.send_body()

    def _next_piece(self, message: Message) -> None:
        try:
            message.piece = next(message.body, None) if message.body is not None else None
        except OSError as error:
            # The server has a part and gets no end: it throws it away.
            message.why = f"spool: {error.strerror or error}"
            message.piece = None
            self._layer.break_server()
            self._answer(replies.from_decision(replies.NOT_HELD, ""))

    def send_body(self) -> None:
        """Send until the write buffer should drain; the end-of-data comes with the last piece."""
        layer, message = self._layer, self._message
        if self.stage is not Stage.DELIVERING or message is None:
            return
        sent = 0
        while message.piece is not None and not layer.server_side.gone:
            if layer.client_eof:
                message.why = "client left while its message was sent on"
                message.piece = None
                layer.break_server()
                self._answer(replies.CLIENT_LEFT)
                return
            if sent >= delivery.BURST:
                layer.hook(hooks.SmtpDrainHook(layer.server))
                return
            layer.send(message.piece)
            sent += len(message.piece)
            self._next_piece(message)

    def _final_reply(self, reply: Reply) -> None:
        message = self._message
        if message is None:
            return
        if message.piece is not None:  # answered before it had all: what it would make of the rest is unknown
            message.piece = None
            self._layer.break_server()
            if reply.positive:  # nobody can have accepted what was not sent
                reply = replies.SERVER_LOST
        elif message.chunked and not reply.positive:
            self._reset_server()  # RFC 3030 §2: after a refused chunk the server is in an indeterminate state
        self._answer(reply)

    def client_left(self) -> bool:
        """The client is gone; true when the session must wait for the end of what is under way.

        JUDGING: nothing was sent, and nothing will be. DELIVERING: with the whole message out, the server's answer is
        still worth a record; with a part of it out, `send_body` breaks off.
        """
        waits = self.stage in (Stage.JUDGING, Stage.DELIVERING)
        self.send_body()
        return waits

    def server_left(self) -> bool:
        """The server is gone; true when the session is not over yet."""
        if self.stage is Stage.DELIVERING:
            self._answer(replies.SERVER_LOST)
            return True
        if self._layer.client_side.waits_for_server:
            return False
        return self.stage in (Stage.ASKING, Stage.JUDGING) or self._layer.receiving

    def gave_up(self) -> None:
        """The server does not answer in time."""
        self._layer.break_server()
        self._answer(replies.SERVER_SILENT)

    # --- the end -------------------------------------------------------------------------------------------------

    def _answer(self, reply: Reply) -> None:
        """Tell the client about its message and go on with the session."""
        message = self._message
        slot = message.slot if message is not None else None
        self.record(reply, message.why if message is not None else "")
        if slot is not None:
            self._layer.client_side.answer(slot, reply)
        self._layer.message_over()

    def record(self, reply: Reply | None, why: str) -> None:
        """Write the records of the message and let it go."""
        layer = self._layer
        if self._message is not None:
            if layer.shown is not None:
                layer.shown.verdict(self._flow.decision or replies.UNJUDGED, layer.incident())
            anomalies = tuple(self.anomalies)
            layer.services.record_message(self._flow, layer.next_transaction(), replies.text_of(reply), why, anomalies)
        self.forget()

    def forget(self) -> None:
        """Let the message go."""
        message, self._message = self._message, None
        self._flow.inspection = None
        self._flow.stored = False
        self._chunk_slot = None
        self.stage = Stage.NONE
        self.anomalies.clear()
        if message is not None:
            message.piece = None
            message.inspection.close()


def _reset_answered(_: Reply) -> None:
    """A server that refuses RSET after a refused message has no message either way."""

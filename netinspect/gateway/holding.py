"""One message at a time: taken in, held, judged, and then sent on or refused.

The client's 354 and the replies to its chunks are ours. The server hears DATA only after the verdict, and the client
gets the server's own final reply: so a message is never refused and delivered, nor acknowledged and lost.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netinspect.anomaly import Anomaly
from netinspect.gateway import delivery, replies
from netinspect.gateway.client_side import Slot
from netinspect.gateway.hooks import SmtpDrainHook, SmtpEnvelopeHook, SmtpMessageHook, SmtpVerdictHook
from netinspect.smtp.events import ChunkEnd, MessageData, MessageEnd, MessageStarted, Reply

if TYPE_CHECKING:
    from netinspect.gateway.layer import SmtpLayer


class Stage(enum.Enum):
    """Where the message is."""

    NONE = enum.auto()
    """No message, or its octets still arrive."""
    ASKING = enum.auto()
    """The envelope hook is asked before 354."""
    COMPLETE = enum.auto()
    """All of it is here; replies to commands before it are still to come (pipelined BDAT)."""
    JUDGING = enum.auto()
    DELIVERING = enum.auto()


class Holding:
    """The message of the running transaction."""

    def __init__(self, layer: SmtpLayer) -> None:
        self._layer = layer
        self._flow = layer.flow
        self._slot: Slot | None = None
        self._end: MessageEnd | None = None
        self._body: Iterator[bytes] | None = None
        self._cut: delivery.CutThrough | None = None
        self._chunked = False
        self.stage = Stage.NONE
        self.anomalies: list[Anomaly] = []

    # --- taking it in --------------------------------------------------------------------------------------------

    def may_start(self) -> Reply | None:
        """DATA is the next to be answered: refuse it, or ask the envelope hook and then say 354."""
        layer = self._layer
        envelope = layer.session.envelope
        if not envelope.recipients:
            return replies.NO_RECIPIENTS
        self._flow.envelope = envelope
        self._flow.decision = None
        self._slot = layer.client_side.next
        self.stage = Stage.ASKING
        if layer.services.wanted(SmtpEnvelopeHook.name):
            layer.hook(SmtpEnvelopeHook(self._flow))
        else:
            self.envelope_passed()
        return None

    def envelope_passed(self) -> None:
        """The envelope hook is through."""
        layer = self._layer
        slot, self._slot = self._slot, None
        if self.stage is not Stage.ASKING or slot is None:
            return
        self.stage = Stage.NONE
        if layer.refused_by(self._flow.decision):
            return
        if layer.server_side.gone:
            layer.end_session(replies.SERVER_LOST_421)
        elif layer.settings.delivery == "cut-through":
            self._cut = delivery.CutThrough()
            layer.server_side.command(b"DATA\r\n", lambda reply: layer.client_side.answer(slot, reply))
        else:
            layer.client_side.answer(slot, replies.GO_AHEAD)
        layer.pump()

    def started(self, event: MessageStarted) -> None:
        """The first octets follow."""
        self._chunked = event.envelope.transfer == "BDAT"
        self._flow.inspection = self._layer.services.inspector.begin(self._layer.session_facts())

    def data(self, event: MessageData) -> None:
        """A piece of the message."""
        inspection = self._flow.inspection
        if inspection is None:
            return
        inspection.feed(event.data)
        if self._layer.shown is not None:
            self._layer.shown.mail(event.data)
        if self._cut is not None and not self._layer.server_side.gone:
            self._layer.send(self._cut.feed(event.data))

    def chunk_end(self, event: ChunkEnd) -> None:
        """A BDAT chunk that is not the last is here."""
        client_side = self._layer.client_side
        taken = replies.chunk_taken(event.size)
        client_side.newest.decide = lambda: (
            taken if self._layer.session.envelope.recipients else replies.NO_RECIPIENTS
        )
        client_side.drain()

    def anomaly(self, event: Anomaly) -> None:
        """A malformation. Smuggling in a message that already flows on stops it before the octets in question do."""
        self.anomalies.append(event)
        if event.kind == "smuggling" and self._cut is not None:
            self._layer.break_server()

    def end(self, event: MessageEnd) -> None:
        """All of it is here."""
        self._end = event
        self.stage = Stage.COMPLETE
        client_side = self._layer.client_side
        if self._chunked:
            client_side.newest.decide = self._may_judge
        else:
            client_side.open(None, decide=self._may_judge)
        client_side.drain()

    # --- judging -------------------------------------------------------------------------------------------------

    def _may_judge(self) -> Reply | None:
        """All replies before that to the message are out: now it counts which recipients the server took."""
        layer, flow, end = self._layer, self._flow, self._end
        inspection, envelope = flow.inspection, layer.session.envelope
        if inspection is None or end is None or not envelope.recipients:
            self.forget()
            if not layer.server_side.gone:  # the server still has the sender, and the next MAIL must not be nested
                layer.server_side.command(b"RSET\r\n", _reset_answered)
            return replies.NO_RECIPIENTS
        self._slot = layer.client_side.next
        self.stage = Stage.JUDGING
        layer.backlog = layer.session.backlog
        flow.envelope = envelope
        flow.decision = None
        flow.judgement = None
        inspection.end(envelope, end, tuple(self.anomalies))
        if end.truncated:
            flow.decision = replies.as_decision(replies.TOO_BIG, "message over the size limit")
            self.judged()
        else:
            layer.hook(SmtpMessageHook(flow))
        return None

    def judged(self) -> None:
        """The message hook is through. Without a decision the sender keeps the mail."""
        flow = self._flow
        if self.stage is not Stage.JUDGING:
            return
        if flow.decision is None:
            flow.decision = flow.judgement.decision if flow.judgement else replies.UNJUDGED
        if self._layer.services.wanted(SmtpVerdictHook.name):
            self._layer.hook(SmtpVerdictHook(flow))
        else:
            self.act()

    def act(self) -> None:
        """Carry out the decision."""
        if self.stage is not Stage.JUDGING:
            return
        layer = self._layer
        decision = self._flow.decision or replies.UNJUDGED
        if layer.client_eof:
            self._flow.metadata["why"] = "client left before the verdict"
            self._answer(replies.CLIENT_LEFT)
        elif decision.delivers:
            if layer.server_side.gone:
                self._answer(replies.SERVER_LOST)
            else:
                self._deliver()
        elif decision.action == "drop":
            reply = replies.from_decision(decision, layer.incident())
            self.record(None if decision.reset else reply, "")
            layer.last_word(decision, reply)
        else:
            if self._cut is not None:
                layer.break_server()
            elif not layer.server_side.gone:
                layer.server_side.command(b"RSET\r\n", _reset_answered)
            self._answer(replies.from_decision(decision, layer.incident()))

    # --- sending it on -------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        layer, inspection, decision = self._layer, self._flow.inspection, self._flow.decision
        if inspection is None or decision is None:
            raise AssertionError("a message is delivered without a decision")
        self.stage = Stage.DELIVERING
        if self._cut is not None:
            layer.server_side.expect(self._final_reply)
            layer.send(self._cut.end())
        elif self._chunked:
            size, self._body = delivery.as_chunk(inspection, decision)
            layer.server_side.command(b"BDAT %d LAST\r\n" % size, self._final_reply)
            self.send_body()
        else:
            self._body = delivery.as_data(inspection, decision)
            layer.server_side.command(b"DATA\r\n", self._data_reply)

    def _data_reply(self, reply: Reply) -> None:
        if reply.code != 354:
            self._answer(reply)
        else:
            self._layer.server_side.expect(self._final_reply)
            self.send_body()

    def send_body(self) -> None:
        """Send until the write buffer should drain; the end-of-data comes with the last piece."""
        layer = self._layer
        if self._body is None or layer.server_side.gone:
            return
        if layer.client_eof:
            # Not all of it was sent, so the server throws away what it has.
            self._flow.metadata["why"] = "client left while its message was sent on"
            self._body = None
            layer.break_server()
            self._answer(replies.CLIENT_LEFT)
            return
        sent = 0
        for piece in self._body:
            layer.send(piece)
            sent += len(piece)
            if sent >= delivery.BURST:
                layer.hook(SmtpDrainHook(layer.server))
                return
        self._body = None

    def _final_reply(self, reply: Reply) -> None:
        if self._body is not None:  # answered before it had all: what it would make of the rest is unknown
            self._body = None
            self._layer.break_server()
            if reply.positive:  # nobody can have accepted what was not sent
                reply = replies.SERVER_LOST
        self._answer(reply)

    def client_left(self) -> bool:
        """The client is gone; true when the session must wait for the end of what is under way.

        JUDGING: nothing was sent, and nothing will be. DELIVERING: with the whole message out, the server's answer is
        still worth a record; with a part of it out, `send_body` breaks off.
        """
        if self.stage is Stage.DELIVERING and self._body is not None:
            self.send_body()
        return self.stage in (Stage.JUDGING, Stage.DELIVERING)

    def server_left(self) -> bool:
        """The server is gone; true when the session is not over yet."""
        if self.stage is Stage.DELIVERING:
            self._body = None
            self._answer(replies.SERVER_LOST)
            return True
        return self.stage in (Stage.ASKING, Stage.JUDGING) or self._layer.receiving

    def gave_up(self) -> None:
        """The server does not answer in time."""
        self._body = None
        self._layer.break_server()
        self._answer(replies.SERVER_SILENT)

    # --- the end -------------------------------------------------------------------------------------------------

    def _answer(self, reply: Reply) -> None:
        """Tell the client about its message and go on with the session."""
        slot, self._slot = self._slot, None
        self.record(reply, self._flow.metadata.pop("why", ""))
        if slot is not None:
            self._layer.client_side.answer(slot, reply)
        self._layer.message_over()

    def record(self, reply: Reply | None, why: str) -> None:
        """Write the records of the message and let it go. `why` is a reason that is not the policy's."""
        layer = self._layer
        if self._flow.inspection is not None:
            if layer.shown is not None:
                layer.shown.verdict(self._flow.decision or replies.UNJUDGED, layer.incident())
            layer.services.record_message(self._flow, layer.next_transaction(), replies.text_of(reply), why)
        self.forget()

    def forget(self) -> None:
        """Let the message go."""
        inspection, self._flow.inspection = self._flow.inspection, None
        if inspection is not None:
            inspection.close()
        self.stage = Stage.NONE
        self._body = None
        self._cut = None
        self._end = None
        self.anomalies.clear()


def _reset_answered(_: Reply) -> None:
    """A server that refuses RSET after a refused message has no message either way."""

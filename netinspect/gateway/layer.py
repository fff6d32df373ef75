"""The SMTP layer: one session between a client and its server.

Strategy. A `Session` (the sans-IO core) watches the conversation as the client sees it, so the gateway and a capture of
what it did tell the same story. Commands go on to the server and are answered in order (`commands`, `client_side`,
`server_side`); the message itself does not: it is held until it is judged (`holding`).

Nothing here blocks: hooks complete by an event (`blocking` is set to the layer itself, so mitmproxy does not pause it),
which keeps the client's bytes counted and its leaving noticed while a message is judged.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands as mitm
from mitmproxy.proxy import context, events, layer

from netinspect.anomaly import Anomaly
from netinspect.gateway import commands, hooks, replies
from netinspect.gateway.client_side import ClientSide
from netinspect.gateway.driver import Lost
from netinspect.gateway.holding import Holding, Stage
from netinspect.gateway.server_side import ServerSide
from netinspect.gateway.services import Listener, Services
from netinspect.gateway.show import ShownSession
from netinspect.inspector import flow_id_of
from netinspect.policy.decision import Decision
from netinspect.policy.facts import SessionFacts
from netinspect.scan.contract import Finding
from netinspect.smtp import events as smtp
from netinspect.smtp.session import Phase, Session

WAKE_EVERY = 30.0
"""Seconds between looks at the session's timeouts, at most: what a session waits for changes, and so does its limit."""


@dataclass(frozen=True)
class Shutdown(events.Event):
    """The gateway is told to stop: finish what is running, take nothing new. `now`: put on record what is cut off."""

    now: bool = False


class SmtpLayer(layer.Layer):
    """One intercepted SMTP session."""

    def __init__(self, ctx: context.Context, services: Services, listener: Listener, *, show: bool = False) -> None:
        super().__init__(ctx)
        self.services = services
        self.settings = services.settings.gateway
        self.limits = services.settings.limits
        self.client = ctx.client
        self.server = ctx.server
        destination = ctx.server.address or ("", 0)
        self.flow = hooks.SmtpFlow(
            ctx.client,
            ctx.server,
            SessionFacts(
                zone=listener.zone,
                src_ip=ctx.client.peername[0],
                src_port=ctx.client.peername[1],
                dest_ip=destination[0],
                dest_port=destination[1],
                flow_id=flow_id_of(ctx.client.peername, destination),
            ),
        )
        self.session = Session(self.limits, bare_newline=self.settings.bare_newline)
        self.shown = ShownSession(ctx.client, ctx.server, self.flow) if show else None
        self.client_side = ClientSide(self._tell)
        self.server_side = ServerSide(self.limits, self.send)
        self.holding = Holding(self)
        self.greeted = False
        self.closed = False
        self.stopping = False
        self.doomed = False
        """Ends with the reply to the command just seen."""
        self.client_eof = False
        """The client sends no more; it may still read."""
        self.client_gone = False
        self.errors = 0
        self.recipients = 0
        self.backlog = 0
        """Octets the client sent while it had to wait."""
        self._transactions = 0
        self._overran = False
        self._client_at = self._server_at = time.monotonic()
        self._inbox: deque[smtp.Event] = deque()
        self._out: list[mitm.Command] = []
        self._told: list[bytes] = []

    # --- mitmproxy's side ----------------------------------------------------------------------------------------

    def handle_event(self, event: events.Event) -> Any:
        """Take one event, give the commands it leads to. Never pauses, so nothing is queued unseen."""
        EVENTS[type(event)](self, event)
        if self.client_eof and not self._inbox and not self.client_side and not self.waiting:
            self.close_both()
        return self._take_out()

    def _handle_event(self, event: events.Event) -> Any:
        raise AssertionError("handle_event is overridden")

    def _take_out(self) -> list[mitm.Command]:
        out, self._out = self._out, []
        if self._told:
            # All replies that one event led to leave in one write, in front of a close that it asked for.
            data = b"".join(self._told)
            self._told.clear()
            at = next((i for i, c in enumerate(out) if isinstance(c, mitm.CloseConnection)), len(out))
            out.insert(at, mitm.SendData(self.client, data))
            if self.shown is not None:
                self.shown.said(False, data)
        if self.shown is not None:
            out[:0] = self.shown.take()
        return out

    def _data(self, event: events.DataReceived) -> None:
        if event.connection is self.client:
            self._client_at = time.monotonic()
            self._from_client(event.data)
        else:
            self._from_server(event.data)

    def _start(self, _: events.Start) -> None:
        self._out.append(mitm.RequestWakeup(min(WAKE_EVERY, self.settings.command_timeout)))
        if self.services.wanted(hooks.SmtpSessionHook.name):
            self.hook(hooks.SmtpSessionHook(self.flow))
        else:
            self._session_passed()

    def _gone(self, event: events.ConnectionEvent) -> None:
        if event.connection is self.client:
            self._client_left(gone=isinstance(event, Lost) or not self.client.state & ConnectionState.CAN_WRITE)
        else:
            self._server_left()

    def _shutdown(self, event: Shutdown) -> None:
        self.stopping = True
        if event.now:
            self.flow.metadata["error"] = "cut off at shutdown"
            self.close_both()
        elif not self.closed and not self.waiting and not self._under_way():
            self.end_session(replies.SHUTTING_DOWN)

    def hook(self, hook: mitm.StartHook) -> None:
        """Ask all addons; the answer comes as an event."""
        hook.blocking = self  # type: ignore[assignment]  # a layer is a value mitmproxy's own annotation allows
        self._out.append(hook)

    def send(self, data: bytes) -> None:
        """Send to the server."""
        self._server_at = time.monotonic()
        self._out.append(mitm.SendData(self.server, data))

    # --- start -----------------------------------------------------------------------------------------------------

    def _hook_done(self, event: events.HookCompleted) -> None:
        hook = event.command
        if self.closed:
            return
        if isinstance(hook, hooks.SmtpMessageHook):
            self.holding.judged()
        elif isinstance(hook, hooks.SmtpVerdictHook):
            self.holding.decided()
        elif isinstance(hook, hooks.SmtpStoreHook):
            self.holding.stored()
        elif isinstance(hook, hooks.SmtpDrainHook):
            self._server_at = time.monotonic()
            self.holding.send_body()
        elif isinstance(hook, hooks.SmtpEnvelopeHook):
            self.holding.envelope_passed()
        elif isinstance(hook, hooks.SmtpSessionHook):
            self._session_passed()

    def _session_passed(self) -> None:
        if self.refused_by(self.flow.decision):
            return
        if self.spoofed(self.services.identity.check_client(self.flow.session)):
            return
        if not self.server.state & ConnectionState.CAN_WRITE:  # else the stock handler has opened it
            command = mitm.OpenConnection(self.server)
            command.blocking = self  # type: ignore[assignment]
            self._out.append(command)

    def _connected(self, event: events.OpenConnectionCompleted) -> None:
        error = event.reply
        if self.closed:
            self._close_server()
        elif error:
            self.server_side.lost()
            self.flow.metadata["error"] = f"server: {error}"
            self.end_session(replies.NO_SERVER)

    def _greeting(self, reply: smtp.Reply) -> None:
        self.greeted = True
        banner = self.settings.banner
        if reply.code != 220:
            self.flow.metadata["error"] = "server refused the session"
            self.end_session(reply if reply.code >= 400 else replies.NO_SERVER)
            return
        self._tell(replies.make(220, "", banner) if banner else reply, None)
        self.pump()

    # --- the client --------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether the client's commands have to wait: no greeting yet, or its message is being judged or sent on."""
        return not self.greeted or self.doomed or self.holding.stage is not Stage.NONE

    def _from_client(self, data: bytes) -> None:
        if self.closed or self.client_eof or self._overran:
            return
        if self.waiting:
            self.backlog += len(data)
            if self.backlog > self.limits.pipeline_backlog:
                self._overrun()
                return
        self._inbox.extend(self.session.feed(smtp.Side.CLIENT, data))
        self.pump()

    def pump(self) -> None:
        """Handle what the client said, as long as it need not wait."""
        inbox = self._inbox
        while inbox and not self.waiting and not self.closed:
            event = inbox.popleft()
            handler = HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _overrun(self) -> None:
        self.flow.metadata["error"] = "client sent more than it may while it has to wait"
        self.holding.anomaly(Anomaly("pipeline_overrun", "smtp"))
        if self.holding.stage is Stage.DELIVERING:
            self._overran = True  # the server may have its message already: first it is told what became of that
        else:
            self.end_session(replies.TOO_MUCH)

    def count_error(self) -> None:
        """One more error of the client; too many end the session."""
        self.errors += 1
        if self.errors >= self.limits.errors_per_session:
            self.end_session(replies.TOO_MANY_ERRORS)

    def _command(self, event: smtp.CommandReceived) -> None:
        if self.shown is not None:
            self.shown.said(True, event.command.raw)
        commands.dispatch(self, event.command)

    def forward(self, command: smtp.Command | None, raw: bytes) -> None:
        """Send a command on; its reply goes to the client when its turn comes."""
        if len(self.client_side) >= self.limits.pipeline_commands:
            self._overrun()
            return
        slot = self.client_side.open(command)
        slot.forwarded = True
        if command is not None and command.verb in ("EHLO", "HELO"):
            self.server_side.command(
                raw, lambda reply: self.client_side.answer(slot, commands.ehlo_answered(self, reply))
            )
        else:
            self.server_side.command(raw, lambda reply: self.client_side.answer(slot, reply))

    def _auth_line(self, event: smtp.AuthLine) -> None:
        if self.shown is not None:
            self.shown.said(True, b"")
        # RFC 4954 §4: "*" cancels an exchange; a line that we cannot read whole is not sent on in part.
        self.forward(None, b"*\r\n" if event.error else event.secret)

    def message_follows(self) -> bool:
        """Whether the BDAT command just seen belongs to a message: one that it starts, or one that is running."""
        return self.flow.inspection is not None or (
            bool(self._inbox) and isinstance(self._inbox[0], smtp.MessageStarted)
        )

    @property
    def receiving(self) -> bool:
        """The client is in the middle of its message."""
        return self.session.phase in (Phase.DATA, Phase.CHUNK)

    def _tell(self, reply: smtp.Reply, command: smtp.Command | None) -> None:
        self._told.append(reply.raw)
        self._inbox.extend(self.session.reply(reply))
        last = self.doomed or (command is not None and command.verb == "QUIT")
        if last and not self.client_side.unanswered:
            self.end_session(None)

    # --- the server --------------------------------------------------------------------------------------------------

    def _from_server(self, data: bytes) -> None:
        for reply in self.server_side.feed(data):
            if self.server_side.gone or self.closed:
                return
            self._server_at = time.monotonic()
            if reply.error:
                self.holding.anomaly(Anomaly(f"reply_{reply.error}", "smtp"))
                reply = replies.rebuilt(reply)
            if not self.greeted:
                self._greeting(reply)
            elif not reply.code or not self.server_side.answered(reply):
                self._unsolicited(reply)
        self.pump()

    def _unsolicited(self, reply: smtp.Reply) -> None:
        """The server speaks unasked: a 421 before it closes, or nonsense after which no reply can be matched."""
        self.flow.metadata["error"] = f"server said {reply.code} unasked"
        self.server_side.lost()
        if not self.holding.server_left():
            self.end_session(reply if reply.code == 421 else replies.SERVER_LOST_421)

    # --- facts and decisions -----------------------------------------------------------------------------------------

    def session_facts(self) -> SessionFacts:
        """What is known of the session by now."""
        envelope, facts = self.session.envelope, self.flow.session
        if (facts.helo, facts.authenticated, facts.tls) != (envelope.helo, envelope.authenticated, envelope.tls):
            facts = self.flow.session = replace(
                facts, helo=envelope.helo, authenticated=envelope.authenticated, tls=envelope.tls
            )
        return facts

    def spoofed(self, finding: Finding | None, mail_from: str = "") -> bool:
        """Let the policy decide about an internal-looking sender; true when the session must not go on."""
        if finding is None:
            return False
        self.flow.judgement = self.services.inspector.judge_session(self.session_facts(), finding, mail_from)
        return self.refused_by(self.flow.judgement.decision)

    def refused_by(self, decision: Decision | None) -> bool:
        """Carry out a decision made before there is a message; true when the session is over."""
        if decision is None or decision.delivers:
            return False
        reply = replies.from_decision(decision, self.incident())
        if self.shown is not None:
            self.shown.verdict(decision, self.incident())
        self.services.record_session(self.flow, decision, "" if decision.reset else replies.text_of(reply))
        self.last_word(decision, reply)
        return True

    def last_word(self, decision: Decision, reply: smtp.Reply) -> None:
        """Drop the session: with a reply, or with a TCP reset where the decision says so."""
        if decision.reset:
            self.client.error = "reset"
            self.end_session(None)
        else:
            self.end_session(reply)

    def incident(self) -> str:
        """The id of the judgement, empty when there was none."""
        return self.flow.judgement.incident_id if self.flow.judgement else ""

    def next_transaction(self) -> int:
        """Number of the transaction in its session, from 1."""
        self._transactions += 1
        return self._transactions

    # --- the end -----------------------------------------------------------------------------------------------------

    def message_over(self) -> None:
        """The client knows what became of its message."""
        self.backlog = 0
        self.recipients = 0
        if self.closed:
            return
        if self.client_gone:
            self.close_both()
        elif self._overran:
            self.end_session(replies.TOO_MUCH)
        elif self.server_side.gone:
            self.end_session(replies.SERVER_LOST_421)
        elif self.stopping:
            self.end_session(replies.SHUTTING_DOWN)
        else:
            self.pump()

    def end_session(self, reply: smtp.Reply | None) -> None:
        """Say a last word if there is one, and close both sides."""
        if self.closed:
            return
        # A command that gets our 421 instead of an answer, or errors without end: also without a transaction on record.
        refused = self.greeted and (reply is replies.TOO_MANY_ERRORS or self._owes(reply))
        before = self._transactions
        if refused:
            self.session_facts()  # while it is known what the client said
        if reply is not None:
            reply = replies.signed(reply, self.settings.hostname)
            if not self.client_gone:
                self._told.append(reply.raw)
        self.close_both(replies.text_of(reply))
        if refused and self._transactions == before:
            why = self.flow.metadata.get("error", "too many errors")
            self.services.record_failure(self.flow, why, replies.text_of(reply))

    def _owes(self, reply: smtp.Reply | None) -> bool:
        ours = reply in (replies.SERVER_LOST_421, replies.TIMEOUT, replies.TOO_MUCH)
        return ours and self.client_side.unanswered

    def close_both(self, reply: str = "") -> None:
        """Close both sides, and put on record what was under way."""
        if self.closed:
            return
        self.closed = True
        for event in self._inbox:  # QUIT was answered in the middle of a transaction
            if isinstance(event, smtp.TransactionReset):
                self._reset(event)
        self._inbox.clear()
        self.client_side.clear()
        if self.flow.inspection is not None:
            self.holding.record(None, self.flow.metadata.get("error", "session ended in the middle of a message"))
        else:
            for event in self.session.eof(smtp.Side.CLIENT):
                if isinstance(event, smtp.TransactionReset):
                    self._reset(event)
        if not self.greeted and self.flow.judgement is None and self.flow.metadata.get("error"):
            self.services.record_failure(self.flow, self.flow.metadata["error"], reply)
        self.server_side.lost()
        self._close_server()
        self._out.append(mitm.CloseConnection(self.client))
        if self.shown is not None:
            self.shown.end()

    def release(self) -> None:
        """Forget everything, once no event will come any more. The parts refer to the layer and it to them."""
        self.context.layers.clear()
        self.__dict__.clear()

    def _close_server(self) -> None:
        if self.server.state is not ConnectionState.CLOSED:
            self._out.append(mitm.CloseConnection(self.server))

    def break_server(self) -> None:
        """Leave the server in the middle of a message, so that it throws away what it has."""
        if not self.server_side.gone:
            self.server_side.lost()
            self.server.error = "reset"
            self._close_server()

    def _client_left(self, *, gone: bool) -> None:
        if self.closed:
            return
        self.client_eof = True
        self.client_gone = self.client_gone or gone
        self.flow.metadata.setdefault("error", "client left")
        if not self.holding.client_left() and (gone or self.receiving):
            self.close_both()

    def _server_left(self) -> None:
        if self.closed or self.server_side.gone:
            return
        self.flow.metadata.setdefault("error", "server closed the connection")
        self.server_side.lost()
        self._close_server()
        if not self.holding.server_left():
            self.end_session(replies.SERVER_LOST_421 if self.greeted else replies.NO_SERVER)

    def _under_way(self) -> bool:
        """A transaction or an unanswered command."""
        return bool(self.client_side) or self.receiving or self.session.in_transaction

    def _reset(self, event: smtp.TransactionReset) -> None:
        self.recipients = 0
        if self.flow.inspection is not None:
            self.holding.record(None, event.why)
        else:
            self.services.record_reset(self.flow, self.next_transaction(), event.envelope, event.why)

    def _look_at_timeouts(self, _: events.Wakeup) -> None:
        if self.closed:
            return
        delivering = self.holding.stage is Stage.DELIVERING
        on_server = delivering or not self.greeted or self.client_side.waits_for_server
        limit = self.settings.data_timeout if delivering else self.settings.command_timeout
        left = limit - (time.monotonic() - (self._server_at if on_server else self._client_at))
        if left <= 0 and self.holding.stage in (Stage.NONE, Stage.COMPLETE, Stage.DELIVERING):
            self.flow.metadata["error"] = "the server does not answer" if on_server else "the client is silent"
            if delivering:
                self.holding.gave_up()
            else:
                self.end_session(replies.SERVER_LOST_421 if on_server else replies.TIMEOUT)
        if not self.closed:
            self._out.append(mitm.RequestWakeup(min(WAKE_EVERY, max(left, 0.1))))


EVENTS: dict[type, Callable[[SmtpLayer, Any], None]] = {
    Lost: SmtpLayer._gone,
    Shutdown: SmtpLayer._shutdown,
    events.ConnectionClosed: SmtpLayer._gone,
    events.DataReceived: SmtpLayer._data,
    events.HookCompleted: SmtpLayer._hook_done,
    events.OpenConnectionCompleted: SmtpLayer._connected,
    events.Start: SmtpLayer._start,
    events.Wakeup: SmtpLayer._look_at_timeouts,
}


def _to_holding(name: str) -> Callable[[SmtpLayer, Any], None]:
    def handle(layer: SmtpLayer, event: Any) -> None:
        getattr(layer.holding, name)(event)

    return handle


HANDLERS: dict[type, Callable[[SmtpLayer, Any], None]] = {
    Anomaly: _to_holding("anomaly"),
    smtp.AuthLine: SmtpLayer._auth_line,
    smtp.BacklogExceeded: lambda layer, event: layer._overrun(),
    smtp.ChunkEnd: _to_holding("chunk_end"),
    smtp.CommandReceived: SmtpLayer._command,
    smtp.MessageData: _to_holding("data"),
    smtp.MessageEnd: _to_holding("end"),
    smtp.MessageStarted: _to_holding("started"),
    smtp.SessionEnded: lambda layer, event: None,
    smtp.TlsStarted: lambda layer, event: None,
    smtp.TransactionReset: SmtpLayer._reset,
}

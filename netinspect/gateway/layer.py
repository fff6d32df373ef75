"""The SMTP layer: one session between a client and its server.

Strategy. A `Session` (the sans-IO core) watches the conversation as the client sees it, so the gateway and a capture of
what it did tell the same story. Commands go on to the server and are answered in order (`commands`, `client_side`,
`server_side`); the message itself does not: it is held until it is judged (`holding`). How it all ends: `ends`.

Nothing here blocks: hooks complete by an event (`blocking` is set to the layer itself, so mitmproxy does not pause it),
which keeps the client's bytes counted and its leaving noticed while a message is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands as mitm
from mitmproxy.proxy import context, events

from netinspect.anomaly import Anomaly
from netinspect.gateway import commands, hooks, replies
from netinspect.gateway.client_side import ClientSide
from netinspect.gateway.driver import Lost
from netinspect.gateway.ends import WAKE_EVERY, Ending, Shutdown
from netinspect.gateway.holding import Holding, Stage
from netinspect.gateway.server_side import ServerSide
from netinspect.gateway.services import Listener, Services
from netinspect.gateway.show import ShownSession
from netinspect.inspector import flow_id_of
from netinspect.policy.decision import Decision
from netinspect.policy.facts import SessionFacts
from netinspect.scan.contract import Finding
from netinspect.smtp import events as smtp
from netinspect.smtp.session import Session


class SmtpLayer(Ending):
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
        recorder = services.recorder
        self.tape = (
            recorder.begin(self.session, self.flow.session, listener.name, ctx.client.sockname) if recorder else None
        )
        self.client_side = ClientSide(self._tell)
        self.server_side = ServerSide(self.limits, self.send)
        self.holding = Holding(self)

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
            at = next((i for i, c in enumerate(out) if isinstance(c, mitm.CloseConnection)), len(out)) if out else 0
            out.insert(at, mitm.SendData(self.client, data))
            if self.shown is not None:
                self.shown.said(False, data)
        if self.shown is not None:
            out[:0] = self.shown.take()
        if self.tape is not None:
            self.tape.flush()
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
        # Flags are compared by Python code: `is` first. An open one was opened by the stock handler.
        if self.server.state is ConnectionState.CLOSED or not self.server.state & ConnectionState.CAN_WRITE:
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
        understood = self.session.feed(smtp.Side.CLIENT, data)
        self._inbox.extend(understood)
        if self.tape is not None:
            self.tape.heard(data, understood)
        self.pump()

    def pump(self) -> None:
        """Handle what the client said, as long as it need not wait."""
        inbox = self._inbox
        while inbox and not self.waiting and not self.closed:
            event = inbox.popleft()
            handler = HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

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

    def _tell(self, reply: smtp.Reply, command: smtp.Command | None) -> None:
        self._told.append(reply.raw)
        understood = self.session.reply(reply)
        self._inbox.extend(understood)
        if self.tape is not None:
            self.tape.told(reply.raw, understood)
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

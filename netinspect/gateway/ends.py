"""How a session ends: by either side, by its timeouts, by an error too many, by us.

`Ending` is the half of the layer that knows when it is over and what is still owed then: a last word to the client, a
record of what was under way, both connections closed. It holds the state of that; `layer.SmtpLayer` does the rest.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mitmproxy import connection
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands as mitm
from mitmproxy.proxy import context, events, layer

from netinspect.anomaly import Anomaly
from netinspect.gateway import replies
from netinspect.gateway.driver import Lost
from netinspect.gateway.holding import Stage
from netinspect.smtp import events as smtp
from netinspect.smtp.session import Phase

if TYPE_CHECKING:
    from netinspect.config.schema import GatewaySettings
    from netinspect.gateway.client_side import ClientSide
    from netinspect.gateway.holding import Holding
    from netinspect.gateway.hooks import SmtpFlow
    from netinspect.gateway.server_side import ServerSide
    from netinspect.gateway.services import Services
    from netinspect.gateway.show import ShownSession
    from netinspect.gateway.tape import Tape
    from netinspect.limits import Limits
    from netinspect.policy.facts import SessionFacts
    from netinspect.smtp.session import Session

WAKE_EVERY = 30.0
"""Seconds between looks at the session's timeouts, at most: what a session waits for changes, and so does its limit."""


@dataclass(frozen=True)
class Shutdown(events.Event):
    """The gateway is told to stop: finish what is running, take nothing new. `now`: put on record what is cut off."""

    now: bool = False


class Ending(layer.Layer):
    """A session and its end. What it consists of is made in `SmtpLayer`."""

    services: Services
    settings: GatewaySettings
    limits: Limits
    client: connection.Client
    server: connection.Server
    flow: SmtpFlow
    session: Session
    shown: ShownSession | None
    tape: Tape | None
    client_side: ClientSide
    server_side: ServerSide
    holding: Holding

    def __init__(self, ctx: context.Context) -> None:
        super().__init__(ctx)
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

    # --- what the rest of the session does ---------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether the client's commands have to wait."""
        raise NotImplementedError

    def pump(self) -> None:
        """Go on with what the client said."""
        raise NotImplementedError

    def session_facts(self) -> SessionFacts:
        """What is known of the session by now."""
        raise NotImplementedError

    @property
    def receiving(self) -> bool:
        """The client is in the middle of its message."""
        return self.session.phase in (Phase.DATA, Phase.CHUNK)

    def next_transaction(self) -> int:
        """Number of the transaction in its session, from 1."""
        self._transactions += 1
        return self._transactions

    # --- reasons to end ----------------------------------------------------------------------------------------------

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

    def _shutdown(self, event: Shutdown) -> None:
        self.stopping = True
        if event.now:
            self.flow.metadata["error"] = "cut off at shutdown"
            self.close_both()
        elif not self.closed and not self.waiting and not self._under_way():
            self.end_session(replies.SHUTTING_DOWN)

    def _gone(self, event: events.ConnectionEvent) -> None:
        if event.connection is self.client:
            self._client_left(gone=isinstance(event, Lost) or not self.client.state & ConnectionState.CAN_WRITE)
        else:
            self._server_left()

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
                if self.tape is not None:
                    self.tape.told(reply.raw)
        self.close_both(replies.text_of(reply), refused=refused)
        if refused and self._transactions == before:
            why = self.flow.metadata.get("error", "too many errors")
            self.services.record_failure(self.flow, why, replies.text_of(reply))

    def _owes(self, reply: smtp.Reply | None) -> bool:
        ours = reply in (replies.SERVER_LOST_421, replies.TIMEOUT, replies.TOO_MUCH)
        return ours and self.client_side.unanswered

    def close_both(self, reply: str = "", *, refused: bool = False) -> None:
        """Close both sides, and put on record what was under way; `refused`: the caller does it where nothing is."""
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
            # The server's end as well: a transaction with a command that nobody answered is one all the same.
            running = self.session.envelope if self.session.in_transaction else None
            over = self.session.eof(smtp.Side.CLIENT)
            if not refused:
                over += self.session.eof(smtp.Side.SERVER)
            for event in over:
                if isinstance(event, smtp.TransactionReset) and event.envelope is running:
                    self._reset(smtp.TransactionReset(event.envelope, "client_eof"))
        if not self.greeted and self.flow.judgement is None and self.flow.metadata.get("error"):
            self.services.record_failure(self.flow, self.flow.metadata["error"], reply)
        self.server_side.lost()
        self._close_server()
        self._out.append(mitm.CloseConnection(self.client))
        if self.shown is not None:
            self.shown.end()
        if self.tape is not None:
            self.tape.end(by_client=self.client_eof, reset=self.client.error == "reset")

    def release(self) -> None:
        """Forget everything, once no event will come any more. The parts refer to the layer and it to them."""
        if self.tape is not None and not self.tape.over:
            self.tape.end(by_client=False, reset=True)  # by a fault, without a word
            self.tape.flush()
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

    def _under_way(self) -> bool:
        """A transaction or an unanswered command."""
        return bool(self.client_side) or self.receiving or self.session.in_transaction

    def _reset(self, event: smtp.TransactionReset) -> None:
        self.recipients = 0
        if self.flow.inspection is not None:
            self.holding.record(None, event.why)
        else:
            anomalies = tuple(self.holding.anomalies)
            self.holding.anomalies.clear()
            self.services.record_reset(self.flow, self.next_transaction(), event.envelope, event.why, anomalies)

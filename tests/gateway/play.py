"""Plays a session against the SMTP layer without any socket: events in, and what each side was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mitmproxy import options
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.proxy import commands, context, events

from netinspect.config import Settings
from netinspect.gateway import hooks
from netinspect.gateway.driver import Lost
from netinspect.gateway.ends import Shutdown
from netinspect.gateway.layer import SmtpLayer
from netinspect.gateway.recorder import Recorder
from netinspect.gateway.services import Listener, Services
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector, Judgement
from netinspect.policy.decision import Decision
from netinspect.policy.facts import Facts
from netinspect.policy.rules import Policy
from netinspect.scan.contract import EngineState

ACCEPT = Decision("accept")
REJECT = Decision("reject", "test", 550, "5.7.1", "Message refused (id {id})", rules=("test",))
TEMPFAIL = Decision("tempfail", "test", 451, "4.7.1", "Try again later", rules=("test",))

GREETING = b"220 mx.test ESMTP\r\n"
EHLO = b"EHLO client.test\r\n"
EHLO_REPLY = b"250-mx.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 8BITMIME\r\n"
MAIL = b"MAIL FROM:<a@client.test>\r\n"
RCPT = b"RCPT TO:<b@corp.test>\r\n"
OK = b"250 2.0.0 Ok\r\n"
BODY = b"Subject: x\r\n\r\nhello\r\n"


class MemoryWriter:
    """A record writer that keeps the lines."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


class NoPanel:
    """Engines that are never asked: the tests decide."""

    engines: tuple[EngineState, ...] = ()

    async def examine(self, leaves: Any, words: object = None) -> Any:
        raise AssertionError("not reached")


@dataclass
class Play:
    """One session. `decision` is what the judgement will be (None: no judgement)."""

    settings: Settings = field(default_factory=Settings)
    zone: str = "external"
    decision: Decision | None = ACCEPT
    hold_judgement: bool = False
    peer: tuple[str, int] = ("198.51.100.7", 40000)

    def __post_init__(self) -> None:
        self.to_client = b""
        self.to_server = b""
        self.closed: list[str] = []
        self.waiting: list[commands.StartHook] = []
        self.asked: list[str] = []
        self.queue: list[events.Event] = []
        self.writer = MemoryWriter()
        client = Client(peername=self.peer, sockname=("192.0.2.1", 25), state=ConnectionState.OPEN)
        ctx = context.Context(client, options.Options())
        ctx.server.address = ("192.0.2.1", 25)
        inspector = Inspector(
            self.settings.limits,
            NoPanel(),  # type: ignore[arg-type]
            Policy.from_settings(self.settings.policy),
            Identity(self.settings.networks),
        )
        self.recorder = Recorder(self.settings.record, self.settings.limits) if self.settings.record.directory else None
        services = Services(self.settings, inspector, self.writer, recorder=self.recorder)  # type: ignore[arg-type]
        listener = Listener("test", self.zone, "", 10025, True)  # type: ignore[arg-type]
        self.layer = SmtpLayer(ctx, services, listener)
        self.client_conn, self.server_conn = ctx.client, ctx.server
        self.event(events.Start())

    def event(self, event: events.Event) -> None:
        """One event, and all that follows from it at once."""
        self.queue.append(event)
        if len(self.queue) > 1:
            return  # raised while another one is carried out: its turn comes
        while self.queue:
            for command in self.layer.handle_event(self.queue[0]):
                self._do(command)
            self.queue.pop(0)

    def _do(self, command: commands.Command) -> None:
        if isinstance(command, commands.SendData):
            if command.connection is self.client_conn:
                self.to_client += command.data
            else:
                self.to_server += command.data
        elif isinstance(command, commands.StartHook):
            self.asked.append(command.name)
            if isinstance(command, hooks.SmtpMessageHook):
                if self.hold_judgement:
                    self.waiting.append(command)
                    return
                self._judge(command)
            self.event(events.HookCompleted(command))
        elif isinstance(command, commands.OpenConnection):
            command.connection.state = ConnectionState.OPEN
            self.event(events.OpenConnectionCompleted(command, None))
        elif isinstance(command, commands.CloseConnection):
            self.closed.append("client" if command.connection is self.client_conn else "server")
            command.connection.state = ConnectionState.CLOSED

    def _judge(self, hook: hooks.SmtpMessageHook) -> None:
        if self.decision is not None and hook.flow.inspection is not None:
            facts = Facts(hook.flow.session)
            hook.flow.judgement = Judgement(facts, self.decision, "testid")

    def judge(self) -> None:
        """Let the judgement that was held back come."""
        for hook in self.waiting:
            self._judge(hook)  # type: ignore[arg-type]
            self.event(events.HookCompleted(hook))
        self.waiting.clear()

    def client(self, data: bytes) -> bytes:
        """The client sends; returns what it was answered since."""
        before = len(self.to_client)
        self.event(events.DataReceived(self.client_conn, data))
        return self.to_client[before:]

    def server(self, data: bytes) -> bytes:
        """The server sends; returns what it was sent since."""
        before = len(self.to_server)
        self.event(events.DataReceived(self.server_conn, data))
        return self.to_server[before:]

    def client_leaves(self, *, reset: bool = False) -> None:
        """FIN, or a reset."""
        if reset:
            self.client_conn.state = ConnectionState.CLOSED
            self.event(Lost(self.client_conn))
        else:
            self.client_conn.state &= ~ConnectionState.CAN_READ
            self.event(events.ConnectionClosed(self.client_conn))

    def server_leaves(self) -> None:
        """The server closes."""
        self.server_conn.state = ConnectionState.CLOSED
        self.event(events.ConnectionClosed(self.server_conn))

    def stop(self) -> None:
        """The gateway shuts down."""
        self.event(Shutdown())

    def greet(self) -> Play:
        """Up to an answered EHLO."""
        self.server(GREETING)
        self.client(EHLO)
        self.server(EHLO_REPLY)
        self.to_client = self.to_server = b""
        return self

    def envelope(self) -> Play:
        """Up to an accepted recipient."""
        self.client(MAIL)
        self.server(OK)
        self.client(RCPT)
        self.server(OK)
        self.to_client = self.to_server = b""
        return self

    def verdicts(self) -> list[dict[str, Any]]:
        """The verdict records so far."""
        return [record["verdict"] for record in self.records() if record["event_type"] == "verdict"]

    def records(self) -> list[dict[str, Any]]:
        """All records so far."""
        return [json.loads(line) for line in self.writer.data.splitlines()]

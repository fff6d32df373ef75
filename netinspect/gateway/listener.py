"""Listening sockets: each accepted connection becomes a `Driver` with the SMTP layer on top."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket

from mitmproxy import options, platform
from mitmproxy.proxy import context, layer, mode_specs

from netinspect.errors import EnvironmentFault
from netinspect.gateway import replies
from netinspect.gateway.asking import Hooks
from netinspect.gateway.driver import Driver, Peer
from netinspect.gateway.ends import Shutdown
from netinspect.gateway.layer import SmtpLayer
from netinspect.gateway.services import Listener, Services
from netinspect.gateway.sockets import plain
from netinspect.policy.facts import SessionFacts

logger = logging.getLogger(__name__)


class Front(Peer):
    """The client's connection from its very first moment, before there is a session."""

    __slots__ = ("_open",)

    def __init__(self, driver: Driver, opened: Listening) -> None:
        super().__init__(driver, None)  # type: ignore[arg-type]  # the driver sets it as soon as there is an address
        self._open = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open.accept(self)

    def data_received(self, data: bytes) -> None:
        if self.driver.started:  # else it was turned away
            super().data_received(data)

    def eof_received(self) -> bool:
        return self.driver.started and super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.driver.started:
            super().connection_lost(exc)


class Listening:
    """One listener at work, and its sessions."""

    def __init__(
        self, listener: Listener, services: Services, hooks: Hooks, opts: options.Options, sessions: set[Driver]
    ) -> None:
        self.listener = listener
        self._services = services
        self._hooks = hooks
        self._options = opts
        self._sessions = sessions
        self._mode = mode_specs.ProxyMode.parse(mode_of(listener))
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises `EnvironmentFault` when the address cannot be had."""
        where = f"{self.listener.host or '*'}:{self.listener.port}"
        try:
            if self.listener.transparent:
                platform.init_transparent_mode()
            self._server = await asyncio.get_running_loop().create_server(
                self._front, self.listener.host or None, self.listener.port, backlog=1024
            )
        except OSError as error:
            remedy = {
                errno.EADDRINUSE: "another program listens there: stop it or change [[listener]] listen",
                errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
                errno.EADDRNOTAVAIL: "this machine does not have that address: see `ip address`",
            }.get(error.errno or 0, "")
            # The loops write a sentence of their own into strerror.
            reason = os.strerror(error.errno) if error.errno else str(error)
            message = f"cannot listen on {where}: {reason}"
            raise EnvironmentFault(message, place=f"listener {self.listener.name}", remedy=remedy) from error

    def _front(self) -> Front:
        settings = self._services.settings.gateway
        driver = Driver(
            self._hooks,
            self._options,
            self._mode,
            self._layer,
            self._sessions.discard,
            connect_timeout=settings.connect_timeout,
            keep_client_address=settings.keep_client_address,
        )
        return Front(driver, self)

    def _layer(self, ctx: context.Context) -> layer.Layer:
        return SmtpLayer(ctx, self._services, self.listener)

    def accept(self, front: Front) -> None:
        """Start a session, unless there are too many."""
        transport = front.transport
        if transport is None:
            return
        if not transport.get_extra_info("peername"):
            transport.abort()  # it has sent a reset already
            return
        settings = self._services.settings.gateway
        if len(self._sessions) >= settings.max_sessions:
            reply = replies.signed(replies.BUSY, settings.hostname)
            transport.write(reply.raw)
            source = plain(transport.get_extra_info("peername"))
            facts = SessionFacts(self.listener.zone, *source, *(self.listener.upstream or ("", 0)))
            self._services.record_turned_away(facts, replies.text_of(reply))
            transport.close()
            return
        destination = self.listener.upstream
        if self.listener.transparent:
            try:
                destination = original_address(transport.get_extra_info("socket"))
            except OSError as error:
                logger.error("listener %s: no original destination (%s): not redirected?", self.listener.name, error)
                transport.close()
                return
        self._services.counters.sessions += 1
        self._sessions.add(front.driver)
        front.driver.accept(front, transport, destination)

    def close(self) -> None:
        """Take no new connections; those that are there go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it really listens (port 0 is replaced by the one that was given)."""
        if self._server is None:
            return self.listener.host, self.listener.port
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]


async def drain(sessions: set[Driver], grace: float) -> int:
    """Let running sessions finish within `grace` seconds; returns how many had to be cut."""
    for driver in list(sessions):
        driver.event(Shutdown())
    deadline = asyncio.get_running_loop().time() + grace
    # Polled, once and at the end: an event to wait for would cost every session.
    while sessions and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    left = list(sessions)
    for driver in left:
        driver.event(Shutdown(now=True))
        driver.abort()
    return len(left)


def original_address(sock: socket.socket) -> tuple[str, int]:
    """Where a redirected client wanted to go. Raises OSError when the connection was not redirected."""
    if platform.original_addr is None:
        raise OSError("this platform keeps no original destination")
    host, port = platform.original_addr(sock)
    return host, port


def mode_of(listener: Listener) -> str:
    """The listener in mitmproxy's words: `transparent@10025`, `reverse:tcp://127.0.0.1:25@127.0.0.1:10026`."""
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    at = f"{host}:{listener.port}" if host else str(listener.port)
    if listener.transparent:
        return f"transparent@{at}"
    to_host, to_port = listener.upstream or ("", 0)
    return f"reverse:tcp://{f'[{to_host}]' if ':' in to_host else to_host}:{to_port}@{at}"

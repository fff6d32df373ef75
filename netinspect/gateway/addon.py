"""The gateway as mitmproxy addons: `Judge` for every way of running, `SmtpGateway` for mitmdump and mitmweb."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mitmproxy import connection, ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy.server import ConnectionHandler

from netinspect.config import load
from netinspect.errors import NetinspectError
from netinspect.gateway import contentview
from netinspect.gateway.ends import Shutdown
from netinspect.gateway.hooks import SmtpFlow
from netinspect.gateway.layer import SmtpLayer
from netinspect.gateway.listener import mode_of
from netinspect.gateway.services import Listener, Services
from netinspect.gateway.setup import Engines, listeners_of

logger = logging.getLogger(__name__)

WEB_COLUMNS = ["icon", "path", "comment", "size", "time"]
"""What mitmweb's list shows of a session; the verdict is the comment."""


class Judge:
    """Judges each message in the `smtp_message` hook. An addon's `flow.decision` goes before the policy's."""

    name = "netinspect-judge"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def smtp_message(self, flow: SmtpFlow) -> None:
        """Set `flow.judgement`; without one the layer refuses the message for now."""
        inspection = flow.inspection
        if inspection is not None:
            flow.judgement = await inspection.judge()

    async def smtp_store(self, flow: SmtpFlow) -> None:
        """Put the message into quarantine."""
        await self._services.store(flow)


class SmtpGateway:
    """`mitmdump -s addons/smtp_gateway.py --set netinspect_config=FILE`: listeners and settings from that file."""

    name = "netinspect"

    def __init__(self) -> None:
        self._file = ""
        self._engines: Engines | None = None
        self._listeners: dict[str, Listener] = {}
        self._judge: Judge | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping = False
        self._handlers: dict[str, ConnectionHandler] = {}
        """mitmproxy's handler of each session, by the id of its server connection."""

    def load(self, loader: Loader) -> None:
        """Add the option `netinspect_config` and the content view."""
        contentview.register()
        loader.add_option("netinspect_config", str, "", "netinspect.toml with listeners, networks and policy.")

    def configure(self, updated: set[str]) -> None:
        """Read the settings."""
        name = ctx.options.netinspect_config
        if not name or name == self._file:
            return
        if self._engines is not None:
            raise exceptions.OptionsError("netinspect_config is read once: start again with the other file")
        try:
            settings = load(Path(name))
            if settings.gateway.keep_client_address:
                raise exceptions.OptionsError(
                    "[gateway] keep_client_address needs `netinspect gateway`: mitmdump opens the socket itself"
                )
            self._listeners = {mode_of(item): item for item in listeners_of(settings)}
            self._engines = Engines(settings)
        except NetinspectError as error:
            raise exceptions.OptionsError(str(error)) from error
        self._file = name
        self._judge = Judge(self._engines.services)
        # Nothing listens before the engines are there. mitmproxy opens its own proxy on port 8080 before it loads a
        # script (unless it is started with -n), so that one is closed at once.
        # block_global would turn away every client on the Internet, and those are whom the listeners are for.
        ctx.options.update(mode=[], block_global=False)
        if "web_columns" in ctx.options and not ctx.options.has_changed("web_columns"):
            ctx.options.update(web_columns=WEB_COLUMNS)
        self._starting = asyncio.get_running_loop().create_task(self._close_proxy())

    async def _close_proxy(self) -> None:
        server = ctx.master.addons.get("proxyserver")
        if server is not None:
            await server.servers.update([])

    def running(self) -> None:
        """Start the engines, then listen. Not `async`: a script loaded late is called from plain code."""
        if self._engines is None:
            logger.error("netinspect: no configuration; say --set netinspect_config=FILE")
            return
        self._starting = asyncio.get_running_loop().create_task(self._start(self._engines, self._starting))

    async def _start(self, engines: Engines, first: asyncio.Task[None] | None) -> None:
        if first is not None:
            await first
        try:
            await engines.start()
        except NetinspectError as error:
            logger.error("netinspect: %s", error)
            ctx.master.shutdown()
            return
        ctx.options.update(server=True, mode=list(self._listeners))

    def client_connected(self, client: connection.Client) -> None:
        """Put the SMTP layer on connections of our listeners, from their first moment.

        Not in `next_layer`: mitmproxy asks that only once the server has spoken, so a server that is down or silent
        would leave the client without a reply and without a record.
        """
        listener = self._listeners.get(client.proxy_mode.full_spec)
        if listener is None or self._engines is None:
            return
        if self._stopping:
            client.error = "shutting down"
            return
        server = ctx.master.addons.get("proxyserver")
        handler: ConnectionHandler = server.connections[client.id]
        context = handler.layer.context
        context.layers.clear()
        if listener.upstream is not None:
            context.server.address = listener.upstream
        self._handlers[context.server.id] = handler
        handler.layer = SmtpLayer(context, self._engines.services, listener, show=True)

    def client_disconnected(self, client: connection.Client) -> None:
        """Forget the session."""
        for key, handler in self._handlers.items():
            if handler.client is client:
                del self._handlers[key]
                return

    async def smtp_message(self, flow: SmtpFlow) -> None:
        """Judge the message."""
        if self._judge is not None:
            await self._judge.smtp_message(flow)

    async def smtp_store(self, flow: SmtpFlow) -> None:
        """Put the message into quarantine."""
        if self._judge is not None:
            await self._judge.smtp_store(flow)

    async def smtp_drain(self, server: connection.Connection) -> None:
        """Wait until the stock handler's writer has room."""
        handler = self._handlers.get(server.id)
        transport = handler.transports.get(server) if handler is not None else None
        if transport is None or transport.writer is None:
            return
        try:
            await transport.writer.drain()
        except OSError:
            return  # the connection is gone; the layer hears of it by its own event

    async def done(self) -> None:
        """Let running messages finish, then stop the engines."""
        if self._engines is None:
            return
        self._stopping = True
        if self._starting is not None:
            self._starting.cancel()
        for handler in list(self._handlers.values()):
            await handler.server_event(Shutdown())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._engines.settings.gateway.shutdown_grace
        # Polled, once and at the end: an event to wait for would cost every session.
        while self._handlers and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for handler in list(self._handlers.values()):
            await handler.server_event(Shutdown(now=True))
        await self._engines.close()

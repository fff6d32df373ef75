"""The gateway as mitmproxy addons: `Judge` for every way of running, `SmtpGateway` for mitmdump and mitmweb."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import layer

from netinspect.config import load
from netinspect.errors import NetinspectError
from netinspect.gateway import contentview
from netinspect.gateway.hooks import SmtpFlow
from netinspect.gateway.layer import SmtpLayer
from netinspect.gateway.listener import mode_of
from netinspect.gateway.services import Listener, Services
from netinspect.gateway.setup import Engines, listeners_of

logger = logging.getLogger(__name__)


class Judge:
    """Judges each message in the `smtp_message` hook, unless an addon before it already decided."""

    name = "netinspect-judge"

    def __init__(self, services: Services) -> None:
        self._services = services

    async def smtp_message(self, flow: SmtpFlow) -> None:
        """Set `flow.judgement`; without one the layer refuses the message for now."""
        inspection = flow.inspection
        if inspection is not None:
            flow.judgement = await inspection.judge()
            await self._services.settle(flow)


class SmtpGateway:
    """`mitmdump -s addons/smtp_gateway.py --set netinspect_config=FILE`: listeners and settings from that file."""

    name = "netinspect"

    def __init__(self) -> None:
        self._engines: Engines | None = None
        self._listeners: dict[str, Listener] = {}
        self._judge: Judge | None = None
        self._starting: asyncio.Task[None] | None = None

    def load(self, loader: Loader) -> None:
        """Add the option `netinspect_config` and the content view."""
        contentview.register()
        loader.add_option("netinspect_config", str, "", "netinspect.toml with listeners, networks and policy.")

    def configure(self, updated: set[str]) -> None:
        """Read the settings and take their listeners as modes."""
        if "netinspect_config" not in updated and self._engines is not None:
            return
        name = ctx.options.netinspect_config
        if not name:
            return
        try:
            settings = load(Path(name))
            if settings.gateway.keep_client_address:
                raise exceptions.OptionsError(
                    "[gateway] keep_client_address needs `netinspect gateway`: mitmdump opens the socket itself"
                )
            listeners = listeners_of(settings)
        except NetinspectError as error:
            raise exceptions.OptionsError(str(error)) from error
        if ctx.options.connection_strategy != "eager":
            raise exceptions.OptionsError(
                "connection_strategy must be eager: in SMTP the server speaks first; remove --set connection_strategy"
            )
        self._engines = Engines(settings)
        self._judge = Judge(self._engines.services)
        self._listeners = {mode_of(item): item for item in listeners}

    def running(self) -> None:
        """Start the engines, then listen. Not `async`: a script loaded late is called from plain code."""
        if self._engines is None:
            logger.error("netinspect: no configuration; say --set netinspect_config=FILE")
            return
        self._starting = asyncio.get_running_loop().create_task(self._start(self._engines))

    async def _start(self, engines: Engines) -> None:
        try:
            await engines.start()
        except NetinspectError as error:
            logger.error("netinspect: %s", error)
            ctx.master.shutdown()
            return
        # Only now: mitmproxy sets up the modes that were given before it loads scripts, and a session before the engines
        # are there would be refused.
        ctx.options.update(mode=list(self._listeners))

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Put the SMTP layer on connections of our listeners."""
        listener = self._listeners.get(nextlayer.context.client.proxy_mode.full_spec)
        if listener is not None and self._engines is not None:
            nextlayer.layer = SmtpLayer(nextlayer.context, self._engines.services, listener, show=True)

    async def smtp_message(self, flow: SmtpFlow) -> None:
        """Judge the message."""
        if self._judge is not None:
            await self._judge.smtp_message(flow)

    async def smtp_drain(self, connection: object) -> None:
        """Wait until the stock handler's writer has room."""
        server = ctx.master.addons.get("proxyserver")
        for handler in server.connections.values() if server else ():
            transport = handler.transports.get(connection)
            if transport is not None and transport.writer is not None:
                try:
                    await transport.writer.drain()
                except OSError:
                    return  # the connection is gone; the layer hears of it by its own event

    async def done(self) -> None:
        """Stop the engines."""
        if self._engines is not None:
            await self._engines.close()

"""`netinspect gateway`: mitmproxy's master and addons on a loop and listeners of our own."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitmproxy import addonmanager, options
from mitmproxy import hooks as mitm_hooks
from mitmproxy.addons import core, script
from mitmproxy.master import Master

from netinspect.config import Settings
from netinspect.errors import ConfigError
from netinspect.gateway import memory
from netinspect.gateway.addon import Judge
from netinspect.gateway.asking import Hooks
from netinspect.gateway.driver import Driver
from netinspect.gateway.listener import Listening, drain
from netinspect.gateway.setup import Engines, listeners_of

logger = logging.getLogger(__name__)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one (about a third less CPU a session), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def load_script(master: Master, path: str, place: str) -> None:
    """Load an addon's file, once and at once.

    Not by mitmproxy's own loader: that one goes on without a script that is broken, follows changes of the file while
    mail is running, and drops the script when its file goes away. Mail must not pass because a check is missing.

    Raises:
        ConfigError: it is not there or not sound; the log has the script's own error.
    """
    if not Path(path).is_file():
        raise ConfigError(f"[gateway] scripts: there is no file {path}", place=place, remedy="mend or remove it")
    module = script.load_script(path)
    loaded = False
    if module is not None:
        with addonmanager.safecall():
            master.addons.add(module)
            master.addons.invoke_addon_sync(module, mitm_hooks.ConfigureHook(set(master.options.keys())))
            loaded = True
    if not loaded:
        raise ConfigError(f"[gateway] scripts: {path} cannot be loaded", place=place, remedy="mend the error above")


class Gateway:
    """A running gateway. Use as `async with Gateway(settings) as gateway`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engines = Engines(settings)
        self.sessions: set[Driver] = set()
        self.listening: list[Listening] = []
        self.master: Master | None = None

    async def __aenter__(self) -> Gateway:
        listeners = listeners_of(self.settings)
        opts = options.Options()
        self.master = Master(opts)
        self.master.addons.add(core.Core())
        for path in self.settings.gateway.scripts:
            load_script(self.master, path, self.settings.source)
        self.master.addons.add(Judge(self.engines.services))
        try:
            await self.engines.start()
            hooks = Hooks(self.master.addons)
            self.engines.services.wanted = hooks.wanted
            for listener in listeners:
                opened = Listening(listener, self.engines.services, hooks, opts, self.sessions)
                await opened.open()
                self.listening.append(opened)
        except BaseException:
            await self._close(0)
            raise
        await self.master.addons.trigger_event(mitm_hooks.RunningHook())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close(self.settings.gateway.shutdown_grace)

    async def _close(self, grace: float) -> None:
        for opened in self.listening:
            opened.close()
        cut = await drain(self.sessions, grace)
        if cut:
            logger.warning("%d sessions did not finish in %.0f s and were cut, unacknowledged", cut, grace)
        if self.master is not None:
            await self.master.addons.trigger_event(mitm_hooks.DoneHook())
        await self.engines.close()


async def _serve(settings: Settings, ready: Callable[[Gateway], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    async with Gateway(settings) as gateway:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, gateway.engines.writer.reopen)
        # What lives now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)
        ready(gateway)
        await stop.wait()
        print("netinspect gateway: stopping", file=sys.stderr, flush=True)


def serve(settings: Settings, ready: Callable[[Gateway], Any] | None = None) -> None:
    """Run until SIGTERM or SIGINT. Raises `ConfigError` or `EnvironmentFault` when it cannot start."""

    def announce(gateway: Gateway) -> None:
        for opened in gateway.listening:
            host, port = opened.address
            item = opened.listener
            to = ":".join(map(str, item.upstream)) if item.upstream else "the original destination"
            shown = f"[{host}]" if ":" in host else host
            print(f"netinspect gateway: {item.name} ({item.zone}) on {shown}:{port} → {to}", file=sys.stderr)
        print("netinspect gateway: ready", file=sys.stderr, flush=True)

    memory.tune()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(settings, ready or announce))

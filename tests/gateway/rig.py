"""A listener of the gateway on loopback, with a client and a server on the same event loop. Engines find nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import uvloop
from mitmproxy import options
from mitmproxy.proxy import context, layer

from netinspect.config import Settings
from netinspect.gateway.addon import Judge
from netinspect.gateway.asking import Hooks
from netinspect.gateway.driver import Driver
from netinspect.gateway.listener import Front, Listening, drain
from netinspect.gateway.services import Listener, Services
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector
from netinspect.policy.rules import Policy
from netinspect.scan.contract import EngineState, Examination
from tests.gateway.play import MemoryWriter

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # mitmproxy's filters use old names of pyparsing
    from mitmproxy.master import Master

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
SECONDS = 20


class CleanPanel:
    """Engines that find nothing."""

    engines: tuple[EngineState, ...] = ()

    async def examine(self, leaves: Sequence[Any], words: object = None) -> list[Examination]:
        return [Examination() for _ in leaves]


class Watched(Listening):
    """A listener that remembers, weakly, every driver and layer it made."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.made: list[weakref.ref[Any]] = []

    def _layer(self, ctx: context.Context) -> layer.Layer:
        made = super()._layer(ctx)
        self.made.append(weakref.ref(made))
        return made

    def accept(self, front: Front) -> None:
        self.made.append(weakref.ref(front.driver))
        super().accept(front)


class Rig:
    """The gateway's side of a test."""

    def __init__(self, listening: Watched, sessions: set[Driver], writer: MemoryWriter) -> None:
        self.listening = listening
        self.sessions = sessions
        self._writer = writer

    async def connect(self) -> tuple[Reader, Writer]:
        """A client."""
        return await asyncio.open_connection(*self.listening.address)

    async def over(self) -> None:
        """Wait until no session is left."""
        while self.sessions:  # noqa: ASYNC110 - the gateway has no event for it, and a test may poll
            await asyncio.sleep(0.01)

    def verdicts(self) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self._writer.data.splitlines()]
        return [record["verdict"] for record in records if record["event_type"] == "verdict"]

    async def stop(self, grace: float) -> int:
        """Shut the sessions down; how many had to be cut."""
        return await drain(self.sessions, grace)


@contextlib.asynccontextmanager
async def rig(
    serve: Serve | None, addons: Sequence[object] = (), host: str = "127.0.0.1", **gateway: Any
) -> AsyncIterator[Rig]:
    """A gateway in front of `serve` (None: nobody listens there). No fault may reach the event loop meanwhile."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    upstream = await asyncio.start_server(serve or _nobody, host, 0, limit=65_536)
    port = upstream.sockets[0].getsockname()[1]
    if serve is None:
        upstream.close()
        await upstream.wait_closed()
    settings = Settings()
    settings = replace(settings, gateway=replace(settings.gateway, **gateway))
    inspector = Inspector(
        settings.limits,
        CleanPanel(),  # type: ignore[arg-type]
        Policy.from_settings(settings.policy),
        Identity(settings.networks),
    )
    writer = MemoryWriter()
    services = Services(settings, inspector, writer)  # type: ignore[arg-type]
    master = Master(options.Options())
    master.addons.add(*addons, Judge(services))
    sessions: set[Driver] = set()
    listener = Listener("test", "external", host, 0, False, (host, port))
    listening = Watched(listener, services, Hooks(master.addons), master.options, sessions)
    await listening.open()
    try:
        yield Rig(listening, sessions, writer)
    finally:
        listening.close()
        for driver in list(sessions):
            driver.abort()
        upstream.close()
        await master.done()
        await asyncio.sleep(0)
    assert not faults, faults


async def _nobody(reader: Reader, writer: Writer) -> None:
    writer.close()


def run(loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    """Run a test on this kind of event loop, bounded in time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main, SECONDS))

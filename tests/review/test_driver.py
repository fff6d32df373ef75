"""Connections that cost more than they should."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import options

from netinspect.config import Settings
from netinspect.config.schema import GatewaySettings
from netinspect.gateway.asking import Hooks
from netinspect.gateway.driver import Driver
from netinspect.gateway.listener import Listening
from netinspect.gateway.services import Listener, Services
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector
from netinspect.limits import Limits
from netinspect.policy.rules import Policy
from tests.gateway.play import MemoryWriter, NoPanel


def door(upstream: tuple[str, int], sessions: set[Driver], **gateway: Any) -> Listening:
    # No recipient at all: the same as the 1001st, which we answer without the server.
    settings = Settings(gateway=GatewaySettings(**gateway), limits=Limits(recipients=0))
    inspector = Inspector(
        settings.limits,
        NoPanel(),  # type: ignore[arg-type]
        Policy.from_settings(settings.policy),
        Identity(settings.networks),
    )
    services = Services(settings, inspector, MemoryWriter())  # type: ignore[arg-type]
    hooks = Hooks(SimpleNamespace(lookup={}))  # type: ignore[arg-type]  # nobody listens to any hook
    listener = Listener("test", "external", "127.0.0.1", 0, False, upstream)
    return Listening(listener, services, hooks, options.Options(), sessions)


class Gone(asyncio.Transport):
    """A connection whose client has sent a reset: uvloop gives None for its address."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return True


def test_a_client_that_resets_at_once_takes_no_session_for_ever() -> None:
    async def scene() -> int:
        sessions: set[Driver] = set()
        front = door(("127.0.0.1", 9), sessions)._front()
        with contextlib.suppress(TypeError):  # the loop would only log it
            front.connection_made(Gone())
            front.connection_lost(None)
        return len(sessions)

    assert asyncio.run(scene()) == 0


def test_a_client_that_is_turned_away_for_number_makes_no_fault() -> None:
    async def scene() -> None:
        opened = door(("127.0.0.1", 9), {object()}, max_sessions=1)  # type: ignore[arg-type]
        front = opened._front()
        front.connection_made(Gone())
        front.connection_lost(None)

    asyncio.run(scene())


def test_a_client_that_does_not_read_cannot_fill_our_memory() -> None:
    class Greeter(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"220 mx.test\r\n")  # type: ignore[attr-defined]
            servers.append(transport)

    servers: list[Any] = []

    async def scene() -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Greeter, "127.0.0.1", 0)
        sessions: set[Driver] = set()
        opened = door(server.sockets[0].getsockname()[:2], sessions)
        await opened.open()
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(opened.address)
        sock.setblocking(False)
        await asyncio.sleep(0.2)
        most = 0
        try:
            async with asyncio.timeout(5):
                for _ in range(400):
                    await loop.sock_sendall(sock, b"RCPT TO:<a@b>\r\n" * 1500)
                    await asyncio.sleep(0.002)
                    for driver in sessions:
                        for peer in driver._peers.values():
                            assert peer.transport is not None
                            most = max(most, peer.transport.get_write_buffer_size())
        except (TimeoutError, OSError):
            pass
        sock.close()
        opened.close()
        server.close()
        for driver in list(sessions):
            driver.abort()
        for transport in servers:
            transport.abort()
        await asyncio.sleep(0.1)
        return most

    assert asyncio.run(scene()) < 2_000_000


def test_a_connection_that_we_close_is_cut_when_its_client_does_not_read() -> None:
    class Deaf(Gone):
        def __init__(self) -> None:
            super().__init__()
            self.closing = self.aborted = False

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ("198.51.100.7", 4000)

        def is_closing(self) -> bool:
            return self.closing

        def close(self) -> None:  # as the real one: waits until all is written, and nobody reads
            self.closing = True

        def abort(self) -> None:
            self.aborted = True

    async def scene() -> bool:
        loop = asyncio.get_running_loop()
        delays: list[float] = []
        later = loop.call_later

        def call_later(delay: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
            delays.append(delay)
            return later(min(delay, 0.05), callback, *args, **more)

        loop.call_later = call_later  # type: ignore[method-assign]  # time goes faster
        sessions: set[Driver] = set()
        front = door(("127.0.0.1", 9), sessions, connect_timeout=1)._front()
        transport = Deaf()
        front.connection_made(transport)  # the server cannot be reached: 421 and close
        await asyncio.sleep(0.5)
        assert transport.closing
        return transport.aborted

    if not asyncio.run(scene()):
        pytest.fail("the session stays, and counts against max_sessions, as long as the client likes")

"""Connections that cost more than they should."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace
from types import SimpleNamespace

import uvloop
from mitmproxy import options
from mitmproxy.addonmanager import AddonManager

from netinspect.config import Settings
from netinspect.config.schema import GatewaySettings
from netinspect.gateway.driver import Driver, Hooks
from netinspect.gateway.listener import Listening
from netinspect.gateway.services import Listener, Services
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector
from netinspect.limits import Limits
from netinspect.policy.rules import Policy
from tests.gateway.play import MemoryWriter, NoPanel


class Greeter(asyncio.Protocol):
    """The server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        transport.write(b"220 mx.test\r\n")  # type: ignore[union-attr]


class Door:
    """A listener on loopback in front of a server that greets and then says nothing more."""

    def __init__(self, **gateway: object) -> None:
        gateway_settings = replace(GatewaySettings(), **gateway)  # type: ignore[arg-type]
        # No recipient at all: the same as the 1001st, answered by us without the server.
        settings = replace(Settings(), gateway=gateway_settings, limits=Limits(recipients=0))
        inspector = Inspector(
            settings.limits, NoPanel(), Policy.from_settings(settings.policy), Identity(settings.networks)  # type: ignore[arg-type]
        )
        self.services = Services(settings, inspector, MemoryWriter())  # type: ignore[arg-type]
        self.sessions: set[Driver] = set()
        self.faults: list[str] = []

    async def __aenter__(self) -> Door:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, told: self.faults.append(repr(told.get("exception"))))

        self.server = await loop.create_server(Greeter, "127.0.0.1", 0)
        upstream = self.server.sockets[0].getsockname()
        opts = options.Options()
        addons = SimpleNamespace(lookup={})  # nobody listens to any hook
        listener = Listener("test", "external", "127.0.0.1", 0, False, (upstream[0], upstream[1]))
        self.door = Listening(listener, self.services, Hooks(addons), opts, self.sessions)
        await self.door.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.door.close()
        self.server.close()
        for driver in list(self.sessions):
            driver.abort()
        await asyncio.sleep(0.1)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.door.address, 2)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_clients_that_reset_at_once_leave_no_session_behind() -> None:
    async def scene() -> tuple[int, list[str]]:
        async with Door(max_sessions=1000) as door:
            for _ in range(30):
                _reset(door.connect())
            await asyncio.sleep(0.5)
            return len(door.sessions), door.faults

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        left, faults = runner.run(scene())
    assert (left, faults) == (0, [])


def test_a_client_that_is_turned_away_for_number_makes_no_fault() -> None:
    async def scene() -> list[str]:
        async with Door(max_sessions=1) as door:
            first, second = door.connect(), door.connect()
            await asyncio.sleep(0.2)
            second.close()
            await asyncio.sleep(0.2)
            first.close()
            await asyncio.sleep(0.1)
            return door.faults

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scene()) == []


def test_a_client_that_does_not_read_cannot_fill_our_memory_nor_keep_its_session() -> None:
    async def scene() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        async with Door() as door:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(door.door.address)
            sock.setblocking(False)
            await asyncio.sleep(0.2)
            sent, most, line = 0, 0, b"RCPT TO:<a@b>\r\n"
            try:
                async with asyncio.timeout(4):
                    while sent < 6_000_000:
                        await loop.sock_sendall(sock, line * 5000)
                        sent += 5000 * len(line)
                        for driver in door.sessions:
                            for peer in driver._peers.values():
                                if peer.transport is not None:
                                    most = max(most, peer.transport.get_write_buffer_size())
            except (TimeoutError, OSError):
                pass
            for driver in list(door.sessions):  # what the layer does at a timeout or at QUIT
                driver._close(driver.client)
            await asyncio.sleep(1)
            left = len(door.sessions)
            sock.close()
            return most, left

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        most, left = runner.run(scene())
    print(most, left)
    assert most < 2_000_000

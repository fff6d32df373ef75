"""The I/O side of one session: drives mitmproxy layers from asyncio protocols.

mitmproxy's own connection handler reads from streams: a task, two locks and a drain for each read, which is most of
what a short SMTP session costs. Layers, events, commands and hooks are mitmproxy's and stay the same here; only the
way in is direct: `data_received` calls the layer. Under mitmdump or mitmweb the stock handler drives the same layer.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast, runtime_checkable

from mitmproxy import connection, options
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, context, events, layer, mode_specs, server_hooks

from netinspect.gateway.asking import Hooks
from netinspect.gateway.hooks import SmtpDrainHook
from netinspect.gateway.sockets import new_context, plain, reset, transparent_socket

logger = logging.getLogger(__name__)

LINGER = 20.0
"""Seconds that a connection we closed gets to take the rest of what was written to it."""

HIGH_WATER = 524_288
"""Octets in a write buffer above which the other side is not read any further."""


class Peer(asyncio.Protocol):
    """One TCP connection of a session."""

    __slots__ = ("congested", "connection", "driver", "transport", "waiters")

    def __init__(self, driver: Driver, conn: connection.Connection) -> None:
        self.driver = driver
        self.connection = conn
        self.transport: asyncio.Transport | None = None
        self.congested = False
        self.waiters: list[commands.StartHook] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.driver.event(events.DataReceived(self.connection, data))

    def eof_received(self) -> bool:
        # The other side sends no more but may still read: the layer decides what becomes of the session.
        self.connection.state &= ~ConnectionState.CAN_READ
        self.driver.event(events.ConnectionClosed(self.connection))
        return self.transport is not None and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.driver.lost(self)

    def pause_writing(self) -> None:
        self.congested = True
        self.driver.hold_back(self, True)

    def resume_writing(self) -> None:
        self.congested = False
        self.driver.hold_back(self, False)
        waiters, self.waiters = self.waiters, None
        for hook in waiters or ():
            self.driver.event(events.HookCompleted(hook))


class Driver:
    """One client connection, the layer on top, and the server connections it opens."""

    def __init__(
        self,
        hooks: Hooks,
        opts: options.Options,
        mode: mode_specs.ProxyMode,
        make_layer: Callable[[context.Context], layer.Layer],
        on_end: Callable[[Driver], None],
        *,
        connect_timeout: float = 10.0,
        keep_client_address: bool = False,
    ) -> None:
        self._hooks = hooks
        self._options = opts
        self._mode = mode
        self._make_layer = make_layer
        self._on_end = on_end
        self._connect_timeout = connect_timeout
        self._keep_client_address = keep_client_address
        self._peers: dict[str, Peer] = {}
        # By the connection's id: to hash a connection itself runs Python code.
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._queue: deque[events.Event] = deque()
        self._running = False
        self._opening = 0
        self._loop = asyncio.get_running_loop()
        self.client: connection.Client
        self.layer: layer.Layer | None = None
        self.started = False

    # --- from the listener -------------------------------------------------------------------------------------

    def accept(self, peer: Peer, transport: asyncio.Transport, destination: tuple[str, int] | None) -> None:
        """Start with a client that is connected. `destination` is where it wanted to go."""
        self.started = True
        sockname = plain(transport.get_extra_info("sockname"))
        if not isinstance(self._mode, mode_specs.ReverseMode) and destination is not None:
            sockname = destination
        peername = plain(transport.get_extra_info("peername"))
        ctx = new_context(peername, sockname, destination, self._mode, self._options)
        self.client = peer.connection = ctx.client
        self._peers[self.client.id] = peer
        self.layer = self._make_layer(ctx)
        if self._hooks.wanted("client_connected"):
            self._spawn(self._greet())
        else:
            self.event(events.Start())

    async def _greet(self) -> None:
        await self._hooks.run(server_hooks.ClientConnectedHook(self.client))
        if self.client.error:
            self._close(self.client)
        else:
            self.event(events.Start())

    # --- events in, commands out ---------------------------------------------------------------------------------

    def event(self, event: events.Event) -> None:
        """Give one event to the layer and carry out what it asks for. Events raised meanwhile wait their turn."""
        self._queue.append(event)
        if self._running:
            return
        self._running = True
        try:
            while self._queue:
                if self.layer is None:
                    self._queue.clear()
                    return
                for command in self.layer.handle_event(self._queue.popleft()):
                    if isinstance(command, commands.SendData):
                        self._send(command)
                    else:
                        self._do(command)
        except Exception:
            logger.exception("session from %s ended by a fault", self.client.peername)
            self.abort()
        finally:
            self._running = False

    def _send(self, command: commands.SendData) -> None:
        peer = self._peers.get(command.connection.id)
        if peer is not None and peer.transport is not None and not peer.transport.is_closing():
            peer.transport.write(command.data)

    def _do(self, command: commands.Command) -> None:
        if isinstance(command, commands.StartHook):
            self._hook(command)
        elif isinstance(command, commands.OpenConnection):
            self._spawn(self._open(command))
        elif isinstance(command, commands.RequestWakeup):
            self._wake_later(command)
        elif isinstance(command, commands.CloseTcpConnection) and command.half_close:
            self._half_close(command.connection)
        elif isinstance(command, commands.CloseConnection):
            self._close(command.connection)
        elif isinstance(command, commands.Log):
            logger.log(command.level, command.message)
        else:
            raise TypeError(f"unexpected command {command!r}")

    def _hook(self, hook: commands.StartHook) -> None:
        if isinstance(hook, SmtpDrainHook):
            peer = self._peers.get(hook.connection.id)
            if peer is not None and peer.congested:
                peer.waiters = [*(peer.waiters or ()), hook]
            else:
                self._queue.append(events.HookCompleted(hook))
        elif self._hooks.wanted(hook.name):
            self._spawn(self._run_hook(hook))
        elif hook.blocking:
            self._queue.append(events.HookCompleted(hook))

    async def _run_hook(self, hook: commands.StartHook) -> None:
        await self._hooks.run(hook)
        if hook.blocking:
            self.event(events.HookCompleted(hook))

    def _wake_later(self, request: commands.RequestWakeup) -> None:
        def wake() -> None:
            self._timers.discard(timer)
            self.event(events.Wakeup(request))

        timer = self._loop.call_later(request.delay, wake)
        self._timers.add(timer)

    def _spawn(self, coro: Coroutine[Any, Any, None]) -> None:
        task = _start(self._loop, coro)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # --- connections ---------------------------------------------------------------------------------------------

    async def _open(self, command: commands.OpenConnection) -> None:
        server = command.connection
        error: str | None
        self._opening += 1
        data = server_hooks.ServerConnectionHookData(server=server, client=self.client)
        if self._hooks.wanted("server_connect"):
            await self._hooks.run(server_hooks.ServerConnectHook(data))
        if server.error:
            error = f"connection refused by an addon: {server.error}"
        else:
            error = await self._connect(server)
        if error is None and self._hooks.wanted("server_connected"):
            await self._hooks.run(server_hooks.ServerConnectedHook(data))
        self._opening -= 1
        self.event(events.OpenConnectionCompleted(command, error))
        if not self._peers:
            self._end()

    async def _connect(self, server: connection.Server) -> str | None:
        if server.address is None:
            return "no destination"
        peer = Peer(self, server)

        def known() -> Peer:
            # Its first octets, or its end, may be here before create_connection returns (seen with uvloop).
            self._peers[server.id] = peer
            server.state = ConnectionState.OPEN
            return peer

        server.timestamp_start = self._loop.time()
        try:
            async with asyncio.timeout(self._connect_timeout):
                if self._keep_client_address:
                    sock = await transparent_socket(self._loop, self.client.peername[0], server.address)
                    await self._loop.create_connection(known, sock=sock)
                else:
                    await self._loop.create_connection(known, server.address[0], server.address[1])
        except OSError as error:  # TimeoutError is one
            self._peers.pop(server.id, None)
            server.state = ConnectionState.CLOSED
            server.error = "timeout" if isinstance(error, TimeoutError) else error.strerror or str(error)
            return server.error
        transport = peer.transport
        if transport is None or self.layer is None or self.client.id not in self._peers:
            if transport is not None:
                transport.abort()
            return "the client left"
        server.timestamp_tcp_setup = self._loop.time()
        server.peername = transport.get_extra_info("peername")
        server.sockname = transport.get_extra_info("sockname")
        return None

    def hold_back(self, peer: Peer, congested: bool) -> None:
        """Stop or go on reading while `peer` cannot take more: what is read leads to more for it."""
        if not congested and any(other.congested for other in self._peers.values()):
            return
        for other in self._peers.values():
            transport = other.transport
            if transport is None or transport.is_closing():
                continue
            if other is peer and other.connection is not self.client:
                continue  # a server that takes no more may still say why
            if congested:
                transport.pause_reading()
            elif not transport.is_reading():
                transport.resume_reading()

    def lost(self, peer: Peer) -> None:
        """The connection is gone for good."""
        conn = peer.connection
        # Flags are compared by Python code: not asked where we have closed it ourselves.
        could_read = conn.state is not ConnectionState.CLOSED and bool(conn.state & ConnectionState.CAN_READ)
        conn.state = ConnectionState.CLOSED
        self._peers.pop(conn.id, None)
        if peer.congested:
            self.hold_back(peer, False)
        for hook in peer.waiters or ():
            self._queue.append(events.HookCompleted(hook))
        peer.waiters = None
        if self.layer is not None:
            # The layer hears of an end once by EOF; a connection that is lost later it has to know as well.
            self.event(events.ConnectionClosed(conn) if could_read else Lost(conn))
        if not self._peers and not self._opening:
            self._end()

    def _half_close(self, conn: connection.Connection) -> None:
        peer = self._peers.get(conn.id)
        if peer is not None and peer.transport is not None and peer.transport.can_write_eof():
            peer.transport.write_eof()
            conn.state &= ~ConnectionState.CAN_WRITE

    def _close(self, conn: connection.Connection) -> None:
        peer = self._peers.get(conn.id)
        conn.state = ConnectionState.CLOSED
        if peer is not None and peer.transport is not None:
            if conn.error == "reset":
                reset(peer.transport)
            else:
                peer.transport.close()
                if peer.transport.get_write_buffer_size():
                    # Whoever does not read what we have for it must not keep its session for ever.
                    self._timers.add(self._loop.call_later(LINGER, peer.transport.abort))

    def abort(self) -> None:
        """End everything at once, without a word to either side."""
        for peer in list(self._peers.values()):
            if peer.transport is not None:
                peer.transport.abort()
        self._end()

    def _end(self) -> None:
        if self.layer is None:
            return
        over, self.layer = self.layer, None
        if isinstance(over, Released):
            over.release()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._hooks.wanted("client_disconnected"):
            self._spawn(self._hooks.run(server_hooks.ClientDisconnectedHook(self.client)))
        self._on_end(self)


@runtime_checkable
class Released(Protocol):
    """A layer that can let go of its parts, which refer to it: freed now rather than by the collector."""

    def release(self) -> None: ...


class Lost(events.ConnectionEvent):
    """A connection that was half closed before is gone now."""


def _start(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    if sys.version_info >= (3, 12):
        # Runs to its first wait at once; what never waits (a judgement from the cache) costs no turn of the loop.
        return asyncio.Task(coro, loop=loop, eager_start=True)
    return loop.create_task(coro)

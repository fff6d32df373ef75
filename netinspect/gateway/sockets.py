"""What is known of a connection before and beside its octets: addresses, sockets, mitmproxy's context of them."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from typing import Any

from mitmproxy import connection, options
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import context, mode_specs

IP_TRANSPARENT = 19
"""linux/in.h; not in Python's socket module."""
IPV6_TRANSPARENT = 75
"""linux/in6.h; not in Python's socket module."""

_CLIENT = connection.Client(peername=("", 0), sockname=("", 0), state=ConnectionState.OPEN)
_SERVER = connection.Server(address=None)
_serial = itertools.count(1)


def new_context(
    peername: tuple[str, int],
    sockname: tuple[str, int],
    destination: tuple[str, int] | None,
    mode: mode_specs.ProxyMode,
    opts: options.Options,
) -> context.Context:
    """What `Context(Client(...), options)` gives, copied from a prototype.

    The constructors set 40 fields one by one, those of a server through a `__setattr__` that checks, and make two
    UUIDs: a twentieth of the CPU of a short session. All defaults are immutable, so sharing them is safe.
    """
    number = next(_serial)
    client = object.__new__(connection.Client)
    client.__dict__.update(
        _CLIENT.__dict__,
        id=f"client-{number}",
        peername=peername,
        sockname=sockname,
        proxy_mode=mode,
        timestamp_start=time.time(),
    )
    server = object.__new__(connection.Server)
    server.__dict__.update(_SERVER.__dict__, id=f"server-{number}", address=destination)
    ctx = object.__new__(context.Context)
    ctx.client, ctx.server, ctx.options, ctx.layers = client, server, opts, []
    return ctx


async def transparent_socket(
    loop: asyncio.AbstractEventLoop, client_ip: str, address: connection.Address
) -> socket.socket:
    """A connected socket that shows the server the client's own address. Needs CAP_NET_ADMIN; raises OSError."""
    host, port, *_ = address
    six = ":" in client_ip
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
        else:
            sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.bind((client_ip, 0))
        await loop.sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def plain(address: tuple[Any, ...]) -> tuple[str, int]:
    """Host and port of a socket; an IPv4 client on a dual-stack socket loses the `::ffff:` in front of its address."""
    host = address[0]
    return (host[7:] if host.startswith("::ffff:") else host, address[1])


def reset(transport: asyncio.Transport) -> None:
    """Close with a TCP reset, whatever is still to be written."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()

"""A mail server that takes everything and keeps nothing, for when Postfix's smtp-sink is not there.

`python -m tests.bench.sink PORT` listens on loopback until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

_END = b"\r\n.\r\n"
_REPLIES = {
    b"EHLO": b"250-sink.corp.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
    b"HELO": b"250 sink.corp.example\r\n",
    b"MAIL": b"250 2.1.0 Ok\r\n",
    b"RCPT": b"250 2.1.5 Ok\r\n",
    b"RSET": b"250 2.0.0 Ok\r\n",
    b"NOOP": b"250 2.0.0 Ok\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"QUIT": b"221 2.0.0 Bye\r\n",
}


class _Sink(asyncio.Protocol):
    """One connection: lines are answered, a body is dropped but for the last octets, where its end may begin."""

    def __init__(self) -> None:
        self.held = b""
        self.body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"220 sink.corp.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        data = self.held + data
        while data:
            data, waiting = self.take_body(data) if self.body else self.take_line(data)
            if waiting:
                break
        self.held = data

    def take_body(self, data: bytes) -> tuple[bytes, bool]:
        end = data.find(_END)
        if end < 0:
            return data[-(len(_END) - 1) :], True
        self.body = False
        self.transport.write(b"250 2.0.0 Ok: taken\r\n")
        return data[end + len(_END) :], False

    def take_line(self, data: bytes) -> tuple[bytes, bool]:
        end = data.find(b"\n")
        if end < 0:
            return data[-4096:], True
        verb = data[:4].upper()
        self.transport.write(_REPLIES.get(verb, b"502 5.5.1 Not known\r\n"))
        if verb == b"DATA":
            self.body = True
            return b"\r\n" + data[end + 1 :], False  # an empty body ends with the first dot
        if verb == b"QUIT":
            self.transport.close()
        return data[end + 1 :], False


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()

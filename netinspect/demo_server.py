"""A small mail server for the demo: accepts everything and remembers what it heard. Not for production."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class Heard:
    """What came in: command lines, and whole messages as they stood on the wire, dot-unstuffed."""

    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)


class DemoServer:
    """Runs in a thread with a loop of its own. Use as a context manager."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._socket: socket.socket
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> DemoServer:
        # Here, not in the thread: a machine without loopback is an error of the caller.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def forget(self) -> Heard:
        """Give what was heard and start afresh."""
        heard, self.heard = self.heard, Heard()
        return heard

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.corp.example ESMTP\r\n")
        try:
            while line := await reader.readline():
                self.heard.commands.append(line.decode("utf-8", "replace").strip())
                verb = line[:4].upper()
                if verb == b"EHLO":
                    writer.write(b"250-mail.corp.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n")
                elif verb == b"DATA":
                    writer.write(b"354 go ahead\r\n")
                    self.heard.messages.append(await self._message(reader))
                    writer.write(b"250 2.0.0 Ok: queued\r\n")
                elif verb == b"QUIT":
                    writer.write(b"221 2.0.0 Bye\r\n")
                    break
                else:
                    writer.write(b"250 2.0.0 Ok\r\n")
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone; what it sent so far is remembered
        finally:
            writer.close()

    async def _message(self, reader: asyncio.StreamReader) -> bytes:
        """The naive reading that smuggling is after: a lone dot ends the message whatever the line ends are."""
        lines: list[bytes] = []
        while (line := await reader.readline()).rstrip(b"\r\n") != b".":
            if not line:
                raise asyncio.IncompleteReadError(b"", None)
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

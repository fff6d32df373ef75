"""A clamd with faults: speaks VERSION, PING, IDSESSION and INSTREAM on a unix socket, in a thread of its own.

`FakeClamd(path, fault)` behaves for every stream as `fault` says; names put into `faults` are used up first, one a
stream, so that "the first scan fails, the second is answered" can be said.

    ""          as clamd does: `OK`, or `FOUND` for a content with EICAR in it
    hung        takes the content and never answers
    deaf        does not even read
    slow        answers after `delay` seconds
    garbage     answers what is no answer
    html        answers like a web server
    half        answers half and closes
    close       closes without an answer
    reset       closes with a reset
    wrong_id    answers for a number that nobody used
    no_id       answers without the number
    twice       answers the same number twice in one write
    early       says OK before the content is there
    split       answers octet by octet
    limit       says that the size limit is exceeded and closes
    error       says ERROR
    flood       answers without an end
    clean_ish   answers something that only looks like OK
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.scan.eicar import EICAR


class FakeClamd:
    """Context manager; `streams` are the contents that came in whole, `connections` counts the accepted."""

    def __init__(self, path: Path, fault: str = "", *, delay: float = 0.2, version: str = "ClamAV 1.0.9") -> None:
        self.path = path
        self.fault = fault
        self.faults: list[str] = []
        self.delay = delay
        self.version = version
        self.streams: list[bytes] = []
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop: asyncio.Event
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"unix:{self.path}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        self.path.unlink(missing_ok=True)

    def drop_connections(self) -> None:
        """Close every connection, as a restart does."""

        def drop() -> None:
            for writer in self._writers:
                writer.close()

        self._loop.call_soon_threadsafe(drop)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_unix_server(self._client, self.path)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._session(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        session = False
        while True:
            command = (await reader.readuntil(b"\0"))[:-1]
            if command == b"zIDSESSION":
                session = True
                continue
            number += 1
            head = b"%d: " % number if session else b""
            if command == b"zVERSION":
                writer.write(head + self.version.encode() + b"\0")
            elif command == b"zINSTREAM":
                if not await self._stream(reader, writer, head, self.faults.pop(0) if self.faults else self.fault):
                    return
            else:
                writer.write(head + b"UNKNOWN COMMAND\0")
            if not session:
                return

    async def _stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, fault: str
    ) -> bool:
        """Take one stream and answer it; False: the connection ends."""
        if fault == "deaf":
            await asyncio.sleep(60)
        if fault == "early":
            writer.write(head + b"stream: OK\0")
        content = bytearray()
        while size := struct.unpack("!L", await reader.readexactly(4))[0]:
            content += await reader.readexactly(size)
            if fault == "limit":
                writer.write(head + b"INSTREAM size limit exceeded. ERROR\0")
                await writer.drain()
                return False
        self.streams.append(bytes(content))
        said = b"stream: Test.Eicar FOUND" if EICAR in content else b"stream: OK"
        answer = head + said + b"\0"
        match fault:
            case "" | "early":
                writer.write(answer if fault == "" else b"")
            case "hung":
                await asyncio.sleep(60)
            case "slow":
                asyncio.get_running_loop().call_later(self.delay, writer.write, answer)
            case "garbage":
                writer.write(b"\x16\x03\x01\xff\xfe\0")
            case "html":
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return False
            case "half":
                writer.write(answer[:-4])
                await writer.drain()
                return False
            case "close":
                return False
            case "reset":
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            case "wrong_id":
                writer.write(b"4711: stream: OK\0")
            case "no_id":
                writer.write(b"stream: OK\0")
            case "twice":
                writer.write(answer + answer)
            case "split":
                for octet in answer:
                    writer.write(bytes((octet,)))
                    await writer.drain()
                    await asyncio.sleep(0.001)
            case "error":
                writer.write(head + b"stream: Can't allocate memory ERROR\0")
            case "flood":
                writer.write(head + b"A" * 100_000)
            case "clean_ish":
                writer.write(head + b"stream: OK \0")
            case _:
                raise AssertionError(fault)
        return True

"""A clamd that misbehaves as told: slow, silent, garbage, half an answer, gone.

It speaks what clients use: PING, VERSION and INSTREAM, each alone or in an IDSESSION, ended by NUL or LF. `mood` may be
changed at any time: `clean`, `hang`, `garbage`, `half`, `close`, `slow` (clean after `delay` seconds), `error`.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ANSWERS = {
    "clean": b"stream: OK",
    "slow": b"stream: OK",
    "garbage": b"\xff\x00\x13stream OK clean fine",
    "half": b"stream: O",
    "error": b"INSTREAM: Can't allocate memory ERROR",
}


class FakeClamd:
    """`address` is what `[scan] clamd` takes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "fake.sock"
        self.address = f"unix:{self._path}"
        self.mood = "clean"
        self.delay = 1.0
        self.scans = 0
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        self._start(self._accept)

    def reset(self) -> None:
        self.mood, self.delay = "clean", 1.0

    def drop(self) -> None:
        """Close every connection, as a restart does."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """As killed: the socket file stays and nobody answers."""
        self._close_listener()
        self.drop()
        try:
            yield
        finally:
            self._path.unlink()
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self._listener.listen(64)
            self._start(self._accept)

    def close(self) -> None:
        self._over.set()
        self._close_listener()
        self.drop()
        for thread in self._threads:
            thread.join(10)

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._open.add(sock)
            self._start(self._talk, sock)

    def _talk(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, EOFError, struct.error):
            stream = sock.makefile("rb")
            try:
                self._commands(sock, stream)
            finally:
                stream.close()
                self._open.discard(sock)

    def _commands(self, sock: socket.socket, stream: object) -> None:
        read = stream.read  # type: ignore[attr-defined]
        number, session = 0, False
        while True:
            kind = read(1)
            if kind not in (b"z", b"n"):
                return
            end = b"\0" if kind == b"z" else b"\n"
            command = b""
            while (octet := read(1)) != end:
                if not octet:
                    return
                command += octet
            if command == b"IDSESSION":
                session = True
                continue
            if command == b"END":
                return
            number += 1
            answer = self._answer(command, read)
            if answer is None:
                return
            sock.sendall((b"%d: " % number if session else b"") + answer + (b"" if self.mood == "half" else end))
            if self.mood == "half" or not session:
                return

    def _answer(self, command: bytes, read: object) -> bytes | None:
        if command == b"PING":
            return b"PONG"
        if command == b"VERSION":
            return b"ClamAV 1.0.9/27000/Sat Nov 21 08:00:00 2026"
        if command != b"INSTREAM":
            return b"UNKNOWN COMMAND"
        while size := struct.unpack(">I", read(4))[0]:  # type: ignore[operator]
            read(size)  # type: ignore[operator]
        self.scans += 1
        mood = self.mood
        if mood == "close":
            return None
        if mood == "hang":
            self._over.wait(60)
            return None
        if mood == "slow":
            time.sleep(self.delay)
        return ANSWERS[mood]


@contextlib.contextmanager
def fake_clamd(folder: Path) -> Iterator[FakeClamd]:
    daemon = FakeClamd(folder)
    try:
        yield daemon
    finally:
        daemon.close()

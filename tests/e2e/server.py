"""A mail server that follows a script, dies where it is told to, and keeps all it got.

    Fault("MAIL")                   dies when it has read MAIL, before it answers
    Fault("greeting")               dies when it has accepted the connection
    Fault("DATA")                   dies instead of 354
    Fault("body")                   dies when it has the first octets of a message
    Fault("end")                    dies at end-of-data; the message is not stored
    Fault("stored")                 stores the message, dies before its reply is out: the one case where a client may
                                    hear 4xx of a message that arrived (RFC 5321 §6.1: it will send it again)

It dies by a close or, `reset=True`, by a TCP reset. One thread a connection; they share `arrived` and `sessions` only.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.e2e.mails import find_token
from tests.e2e.world import HERE, Place


@dataclass(frozen=True)
class Fault:
    at: str
    reset: bool = False


@dataclass
class Arrived:
    """One message that the server took over. `reply_lost`: it died before it said so."""

    token: str
    data: bytes
    mail_from: str
    recipients: tuple[str, ...]
    peer: str
    reply_lost: bool = False


@dataclass
class Heard:
    """All of one session: command lines as they came, and the octets of a message that was not completed."""

    peer: str
    commands: list[bytes] = field(default_factory=list)
    partial: bytes = b""
    over: bool = False

    @property
    def verbs(self) -> list[str]:
        return [line.split(None, 1)[0].split(b":")[0].decode("ascii", "replace").upper() if line.strip() else ""
                for line in self.commands]  # fmt: skip


class _DiedError(Exception):
    """The script says that the server is dead now."""


class Server:
    """Set `fault`, `replies` (verb → reply line), `delays` (verb or "end" → seconds) at any time; `reset` clears them.

    `lenient` takes LF.LF and LF.CRLF for end-of-data, as servers open to smuggling did.
    """

    extensions = (b"PIPELINING", b"SIZE 52428800", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"ENHANCEDSTATUSCODES")

    def __init__(self, place: Place = HERE, host: str = "127.0.0.1", port: int = 0) -> None:
        self.place = place
        self.lenient = False
        self.fault: Fault | None = None
        self.replies: dict[str, bytes] = {}
        self.delays: dict[str, float] = {}
        self.arrived: list[Arrived] = []
        self.sessions: list[Heard] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._host = host
        self._listener = place.listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._accept()

    def reset(self) -> None:
        """Forget the script and all that was heard."""
        with self._lock:
            self.lenient = False
            self.fault = None
            self.replies = {}
            self.delays = {}
            self.arrived = []
            self.sessions = []

    def tokens(self) -> list[str]:
        with self._lock:
            return [item.token for item in self.arrived]

    def wait_quiet(self, *, timeout: float = 10) -> None:
        """Wait until no session is open: all that will arrive has arrived."""
        deadline = time.monotonic() + timeout
        while True:
            with self._lock:
                if all(heard.over for heard in self.sessions):
                    return
            assert time.monotonic() < deadline, "a session with the server stays open"
            time.sleep(0.02)

    def hang_up(self) -> None:
        """Break every connection that is open."""
        with self._lock:
            left = list(self._open)
        for sock in left:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens: connections are refused."""
        self._close_listener()
        try:
            yield
        finally:
            self._listener = self.place.listen(self._host, self.port)
            self._accept()

    def close(self) -> None:
        self._close_listener()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def _close_listener(self) -> None:
        # A blocked accept() does not notice a close; a shutdown wakes it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        thread = threading.Thread(target=self._serve, args=(self._listener,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            heard = Heard(peer[0])
            with self._lock:
                self._open.add(sock)
                self.sessions.append(heard)
            thread = threading.Thread(target=self._session, args=(sock, heard), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _session(self, sock: socket.socket, heard: Heard) -> None:
        try:
            sock.settimeout(60)
            with contextlib.suppress(OSError, _DiedError):
                _Talk(self, sock, heard).run()
        finally:
            with self._lock:
                self._open.discard(sock)
                heard.over = True
            if self.fault is not None and self.fault.reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def _store(self, item: Arrived) -> None:
        with self._lock:
            self.arrived.append(item)


class _Talk:
    """One session of the server."""

    def __init__(self, server: Server, sock: socket.socket, heard: Heard) -> None:
        self._server = server
        self._sock = sock
        self._heard = heard
        self._buffer = b""
        self._mail_from = ""
        self._recipients: list[str] = []
        self._chunks = b""

    def run(self) -> None:
        self._perhaps_die("greeting")
        self._say("greeting", b"220 sink.corp.example ESMTP")
        while True:
            line = self._line()
            if not line:
                return
            self._heard.commands.append(line)
            words = line.split()
            verb = words[0].upper().decode("ascii", "replace") if words else ""
            verb = verb.partition(":")[0]
            self._perhaps_die(verb)
            if verb == "QUIT":
                self._say(verb, b"221 2.0.0 Bye")
                return
            self._command(verb, line)

    def _command(self, verb: str, line: bytes) -> None:
        if verb in ("EHLO", "HELO"):
            self._forget()
            extensions = self._server.extensions if verb == "EHLO" else ()
            lines = [b"sink.corp.example", *extensions]
            text = b"\r\n".join(b"250" + (b"-" if i < len(lines) - 1 else b" ") + t for i, t in enumerate(lines))
            self._say(verb, text)
        elif verb == "MAIL":
            self._forget()
            if self._say(verb, b"250 2.1.0 Ok"):
                self._mail_from = _address(line)
        elif verb == "RCPT":
            if _address(line).startswith("nobody@"):
                self._say("", b"550 5.1.1 No such user")
            elif self._say(verb, b"250 2.1.5 Ok"):
                self._recipients.append(_address(line))
        elif verb == "DATA":
            self._data(verb)
        elif verb == "BDAT":
            self._chunk(line.split())
        elif verb == "RSET":
            self._forget()
            self._say(verb, b"250 2.0.0 Ok")
        elif verb in ("NOOP", "VRFY", "HELP"):
            self._say(verb, b"252 2.0.0 Ok")
        else:
            self._say(verb, b"502 5.5.2 Error: command not recognized")

    def _data(self, verb: str) -> None:
        if not self._recipients:
            self._say("", b"554 5.5.1 Error: no valid recipients")
            return
        if not self._say(verb, b"354 End data with <CR><LF>.<CR><LF>"):
            return
        body = bytearray()
        before = b"\r\n"
        while True:
            line = self._line()
            if not line:
                self._heard.partial = bytes(body)
                return
            self._dies_in_body(body, line)
            if line == b".\r\n" and before.endswith(b"\r\n"):
                break
            if self._server.lenient and line.strip(b"\r\n") == b".":
                break
            before = line
            body += line[1:] if line.startswith(b".") else line
        self._finish(bytes(body))

    def _chunk(self, words: list[bytes]) -> None:
        size = int(words[1])
        while len(self._buffer) < size:
            data = self._sock.recv(65536)
            if not data:
                self._heard.partial = self._chunks + self._buffer
                return
            self._buffer += data
            self._dies_in_body(self._chunks, self._buffer[:size])
        self._chunks += self._buffer[:size]
        self._buffer = self._buffer[size:]
        if words[2:]:
            data, self._chunks = self._chunks, b""
            self._finish(data)
        else:
            self._say("BDAT", b"250 2.0.0 %d octets" % size)

    def _dies_in_body(self, before: bytes | bytearray, now: bytes) -> None:
        fault = self._server.fault
        if fault is not None and fault.at == "body":
            self._heard.partial = bytes(before) + now
            raise _DiedError

    def _finish(self, data: bytes) -> None:
        self._perhaps_die("end")
        override = self._server.replies.get("end", b"250")
        item = Arrived(find_token(data), data, self._mail_from, tuple(self._recipients), self._heard.peer)
        if override[:1] == b"2":
            fault = self._server.fault
            item.reply_lost = fault is not None and fault.at == "stored"
            self._server._store(item)
        self._forget()
        self._perhaps_die("stored")
        self._say("end", b"250 2.0.0 Ok: queued")

    def _forget(self) -> None:
        self._mail_from = ""
        self._recipients = []
        self._chunks = b""

    def _perhaps_die(self, where: str) -> None:
        fault = self._server.fault
        if fault is not None and fault.at == where:
            raise _DiedError

    def _say(self, verb: str, text: bytes) -> bool:
        """Answer, as the script has it; true when the answer is 2xx or 3xx."""
        delay = self._server.delays.get(verb, 0)
        if delay:
            time.sleep(delay)
        text = self._server.replies.get(verb, text)
        self._sock.sendall(text + b"\r\n")
        return text[:1] in (b"2", b"3")

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._sock.recv(65536)
            if not data:
                return b""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")


@contextlib.contextmanager
def server(place: Place = HERE, host: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
    one = Server(place, host, port)
    try:
        yield one
    finally:
        one.close()

"""Clients: a raw socket, smtplib and swaks, each from any namespace."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.mails import stuffed
from tests.e2e.world import HERE, Place


class Told(NamedTuple):
    """The last reply a client got; `code` 0: the connection ended without one."""

    code: int
    text: str = ""
    at: str = ""
    """The command it answers."""


class Raw:
    """A client that sends what it is told to, octet by octet if need be."""

    def __init__(self, host: str, port: int, *, place: Place = HERE, source: str = "", timeout: float = 30) -> None:
        self.sock = place.connect(host, port, source=source, timeout=timeout)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send; a connection the other side has closed is noticed by `reply`, as a client that reads late does."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)

    def reply(self) -> Told:
        """The next reply, multi-line or not, or `Told(0)` at the end of the connection."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self._buffer:
                try:
                    data = self.sock.recv(65536)
                except ConnectionError:
                    return Told(0)
                if not data:
                    return Told(0)
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            lines.append(line[4:].decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return Told(int(line[:3]), "\n".join(lines))

    def ask(self, line: str) -> Told:
        """Send a command and wait for its reply."""
        self.send(line.encode() + b"\r\n")
        told = self.reply()
        return told._replace(at=line.split(None, 1)[0] if line else "")

    def hello(self, name: str = "friend.outside.example") -> Told:
        """Read the greeting and say EHLO; the greeting itself when it is a refusal."""
        greeting = self.reply()
        return greeting._replace(at="greeting") if greeting.code != 220 else self.ask(f"EHLO {name}")

    def envelope(
        self, sender: str = "friend@outside.example", recipients: Sequence[str] = ("user@corp.example",)
    ) -> Told:
        """MAIL and RCPT one by one; the first refusal, or the last reply."""
        told = self.ask(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            if told.code != 250:
                return told
            told = self.ask(f"RCPT TO:<{recipient}>")
        return told

    def data(self, message: bytes) -> Told:
        """DATA, the message, end-of-data; the final reply."""
        told = self.ask("DATA")
        if told.code != 354:
            return told
        self.send(stuffed(message))
        return self.reply()._replace(at="end")

    def deliver(self, message: bytes, **envelope: Any) -> Told:
        """One transaction."""
        told = self.envelope(**envelope)
        return self.data(message) if told.code == 250 else told

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @staticmethod
    def nothing() -> Told:
        """What a client that left was told."""
        return Told(0)

    def rest(self) -> bytes:
        """Everything until the connection ends."""
        while True:
            try:
                data = self.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += data

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send(host: str, port: int, message: bytes, *, helo: str = "friend.outside.example", place: Place = HERE,
         source: str = "", **envelope: Any) -> Told:  # fmt: skip
    """One session with one message; the reply that ended it."""
    try:
        client = Raw(host, port, place=place, source=source)
    except OSError:
        return Told(0, at="connect")
    with client:
        told = client.hello(helo)
        if told.code == 250:
            told = client.deliver(message, **envelope)
        if told.code:
            client.send(b"QUIT\r\n")
        return told


class Smtplib(smtplib.SMTP):
    """`smtplib.SMTP` whose connection starts in a namespace."""

    def __init__(
        self, place: Place, host: str, port: int, *, helo: str = "friend.outside.example", source: str = ""
    ) -> None:
        self._place = place
        self._source = source
        super().__init__(host, port, local_hostname=helo, timeout=30)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._place.connect(host, port, source=self._source, timeout=timeout)


def swaks(place: Place, host: str, message: bytes, folder: Path, *, port: int = 25,
          sender: str = "friend@outside.example", recipient: str = "user@corp.example",
          helo: str = "friend.outside.example") -> Told:  # fmt: skip
    """Send with swaks, the message untouched; the last reply that mattered."""
    path = folder / "swaks.eml"
    path.write_bytes(stuffed(message)[:-2])  # swaks ends what it sends with CRLF
    server = f"[{host}]" if ":" in host else host
    done = place.run(
        ["swaks", "--server", server, "--port", str(port), "--helo", helo, "--from", sender, "--to", recipient,
         "--no-data-fixup", "--data", f"@{path}", "--suppress-data", "--timeout", "30"],
        check=False, timeout=60,
    )  # fmt: skip
    refused = re.findall(r"^<\*\* +(\d{3}) (.*)$", done.stdout, re.MULTILINE)
    if refused:
        return Told(int(refused[0][0]), refused[0][1])
    replies = re.findall(r"^<-  (\d{3}) (.*)$", done.stdout, re.MULTILINE)
    final = [reply for reply in replies if reply[0] != "221"]
    if done.returncode or not final:
        return Told(0, done.stdout + done.stderr)
    return Told(int(final[-1][0]), final[-1][1])

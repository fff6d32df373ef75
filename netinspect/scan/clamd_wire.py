"""clamd's protocol without the waiting: addresses, connections, commands, and what an answer means.

pyclamd makes the connections and knows the commands; its reading of answers is replaced. pyclamd 0.4.0 takes one
`recv` for a whole answer and says `None`, its word for clean, when clamd closes without one. Here an answer ends with
NUL (clamd(8): a command sent with the prefix `z` is answered so), and only an exact `stream: OK` is clean.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import pyclamd

from netinspect.errors import ConfigError
from netinspect.scan.contract import Finding, Unscanned

Outcome = tuple[Finding | Unscanned, ...]
"""What one scan gave; empty is clean."""

CLEAN: Outcome = ()
ANSWER_MAX = 4096
"""Octets of one answer. clamd cuts its own at 1024 and a few; longer ones are no answers of it."""

# With ExtendedDetectionInfo clamd writes `NAME(md5:size)`.
_EXTENDED = re.compile(r"\([0-9a-f]{32}:\d{1,20}\)$")
_VERSION = re.compile(r"ClamAV ([^/\s]{1,64})(?:/(\d{1,10})/(.{1,64}))?")
_LIMITS = "Heuristics.Limits.Exceeded"
_ENCRYPTED = "Heuristics.Encrypted"


class Link(Protocol):
    """What is used of a pyclamd connection."""

    clamd_socket: socket.socket

    def _init_socket(self) -> None: ...

    def version(self) -> str: ...


class _Strict:
    """Framing with `z` and NUL in place of pyclamd's `n` and one `recv`."""

    clamd_socket: socket.socket
    timeout: float

    def _send_command(self, cmd: str) -> None:
        self.clamd_socket.sendall(b"z" + cmd.encode("ascii") + b"\0")

    def _recv_response(self) -> str:
        answer = bytearray()
        deadline = time.monotonic() + self.timeout
        while not answer.endswith(b"\0"):
            # The socket's own time-out holds for one read; octet by octet that would be hours.
            self.clamd_socket.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = self.clamd_socket.recv(ANSWER_MAX)
            if not piece:
                raise pyclamd.ConnectionError("clamd closed the connection before its answer was complete")
            answer += piece
            if len(answer) > ANSWER_MAX:
                raise pyclamd.ConnectionError("clamd's answer is too long")
        return answer[:-1].decode("utf-8", "replace")


class UnixLink(_Strict, pyclamd.ClamdUnixSocket):  # type: ignore[misc]  # pyclamd has no types
    """A connection to clamd's LocalSocket."""

    def __init__(self, path: str, timeout: float) -> None:
        # pyclamd's own constructor connects once on trial, which would cost a connection and block.
        self.unix_socket = path
        self.timeout = timeout


class TcpLink(_Strict, pyclamd.ClamdNetworkSocket):  # type: ignore[misc]  # pyclamd has no types
    """A connection to clamd's TCPSocket."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout

    def _init_socket(self) -> None:
        # pyclamd's own speaks IPv4 only.
        self.clamd_socket = socket.create_connection((self.host, self.port), self.timeout)
        self.clamd_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class Address:
    """Where clamd listens: `unix:/path` or `tcp:host:port` (an IPv6 host in brackets)."""

    kind: Literal["unix", "tcp"]
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read the setting.

        Raises:
            ConfigError: it is neither `unix:/path` nor `tcp:host:port`.
        """
        kind, _, rest = text.partition(":")
        if kind == "unix" and rest.startswith("/"):
            return cls("unix", path=rest)
        host, _, port = rest.rpartition(":")
        if kind == "tcp" and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
            return cls("tcp", host=host.removeprefix("[").removesuffix("]"), port=int(port))
        raise ConfigError(
            f"{text!r} is no address of clamd", remedy="write unix:/run/clamav/clamd.ctl or tcp:127.0.0.1:3310"
        )

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"

    def link(self, timeout: float) -> Link:
        """An unconnected link; `timeout` seconds hold for connecting and for one answer."""
        if self.kind == "unix":
            return UnixLink(self.path, timeout)
        return TcpLink(self.host, self.port, timeout)


def connect(address: Address, timeout: float) -> socket.socket:
    """Connect; blocks for up to `timeout` seconds, so it is called in a thread.

    Raises:
        OSError: clamd cannot be reached.
    """
    link = address.link(timeout)
    try:
        link._init_socket()
    except OSError:
        # pyclamd leaves the socket open when connecting fails.
        unused = getattr(link, "clamd_socket", None)
        if unused is not None:
            unused.close()
        raise
    return link.clamd_socket


def query_version(address: Address, timeout: float) -> Version:
    """Ask clamd what it is; blocks, so it is called in a thread.

    Raises:
        OSError: clamd cannot be reached or does not answer as clamd does.
    """
    link = address.link(timeout)
    try:
        version = Version.parse(link.version())
    finally:
        opened = getattr(link, "clamd_socket", None)
        if opened is not None:
            opened.close()
    if version is None:
        raise pyclamd.ConnectionError("clamd's answer to VERSION is not understood")
    return version


@dataclass(frozen=True, slots=True)
class Version:
    """clamd's answer to VERSION, which describes the signatures it has loaded.

    `database` is the number of the daily signatures, 0 where only local signatures are loaded; `built` is their date
    (clamd writes its local time; this machine's zone is assumed).
    """

    engine: str
    database: int = 0
    built: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """`ClamAV 1.0.9/27000/Sat Nov 21 09:26:00 2026`, or `None` where it is something else."""
        match = _VERSION.fullmatch(text)
        if match is None:
            return None
        engine, number, date = match.groups()
        if number is None:
            return cls(engine)
        try:
            built = datetime.strptime(date, "%a %b %d %H:%M:%S %Y").astimezone()
        except ValueError:
            built = None
        return cls(engine, int(number), built)

    def __str__(self) -> str:
        return f"{self.engine}/{self.database}/{self.built.isoformat() if self.built else ''}"


def judge(answer: bytes, sha256: str = "") -> Outcome | None:
    """What an answer to INSTREAM says (without NUL and number); `None`: clamd does not speak like this.

    A name that stands for something clamd could not look at is not a virus and not clean.
    """
    if answer == b"stream: OK":
        return CLEAN
    text = answer.decode("utf-8", "replace")
    if text.startswith("stream: ") and text.endswith(" FOUND"):
        name = _EXTENDED.sub("", text[8:-6])
        if not name or not name.isprintable():
            return None
        if name.startswith(_LIMITS):
            return (Unscanned("clamd", f"limit exceeded{name[len(_LIMITS):].replace('.', ': ', 1)}"[:80], sha256),)
        if name.startswith(_ENCRYPTED):
            return (Finding("clamd", name, "encrypted", 3, sha256),)
        return (Finding("clamd", name, "malware", 1, sha256),)
    if text.endswith("ERROR") and text.isprintable():
        if text.startswith("INSTREAM size limit exceeded"):
            return (Unscanned("clamd", "size limit", sha256),)
        said = text.removesuffix("ERROR").removeprefix("stream: ").strip(" .")
        return (Unscanned("clamd", f"error: {said}"[:80] if said else "error", sha256),)
    return None

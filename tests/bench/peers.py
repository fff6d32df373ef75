"""Start and stop of what is measured and what it is measured beside: all on loopback, all in one temporary folder.

Every process is started in a session of its own and ended with it; nothing that was running before is touched. A
program that is not there is `Missing`, with the Debian package that has it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import proc
from tests.bench.messages import MARK, Message, eicar

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
_START = 40.0
_CHUNK = 131_072


class BenchError(Exception):
    """Something could not be measured; the text says what and why."""


class Missing(BenchError):
    """A program is not installed."""


@dataclass(slots=True)
class Server:
    """A running program and where it listens."""

    name: str
    pid: int
    log: Path
    port: int = 0
    socket: Path | None = None
    records: Path | None = None
    sent: int = 0
    """Messages that the bench has sent here."""

    def cpu_ms(self) -> float:
        """CPU milliseconds of its process tree so far."""
        try:
            return proc.cpu_ms(self.pid)
        except ProcessLookupError:
            raise BenchError(f"{self.name} has ended by itself: {self.last_words()}") from None

    def last_words(self) -> str:
        return last_lines(self.log)


def last_lines(log: Path) -> str:
    """The end of a log in one line."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return " ; ".join(line.strip() for line in lines[-2:])[-300:] or "no output"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def find(program: str, package: str) -> str:
    """The path of a program. Debian keeps servers in /usr/sbin, which is not on everybody's PATH."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return path


def wait_for_greeting(port: int, name: str, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until an SMTP greeting comes out of the port. Raises BenchError with the log's end after 40 s."""
    until = time.monotonic() + _START
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=2) as peer:
            if peer.recv(512).startswith(b"220"):
                peer.sendall(b"QUIT\r\n")
                peer.recv(512)
                return
        time.sleep(0.05)
    raise BenchError(f"{name} gave no greeting on port {port}: {last_lines(log)}")


@contextlib.contextmanager
def _process(argv: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in its own session; end it and what it started, first politely."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _sink(name: str, argv: list[str], port: int, log: Path) -> Iterator[Server]:
    with _process(argv, log) as process:
        wait_for_greeting(port, name, log, process)
        yield Server(name, process.pid, log, port)


@contextlib.contextmanager
def own_sink(folder: Path) -> Iterator[Server]:
    """The project's own small sink."""
    port = free_port()
    yield from _sink("own sink", [sys.executable, "-m", "tests.bench.sink", str(port)], port, folder / "sink.log")


@contextlib.contextmanager
def sink(folder: Path) -> Iterator[Server]:
    """smtp-sink of Postfix, as user nobody when we are root; or else the project's own small sink."""
    port = free_port()
    try:
        program = find("smtp-sink", "postfix")
    except Missing:
        with own_sink(folder) as server:
            yield server
        return
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    argv = [program, *user, "-m", "4000", f"{HOST}:{port}", "1024"]
    yield from _sink("smtp-sink", argv, port, folder / "sink.log")


@contextlib.contextmanager
def clamd(folder: Path, database: Path | None = None) -> Iterator[Server]:
    """clamd with its own defaults and that database, or one of two signatures."""
    program, log = find("clamd", "clamav-daemon"), folder / "clamd.log"
    path, temporary = folder / "clamd.sock", folder / "clamd.tmp"
    temporary.mkdir()
    if database is None:
        database = folder / "db"
        database.mkdir()
        (database / "bench.ndb").write_text(f"Bench.Eicar:0:*:{eicar().hex()}\nBench.Other:0:*:{MARK.hex()}\n")
    config = folder / "clamd.conf"
    config.write_text(
        f"DatabaseDirectory {database}\nLocalSocket {path}\nLocalSocketMode 666\nTemporaryDirectory {temporary}\n"
        "Foreground yes\nFixStaleSocket yes\n"
    )
    with _process([program, "-c", str(config)], log) as process:
        until = time.monotonic() + _START
        while not path.exists() or not _ping(path):
            if time.monotonic() > until or process.poll() is not None:
                raise BenchError(f"clamd does not answer: {last_lines(log)}")
            time.sleep(0.1)
        yield Server("clamd", process.pid, log, socket=path)


def _ping(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        try:
            peer.connect(str(path))
            peer.sendall(b"zPING\0")
            return peer.recv(16) == b"PONG\0"
        except OSError:
            return False


def instream_ms(scanner: Server, message: Message) -> tuple[float, float, bytes]:
    """Scan a message with bare INSTREAM over a new connection: clamd(8).

    Returns milliseconds from connect to the whole answer, from the last octet to the answer, and the answer.
    """
    data = memoryview(b"".join(message))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        start = time.monotonic()
        peer.connect(str(scanner.socket))
        peer.sendall(b"zINSTREAM\0")
        for at in range(0, len(data), _CHUNK):
            piece = data[at : at + _CHUNK]
            peer.sendall(struct.pack("!I", len(piece)) + piece)
        peer.sendall(b"\0\0\0\0")
        sent = time.monotonic()
        answer = b""
        while not answer.endswith(b"\0"):
            more = peer.recv(4096)
            if not more:
                raise BenchError(f"clamd closed without an answer to INSTREAM (said {answer!r})")
            answer += more
        end = time.monotonic()
    return (end - start) * 1000, (end - sent) * 1000, answer


@contextlib.contextmanager
def mitmdump(folder: Path, upstream: int) -> Iterator[Server]:
    """mitmdump of the same environment as a bare TCP relay."""
    program = Path(sys.executable).parent / "mitmdump"
    if not program.exists():
        raise Missing(f"mitmdump is not beside {sys.executable}: pip install mitmproxy")
    port, log = free_port(), folder / "mitmdump.log"
    mode = f"reverse:tcp://{HOST}:{upstream}@{HOST}:{port}"
    argv = [str(program), "-q", "--mode", mode, "--set", f"confdir={folder / 'mitm'}"]
    with _process(argv, log) as process:
        wait_for_greeting(port, "mitmdump", log, process)
        yield Server("mitmdump TCP relay", process.pid, log, port)


@contextlib.contextmanager
def clamsmtp(folder: Path, upstream: int, scanner: Server) -> Iterator[Server]:
    """clamsmtpd as Debian ships it; only addresses and paths are ours. It makes itself a daemon."""
    program, log = find("clamsmtpd", "clamsmtp"), folder / "clamsmtp.log"
    port, temporary = free_port(), folder / "clamsmtp.tmp"
    temporary.mkdir()
    pidfile = temporary / "clamsmtpd.pid"  # written after it has become its own user
    lines = [
        f"OutAddress: {HOST}:{upstream}",
        f"Listen: {HOST}:{port}",
        f"ClamAddress: {scanner.socket}",
        f"TempDirectory: {temporary}",
    ]
    if os.geteuid() == 0:
        shutil.chown(temporary, "clamsmtp")
        lines.append("User: clamsmtp")
    config = folder / "clamsmtp.conf"
    config.write_text("\n".join(lines) + "\n")
    pid = 0
    try:
        with log.open("ab") as out:
            subprocess.run(
                [program, "-f", str(config), "-p", str(pidfile)], stdout=out, stderr=out, timeout=20, check=True
            )
        wait_for_greeting(port, "clamsmtpd", log)
        pid = int(pidfile.read_text())
        yield Server("clamsmtp as shipped", pid, log, port)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"clamsmtpd did not start: {error}: {last_lines(log)}") from error
    finally:
        if not pid and pidfile.exists():
            pid = int(pidfile.read_text())
        if pid:
            os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def gateway(folder: Path, upstream: int, scanner: Server | None, name: str) -> Iterator[Server]:
    """`netinspect gateway`, all engines on, one worker, records to a file; without clamd when there is no scanner."""
    port, home = free_port(), folder / name.replace(" ", "-")
    home.mkdir()
    log, config, records = home / "gateway.log", home / "netinspect.toml", home / "events.json"
    daemon = f'clamd = "unix:{scanner.socket}"\n' if scanner else ""
    config.write_text(
        f'[[listener]]\nname = "ext"\nzone = "external"\nlisten = "{HOST}:{port}"\n'
        f'mode = "reverse"\nupstream = "{HOST}:{upstream}"\n\n'
        '[networks]\ndomains = ["corp.example"]\n\n'
        f"[scan]\n{daemon}office = true\nrules = true\nworkers = 1\n\n"
        f'[records]\nfile = "{records}"\n'
    )
    temporary = home / "tmp"
    temporary.mkdir()
    argv = [sys.executable, "-m", "netinspect", "-c", str(config), "gateway"]
    with _process(argv, log, TMPDIR=str(temporary)) as process:
        wait_for_greeting(port, name, log, process)
        yield Server(name, process.pid, log, port, records=records)

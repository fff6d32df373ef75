"""A real clamd with a database of the tests' own, and both event loops."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop

from tests.scan.eicar import EICAR

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

LIMITS_MARK = b"netinspect-test-mark-of-a-limit"
ENCRYPTED_MARK = b"netinspect-test-mark-of-encryption"
STREAM_MAX = 4 * 1024 * 1024


class RealClamd:
    """clamd as Debian ships it, with its own configuration, socket and signatures; `start`, `kill` and again."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.path = directory / "clamd.sock"
        self.unix = f"unix:{self.path}"
        self.tcp = f"tcp:127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "db").mkdir()
        (directory / "tmp").mkdir()
        signatures = [("Test.Eicar", EICAR), ("Heuristics.Limits.Exceeded.MaxFileSize", LIMITS_MARK)]
        signatures.append(("Heuristics.Encrypted.Zip", ENCRYPTED_MARK))
        lines = [f"{name}:0:*:{content.hex()}\n" for name, content in signatures]
        (directory / "db" / "test.ndb").write_text("".join(lines))
        settings = {
            "Foreground": "yes", "LocalSocket": self.path, "TCPSocket": port, "TCPAddr": "127.0.0.1",
            "DatabaseDirectory": directory / "db", "TemporaryDirectory": directory / "tmp",
            "LogFile": directory / "clamd.log", "StreamMaxLength": STREAM_MAX, "MaxThreads": 4, "IdleTimeout": 30,
        }  # fmt: skip
        (directory / "clamd.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))

    def start(self) -> None:
        program = shutil.which("clamd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        assert program, "clamd is not installed; apt-get install clamav-daemon"
        self.path.unlink(missing_ok=True)
        with (self.directory / "out").open("wb") as out:
            self._process = subprocess.Popen(
                [program, "-c", str(self.directory / "clamd.conf")], stdout=out, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 30
        while not (_answers(socket.AF_UNIX, str(self.path)) and _answers(socket.AF_INET, ("127.0.0.1", self.port))):
            assert self._process.poll() is None, (self.directory / "out").read_text()
            assert time.monotonic() < deadline, "clamd did not come up"
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: connections end in the middle of whatever they do."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def _answers(family: int, address: Any) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def clamd() -> Iterator[RealClamd]:
    """A clamd that stays up."""
    yield from _world()


@pytest.fixture
def mortal_clamd() -> Iterator[RealClamd]:
    """A clamd that the test may kill."""
    yield from _world()


def _world() -> Iterator[RealClamd]:
    # Not pytest's tmp_path: a unix socket's path must stay below 108 octets.
    with tempfile.TemporaryDirectory(prefix="ni-clamd-") as directory:
        daemon = RealClamd(Path(directory), free_port())
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    """Run a coroutine to its end under each event loop, bounded in time."""

    def run(work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(25):
                return await work

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())

    return run


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A short directory for sockets."""
    with tempfile.TemporaryDirectory(prefix="ni-") as directory:
        yield Path(directory)

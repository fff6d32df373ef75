"""A clamd of our own: its database is one signature made here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.e2e.mails import eicar
from tests.e2e.world import HERE, PATH, end

SIGNATURE = "Netinspect.Test.Eicar"


class Clamd:
    """`address` is what `[scan] clamd` takes."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "clamd.sock"
        self.address = f"unix:{self.socket}"
        self._folder = folder
        database = folder / "database"
        database.mkdir(parents=True)
        # ClamAV's extended signature format: name, target (0: any file), offset (*: anywhere), hex.
        (database / "e2e.ndb").write_text(f"{SIGNATURE}:0:*:{eicar().hex()}\n")
        self._config = folder / "clamd.conf"
        self._config.write_text(
            f"Foreground yes\nLocalSocket {self.socket}\nDatabaseDirectory {database}\nFixStaleSocket yes\n"
            f"TemporaryDirectory {folder}\nLogFile {folder}/clamd.log\nLogFileUnlock yes\nMaxThreads 6\n"
            "SelfCheck 3600\n"
        )
        self._process: subprocess.Popen[Any] | None = None

    def start(self) -> None:
        """Start and wait until it answers PING."""
        program = shutil.which("clamd", path=PATH) or "clamd"
        self._process = HERE.popen(
            [program, f"--config-file={self._config}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not self._pings():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self._folder / "clamd.log"
                raise RuntimeError(f"clamd did not come up:\n{log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self.stop()

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            HERE.processes.remove(self._process)
            self._process = None

    def _pings(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(2)
            sock.connect(str(self.socket))
            sock.sendall(b"zPING\0")
            return sock.recv(16).startswith(b"PONG")
        return False


@contextlib.contextmanager
def clamd(folder: Path) -> Iterator[Clamd]:
    daemon = Clamd(folder)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()

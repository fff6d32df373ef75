"""tcpdump on an interface: what a capture of the gateway's clients would have."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.world import Place, end

START_SECONDS = 10


class Tap:
    """A running tcpdump. `read` gives the file as it is by now."""

    def __init__(self, place: Place, interface: str, file: Path, what: str = "tcp") -> None:
        self.file = file
        self.log = file.with_suffix(".log")
        with self.log.open("wb") as log:
            # -U: each packet is written at once; root stays root: the folder is ours.
            self._process = place.popen(
                ["tcpdump", "-i", interface, "-U", "--immediate-mode", "-s", "0", "-B", "16384", "-n", "-Z", "root",
                 "-w", str(file), what],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while "listening on" not in self.log.read_text():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "tcpdump does not start"
            time.sleep(0.02)

    def wait_quiet(self, *, quiet: float = 0.5, timeout: float = 15) -> None:
        """Until nothing was written for a while."""
        deadline, size = time.monotonic() + timeout, -1
        while (now := self.file.stat().st_size) != size:
            assert time.monotonic() < deadline, "the capture goes on growing"
            size = now
            time.sleep(quiet)

    def close(self) -> None:
        end(self._process)


@contextlib.contextmanager
def tap(place: Place, interface: str, file: Path, what: str = "tcp") -> Iterator[Tap]:
    one = Tap(place, interface, file, what)
    try:
        yield one
    finally:
        one.close()

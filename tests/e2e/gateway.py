"""The gateway as a process of its own: settings in, records out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.tap import Tap
from tests.e2e.world import HERE, Place, end, python

Table = Mapping[str, Any]
Event = dict[str, Any]

START_SECONDS = 40
STOP_SECONDS = 25


def toml(tables: Mapping[str, Table | Sequence[Table]]) -> str:
    """Tables as TOML; a list of tables is an array of tables."""
    lines: list[str] = []
    for name, content in tables.items():
        one = isinstance(content, Mapping)
        for table in [content] if isinstance(content, Mapping) else content:
            lines.append(f"[{name}]" if one else f"[[{name}]]")
            lines += [f"{key} = {_value(value)}" for key, value in table.items()]
            lines.append("")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)


class Gateway:
    """`folder` gets the settings, the records and what the process says."""

    def __init__(self, folder: Path, tables: Mapping[str, Table | Sequence[Table]], place: Place = HERE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.records = folder / "events.json"
        self.config = folder / "netinspect.toml"
        self.config.write_text(toml({**tables, "records": {"file": str(self.records)}}))
        self._log = folder / "gateway.log"
        self._process: subprocess.Popen[Any] | None = None
        self._mark = 0
        self.taps: dict[str, Tap] = {}
        """What was captured of the clients, by their zone; of the gateway at the edge only."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it listens."""
        with self._log.open("wb") as log:
            self._process = self.place.popen(
                python("-m", "netinspect", "-c", str(self.config), "gateway"), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.config.parent,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while "netinspect gateway: ready" not in self.log():
            assert self._process.poll() is None, f"the gateway ended with {self._process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"the gateway does not come up:\n{self.log()}"
            time.sleep(0.03)

    def stop(self) -> None:
        """Stop by SIGTERM; AssertionError when it does not end well or has complained of a fault of its own."""
        process, self._process = self._process, None
        if process is None:
            return
        children = self._children(process.pid)
        if process.poll() is None:
            process.terminate()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the gateway does not stop on SIGTERM:\n{self.log()}") from None
        finally:
            end(process)
            self.place.processes.remove(process)
        assert code == 0, f"the gateway ended with {code}:\n{self.log()}"
        assert "Traceback" not in self.log(), self.log()
        assert not [pid for pid in children if alive(pid)], "workers are left behind"

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def workers(self) -> list[int]:
        """Process ids of the gateway's children."""
        return self._children(self.pid)

    @staticmethod
    def _children(pid: int) -> list[int]:
        found: list[int] = []
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
        return found

    def mark(self) -> None:
        """`events` gives what is written after this."""
        self._mark = len(self.events(since=0))

    def events(self, kind: str = "", *, since: int | None = None) -> list[Event]:
        """The records since the mark, of one event type if asked for."""
        text = self.records.read_text() if self.records.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        found: list[Event] = [json.loads(line) for line in whole.splitlines()]
        found = found[self._mark if since is None else since :]
        return [event for event in found if not kind or event["event_type"] == kind]

    def wait_event(self, wanted: Callable[[Event], bool], *, timeout: float = 10) -> Event:
        """The first record since the mark that is wanted."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events():
                if wanted(event):
                    return event
            assert time.monotonic() < deadline, f"no such record:\n{json.dumps(self.events(), indent=1)[-4000:]}"
            time.sleep(0.05)

    def wait_verdict(self, action: str, *, timeout: float = 10, **fields: Any) -> Event:
        """A verdict with this action and these fields of its `verdict` object."""

        def wanted(event: Event) -> bool:
            verdict = event.get("verdict", {})
            return verdict.get("action") == action and all(verdict.get(k) == v for k, v in fields.items())

        return self.wait_event(lambda event: event["event_type"] == "verdict" and wanted(event), timeout=timeout)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@contextlib.contextmanager
def gateway(folder: Path, tables: Mapping[str, Table | Sequence[Table]], place: Place = HERE) -> Iterator[Gateway]:
    one = Gateway(folder, tables, place)
    try:
        one.start()
        yield one
        one.stop()
    finally:
        if one._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            end(one._process)


def free_port() -> int:
    """A TCP port that nobody had a moment ago."""
    with HERE.listen("127.0.0.1") as sock:
        port: int = sock.getsockname()[1]
        return port

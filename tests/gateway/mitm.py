"""mitmproxy's own programs with the gateway's addon, as processes on loopback."""

from __future__ import annotations

import contextlib
import io
import json
import os
import smtplib
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitmproxy.tcp import TCPFlow

ROOT = Path(__file__).resolve().parents[2]
OURS = "corp.example"
START_SECONDS = 60
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody had a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def configuration(folder: Path, upstream: int, more: str = "") -> tuple[Path, int]:
    """A settings file with one external listener in front of a server on loopback; its path and port."""
    port = free_port()
    file = folder / "netinspect.toml"
    file.write_text(
        f'[[listener]]\nname = "ext"\nzone = "external"\nlisten = "127.0.0.1:{port}"\nmode = "reverse"\n'
        f'upstream = "127.0.0.1:{upstream}"\n\n[networks]\ndomains = ["{OURS}"]\n\n'
        f"[records]\nfile = {json.dumps(str(folder / 'events.json'))}\n\n{more}"
    )
    return file, port


@dataclass
class Running:
    """One program. `port` is the listener's."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """What is on record so far."""
        file = self.folder / "events.json"
        lines = file.read_text().splitlines() if file.exists() else []
        return [record for line in lines if (record := json.loads(line))["event_type"] == kind]

    def verdicts(self, count: int) -> list[dict[str, Any]]:
        """The verdicts, once there are `count`."""
        deadline = time.monotonic() + 10
        while len(found := self.records("verdict")) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(found) == count, found
        return [record["verdict"] for record in found]

    def wait_for(self, word: str) -> None:
        """Wait until the program has said this."""
        deadline = time.monotonic() + START_SECONDS
        while word not in self.log():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"it never said {word!r}:\n{self.log()}"
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextlib.contextmanager
def program(name: str, folder: Path, port: int, *arguments: str, ready: str = "") -> Iterator[Running]:
    """Run mitmdump, mitmweb or netinspect of this interpreter's environment until the block ends."""
    log = folder / f"{name}.log"
    if name == "netinspect":
        command = [sys.executable, "-m", name, *arguments]
    else:
        command = [str(Path(sys.executable).parent / name), *arguments, "--set", f"confdir={folder / 'mitmproxy'}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder, env=ENVIRONMENT
        )
    running = Running(process, folder, port, log)
    try:
        running.wait_for(ready or f"listening at 127.0.0.1:{port}")
        yield running
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def send(port: int, sender: str, message: bytes, recipient: str = f"bob@{OURS}") -> str:
    """One mail; the last reply the client was given."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.outside.example", timeout=60) as client:
        client.ehlo()
        code, text = client.mail(sender)
        if code == 250:
            code, text = client.rcpt(recipient)
        if code == 250:
            code, text = client.data(message)
        with contextlib.suppress(smtplib.SMTPServerDisconnected):
            client.quit()
        return f"{code} {text.decode('utf-8', 'replace')}"


def flows_of(dump: bytes) -> list[TCPFlow]:
    """The flows of a file that mitmproxy saved."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mitmproxy's filters use old names of pyparsing
        from mitmproxy.io import FlowReader
    return [flow for flow in FlowReader(io.BytesIO(dump)).stream() if isinstance(flow, TCPFlow)]

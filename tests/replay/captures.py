"""Captures of many sessions for the tests of the command: written with `tests.replay.make`."""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netinspect.config import Settings, load
from netinspect.replay import command
from tests.replay.make import START, Talk, Timed, frames, pcap

OURS = "example.com"
"""Domain of the settings below."""

SETTINGS = f"""\
[scan]
office = false
rules = false
workers = 0
[networks]
domains = ["{OURS}"]
"""


def settings(folder: Path, text: str = SETTINGS) -> Settings:
    """Settings without engines (no process is started) that have a domain to protect."""
    path = folder / "netinspect.toml"
    path.write_text(text)
    return load(path, {})


def mail(number: int, *, size: int = 300, subject: str = "", attachment: bytes = b"") -> bytes:
    """A message with CRLF line ends."""
    head = f"From: a{number}@example.org\r\nTo: b@{OURS}\r\nSubject: {subject or f'note {number}'}\r\n"
    text = "".join(f"line {line} of mail {number}\r\n" for line in range(size // 20))
    if not attachment:
        return f"{head}\r\n{text}".encode()
    body = base64.encodebytes(attachment).replace(b"\n", b"\r\n")
    return (
        f'{head}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n{text}--b\r\n'
        f'Content-Type: application/octet-stream; name="f{number}.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    ).encode() + body + b"--b--\r\n"


def talk(number: int, *messages: bytes, sender: str = "", start: int = 0) -> Talk:
    """A session of client 192.0.2.x; `start` in ms after that of the capture."""
    one = Talk(client_address=(f"192.0.2.{number % 200 + 1}", 40000 + number), time=START + start * 1_000_000)
    one.open().server(b"220 mx.example.com ESMTP\r\n").client(b"EHLO client.example.org\r\n")
    one.server(b"250-mx.example.com\r\n250 8BITMIME\r\n")
    for message in messages:
        one.mail(message, sender=sender or f"a{number}@example.org", recipient=f"b@{OURS}")
    return one.client(b"QUIT\r\n").server(b"221 2.0.0 bye\r\n").close()


def sessions(count: int, *, seed: int = 1) -> list[Talk]:
    """Sessions that overlap in time: one mail or several, small ones and large ones, some from a forged sender."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        attachment = chance.randbytes(chance.choice((1000, 30_000))) if number % 3 == 0 else b""
        messages = [mail(number * 10 + at, attachment=attachment) for at in range(chance.choice((1, 1, 2, 3)))]
        sender = f"boss@{OURS}" if number % 7 == 3 else ""
        made.append(talk(number, *messages, sender=sender, start=chance.randrange(200)))
    return made


def joined(talks: Iterable[Talk]) -> list[Timed]:
    """The frames of all, by time."""
    return sorted((frame for one in talks for frame in frames(one.segments)), key=lambda frame: frame[0])


def write(path: Path, talks: Sequence[Talk]) -> str:
    """A pcap file; its name."""
    path.write_bytes(pcap(joined(talks)))
    return str(path)


@dataclass(frozen=True)
class Ran:
    """What a replay gave."""

    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of `--events -`."""
        return [json.loads(line) for line in self.out.splitlines()]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.records if one["event_type"] == kind]


def run(folder: Path, *names: str, text: str = SETTINGS, extract: str = "", **options: Any) -> Ran:
    """`netinspect replay` in this process; paths of results are below `folder`."""
    out, err = io.StringIO(), io.StringIO()
    wanted = command.Options(names, extract=str(folder / extract) if extract else "", **options)
    status = command.run(settings(folder, text), wanted, out=out, err=err)
    return Ran(status, out.getvalue(), err.getvalue())


def cli(folder: Path, *arguments: str, text: str = SETTINGS, given: bytes | None = None) -> Ran:
    """The command in a process of its own."""
    settings(folder, text)
    program = [sys.executable, "-W", "error", "-m", "netinspect", "-c", str(folder / "netinspect.toml")]
    line = [*program, "replay", *arguments]
    done = subprocess.run(line, input=given, capture_output=True, timeout=60, check=False)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

"""`netinspect demo`: real SMTP sessions through a real gateway on loopback, and a table of what became of each."""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from netinspect.demo_server import DemoServer, Heard
from netinspect.errors import EnvironmentFault
from netinspect.samples import mails

OURS = "inside.example"
OUTSIDER = "alice@outside.example"
INSIDER = f"carol@{OURS}"
RECIPIENT = f"bob@{OURS}"

WIDTH = 80
"""Columns of the table."""


@dataclass(frozen=True, slots=True)
class Case:
    """One session: what is sent from which side, and what must come of it."""

    title: str
    zone: str
    sender: str
    message: bytes
    code: int
    delivered: int
    rule: str
    raw: bool = False


@dataclass(slots=True)
class Outcome:
    """What really came of it."""

    told: str
    heard: Heard
    rule: str
    added_ms: float
    ok: bool


def cases() -> list[Case]:
    """The sessions of the demo, in order."""
    return [
        Case("clean mail with attachment", "external", OUTSIDER, mails.clean_mail(), 250, 1, ""),
        Case("EICAR in a zip", "external", OUTSIDER, mails.eicar_mail(), 550, 0, "malware"),
        Case("Word file, Melissa-like macro", "external", OUTSIDER, mails.macro_mail(), 550, 0, "macro-"),
        Case("internal sender from outside", "external", INSIDER, mails.internal_sender_mail(), 550, 0, "spoof"),
        Case("the same sender from inside", "internal", INSIDER, mails.internal_sender_mail(), 250, 1, ""),
        Case("smuggled second message", "external", OUTSIDER, mails.smuggling_mail(), 550, 0, "smuggling", raw=True),
    ]  # fmt: skip


def run(out: TextIO) -> int:
    """Run the demo; 0 when every session came out as it should, else 1."""
    out.write("netinspect demo: on loopback a gateway with an external and an internal\n")
    out.write("listener, a mail server behind it, and good and bad mails sent through it\n")
    with tempfile.TemporaryDirectory(prefix="netinspect-demo-") as folder, DemoServer() as server:
        ports = {"external": _free_port(), "internal": _free_port()}
        records = Path(folder) / "events.json"
        config = Path(folder) / "netinspect.toml"
        config.write_text(_config(ports, server.port, records), encoding="utf-8")
        gateway = _start(config)
        try:
            results = [(case, _play(case, ports[case.zone], server, records)) for case in cases()]
        except (OSError, smtplib.SMTPException) as error:
            raise EnvironmentFault(f"a session broke off: {error}", remedy="see `netinspect doctor`") from error
        finally:
            _stop(gateway)
    _table(results, out)
    failed = [case.title for case, outcome in results if not outcome.ok]
    if failed:
        out.write(f"\nNOT as it should be: {'; '.join(failed)}\n")
        return 1
    out.write("\nAll as it should be: nothing harmful arrived, nothing harmless was lost.\n")
    return 0


def _config(ports: dict[str, int], upstream: int, records: Path) -> str:
    listeners = "".join(
        f'[[listener]]\nname = "{zone}"\nzone = "{zone}"\nlisten = "127.0.0.1:{port}"\n'
        f'mode = "reverse"\nupstream = "127.0.0.1:{upstream}"\n\n'
        for zone, port in ports.items()
    )
    return f'{listeners}[networks]\ndomains = ["{OURS}"]\n\n[records]\nfile = {json.dumps(str(records))}\n'


def _start(config: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(  # noqa: S603 - our own program with our own file
        [sys.executable, "-m", "netinspect", "-c", str(config), "gateway"], stderr=subprocess.PIPE, text=True
    )
    said: list[str] = []
    for line in process.stderr or ():
        said.append(line.strip())
        if line.strip().endswith(": ready"):
            return process
    _stop(process)
    last = said[-1] if said else "no word"
    raise EnvironmentFault(f"the gateway did not start: {last}", remedy="see `netinspect doctor`")


def _stop(gateway: subprocess.Popen[str]) -> None:
    gateway.terminate()
    try:
        gateway.wait(30)
    except subprocess.TimeoutExpired:
        gateway.kill()
        gateway.wait()
    if gateway.stderr is not None:
        gateway.stderr.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _play(case: Case, port: int, server: DemoServer, records: Path) -> Outcome:
    send = _send_raw if case.raw else _send
    # The same session without us, for the time it takes by itself.
    direct = min(_timed(send, server.port, case)[1] for _ in range(3))
    server.forget()
    told, through = _timed(send, port, case)
    rule = _last_rule(records)
    heard = server.forget()
    ok = (
        told.startswith(str(case.code))
        and len(heard.messages) == case.delivered
        and (case.rule in rule if case.rule else rule == "default")
        and all(message == case.message for message in heard.messages)
    )
    return Outcome(told, heard, rule, (through - direct) * 1000, ok)


def _timed(send: Callable[[int, Case], str], port: int, case: Case) -> tuple[str, float]:
    start = time.perf_counter()
    told = send(port, case)
    return told, time.perf_counter() - start


def _send(port: int, case: Case) -> str:
    try:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.outside.example", timeout=30) as client:
            client.ehlo()
            code, text = client.mail(case.sender)
            if code == 250:
                client.rcpt(RECIPIENT)
                code, text = client.data(case.message)
            return f"{code} {text.decode('utf-8', 'replace')}"
    except smtplib.SMTPServerDisconnected:
        return "(connection closed)"


def _send_raw(port: int, case: Case) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        file = sock.makefile("rb")
        file.readline()
        for line in ("HELO client.outside.example", f"MAIL FROM:<{case.sender}>", f"RCPT TO:<{RECIPIENT}>", "DATA"):
            sock.sendall(line.encode() + b"\r\n")
            file.readline()
        sock.sendall(case.message + b"\r\n.\r\n")
        told = file.readline().decode("utf-8", "replace").strip()
        sock.sendall(b"QUIT\r\n")
        while file.readline():
            pass  # a server that was fooled still has the smuggled commands to answer
        return told


def _last_rule(records: Path) -> str:
    verdicts = [
        record["verdict"]
        for line in records.read_text(encoding="utf-8").splitlines()
        if (record := json.loads(line))["event_type"] == "verdict"
    ]
    return ", ".join(verdicts[-1]["rules"]) if verdicts else "(no record)"


def _table(results: list[tuple[Case, Outcome]], out: TextIO) -> None:
    """Two lines a session, so that it fits into 80 columns."""
    rows = [("", "what was sent", "reached the server", "rule", "   ms")]
    rows += [
        (
            "ok" if outcome.ok else "NO",
            case.title,
            _reached(case, outcome.heard),
            outcome.rule.replace("default", "(none: clean)"),
            f"{outcome.added_ms:.1f}",
        )
        for case, outcome in results
    ]
    heading = "  listener: what the client was told"
    told = [f"{heading:{WIDTH - len('okadded')}}added"]
    told += [f"  {case.zone}: {outcome.told}" for case, outcome in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    out.write("\n")
    for number, (row, text) in enumerate(zip(rows, told, strict=True)):
        *cells, last = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write("  ".join(cells) + f" {last.strip():>{widths[-1]}}\n")
        out.write(f"{' ' * widths[0]}{text}\n")
        if number == 0:
            out.write("-" * WIDTH + "\n")


def _reached(case: Case, heard: Heard) -> str:
    if heard.messages:
        return "the mail, byte for byte" if heard.messages == [case.message] else "another mail"
    if any(command.upper().startswith("MAIL") for command in heard.commands):
        return "the envelope only"
    return "no word of it"

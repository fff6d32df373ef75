"""A gateway on loopback with a server that can be told to die behind it and a clamd that can be told to misbehave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e import mails
from tests.e2e.clients import Raw, Told, send
from tests.e2e.fakeclamd import FakeClamd, fake_clamd
from tests.e2e.gateway import Gateway, Table, free_port, gateway
from tests.e2e.ledger import Balance, Ledger
from tests.e2e.server import Server, server

CLAMD_TIMEOUT = 2.0
WORKER_TIME = 2.0


@dataclass
class Rig:
    gateway: Gateway
    server: Server
    clamd: FakeClamd
    port: int
    """The external listener."""
    inside_port: int
    """The internal listener."""
    book: Ledger = field(default_factory=Ledger)

    def fresh(self) -> None:
        """Everything as at the start; a new ledger, `events` from here on."""
        self.server.reset()
        self.clamd.reset()
        self.gateway.mark()
        self.book = Ledger()

    def connect(self, *, timeout: float = 30) -> Raw:
        return Raw("127.0.0.1", self.port, timeout=timeout)

    def mail(self, *, attachment: bytes | None = None, **more: Any) -> tuple[str, bytes]:
        """A token and its message."""
        name = mails.token()
        return name, mails.mail(name, attachment=attachment, **more)

    def send(self, *, attachment: bytes | None = None, port: int = 0, **more: Any) -> Told:
        """One session with one clean mail, booked."""
        name, message = self.mail(attachment=attachment)
        return self.book.sent(name, message, send("127.0.0.1", port or self.port, message, **more))

    def balance(self) -> Balance:
        """The books, when all that can arrive has arrived."""
        self.server.wait_quiet()
        return self.book.balance(self.server.arrived)


@contextlib.contextmanager
def rig(folder: Path, tables: Mapping[str, Table] | None = None) -> Iterator[Rig]:
    """Start all of it; `tables` are added to the settings."""
    folder.mkdir()
    port, inside_port = free_port(), free_port()
    with server() as sink, fake_clamd(folder / "clamd") as clamd:
        listener = {"mode": "reverse", "upstream": f"127.0.0.1:{sink.port}"}
        settings: dict[str, Table | list[Table]] = {
            "listener": [
                {"name": "outside", "zone": "external", "listen": f"127.0.0.1:{port}", **listener},
                {"name": "inside", "zone": "internal", "listen": f"127.0.0.1:{inside_port}", **listener},
            ],
            "networks": {"domains": ["corp.example"]},
            "scan": {"clamd": clamd.address, "clamd_timeout": CLAMD_TIMEOUT},
            "limits": {"worker_time": WORKER_TIME},
        }
        for name, table in (tables or {}).items():
            settings[name] = {**settings.get(name, {}), **table}  # type: ignore[dict-item]
        with gateway(folder / "gateway", settings) as running:
            yield Rig(running, sink, clamd, port, inside_port)

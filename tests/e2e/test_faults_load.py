"""Many at a time: fifty mixed sessions, and SIGTERM in the middle of them. The books balance."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e import mails
from tests.e2e.clients import Told, send
from tests.e2e.rig import Rig, rig

SESSIONS = 50
SECONDS = 20


def clean(loop: Rig, number: int) -> None:
    assert loop.send(attachment=mails.noise(20_000 + number, seed=number)).code == 250


def big(loop: Rig, number: int) -> None:
    assert loop.send(attachment=mails.noise(1_500_000, seed=number)).code == 250


def infected(loop: Rig, number: int) -> None:
    name = mails.token()
    message = mails.eicar_mail(name)
    assert loop.book.sent(name, message, send("127.0.0.1", loop.port, message)).code == 550


def spoofed(loop: Rig, number: int) -> None:
    assert loop.send(sender="boss@corp.example").code == 550


def from_the_inside(loop: Rig, number: int) -> None:
    assert loop.send(port=loop.inside_port, helo="ws.corp.example", sender="boss@corp.example").code == 250


def smuggling(loop: Rig, number: int) -> None:
    name, message = loop.mail(body=b"the first\r\n")
    with loop.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        client.send(message + b"\n.\nMAIL FROM:<boss@corp.example>\r\n.\r\n")
        assert 500 <= loop.book.sent(name, message, client.reply()).code < 600


def refused_by_the_server(loop: Rig, number: int) -> None:
    assert loop.send(recipients=["nobody@corp.example"]).code == 550


def leaves(loop: Rig, number: int) -> None:
    name, message = loop.mail()
    with loop.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        client.send(mails.stuffed(message)[: -3 if number % 2 else None])
        loop.book.sent(name, message, client.nothing())


def several(loop: Rig, number: int) -> None:
    with loop.connect() as client:
        client.hello()
        for _ in range(4):
            name, message = loop.mail()
            assert loop.book.sent(name, message, client.deliver(message)).code == 250
            client.ask("RSET")
        client.ask("QUIT")


MIX: list[Callable[[Rig, int], None]] = [
    clean, infected, several, spoofed, clean, from_the_inside, smuggling, refused_by_the_server, leaves, big,
]  # fmt: skip


def test_fifty_mixed_sessions_balance(base: Path) -> None:
    with rig(base / "mixed") as loop:
        started = time.monotonic()
        with ThreadPoolExecutor(SESSIONS) as pool:
            futures = [pool.submit(MIX[number % len(MIX)], loop, number) for number in range(SESSIONS)]
            for future in futures:
                future.result()
        assert time.monotonic() - started < SECONDS
        balance = loop.balance()
        rounds = SESSIONS // len(MIX)
        assert balance.delivered == rounds * (2 + 4 + 1 + 1)
        assert balance.refused == rounds * 4
        assert balance.deferred == balance.reply_lost == 0
        assert balance.untold + balance.untold_arrived == rounds
        decided = len([event for event in loop.gateway.events("verdict") if event["verdict"]["action"] == "reject"])
        assert decided == rounds * 2, "infected and smuggling"


def test_sigterm_under_load_loses_nothing_and_acknowledges_nothing_undelivered(base: Path) -> None:
    with rig(base / "stopping") as loop:
        loop.server.delays = {"end": 0.05}
        stopped = threading.Event()

        def keep_sending(number: int) -> None:
            while not stopped.is_set():
                name, message = loop.mail(attachment=mails.noise(50_000, seed=number))
                told = send("127.0.0.1", loop.port, message) if number % 4 else trickle(loop, message)
                loop.book.sent(name, message, told)
                if told.code in (0, 421):
                    return

        with ThreadPoolExecutor(16) as pool:
            futures = [pool.submit(keep_sending, number) for number in range(16)]
            time.sleep(1.5)
            loop.gateway.signal(signal.SIGTERM)
            began = time.monotonic()
            try:
                for future in futures:
                    future.result(timeout=25)
            finally:
                stopped.set()
        loop.gateway.stop()
        assert time.monotonic() - began < 25
        balance = loop.balance()
        assert balance.delivered > 16
        assert balance.untold_arrived == 0, "a client whose mail was delivered was told so"
        assert balance.refused == 0
        assert "stopping" in loop.gateway.log()


def trickle(loop: Rig, message: bytes) -> Told:
    """A client that takes its time over the message."""
    try:
        client = loop.connect()
    except OSError:
        return Told(0)
    with client:
        told = client.hello()
        if told.code == 250:
            told = client.envelope()
        if told.code == 250:
            told = client.ask("DATA")
        if told.code != 354:
            return told
        data = mails.stuffed(message)
        for at in range(0, len(data), 10_000):
            client.send(data[at : at + 10_000])
            time.sleep(0.02)
        return client.reply()

"""Engines that give no answer: nothing passes unscanned, the sender keeps the mail, and the next one is fine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clamd import Clamd
from tests.e2e.gateway import alive
from tests.e2e.rig import Rig, rig
from tests.e2e.world import require


@pytest.fixture(scope="module")
def built(base: Path) -> Iterator[Rig]:
    with rig(base / "engines") as one:
        yield one


@pytest.fixture
def loop(built: Rig) -> Rig:
    built.fresh()
    return built


def fresh() -> bytes:
    """An attachment nobody has seen: plain texts are answered without a worker, known contents from the cache."""
    return os.urandom(3000)


def recovers(loop: Rig, *, seconds: float = 10) -> None:
    """Mails pass again before long."""
    deadline = time.monotonic() + seconds
    while loop.send(attachment=fresh()).code != 250:
        assert time.monotonic() < deadline, "the gateway does not recover"
        time.sleep(0.2)


@pytest.mark.parametrize("mood", ["hang", "garbage", "half", "close", "error"])
def test_clamd_that_gives_no_proper_answer_defers_the_mail(loop: Rig, mood: str) -> None:
    loop.clamd.mood = mood
    assert loop.send(attachment=mails.noise(2000, seed=1)).code == 451
    verdict = loop.gateway.wait_verdict("tempfail")["verdict"]
    assert "clamd" in str(verdict["unscanned"])
    assert loop.balance().deferred == 1
    loop.clamd.mood = "clean"
    loop.clamd.drop()
    recovers(loop)
    assert loop.balance().delivered == 1


def test_clamd_that_is_gone_defers_the_mail_until_it_is_back(loop: Rig) -> None:
    with loop.clamd.down():
        assert [loop.send().code for _ in range(3)] == [451] * 3
    recovers(loop)
    balance = loop.balance()
    assert balance.delivered == 1
    assert balance.deferred >= 3


def test_clamd_that_dies_while_it_scans_defers_or_is_asked_again(loop: Rig) -> None:
    loop.clamd.mood = "slow"
    name, message = loop.mail()
    with loop.connect() as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(message))
        time.sleep(0.3)
        with loop.clamd.down():
            told = loop.book.sent(name, message, client.reply())
    assert told.code == 451
    assert loop.balance().deferred == 1


def test_real_clamd_killed_and_started_again(base: Path) -> None:
    require("clamd", root=False)
    daemon = Clamd(base / "killed")
    daemon.start()
    try:
        with rig(base / "killing", {"scan": {"clamd": daemon.address}}) as loop:
            assert loop.send().code == 250
            daemon.kill()
            assert [loop.send().code for _ in range(3)] == [451] * 3
            daemon.start()
            recovers(loop)
            assert loop.balance().delivered == 2
    finally:
        daemon.stop()


def test_hung_workers_defer_the_mail_and_are_replaced(loop: Rig) -> None:
    workers = loop.gateway.workers()
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert loop.send(attachment=fresh()).code == 451
    assert time.monotonic() - started < 10
    assert loop.gateway.wait_verdict("tempfail")["verdict"]["unscanned"]
    recovers(loop)
    assert loop.balance().delivered == 1


def test_killed_worker_defers_its_mail_and_is_replaced(loop: Rig) -> None:
    workers = loop.gateway.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    name, message = loop.mail(attachment=fresh())
    with loop.connect() as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(message))
        time.sleep(0.3)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        assert loop.book.sent(name, message, client.reply()).code == 451
    recovers(loop)
    assert not [pid for pid in workers if alive(pid)]
    assert loop.balance().delivered == 1


def test_idle_worker_that_was_killed_costs_at_most_a_deferral(loop: Rig) -> None:
    for pid in loop.gateway.workers():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    recovers(loop)
    assert loop.balance().delivered == 1

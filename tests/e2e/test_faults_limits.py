"""Memory and disk that run out: the mail is deferred, the gateway lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clients import send
from tests.e2e.gateway import Table
from tests.e2e.rig import Rig, rig
from tests.e2e.world import HERE, require

DISK = 1_500_000


@pytest.fixture(scope="module")
def disk(base: Path) -> Iterator[Path]:
    """A disk of 1.5 MB."""
    require()
    folder = base / "disk"
    folder.mkdir()
    HERE.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)])
    try:
        yield folder
    finally:
        HERE.run(["umount", str(folder)])


@pytest.fixture(scope="module")
def built(base: Path, disk: Path) -> Iterator[Rig]:
    """A spool on that disk, and workers that may hardly grow."""
    tables: dict[str, Table] = {
        "spool": {"directory": str(disk)},
        "limits": {"spool_memory": 65_536, "worker_memory": 33_554_432, "archive_ratio": 100_000},
    }
    with rig(base / "limits", tables) as one:
        yield one


@pytest.fixture
def loop(built: Rig) -> Rig:
    built.fresh()
    return built


def test_full_spool_defers_the_mail_and_is_empty_again_afterwards(loop: Rig, disk: Path) -> None:
    big = mails.noise(3_000_000)
    assert loop.send(attachment=big).code in (451, 452)
    loop.gateway.wait_verdict("tempfail")
    assert loop.send(attachment=mails.noise(300_000)).code == 250
    assert loop.send(attachment=big).code in (451, 452)
    assert loop.send().code == 250
    balance = loop.balance()
    assert (balance.delivered, balance.deferred) == (2, 2)
    assert not os.listdir(disk)
    free = os.statvfs(disk)
    assert free.f_bfree == free.f_blocks, "a file without a name holds space"


def test_full_spool_while_chunks_arrive_defers_the_mail(loop: Rig) -> None:
    name, message = loop.mail(attachment=mails.noise(3_000_000))
    with loop.connect() as client:
        client.hello()
        client.envelope()
        told = None
        step = 500_000
        for at in range(0, len(message), step):
            last = b" LAST" if at + step >= len(message) else b""
            piece = message[at : at + step]
            client.send(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
            told = client.reply()
            if told.code != 250:
                break
    assert told is not None
    assert told.code in (451, 452)
    loop.book.sent(name, message, told)
    assert loop.balance().deferred == 1


def test_member_that_takes_more_memory_than_a_worker_has_defers_the_mail(loop: Rig) -> None:
    name = mails.token()
    message = mails.mail(name, attachment=mails.zipped("big.bin", bytes(90_000_000)), filename="big.zip")
    told = loop.book.sent(name, message, send("127.0.0.1", loop.port, message))
    assert told.code == 451, told
    assert "worker" in str(loop.gateway.wait_verdict("tempfail")["verdict"]["unscanned"])
    assert loop.send().code == 250
    balance = loop.balance()
    assert (balance.delivered, balance.deferred) == (1, 1)

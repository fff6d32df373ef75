"""Cut-through: all but the end flows on as it comes; what is refused ends in a broken connection, not delivered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clients import send
from tests.e2e.rig import Rig, rig
from tests.e2e.server import Fault


@pytest.fixture(scope="module")
def built(base: Path) -> Iterator[Rig]:
    with rig(base / "cut", {"gateway": {"delivery": "cut-through"}}) as one:
        yield one


@pytest.fixture
def loop(built: Rig) -> Rig:
    built.fresh()
    return built


def test_clean_mail_arrives_byte_identical_and_the_server_has_it_before_the_end(loop: Rig) -> None:
    name, message = loop.mail(attachment=mails.noise(500_000))
    data = mails.stuffed(message)
    with loop.connect() as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(data[:-3])
        time.sleep(0.3)
        assert loop.server.sessions[0].verbs[-1] == "DATA"
        client.send(data[-3:])
        loop.book.sent(name, message, client.reply())
    assert loop.balance().delivered == 1


def test_infected_mail_breaks_the_servers_connection_before_the_end_of_data(loop: Rig) -> None:
    name = mails.token()
    message = mails.eicar_mail(name)
    assert loop.book.sent(name, message, send("127.0.0.1", loop.port, message)).code == 550
    assert loop.balance().refused == 1
    assert loop.server.sessions[0].verbs[-1] == "DATA", "not even a RSET: that would be part of the message"


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r"], ids=["lf-lf", "lf-crlf", "crlf-lf", "cr-cr"]
)
def test_smuggled_end_of_data_never_reaches_the_server(loop: Rig, end: bytes) -> None:
    loop.server.lenient = True
    name, message = loop.mail(body=b"the first")
    with loop.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        second = b"MAIL FROM:<boss@corp.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\nx\r\n.\r\n"
        client.send(message + end + second)
        told = loop.book.sent(name, message, client.reply())
    assert 500 <= told.code < 600
    assert loop.balance().refused == 1


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "body", "end"])
def test_server_killed_in_each_phase_defers_the_mail(loop: Rig, at: str) -> None:
    loop.server.fault = Fault(at)
    assert 400 <= loop.send(attachment=mails.noise(1_000_000)).code < 500
    loop.server.wait_quiet()
    loop.server.fault = None
    assert loop.send().code == 250
    balance = loop.balance()
    assert (balance.deferred, balance.delivered) == (1, 1)


def test_unscanned_mail_is_deferred_and_not_delivered(loop: Rig) -> None:
    loop.clamd.mood = "error"
    assert loop.send().code == 451
    assert loop.balance().deferred == 1


def test_client_that_leaves_in_the_body_gets_nothing_delivered(loop: Rig) -> None:
    name, message = loop.mail()
    with loop.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        client.send(mails.stuffed(message)[:-3])
        time.sleep(0.1)
    loop.book.sent(name, message, client.nothing())
    assert loop.balance().untold == 1

"""The harness by itself: two hosts that meet through a router, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clients import Raw, Smtplib, Told, send, swaks
from tests.e2e.ledger import Ledger
from tests.e2e.server import Arrived, Fault, server
from tests.e2e.world import IMPOSTOR, INSIDE, OUTSIDE, PROGRAMS, require, world


def test_hosts_meet_through_the_router_and_nothing_stays(tmp_path: Path) -> None:
    require(*PROGRAMS)
    with world() as net:
        names = [place.netns for place in (net.outside, net.gateway, net.inside)]
        for family in (4, 6):
            with server(net.inside, INSIDE[family], 25) as one:
                by_raw, by_swaks, by_smtplib = (mails.token() for _ in range(3))
                sent = {name: mails.mail(name, attachment=mails.noise(3000)) for name in (by_raw, by_swaks, by_smtplib)}
                assert send(INSIDE[family], 25, sent[by_raw], place=net.outside).code == 250
                assert swaks(net.outside, INSIDE[family], sent[by_swaks], tmp_path).code == 250
                with Smtplib(net.outside, INSIDE[family], 25) as client:
                    client.sendmail("friend@outside.example", ["user@corp.example"], sent[by_smtplib])
                one.wait_quiet()
                assert {item.token: item.data for item in one.arrived} == sent
                assert {item.peer for item in one.arrived} == {OUTSIDE[family]}
        assert net.outside.run(["ip", "-o", "addr", "show", "to", IMPOSTOR]).stdout
    assert not [name for name in names if Path("/run/netns", name).exists()]


@pytest.mark.parametrize("at", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "body", "end", "stored"])
def test_server_dies_where_it_is_told(at: str, token: str) -> None:
    with server() as one:
        one.fault = Fault(at)
        assert send("127.0.0.1", one.port, mails.mail(token)).code == 0
        one.wait_quiet()
        assert one.tokens() == ([token] if at == "stored" else [])


def test_server_takes_chunks_and_keeps_what_was_not_completed(token: str) -> None:
    message = mails.mail(token)
    with server() as one:
        with Raw("127.0.0.1", one.port) as client:
            client.hello()
            client.envelope()
            client.send(b"BDAT %d\r\n" % len(message) + message)
            assert client.reply().code == 250
            assert client.ask("BDAT 0 LAST").code == 250
            client.envelope()
            client.ask("DATA")
            client.send(b"half a")
        one.wait_quiet()
        assert [item.data for item in one.arrived] == [message]
        with one.down(), pytest.raises(ConnectionRefusedError):
            Raw("127.0.0.1", one.port)
        assert send("127.0.0.1", one.port, mails.mail(mails.token())).code == 250


@pytest.mark.parametrize(
    ("code", "times", "lost", "word"),
    [
        (250, 0, False, "acknowledged and lost"),
        (250, 2, False, "arrived 2 times"),
        (550, 1, False, "refused to the client and delivered"),
        (451, 1, False, "refused to the client and delivered"),
        (550, 1, True, "refused to the client and delivered"),
    ],
)
def test_ledger_finds_what_does_not_balance(code: int, times: int, lost: bool, word: str) -> None:
    book = Ledger()
    book.sent("t1", b"x", Told(code))
    arrived = [Arrived("t1", b"x", "", (), "", lost)] * times
    with pytest.raises(AssertionError, match=word):
        book.balance(arrived)


def test_ledger_counts_a_lost_reply_apart() -> None:
    book = Ledger()
    book.sent("t1", b"x", Told(451))
    book.sent("t2", b"y", Told(0))
    balance = book.balance([Arrived("t1", b"x", "", (), "", True), Arrived("t2", b"y", "", (), "")])
    assert (balance.reply_lost, balance.untold_arrived, balance.delivered) == (1, 1, 0)
    with pytest.raises(AssertionError, match="arrived changed"):
        book.balance([Arrived("t1", b"other", "", (), "", True)])

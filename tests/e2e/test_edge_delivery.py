"""Through the gateway between two namespaces: what is clean arrives as it was sent, from the client's own address."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clients import Raw, Smtplib, swaks
from tests.e2e.conftest import SINK_PORT, SUBMISSION_PORT
from tests.e2e.gateway import Gateway
from tests.e2e.postfix import Postfix
from tests.e2e.server import Server
from tests.e2e.world import INSIDE, OUTSIDE, World

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@FAMILIES
@pytest.mark.parametrize("client", ["swaks", "smtplib", "postfix"])
def test_clean_mail_with_attachment_arrives_byte_identical_from_the_clients_address(
    net: World, gate: Gateway, mx: Postfix, relay: Postfix, token: str, tmp_path: Path, client: str, family: int
) -> None:
    message = mails.mail(token, attachment=mails.noise(30_000, seed=family), filename=f"{client}.bin")
    if client == "swaks":
        told = swaks(net.outside, INSIDE[family], message, tmp_path)
        assert told.code == 250, told
    elif client == "smtplib":
        with Smtplib(net.outside, INSIDE[family], 25) as smtp:
            smtp.sendmail("friend@outside.example", ["user@corp.example"], message)
    else:
        with Smtplib(net.outside, "127.0.0.1", SUBMISSION_PORT) as smtp:
            smtp.sendmail("four@outside.example" if family == 4 else "six@outside.example", ["a@corp.example"], message)
        relay.wait_log(rf"to=<a@corp\.example>.*relay=(\S*)\[{INSIDE[family]}\]:25.*status=sent")
    raw = mx.wait_raw(token)
    assert mx.wait(token) == message
    # Postfix names in Received who connected to it.
    assert f"[{'IPv6:' if family == 6 else ''}{OUTSIDE[family]}]".encode() in raw[: raw.index(mails.TOKEN)]
    mx.wait_log(rf"client=unknown\[{OUTSIDE[family]}\]")
    verdict = gate.wait_verdict("accept", zone="external")
    assert (verdict["src_ip"], verdict["dest_ip"], verdict["dest_port"]) == (OUTSIDE[family], INSIDE[family], 25)


def test_postfix_log_shows_no_address_of_the_gateway(net: World, gate: Gateway, mx: Postfix, token: str) -> None:
    with Smtplib(net.outside, INSIDE[4], 25) as smtp:
        smtp.sendmail("friend@outside.example", ["user@corp.example"], mails.mail(token))
    mx.wait(token)
    assert "10.55.1.1]" not in mx.log()
    assert "fd55:1::1]" not in mx.log()


@FAMILIES
def test_internal_sender_passes_from_the_inside(
    net: World, gate: Gateway, outside_sinks: dict[int, Server], token: str, family: int
) -> None:
    sink = outside_sinks[family]
    sink.reset()
    message = mails.mail(token, sender="boss@corp.example", recipient="friend@outside.example")
    with Smtplib(net.inside, OUTSIDE[family], 25, helo="ws1.corp.example") as smtp:
        smtp.sendmail("boss@corp.example", ["friend@outside.example"], message)
    sink.wait_quiet()
    (item,) = sink.arrived
    assert item.data == message
    assert (item.mail_from, item.peer) == ("boss@corp.example", INSIDE[family])
    gate.wait_verdict("accept", zone="internal")


def test_whole_transaction_in_one_segment(net: World, gate: Gateway, sink: Server, token: str) -> None:
    message = mails.mail(token)
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        client.send(
            b"MAIL FROM:<a@outside.example>\r\nRCPT TO:<nobody@corp.example>\r\n"
            b"RCPT TO:<b@corp.example>\r\nDATA\r\n"
        )
        assert [client.reply().code for _ in range(4)] == [250, 550, 250, 354]
        client.send(mails.stuffed(message) + b"QUIT\r\n")
        assert [client.reply().code for _ in range(3)] == [250, 221, 0]
    sink.wait_quiet()
    assert [(item.data, item.recipients) for item in sink.arrived] == [(message, ("b@corp.example",))]


def test_several_mails_and_resets_in_one_session(net: World, gate: Gateway, sink: Server) -> None:
    messages = [mails.mail(mails.token(), attachment=mails.noise(2000, seed=n)) for n in range(4)]
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        for number, message in enumerate(messages):
            client.envelope(sender="left@outside.example")
            assert client.ask("RSET").code == 250
            assert client.deliver(message, sender=f"s{number}@outside.example").code == 250
        assert client.ask("QUIT").code == 221
    sink.wait_quiet()
    assert [item.data for item in sink.arrived] == messages
    assert [item.mail_from for item in sink.arrived] == [f"s{number}@outside.example" for number in range(4)]


def test_chunks_with_the_next_transaction_in_the_same_segment(net: World, gate: Gateway, sink: Server) -> None:
    first, second = (mails.mail(mails.token(), attachment=mails.noise(9000, seed=n)) for n in (1, 2))
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        assert "CHUNKING" in client.hello().text
        client.envelope()
        half = len(first) // 2
        client.send(b"BDAT %d\r\n" % half + first[:half])
        assert client.reply().code == 250
        client.send(
            b"BDAT %d\r\n" % (len(first) - half) + first[half:] + b"BDAT 0 LAST\r\n"
            b"MAIL FROM:<next@outside.example>\r\nRCPT TO:<user@corp.example>\r\n"
            b"BDAT %d LAST\r\n" % len(second) + second
        )  # fmt: skip
        assert [client.reply().code for _ in range(5)] == [250] * 5
        assert client.ask("QUIT").code == 221
    sink.wait_quiet()
    assert [item.data for item in sink.arrived] == [first, second]


def test_message_of_many_megabytes_arrives_byte_identical(net: World, gate: Gateway, mx: Postfix, token: str) -> None:
    message = mails.mail(token, attachment=mails.noise(8_000_000))
    with Smtplib(net.outside, INSIDE[6], 25) as smtp:
        smtp.sendmail("friend@outside.example", ["user@corp.example"], message)
    assert mx.wait(token) == message


def test_server_that_does_not_answer_is_told_to_the_client(net: World, gate: Gateway) -> None:
    """Port 25 of an inside address that nobody has."""
    with Raw("10.55.1.200", 25, place=net.outside) as client:
        told = client.reply()
    assert told.code == 421, told


def test_refused_recipient_is_the_servers_own_reply(net: World, gate: Gateway, mx: Postfix) -> None:
    with Smtplib(net.outside, INSIDE[4], 25) as smtp:
        smtp.ehlo()
        smtp.mail("friend@outside.example")
        code, text = smtp.rcpt("user@elsewhere.example")
        assert code == 554
        assert b"Relay access denied" in text
        with pytest.raises(smtplib.SMTPDataError):
            smtp.data(b"nothing\r\n")

"""Through the gateway between two namespaces: what must not pass does not, and the server hears nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netinspect.samples.office import melissa_doc
from tests.e2e import mails
from tests.e2e.clients import Raw, Smtplib, send, swaks
from tests.e2e.conftest import SINK_PORT, SUBMISSION_PORT
from tests.e2e.gateway import Gateway
from tests.e2e.postfix import Postfix
from tests.e2e.server import Server
from tests.e2e.world import IMPOSTOR, INSIDE, OUTSIDE, World

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@FAMILIES
def test_eicar_in_a_zip_is_refused_and_postfix_sees_no_data(
    net: World, gate: Gateway, mx: Postfix, token: str, tmp_path: Path, family: int
) -> None:
    said = re.compile(rf"< unknown\[{OUTSIDE[family]}\]: (DATA|BDAT)")
    before = len(said.findall(mx.log()))
    told = swaks(net.outside, INSIDE[family], mails.eicar_mail(token), tmp_path)
    assert told.code == 550, told
    verdict = gate.wait_verdict("reject", zone="external")["verdict"]
    assert verdict["incident_id"] in told.text
    assert len(said.findall(mx.log())) == before
    assert token not in mx.delivered()


def test_eicar_from_postfix_bounces_to_the_sender(
    net: World, gate: Gateway, mx: Postfix, relay: Postfix, token: str
) -> None:
    with Smtplib(net.outside, "127.0.0.1", SUBMISSION_PORT) as smtp:
        smtp.sendmail("four@outside.example", [f"{token}@corp.example"], mails.eicar_mail(token))
    relay.wait_log(rf"to=<{token}@corp\.example>.*status=bounced.* 550 5\.7\.1 ")
    gate.wait_verdict("reject")
    assert token not in mx.delivered()


def test_refused_message_costs_the_server_a_reset_and_the_session_goes_on(
    net: World, gate: Gateway, sink: Server, token: str
) -> None:
    clean = mails.mail(token)
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        assert client.deliver(mails.eicar_mail(mails.token())).code == 550
        assert client.deliver(clean).code == 250
        client.ask("QUIT")
    sink.wait_quiet()
    assert [item.data for item in sink.arrived] == [clean]
    (heard,) = sink.sessions
    assert heard.verbs[:4] == ["EHLO", "MAIL", "RCPT", "RSET"]
    assert heard.verbs.count("DATA") == 1


def test_eicar_in_chunks_is_refused(net: World, gate: Gateway, sink: Server, token: str) -> None:
    message = mails.eicar_mail(token)
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        client.envelope()
        client.send(b"BDAT %d\r\n" % (len(message) - 5) + message[:-5])
        assert client.reply().code == 250
        client.send(b"BDAT 5 LAST\r\n" + message[-5:])
        assert client.reply().code == 550
    sink.wait_quiet()
    assert not sink.arrived
    assert "BDAT" not in sink.sessions[0].verbs


def test_document_whose_macro_spreads_is_refused(net: World, gate: Gateway, sink: Server, token: str) -> None:
    message = mails.mail(token, attachment=melissa_doc(), filename="list.doc")
    assert send(INSIDE[4], SINK_PORT, message, place=net.outside).code == 550
    sink.wait_quiet()
    assert not sink.arrived
    gate.wait_verdict("reject")
    assert "macro-replication" in {event["alert"]["category"] for event in gate.events("alert")}


@FAMILIES
def test_internal_looking_sender_is_dropped_before_postfix_hears_of_it(
    net: World, gate: Gateway, mx: Postfix, token: str, family: int
) -> None:
    with Raw(INSIDE[family], 25, place=net.outside) as client:
        client.hello()
        told = client.ask(f"MAIL FROM:<{token}@corp.example>")
        assert told.code == 550, told
        assert client.rest() == b"", "the session is closed"
    verdict = gate.wait_verdict("drop", zone="external")
    assert verdict["src_ip"] == OUTSIDE[family]
    assert f"{token}@corp.example" not in mx.log()


@pytest.mark.parametrize(
    "sender",
    ["boss@corp.example", "boss@CORP.Example.", "boss@mail.corp.example", '"a@b"@corp.example', "boss@[10.55.1.9]"],
)
def test_every_spelling_of_an_internal_sender_is_dropped_at_mail(
    net: World, gate: Gateway, sink: Server, sender: str
) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        told = client.ask(f"MAIL FROM:<{sender}>")
        assert (told.code, client.rest()) == (550, b"")
    gate.wait_verdict("drop")
    sink.wait_quiet()
    assert "MAIL" not in sink.sessions[0].verbs


def test_helo_as_one_of_us_is_dropped_before_the_server_hears_it(net: World, gate: Gateway, sink: Server) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        assert client.reply().code == 220
        assert client.ask("EHLO mx.corp.example").code == 550
        assert client.rest() == b""
    gate.wait_verdict("drop")
    sink.wait_quiet()
    assert sink.sessions[0].verbs == []


def test_address_of_ours_from_outside_is_dropped_without_a_word_to_the_server(
    net: World, gate: Gateway, sink: Server
) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside, source=IMPOSTOR) as client:
        assert client.reply().code == 550
        assert client.rest() == b""
    verdict = gate.wait_verdict("drop")
    assert verdict["src_ip"] == IMPOSTOR
    sink.wait_quiet()
    assert [heard.verbs for heard in sink.sessions] in ([], [[]])


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n"],
    ids=["lf-lf", "lf-crlf", "crlf-lf", "cr-cr", "crlf-cr", "cr-crlf", "crlf-nul-crlf"],
)
def test_smuggled_second_message_is_refused(net: World, gate: Gateway, sink: Server, token: str, end: bytes) -> None:
    """The server takes any of these for the end of data; the client hides a second transaction behind it."""
    sink.lenient = True
    smuggled = (
        b"MAIL FROM:<boss@corp.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\n"
        + mails.mail(mails.token(), body=b"smuggled\r\n", sender="boss@corp.example")
    )  # fmt: skip
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.mail(token, body=b"the first")[:-2] + end + smuggled + b"\r\n.\r\n")
        told = client.reply()
        assert 500 <= told.code < 600, told
        assert client.ask("QUIT").code == 221
    sink.wait_quiet()
    assert not sink.arrived
    assert "boss@corp.example" not in str(sink.sessions[0].commands)
    gate.wait_verdict("reject")
    assert "smuggling" in {event["alert"]["category"] for event in gate.events("alert")}


@pytest.mark.parametrize("port", [10025, 10026])
def test_listeners_take_no_connection_that_was_not_redirected(net: World, gate: Gateway, port: int) -> None:
    """Or a client outside could choose the internal zone."""
    with pytest.raises(OSError, match=r"timed out|refused|unreachable"):
        net.outside.connect("10.55.9.1", port, timeout=1)


def test_what_cannot_be_inspected_is_not_offered(net: World, gate: Gateway, mx: Postfix) -> None:
    with Raw(INSIDE[4], 25, place=net.outside) as client:
        offered = client.hello().text.split()
        assert "STARTTLS" not in offered
        assert "PIPELINING" in offered
        assert client.ask("STARTTLS").code in (454, 500, 502)
        assert client.ask("NOOP").code == 250

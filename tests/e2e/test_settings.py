"""What a setting promises, seen from a client, from the server behind, and on record."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netinspect.samples.office import macro_doc
from tests.e2e import mails
from tests.e2e.clients import Raw, Told, send
from tests.e2e.rig import Rig, rig
from tests.e2e.server import Server

NAME = "edge.corp.example"
RELAY = "127.0.0.2"
"""Any address of 127/8 is this machine's own."""
PATIENCE = 1
"""Seconds that the impatient gateway waits for client and server."""
HANGS = 1.8
"""Seconds that the server says nothing."""


def rules(*table: dict[str, Any]) -> dict[str, Any]:
    return {"rule": list(table)}


# --- rules, names, greeting: one gateway -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vault(base: Path) -> Path:
    return base / "vault"


@pytest.fixture(scope="module")
def built(base: Path, vault: Path) -> Iterator[Rig]:
    tables: dict[str, Any] = {
        "gateway": {"hostname": NAME, "banner": f"{NAME} ESMTP ready"},
        "networks": {"relays": [RELAY]},
        "quarantine": {"directory": vault},
        "policy": rules(
            {"name": "keep", "when": {"recipient": ["keep@*"]}, "action": "quarantine"},
            {"name": "keep-and-refuse", "when": {"recipient": ["both@*"]}, "action": "quarantine", "code": 550},
            {"name": "mark", "when": {"recipient": ["mark@*"]}, "action": "tag"},
            {"name": "cut", "when": {"recipient": ["cut@*"]}, "action": "drop", "reset": True},
        ),
    }
    with rig(base / "rules", tables) as one:
        yield one


@pytest.fixture
def loop(built: Rig) -> Rig:
    built.fresh()
    return built


def to(loop: Rig, recipient: str, **more: Any) -> tuple[Told, bytes]:
    """One session with one clean mail to somebody, booked."""
    name, message = loop.mail(**more)
    told = send("127.0.0.1", loop.port, message, recipients=(f"{recipient}@corp.example",))
    return loop.book.sent(name, message, told), message


def kept(vault: Path, incident: str) -> tuple[bytes, dict[str, Any]]:
    (folder,) = vault.glob(f"*/*/*/{incident}")
    envelope: dict[str, Any] = json.loads((folder / "envelope.json").read_text())
    return (folder / "message.eml").read_bytes(), envelope


def test_a_quarantined_message_is_kept_whole_with_its_envelope_and_acknowledged(loop: Rig, vault: Path) -> None:
    name, message = loop.mail(attachment=mails.noise(50_000))
    told = send("127.0.0.1", loop.port, message, recipients=("keep@corp.example",))
    assert (told.code, told.text.split()[0]) == (250, "2.0.0")
    verdict = loop.gateway.wait_verdict("quarantine", rules=["keep"])["verdict"]
    assert verdict["incident_id"] in told.text
    content, envelope = kept(vault, verdict["incident_id"])
    assert content == message
    assert envelope["envelope"]["mail_from"] == "friend@outside.example"
    assert envelope["envelope"]["recipients"] == ["keep@corp.example"]
    loop.server.wait_quiet()
    assert not loop.server.arrived
    assert "DATA" not in loop.server.sessions[0].verbs
    assert name not in str(loop.server.sessions[0].commands)


def test_a_quarantine_rule_may_refuse_what_it_keeps(loop: Rig, vault: Path) -> None:
    told, message = to(loop, "both")
    assert told.code == 550
    verdict = loop.gateway.wait_verdict("quarantine", rules=["keep-and-refuse"])["verdict"]
    assert kept(vault, verdict["incident_id"])[0] == message
    assert loop.balance().refused == 1


def test_a_quarantine_that_fails_defers_the_mail_and_works_again_when_it_is_mended(loop: Rig, vault: Path) -> None:
    before = vault.with_name("vault-before")
    if vault.exists():
        vault.rename(before)
    vault.write_bytes(b"a file stands where the folder should")
    try:
        told, _ = to(loop, "keep")
        assert told.code == 451, told
        verdict = loop.gateway.wait_verdict("tempfail")["verdict"]
        assert verdict["reason"].startswith("quarantine: ")
        assert verdict["reply"].startswith("451 4.3.0")
    finally:
        vault.unlink()
        if before.exists():
            before.rename(vault)
    assert loop.balance().deferred == 1
    assert send("127.0.0.1", loop.port, loop.mail()[1], recipients=("keep@corp.example",)).code == 250


def test_a_tag_adds_headers_of_ours_and_takes_away_those_that_came_in(loop: Rig) -> None:
    forged = b"X-Netinspect-Action: accept\r\nX-NETINSPECT-Finding: none,\r\n\tfolded\r\n"
    name, message = loop.mail()
    told = send("127.0.0.1", loop.port, forged + message, recipients=("mark@corp.example",))
    assert told.code == 250
    loop.server.wait_quiet()
    (arrived,) = loop.server.arrived
    assert arrived.data == b"X-Netinspect-Action: tag\r\n" + message
    assert loop.gateway.wait_verdict("tag", rules=["mark"])
    assert arrived.token == name


def test_headers_of_ours_are_taken_away_from_an_accepted_mail_too(loop: Rig) -> None:
    _, message = loop.mail()
    assert send("127.0.0.1", loop.port, b"X-Netinspect-Action: accept\r\n" + message).code == 250
    loop.server.wait_quiet()
    assert loop.server.arrived[0].data == message


def test_a_macro_is_tagged_with_what_was_found(loop: Rig) -> None:
    document = macro_doc("Sub Total()\n  Range(1).Value = 2\nEnd Sub\n")
    _, message = loop.mail(attachment=document, filename="list.doc")
    assert send("127.0.0.1", loop.port, message).code == 250
    loop.server.wait_quiet()
    (arrived,) = loop.server.arrived
    assert arrived.data.endswith(message)
    head = arrived.data[: -len(message)]
    assert head.startswith(b"X-Netinspect-Action: tag\r\nX-Netinspect-Finding: ")
    assert b"macro: " in head


def test_a_drop_with_reset_ends_the_connection_without_a_word(loop: Rig) -> None:
    name, message = loop.mail()
    with loop.connect() as client:
        client.hello()
        client.envelope(recipients=("cut@corp.example",))
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(message))
        with pytest.raises(ConnectionResetError):
            client.sock.recv(1)
    loop.book.sent(name, message, Raw.nothing())
    verdict = loop.gateway.wait_verdict("drop", rules=["cut"])["verdict"]
    assert verdict["reply"] == ""
    balance = loop.balance()
    assert (balance.untold, balance.untold_arrived) == (1, 0)


def test_the_banner_stands_in_the_greeting(loop: Rig) -> None:
    with loop.connect() as client:
        assert client.reply() == Told(220, f"{NAME} ESMTP ready")


def test_a_listed_relay_may_use_our_names_and_nobody_else(loop: Rig) -> None:
    name, message = loop.mail(sender="news@corp.example")
    relayed = send(
        "127.0.0.1", loop.port, message, helo="mail.corp.example", source=RELAY, sender="news@corp.example"
    )
    assert loop.book.sent(name, message, relayed).code == 250
    stranger = send("127.0.0.1", loop.port, loop.mail()[1], source="127.0.0.3", sender="news@corp.example")
    assert (stranger.code, stranger.at) == (550, "MAIL")
    assert loop.balance().delivered == 1


def test_who_logged_in_may_send_in_our_name_from_outside(loop: Rig) -> None:
    offered = Server.extensions
    loop.server.extensions = (*offered[:-1], b"AUTH PLAIN LOGIN")
    loop.server.replies["AUTH"] = b"235 2.7.0 Authentication successful"
    secret = base64.b64encode(b"\0staff\0pass-of-staff").decode()
    try:
        name, message = loop.mail(sender="staff@corp.example")
        with loop.connect() as client:
            assert "AUTH PLAIN LOGIN" in client.hello("laptop.example").text
            assert client.ask(f"AUTH PLAIN {secret}").code == 235
            assert loop.book.sent(name, message, client.deliver(message, sender="staff@corp.example")).code == 250
            client.send(b"QUIT\r\n")
        loop.server.replies["AUTH"] = b"535 5.7.8 Authentication failed"
        with loop.connect() as client:
            client.hello("laptop.example")
            assert client.ask(f"AUTH PLAIN {secret}").code == 535
            assert client.ask("MAIL FROM:<staff@corp.example>").code == 550
    finally:
        loop.server.extensions = offered
    assert loop.balance().delivered == 1
    loop.gateway.wait_verdict("drop")
    assert secret not in loop.gateway.records.read_text()
    assert secret not in loop.gateway.log()


def test_the_null_sender_passes_from_outside(loop: Rig) -> None:
    name, message = loop.mail()
    assert loop.book.sent(name, message, send("127.0.0.1", loop.port, message, sender="")).code == 250
    assert loop.balance().delivered == 1
    assert loop.server.arrived[0].mail_from == ""


# --- bare_newline = "normalize" --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mending(base: Path) -> Iterator[Rig]:
    with rig(base / "mend", {"gateway": {"bare_newline": "normalize"}}) as one:
        yield one


@pytest.mark.parametrize(
    "end",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"],
    ids=["lf-lf", "lf-crlf", "crlf-lf", "cr-cr", "crlf-cr", "cr-crlf"],
)
def test_normalized_newlines_leave_a_lone_dot_content_and_smuggle_nothing(mending: Rig, end: bytes) -> None:
    mending.fresh()
    mending.server.lenient = True
    hidden = b"MAIL FROM:<boss@corp.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\nhidden\r\n"
    name = mails.token()
    with mending.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        client.send(mails.mail(name, body=b"the first") + end + hidden + b".\r\n")
        assert client.reply().code == 250
        client.ask("QUIT")
    mending.server.wait_quiet()
    (arrived,) = mending.server.arrived
    assert arrived.data.endswith(b"the first\r\n.\r\n" + hidden)
    assert arrived.data.count(b"\n") == arrived.data.count(b"\r") == arrived.data.count(b"\r\n")
    assert arrived.mail_from == "friend@outside.example"
    assert len(mending.server.sessions) == 1
    assert mending.server.sessions[0].verbs.count("MAIL") == 1


def test_normalized_newlines_are_on_record(mending: Rig) -> None:
    mending.fresh()
    name = mails.token()
    assert send("127.0.0.1", mending.port, mails.mail(name, body=b"one\ntwo\rthree\r\n")).code == 250
    mending.server.wait_quiet()
    assert mending.server.arrived[0].data.endswith(b"\r\n\r\none\r\ntwo\r\nthree\r\n")
    mending.gateway.wait_verdict("accept")
    assert mending.gateway.events("anomaly")


# --- patience and numbers: one gateway that has little of both -------------------------------------------------------


@pytest.fixture(scope="module")
def curt(base: Path) -> Iterator[Rig]:
    tables: dict[str, Any] = {
        "gateway": {
            "hostname": NAME,
            "command_timeout": PATIENCE,
            "data_timeout": PATIENCE,
            "connect_timeout": PATIENCE,
            "max_sessions": 2,
        },
        "networks": {"null_sender": "refuse", "helo": "accept"},
        "quarantine": {"directory": base / "curt-vault", "answer": 550},
        "policy": rules({"name": "keep", "when": {"recipient": ["keep@*"]}, "action": "quarantine"}),
    }
    with rig(base / "curt", tables) as one:
        yield one


@pytest.fixture
def brief(curt: Rig) -> Rig:
    curt.fresh()
    return curt


def test_sessions_above_the_limit_are_told_421_and_find_room_later(brief: Rig) -> None:
    with brief.connect() as one, brief.connect() as two:
        one.hello()
        two.hello()
        with brief.connect() as three:
            assert three.reply() == Told(421, f"4.3.2 {NAME} Too many sessions, try again later")
            assert three.rest() == b""
        one.ask("QUIT")
        two.ask("QUIT")
    assert brief.send().code == 250
    brief.server.wait_quiet()
    assert len(brief.server.sessions) == 3


@pytest.mark.parametrize("at", ["greeting", "EHLO", "MAIL", "RCPT"])
def test_a_server_that_hangs_at_a_command_costs_a_421_that_names_us(brief: Rig, at: str) -> None:
    brief.server.delays[at] = HANGS
    told = brief.send()
    assert told.code == 421, told
    assert NAME in told.text
    verdict = brief.gateway.wait_verdict("tempfail")["verdict"]
    assert verdict["reply"].startswith("421 4.4.")
    brief.server.delays.clear()
    brief.server.hang_up()
    assert brief.send().code == 250
    balance = brief.balance()
    assert (balance.deferred, balance.delivered) == (1, 1)


@pytest.mark.parametrize("at", ["DATA", "end"])
def test_a_server_that_hangs_at_the_message_costs_a_4xx_and_is_on_record(brief: Rig, at: str) -> None:
    """RFC 5321 §6.1: a server that stored the message and was slow to say so gets it a second time."""
    brief.server.delays[at] = HANGS
    name, message = brief.mail()
    told = send("127.0.0.1", brief.port, message)
    assert (told.code, told.at) == (451, "end")
    verdict = brief.gateway.wait_event(lambda event: event["event_type"] == "verdict")["verdict"]
    assert verdict["reply"].startswith("451 4.4.2")
    brief.server.wait_quiet()
    assert [item.token for item in brief.server.arrived] == ([name] if at == "end" else [])


def test_a_client_that_falls_silent_is_told_421_and_leaves_a_record(brief: Rig) -> None:
    with brief.connect() as client:
        client.hello()
        client.envelope()
        told = client.reply()
        assert (told.code, told.text) == (421, f"4.4.2 {NAME} Timeout, closing connection")
        assert client.rest() == b""
    brief.gateway.wait_event(lambda event: event["event_type"] == "smtp" and bool(event["smtp"].get("rcpt_to")))
    brief.server.wait_quiet()
    assert not brief.server.arrived


def test_a_client_that_falls_silent_in_its_message_gets_nothing_delivered(brief: Rig) -> None:
    name, message = brief.mail()
    with brief.connect() as client:
        client.hello()
        client.envelope()
        client.ask("DATA")
        client.send(mails.stuffed(message)[:-3])
        assert client.reply().code == 421
    brief.book.sent(name, message, Raw.nothing())
    brief.gateway.wait_verdict("tempfail")
    assert brief.balance().untold == 1


def test_a_server_that_cannot_be_reached_costs_a_421_that_names_us(brief: Rig) -> None:
    with brief.server.down(), brief.connect() as client:
        told = client.reply()
    assert told == Told(421, f"4.4.1 {NAME} No answer from the mail server, try again later")
    assert brief.gateway.wait_verdict("tempfail")["verdict"]["reply"] == f"421 {told.text}"


def test_a_client_that_makes_too_many_errors_is_told_421_and_is_on_record(brief: Rig) -> None:
    with brief.connect() as client:
        client.hello()
        client.send(b"NONSENSE\r\n" * 40)
        said = client.rest().decode()
    assert said.endswith(f"421 4.7.0 {NAME} Too many errors\r\n")
    assert brief.gateway.wait_verdict("tempfail")["verdict"]["reply"] == f"421 4.7.0 {NAME} Too many errors"


def test_the_null_sender_is_refused_where_the_settings_say_so(brief: Rig) -> None:
    with brief.connect() as client:
        client.hello()
        assert client.ask("MAIL FROM:<>").code == 550
    brief.gateway.wait_verdict("drop")
    brief.server.wait_quiet()
    assert "MAIL" not in brief.server.sessions[0].verbs


def test_our_name_in_helo_passes_where_the_settings_say_so_but_not_in_mail(brief: Rig) -> None:
    with brief.connect() as client:
        assert client.hello("laptop.corp.example").code == 250
        assert client.ask("MAIL FROM:<staff@corp.example>").code == 550


def test_the_answer_of_the_quarantine_holds_for_a_rule_that_gives_no_code(brief: Rig) -> None:
    told = send("127.0.0.1", brief.port, brief.mail()[1], recipients=("keep@corp.example",))
    assert told.code == 550
    brief.gateway.wait_verdict("quarantine")

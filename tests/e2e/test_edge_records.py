"""Every transaction is on record, refused sessions included; the file can be rotated."""

from __future__ import annotations

import hashlib
import signal
import time

import pytest

from tests.e2e import mails
from tests.e2e.clamd import SIGNATURE
from tests.e2e.clients import Raw, send
from tests.e2e.conftest import SINK_PORT
from tests.e2e.gateway import Event, Gateway
from tests.e2e.server import Server
from tests.e2e.world import INSIDE, OUTSIDE, World


def only(events: list[Event], kind: str) -> Event:
    (event,) = [event for event in events if event["event_type"] == kind]
    return event


def test_clean_mail_has_smtp_fileinfo_and_verdict(net: World, gate: Gateway, sink: Server, token: str) -> None:
    attachment = mails.noise(500)
    message = mails.mail(token, attachment=attachment, filename="plan.bin")
    assert send(INSIDE[4], SINK_PORT, message, place=net.outside).code == 250
    verdict = gate.wait_verdict("accept")
    events = gate.events()
    smtp = only(events, "smtp")
    assert smtp["smtp"] == {
        # With brackets, as Suricata writes them.
        "helo": "friend.outside.example", "mail_from": "<friend@outside.example>", "rcpt_to": ["<user@corp.example>"],
    }  # fmt: skip
    assert smtp["email"]["attachment"] == ["plan.bin"]
    assert smtp["email"]["message_id"] == f"<{token}@outside.example>"
    assert smtp["src_ip"] == OUTSIDE[4]
    assert (smtp["dest_ip"], smtp["dest_port"], smtp["proto"]) == (INSIDE[4], SINK_PORT, "TCP")
    files = {event["fileinfo"]["filename"]: event["fileinfo"] for event in events if event["event_type"] == "fileinfo"}
    assert files["plan.bin"]["size"] == 500
    assert files["plan.bin"]["sha256"] == hashlib.sha256(attachment).hexdigest()
    assert files["plan.bin"]["md5"] == hashlib.md5(attachment).hexdigest()  # noqa: S324 -- the record's own field
    assert files["plan.bin"]["state"] == "CLOSED"
    assert len(files) == 2, "the text has a record of its own"
    assert {event["flow_id"] for event in events} == {verdict["flow_id"]}
    assert verdict["verdict"]["reply"].startswith("250")
    assert verdict["verdict"]["unscanned"] == []


def test_refused_mail_has_the_chain_of_evidence(net: World, gate: Gateway, sink: Server, token: str) -> None:
    told = send(INSIDE[4], SINK_PORT, mails.eicar_mail(token), place=net.outside)
    assert told.code == 550
    verdict = gate.wait_verdict("reject")["verdict"]
    assert verdict["incident_id"]
    assert verdict["incident_id"] in told.text
    assert verdict["rules"]
    events = gate.events()
    alerts = [event["alert"] for event in events if event["event_type"] == "alert"]
    assert {(a["category"], a["severity"]) for a in alerts if a["engine"] == "clamd"} == {("malware", 1)}
    assert SIGNATURE in str([a["signature"] for a in alerts if a["engine"] == "clamd"])
    files = [event["fileinfo"] for event in events if event["event_type"] == "fileinfo"]
    inner = [file for file in files if file.get("filename", "").endswith("invoice.com")]
    assert inner[0]["sha256"] == hashlib.sha256(mails.eicar()).hexdigest()
    assert inner[0]["parent_sha256"] in {file["sha256"] for file in files if file["filename"] == "invoice.zip"}
    assert only(events, "smtp")["email"]


@pytest.mark.parametrize("how", ["RSET", "EHLO again.outside.example", "QUIT", "leave", "half-close"])
def test_transaction_without_a_message_has_a_record_without_a_mail(
    net: World, gate: Gateway, sink: Server, how: str
) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        client.envelope(sender="left@outside.example")
        if how == "half-close":
            client.half_close()
            client.rest()
        elif how != "leave":
            client.ask(how)
            client.ask("QUIT")
    smtp = gate.wait_event(lambda event: event["event_type"] == "smtp")
    assert smtp["smtp"]["mail_from"] == "<left@outside.example>"
    assert "email" not in smtp
    assert len(gate.events("smtp")) == 1


def test_dropped_session_is_on_record_with_its_reason(net: World, gate: Gateway, sink: Server) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        told = client.ask("MAIL FROM:<boss@corp.example>")
    verdict = gate.wait_verdict("drop")["verdict"]
    assert verdict["zone"] == "external"
    assert verdict["reply"].startswith("550")
    assert verdict["incident_id"] in told.text
    alert = gate.wait_event(lambda event: event["event_type"] == "alert")["alert"]
    assert (alert["category"], alert["severity"]) == ("spoof", 1)


def test_no_password_is_on_record_or_in_the_log(net: World, gate: Gateway, sink: Server) -> None:
    with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
        client.hello()
        client.ask("AUTH PLAIN AHVzZXIAdmVyeXNlY3JldHdvcmQ=")
        client.envelope()
        client.ask("QUIT")
    gate.wait_event(lambda event: event["event_type"] == "smtp")
    for word in ("AHVzZXIA", "verysecretword"):
        assert word not in gate.records.read_text()
        assert word not in gate.log()


def test_record_file_is_rotated_by_rename_and_hangup(net: World, gate: Gateway, sink: Server) -> None:
    first, second = mails.token(), mails.token()
    assert send(INSIDE[4], SINK_PORT, mails.mail(first), place=net.outside).code == 250
    gate.wait_verdict("accept")
    old = gate.records.with_suffix(".json.1")
    gate.records.rename(old)
    gate.signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while not gate.records.exists():
        assert time.monotonic() < deadline, "the record was not reopened"
        time.sleep(0.02)
    gate.mark()
    assert send(INSIDE[4], SINK_PORT, mails.mail(second), place=net.outside).code == 250
    gate.wait_verdict("accept")
    assert first in old.read_text()
    assert second not in old.read_text()
    assert second in gate.records.read_text()

"""A mail with macros through a real gateway: the reader gets it without them, the vault has it as it came."""

from __future__ import annotations

import base64
import email
import email.policy
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netinspect.limits import Limits
from netinspect.samples.office import melissa_docm, plain_docx
from netinspect.scan.examine import Examiner
from tests.e2e import mails
from tests.e2e.clients import Raw, Told, send
from tests.e2e.gateway import gateway
from tests.e2e.ledger import Balance
from tests.e2e.postfix import Postfix
from tests.e2e.rig import Rig, rig
from tests.e2e.world import World

MACROS = ["macro", "macro-autoexec", "macro-suspicious", "macro-replication", "xlm-macro", "dde", "banned-type"]

ADDON = """
from netinspect.policy.decision import Decision


class DisarmAll:
    def smtp_verdict(self, flow):
        if flow.envelope is not None and any(name.startswith("addon@") for name in flow.envelope.recipients):
            flow.decision = Decision("disarm", "an addon", rules=("addon",))


addons = [DisarmAll()]
"""


@pytest.fixture(scope="module")
def vault(base: Path) -> Path:
    return base / "disarm-vault"


@pytest.fixture(scope="module")
def built(base: Path, vault: Path) -> Iterator[Rig]:
    (base / "disarm_all.py").write_text(ADDON)
    rule = {"name": "macros", "when": {"category": MACROS, "recipient": ["user@*"]}, "action": "disarm"}
    tables: dict[str, Any] = {
        "gateway": {"scripts": [str(base / "disarm_all.py")]},
        "quarantine": {"directory": vault},
        "policy": {"rule": [rule]},
        "limits": {"worker_time": 10.0},
    }
    with rig(base / "disarm", tables) as one:
        yield one


@pytest.fixture
def loop(built: Rig) -> Rig:
    built.fresh()
    return built


def document() -> bytes:
    """One that no engine has seen before."""
    return melissa_docm().replace(b"Test material.", b"Test material!") + os.urandom(4)


def deliver(loop: Rig, message: bytes, **more: Any) -> Told:
    told = send("127.0.0.1", loop.port, message, **more)
    loop.book.sent(mails.find_token(message), message, told)
    return told


def attachments(message: bytes) -> dict[str, bytes]:
    parsed = email.message_from_bytes(message, policy=email.policy.SMTP)
    return {
        part.get_filename() or "": part.get_payload(decode=True)  # type: ignore[misc]
        for part in parsed.walk()
        if not part.is_multipart()
    }


def kept(vault: Path, incident: str) -> tuple[bytes, dict[str, Any]]:
    (folder,) = vault.glob(f"*/*/*/{incident}")
    return (folder / "message.eml").read_bytes(), json.loads((folder / "envelope.json").read_text())


def macros(data: bytes) -> list[str]:
    """What the office engine finds in a document, from severity 2 on and all that is about macros."""
    found = Examiner(Limits()).examine(data, name="a.docm").findings
    return [one.signature for one in found if one.severity < 3 or "macro" in one.category]


def balance(loop: Rig, altered: str = "") -> Balance:
    """The books; the message of this token may have arrived changed."""
    loop.server.wait_quiet()
    for item in loop.server.arrived:
        if item.token == altered:
            loop.book._sent[altered] = item.data  # the gateway has altered it, and said so
    return loop.book.balance(loop.server.arrived)


def check(loop: Rig, vault: Path, token: str, message: bytes, file: bytes) -> dict[str, Any]:
    """The message arrived without the macro of `a.docm`, and all the rest of it."""
    verdict: dict[str, Any] = loop.gateway.wait_verdict("disarm")["verdict"]
    assert balance(loop, token).delivered == 1
    (item,) = loop.server.arrived
    arrived = attachments(item.data)
    assert item.data.startswith(b"X-Netinspect-Action: disarm\r\n")
    assert macros(file)
    assert macros(arrived["a.docm"]) == []
    assert arrived["other.bin"] == mails.noise(5000)
    before, envelope = kept(vault, verdict["incident_id"])
    assert before == message
    assert envelope["decision"]["action"] == "disarm"
    (entry,) = verdict["disarm"]
    assert (entry["filename"], entry["replaced"]) == ("a.docm", False)
    assert any(what.startswith("vba") for what in entry["removed"])
    return verdict


def two(token: str, file: bytes, name: str = "a.docm", head: bytes = b"") -> bytes:
    """A message with a document and something else."""
    more = (
        b"\r\n--=_edge_=\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="other.bin"\r\n\r\n'
        + base64.encodebytes(mails.noise(5000)).replace(b"\n", b"\r\n")
        + b"--=_edge_=--\r\n"
    )
    return head + mails.mail(token, attachment=file, filename=name).replace(b"\r\n--=_edge_=--\r\n", more)


def test_a_document_is_delivered_without_its_macros_and_kept_as_it_was(loop: Rig, vault: Path, token: str) -> None:
    file = document()
    message = two(token, file)
    assert deliver(loop, message).code == 250
    verdict = check(loop, vault, token, message, file)
    assert verdict["rules"] == ["macros"]
    assert not loop.gateway.events("anomaly")


def test_in_chunks_it_is_the_same(loop: Rig, vault: Path, token: str) -> None:
    file = document()
    message = two(token, file)
    with loop.connect() as client:
        client.hello()
        client.envelope()
        client.send(b"BDAT 1000\r\n" + message[:1000])
        assert client.reply().code == 250
        client.send(b"BDAT %d LAST\r\n" % (len(message) - 1000) + message[1000:])
        loop.book.sent(token, message, client.reply())
    check(loop, vault, token, message, file)
    assert "BDAT" in loop.server.sessions[0].verbs


def test_an_addon_has_a_mail_disarmed(loop: Rig, vault: Path, token: str) -> None:
    file = document()
    message = two(token, file)
    assert deliver(loop, message, recipients=("addon@corp.example",)).code == 250
    assert check(loop, vault, token, message, file)["rules"] == ["addon"]


def test_a_program_is_replaced_by_a_text_with_the_id(loop: Rig, token: str) -> None:
    message = mails.mail(token, attachment=b"MZ" + os.urandom(3000), filename="setup.exe")
    assert deliver(loop, message).code == 250
    verdict = loop.gateway.wait_verdict("disarm")["verdict"]
    assert balance(loop, token).delivered == 1
    (notice,) = (data for name, data in attachments(loop.server.arrived[0].data).items() if name)
    assert verdict["incident_id"].encode() in notice
    assert b"setup.exe" in notice


def test_a_signed_mail_goes_to_quarantine_untouched(loop: Rig, vault: Path, token: str) -> None:
    signed = b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="=_edge_="'
    message = two(token, document()).replace(b'Content-Type: multipart/mixed; boundary="=_edge_="', signed)
    told = deliver(loop, message)
    verdict = loop.gateway.wait_verdict("quarantine")["verdict"]
    assert told.code == 250
    assert "signed" in verdict["reason"]
    loop.server.wait_quiet()
    assert not loop.server.arrived
    assert kept(vault, verdict["incident_id"])[0] == message


def test_a_dkim_signature_that_breaks_is_on_record(loop: Rig, token: str) -> None:
    head = b"DKIM-Signature: v=1; a=rsa-sha256; d=outside.example; s=k; h=from; bh=x; b=y\r\n"
    assert deliver(loop, two(token, document(), head=head)).code == 250
    assert "DKIM" in loop.gateway.wait_verdict("disarm")["verdict"]["reason"]
    assert [event["anomaly"]["event"] for event in loop.gateway.events("anomaly")] == ["dkim_broken"]
    assert balance(loop, token).delivered == 1


def test_a_mail_without_macros_arrives_as_it_was(loop: Rig, token: str) -> None:
    message = mails.mail(token, attachment=plain_docx(), filename="a.docx")
    assert deliver(loop, message).code == 250
    assert balance(loop).delivered == 1


def test_a_vault_that_fails_defers_the_mail(loop: Rig, vault: Path, token: str) -> None:
    aside = vault.with_name("aside")
    vault.mkdir(exist_ok=True)
    vault.rename(aside)
    vault.write_bytes(b"no folder")
    try:
        assert deliver(loop, two(token, document())).code == 451
    finally:
        vault.unlink()
        aside.rename(vault)
    loop.server.wait_quiet()
    assert not loop.server.arrived
    assert balance(loop).deferred == 1


@pytest.mark.parametrize("chunks", [False, True], ids=["data", "bdat"])
def test_postfix_delivers_it_without_the_macros(
    net: World, mx: Postfix, base: Path, token: str, chunks: bool
) -> None:
    folder, port = base / f"disarm-postfix-{chunks}", 10925
    file = document()
    message = two(token, file)
    tables: dict[str, Any] = {
        "listener": [{"name": "x", "listen": f"127.0.0.1:{port}", "mode": "reverse", "upstream": "127.0.0.1:25"}],
        "quarantine": {"directory": folder / "vault"},
        "policy": {"rule": [{"name": "macros", "when": {"category": MACROS}, "action": "disarm"}]},
    }
    with gateway(folder, tables, net.inside) as running, Raw("127.0.0.1", port, place=net.inside) as client:
        client.hello()
        if chunks:
            client.envelope()
            client.send(b"BDAT %d LAST\r\n" % len(message) + message)
            assert client.reply().code == 250
        else:
            assert client.deliver(message).code == 250
        verdict = running.wait_verdict("disarm")["verdict"]
    raw = mx.wait_raw(token)
    arrived = attachments(raw)
    assert macros(arrived["a.docm"]) == []
    assert arrived["other.bin"] == mails.noise(5000)
    assert b"X-Netinspect-Action: disarm" in raw
    assert kept(folder / "vault", verdict["incident_id"])[0] == message


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.3])
def test_workers_killed_meanwhile_never_let_the_original_through(loop: Rig, token: str, delay: float) -> None:
    file = document()
    message = two(token, file)
    with loop.connect() as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(message))
        time.sleep(delay)
        for pid in loop.gateway.workers():
            os.kill(pid, signal.SIGKILL)
        told = loop.book.sent(token, message, client.reply())
    assert told.code in (250, 451)
    balance(loop, token)
    for item in loop.server.arrived:
        assert file not in attachments(item.data).values()
        assert all(macros(data) == [] for name, data in attachments(item.data).items() if name == "a.docm")
    deadline = time.monotonic() + 10
    while deliver(loop, mails.mail(mails.token(), attachment=os.urandom(3000))).code != 250:
        assert time.monotonic() < deadline, "the gateway does not recover"
        time.sleep(0.2)

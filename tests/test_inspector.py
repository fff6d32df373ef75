"""What becomes of the doubts of a message: findings, what was not looked at, other readings scanned."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import cast

import pytest

from netinspect import inspector as module
from netinspect.config import Settings
from netinspect.files.artifact import Artifact, Hashes
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector, Judgement
from netinspect.limits import Limits
from netinspect.mime.part import Leaf
from netinspect.policy.facts import SessionFacts
from netinspect.policy.rules import Policy
from netinspect.scan.contract import Examination, Finding, Unscanned
from netinspect.scan.panel import Panel
from netinspect.smtp.events import Envelope, MessageEnd
from netinspect.spool import Spool

SETTINGS = Settings()
HEAD = b"From: a@example.org\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
FILE = b"Content-Type: application/octet-stream; name=e.exe\r\nContent-Transfer-Encoding: base64\r\n\r\n"
PAYLOAD = b"MZ a program that nobody asked for"
BROKEN = HEAD + FILE + b"A\r\n\r\n" + base64.b64encode(PAYLOAD) + b"\r\n"


class Engines:
    """A panel that finds malware in the payload and remembers what it was given."""

    engines = ()

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    async def examine(self, leaves: Sequence[Leaf], words: object = None) -> list[Examination]:
        found = []
        for leaf in leaves:
            data = leaf.content.getvalue()
            self.seen.append((leaf.path, data))
            artifact = Artifact(Hashes(leaf.sha256, "", ""), leaf.size, "data", leaf.path, leaf.name)
            bad = (Finding("test", "Eicar", "malware", 1, leaf.sha256),) if data == PAYLOAD else ()
            found.append(Examination((artifact,), bad))
        return found

    async def scan_message(self, spool: Spool) -> list[Finding | Unscanned]:
        return []


def judge(raw: bytes, limits: Limits | None = None) -> tuple[Judgement, Engines]:
    engines = Engines()
    policy = Policy.from_settings(SETTINGS.policy)
    inspector = Inspector(limits or Limits(), cast(Panel, engines), policy, Identity(SETTINGS.networks))

    async def run() -> Judgement:
        inspection = inspector.begin(SessionFacts("external", "192.0.2.1", 1, "192.0.2.2", 25))
        inspection.feed(raw)
        inspection.end(Envelope(mail_from="a@example.org"), MessageEnd(size=len(raw)))
        try:
            return await inspection.judge()
        finally:
            inspection.close()
            assert inspector.budget.used == 0

    return asyncio.run(run()), engines


def findings(judgement: Judgement) -> dict[str, int]:
    return {one.signature: one.severity for one in judgement.facts.findings if one.category == "ambiguous-mime"}


@pytest.mark.parametrize("aside", [0, 1 << 20], ids=["in-a-thread", "at-once"])
def test_every_reading_is_scanned_and_the_difference_is_a_finding(
    aside: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_ASIDE", aside)
    judgement, engines = judge(BROKEN)
    assert PAYLOAD in [data for _, data in engines.seen]
    assert findings(judgement)["mime.readings-differ"] == 2
    assert "malware" in {one.category for one in judgement.facts.findings}
    assert "readings_differ" in {one.kind for one in judgement.facts.anomalies}
    assert judgement.decision.action == "reject"
    assert {artifact.path for artifact in judgement.facts.artifacts} == {path for path, _ in engines.seen}


def test_two_readings_of_a_text_are_information() -> None:
    raw = HEAD + b"Content-Transfer-Encoding: base64\r\n\r\nA\r\n\r\n" + base64.b64encode(b"hello there") + b"\r\n"
    judgement, _ = judge(raw)
    assert set(findings(judgement).values()) == {3}
    assert "mime.reading" in findings(judgement)


def test_what_is_not_in_the_message_is_a_finding_to_refuse() -> None:
    partial, _ = judge(HEAD + b"Content-Type: message/partial; id=x; number=1; total=2\r\n\r\nhello\r\n")
    assert findings(partial)["mime.partial"] == 2
    external = HEAD + b"Content-Type: message/external-body; access-type=x-y\r\n\r\nContent-Type: a/b\r\n\r\n\r\n"
    assert findings(judge(external)[0])["mime.external-body"] == 2


def test_more_readings_than_the_limit_are_not_looked_at() -> None:
    parts = b"".join(b"--x\r\n" + FILE + b"A\r\n\r\n" + base64.b64encode(b"%d" % n) + b"\r\n" for n in range(9))
    raw = HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + parts + b"--x--\r\n"
    judgement, _ = judge(raw, Limits(mime_readings=3))
    assert "limit_readings" in {one.reason for one in judgement.facts.unscanned}


def test_a_second_name_is_information_and_an_attachment() -> None:
    fields = b"Content-Type: a/b; name=x.exe\r\nContent-Disposition: attachment; filename=x.png\r\n\r\n"
    judgement, _ = judge(HEAD + fields + b"x\r\n")
    assert findings(judgement) == {"mime.name-ambiguous": 3}
    assert judgement.facts.mail is not None
    assert judgement.facts.mail.attachments == ("x.png", "x.exe")


def test_an_ordinary_message_has_no_finding() -> None:
    judgement, engines = judge(HEAD + b"\r\nhello\r\n")
    assert not judgement.facts.findings
    assert not judgement.facts.anomalies
    assert engines.seen == [("1", b"hello\r\n")]
    assert judgement.decision.action == "accept"

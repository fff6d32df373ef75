"""What the inspector tells the policy of coverage, header and engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from netinspect.anomaly import Anomaly
from netinspect.config import PolicySettings, RuleSettings, When
from netinspect.config.schema import NetworkSettings
from netinspect.files.artifact import Artifact, Hashes
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspection, Inspector, Judgement
from netinspect.limits import Limits
from netinspect.policy import Coverage, Policy, SessionFacts, Skipped
from netinspect.scan.contract import EngineState, Examination, Unscanned
from netinspect.smtp.events import Envelope, MessageEnd

SESSION = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25)
MAIL = (
    b"From: a@outside.example\r\nX-Mailer: Bulk\r\n  Mailer\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n'
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n"
)


class Engines:
    """Engines that list what they get and say what they are told to say."""

    def __init__(self, *engines: str, unscanned: str = "", anomaly: str = "") -> None:
        self.engines = tuple(EngineState(name) for name in engines)
        self._unscanned = unscanned
        self._anomaly = anomaly

    async def examine(self, leaves: Sequence[Any], words: object = None) -> list[Examination]:
        return [self._one(leaf) for leaf in leaves]

    def _one(self, leaf: Any) -> Examination:
        artifact = Artifact(Hashes(leaf.sha256, "", ""), leaf.content.size, "data", leaf.path, leaf.name)
        unscanned = (Unscanned("clamd", self._unscanned, leaf.sha256),) if self._unscanned and not leaf.text else ()
        anomalies = (Anomaly(self._anomaly, "file", 0, leaf.sha256),) if self._anomaly else ()
        return Examination((artifact,), unscanned=unscanned, anomalies=anomalies)


def inspection(panel: Any, policy: PolicySettings | None = None) -> Inspection:
    rules = Policy.from_settings(policy or PolicySettings())
    begun = Inspector(Limits(), panel, rules, Identity(NetworkSettings())).begin(SESSION)
    begun.feed(MAIL)
    begun.end(Envelope(mail_from="a@outside.example"), MessageEnd(len(MAIL)))
    return begun


def judged(panel: Any, policy: PolicySettings | None = None) -> Judgement:
    begun = inspection(panel, policy)
    try:
        return asyncio.run(begun.judge())
    finally:
        begun.close()


def test_a_message_that_every_engine_saw_is_covered_and_clean() -> None:
    facts = judged(Engines("office", "rules")).facts
    assert facts.coverage == Coverage(2, 8, 2, 8, 2, 8)
    assert facts.clean
    assert [engine.name for engine in facts.engines] == ["office", "rules"]


def test_what_an_engine_did_not_see_is_named_with_its_place() -> None:
    judgement = judged(Engines("clamd", unscanned="timeout"))
    assert judgement.facts.coverage == Coverage(2, 8, 2, 8, 1, 5, (Skipped("1.2", "clamd: timeout"),))
    assert judgement.decision.rules == ("unscanned",)


def test_what_was_let_through_by_its_hash_is_accepted_and_not_called_clean() -> None:
    judgement = judged(Engines("office", anomaly="allow_listed"))
    coverage = judgement.facts.coverage
    assert coverage is not None
    assert {one.reason for one in coverage.skipped} == {"on the allow list"}
    assert (judgement.decision.action, judgement.facts.clean) == ("accept", False)


def test_without_engines_nothing_is_called_clean() -> None:
    judgement = judged(Engines())
    assert (judgement.decision.action, judgement.facts.clean) == ("accept", False)


def test_a_message_that_was_not_judged_is_not_covered() -> None:
    begun = inspection(Engines("office"))
    facts = begun.facts_without_scan("busy")
    begun.close()
    assert facts.coverage == Coverage(2, 8, skipped=(Skipped("", "busy"),))
    assert not facts.clean


def test_the_header_is_there_for_expressions_and_raw_until_one_asks() -> None:
    rule = RuleSettings("bulk", "tag", When(cel='header("x-mailer") == "Bulk  Mailer" && coverage.complete'))
    judgement = judged(Engines("office"), PolicySettings("accept", (rule,)))
    assert judgement.decision.rules == ("bulk",)
    assert ("X-Mailer", b" Bulk\r\n  Mailer") in judgement.facts.headers

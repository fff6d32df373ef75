"""Rules in order, the first that holds decides; the built-in ones are what the project promises."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from netinspect.anomaly import Anomaly
from netinspect.config import DEFAULT_RULES, PolicySettings, RuleSettings, When
from netinspect.files.artifact import Artifact, Hashes
from netinspect.policy import Decision, EnvelopeFacts, Facts, MailFacts, Policy, SessionFacts, decide, reply_text
from netinspect.policy.rules import FINDING_HEADER, instead_of_disarm
from netinspect.scan.contract import Finding, Unscanned

OUTSIDE = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25, helo="mx.example.net")
INSIDE = dataclasses.replace(OUTSIDE, zone="internal")
ENVELOPE = EnvelopeFacts("a@example.net", ("b@example.org", "c@example.org"), 1000)
CLEAN = Facts(OUTSIDE, ENVELOPE, MailFacts())
POLICY = Policy.from_settings(PolicySettings())

EICAR = Finding("clamd", "Eicar-Test-Signature", "malware", 1, "ab" * 32)
DOUBTFUL = Finding("clamd", "PUA.Something", "malware", 2)
MACRO = Finding("office", "office.vba", "macro", 3)
AUTOEXEC = Finding("office", "office.AutoOpen", "macro-autoexec", 1)
SPOOF = Finding("identity", "spoof.envelope-from", "spoof", 1, detail="MAIL FROM <boss@example.org>")
TIMEOUT = Unscanned("clamd", "timeout")
CLOSED = Unscanned("files", "encrypted")

REFUSED = "reject 550 5.7.1 Message refused (id i)"
UNREADABLE = "reject 550 5.6.0 Message refused (id i)"
DEFERRED = "tempfail 451 4.7.1 Message deferred, try again later (id i)"


def found(category: Any, severity: Any, signature: str = "x") -> Finding:
    return Finding("office", signature, category, severity)


def facts(**changes: Any) -> Facts:
    return dataclasses.replace(CLEAN, **changes)


def one_rule(action: Any = "reject", *, when: When, **rest: Any) -> Policy:
    return Policy.from_settings(PolicySettings("accept", (RuleSettings("x", action, when, **rest),)))


@pytest.mark.parametrize(
    ("given", "rule", "told"),
    [
        (facts(), "default", "accept 250 2.0.0"),
        (facts(findings=(SPOOF,)), "spoof", "drop 550 5.7.1 Message refused (id i)"),
        (facts(findings=(SPOOF,), session=INSIDE), "default", "accept 250 2.0.0"),
        (
            facts(envelope=dataclasses.replace(ENVELOPE, smuggling=True)),
            "smuggling",
            "reject 550 5.5.2 Message refused (id i)",
        ),
        (facts(findings=(EICAR,)), "malware", "reject 550 5.7.1 Message refused (id i)"),
        (facts(findings=(MACRO, EICAR), unscanned=(TIMEOUT,)), "malware", "reject 550 5.7.1 Message refused (id i)"),
        (facts(findings=(MACRO, AUTOEXEC)), "macro-autoexec", "reject 550 5.7.1 Message refused (id i)"),
        (
            facts(findings=(Finding("office", "m", "macro-replication", 1),), unscanned=(TIMEOUT,)),
            "macro-autoexec",
            "reject 550 5.7.1 Message refused (id i)",
        ),
        (
            facts(findings=(MACRO,), unscanned=(TIMEOUT,)),
            "unscanned",
            "tempfail 451 4.7.1 Message deferred, try again later (id i)",
        ),
        (
            facts(unscanned=(TIMEOUT,)),
            "unscanned",
            "tempfail 451 4.7.1 Message deferred, try again later (id i)",
        ),
        (facts(findings=(MACRO,)), "macro", "tag 250 2.0.0"),
        (facts(findings=(Finding("office", "x", "macro-suspicious", 2),)), "macro", "tag 250 2.0.0"),
        (facts(findings=(Finding("office", "x", "xlm-macro", 2),)), "macro", "tag 250 2.0.0"),
        (facts(findings=(DOUBTFUL,)), "malware-doubtful", "tag 250 2.0.0"),
        (facts(anomalies=(Anomaly("bare_lf", "smtp"),)), "default", "accept 250 2.0.0"),
        (facts(findings=(found("exploit", 2),)), "exploit", "reject 550 5.7.1 Message refused (id i)"),
        (facts(findings=(found("exploit", 1),), unscanned=(TIMEOUT,)), "exploit", REFUSED),
        (facts(findings=(found("exploit", 3),)), "default", "accept 250 2.0.0"),
        (facts(findings=(found("banned-type", 2),)), "program", REFUSED),
        (facts(findings=(found("banned-type", 3),)), "default", "accept 250 2.0.0"),
        (facts(findings=(found("disguised-type", 2),)), "disguised", REFUSED),
        (facts(findings=(found("disguised-type", 3),)), "default", "accept 250 2.0.0"),
        (facts(findings=(found("external-template", 1),)), "loads-by-itself", REFUSED),
        (facts(findings=(found("external-template", 2),)), "suspicious", "tag 250 2.0.0"),
        (facts(findings=(found("dde", 2),)), "suspicious", "tag 250 2.0.0"),
        (facts(findings=(found("embedded-object", 2),)), "suspicious", "tag 250 2.0.0"),
        (facts(findings=(found("embedded-object", 3),)), "default", "accept 250 2.0.0"),
        (facts(findings=(found("ambiguous-mime", 3, "mime.partial"),), session=INSIDE), "not-all-of-it", UNREADABLE),
        (facts(findings=(found("ambiguous-mime", 3, "mime.external-body"),)), "not-all-of-it", UNREADABLE),
        (facts(findings=(found("ambiguous-mime", 2),)), "ambiguous", UNREADABLE),
        (facts(findings=(found("ambiguous-mime", 2),), session=INSIDE), "default", "accept 250 2.0.0"),
        (facts(findings=(found("ambiguous-mime", 3),)), "ambiguous-clean", "tag 250 2.0.0"),
        (facts(findings=(found("ambiguous-mime", 3),), unscanned=(TIMEOUT,)), "unscanned", DEFERRED),
        (facts(findings=(found("ambiguous-mime", 3),), session=INSIDE), "default", "accept 250 2.0.0"),
        (facts(findings=(found("encrypted", 3),), unscanned=(CLOSED, CLOSED)), "encrypted", "tag 250 2.0.0"),
        (facts(findings=(found("encrypted", 3),), unscanned=(CLOSED, TIMEOUT)), "unscanned", DEFERRED),
        (facts(unscanned=(CLOSED,)), "unscanned", DEFERRED),
        (facts(findings=(EICAR, found("encrypted", 3)), unscanned=(CLOSED,)), "malware", REFUSED),
        (facts(findings=(found("encrypted", 2),)), "closed", "tag 250 2.0.0"),
        (facts(findings=(found("encrypted", 3),)), "default", "accept 250 2.0.0"),
        (facts(findings=(Finding("clamd", "x", "encrypted", 3),)), "closed-to-clamd", "tag 250 2.0.0"),
        (facts(findings=(found("archive-limit", 2),), unscanned=(TIMEOUT,)), "unscanned", DEFERRED),
    ],
)
def test_the_built_in_rules(given: Facts, rule: str, told: str) -> None:
    decision = decide(given, POLICY)
    assert decision.rules == (rule,)
    assert f"{decision.action} {reply_text(decision, 'i')}" == told


def test_no_built_in_rule_lets_an_unscanned_message_through() -> None:
    encrypted = found("encrypted", 3)
    for finding in ((), (MACRO,), (DOUBTFUL,), (SPOOF,), (EICAR,), (encrypted,)):
        for session in (OUTSIDE, INSIDE):
            assert not decide(facts(findings=finding, unscanned=(TIMEOUT,), session=session), POLICY).delivers


def test_the_reason_is_exact_and_the_reply_is_not() -> None:
    decision = decide(facts(findings=(EICAR,)), POLICY)
    assert decision.reason == "malware: clamd Eicar-Test-Signature"
    assert "Eicar" not in reply_text(decision, "4f2c")
    assert decide(facts(unscanned=(TIMEOUT,)), POLICY).reason == "clamd: timeout"
    assert decide(facts(unscanned=(Unscanned("clamd", "clamd: gone"),)), POLICY).reason == "clamd: gone"
    assert decide(facts(findings=(SPOOF,)), POLICY).reason.endswith("(MAIL FROM <boss@example.org>)")


def test_tag_adds_our_headers_and_nothing_of_a_sender_can_break_out_of_them() -> None:
    nasty = Finding("office", "x\r\nX-Evil: ü\x00" + "y" * 500, "macro", 3)
    headers = decide(facts(findings=(nasty, MACRO)), POLICY).headers
    assert headers[0] == ("X-Netinspect-Action", "tag")
    assert headers[2] == (FINDING_HEADER, "macro: office office.vba")
    assert len(headers[1][1]) <= 200
    assert all(" " <= char <= "~" for _, value in headers for char in value)
    assert len(decide(facts(findings=(MACRO,) * 100), POLICY).headers) == 11


def test_disarm_delivers_with_our_headers_and_the_servers_own_reply() -> None:
    decision = decide(facts(findings=(MACRO,)), one_rule("disarm", when=When(category=("macro",))))
    assert decision.delivers
    assert (decision.code, decision.enhanced, decision.text) == (250, "2.0.0", "")
    assert decision.headers == (("X-Netinspect-Action", "disarm"), (FINDING_HEADER, "macro: office office.vba"))
    assert decision.disarmed == ()


@pytest.mark.parametrize(
    ("action", "answer", "told"),
    [
        ("quarantine", 250, "250 2.0.0 Message received (id i)"), ("quarantine", 550, REFUSED.removeprefix("reject ")),
        ("tempfail", 250, DEFERRED.removeprefix("tempfail ")), ("tag", 250, "250 2.0.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_disarmed_gets_another_decision_of_the_same_rule(action: Any, answer: int, told: str) -> None:
    policy = Policy.from_settings(PolicySettings("accept", ()), quarantine_answer=answer)
    disarm = Decision("disarm", "macro: x", headers=(("X-Netinspect-Action", "disarm"),), rules=("r",))
    decision = instead_of_disarm(disarm, policy, action, facts(findings=(MACRO,)), "signed")
    assert (decision.action, decision.rules, decision.reason) == (action, ("r",), "macro: x; signed")
    assert reply_text(decision, "i") == told
    added = ["X-Netinspect-Action", FINDING_HEADER] if action == "tag" else []
    assert [name for name, _ in decision.headers] == added


def test_rules_of_a_file_stand_before_the_built_in_ones() -> None:
    own = RuleSettings("friend", "accept", When(mail_from=("*@example.net",)))
    policy = Policy.from_settings(PolicySettings("accept", (own, *DEFAULT_RULES)))
    assert decide(facts(findings=(EICAR,)), policy).rules == ("friend",)
    other = dataclasses.replace(ENVELOPE, mail_from="a@example.com")
    assert decide(facts(findings=(EICAR,), envelope=other), policy).rules == ("malware",)


SESSION = dataclasses.replace(OUTSIDE, authenticated=True, tls=True)
ISO = Artifact(Hashes("a", "b", "c"), 5, "iso", "1.2", name="Photos.ISO")


@pytest.mark.parametrize(
    ("when", "holds", "fails"),
    [
        (When(), facts(), None),
        (When(category=("malware", "dde")), facts(findings=(MACRO, EICAR)), facts(findings=(MACRO,))),
        (When(severity_max=2), facts(findings=(DOUBTFUL,)), facts(findings=(MACRO,))),
        (When(severity_max=3), facts(findings=(MACRO,)), facts()),
        (When(engine=("clam*",)), facts(findings=(EICAR,)), facts(findings=(MACRO,))),
        (When(signature=("eicar*", "x")), facts(findings=(EICAR,)), facts(findings=(DOUBTFUL,))),
        (When(unscanned=True), facts(unscanned=(TIMEOUT,)), facts(findings=(EICAR,))),
        (When(unscanned=False), facts(), facts(unscanned=(TIMEOUT,))),
        (When(unscanned_reason=("*closed*", "files: ENC*")), facts(unscanned=(CLOSED,)), facts()),
        (When(unscanned_reason=("files: *",)), facts(unscanned=(CLOSED,)), facts(unscanned=(CLOSED, TIMEOUT))),
        (When(anomaly=("base64_*",)), facts(anomalies=(Anomaly("base64_x", "mime"),)), facts()),
        (When(anomaly=("base64_*",)), facts(anomalies=(Anomaly("base64_x", "mime"),)),
         facts(anomalies=(Anomaly("nul", "mime"),))),
        (When(smuggling=True), facts(findings=(Finding("smtp", "s", "smuggling", 1),)), facts(findings=(EICAR,))),
        (When(smuggling=False), facts(), facts(envelope=EnvelopeFacts(smuggling=True))),
        (When(zone="external"), facts(), facts(session=INSIDE)),
        (When(authenticated=True), facts(session=SESSION), facts()),
        (When(authenticated=False), facts(), facts(session=SESSION)),
        (When(tls=True), facts(session=SESSION), facts()),
        (When(client=("198.51.100.0/24", "::1")), facts(), facts(session=dataclasses.replace(OUTSIDE, src_ip="::2"))),
        (When(helo=("MX.*",)), facts(), facts(session=dataclasses.replace(OUTSIDE, helo="mail"))),
        (When(mail_from=("",)), facts(envelope=EnvelopeFacts()), facts()),
        (When(recipient=("C@*", "d@*")), facts(), facts(envelope=EnvelopeFacts(recipients=("b@x",)))),
        (When(attachment=("*.iso",)), facts(artifacts=(ISO,)), facts()),
        (When(magic=("iso", "lnk")), facts(artifacts=(ISO,)),
         facts(artifacts=(dataclasses.replace(ISO, magic="zip"),))),
        (When(size_min=1000), facts(), facts(envelope=EnvelopeFacts(size=999))),
        (When(zone="external", category=("malware",)), facts(findings=(EICAR,)),
         facts(session=INSIDE, findings=(EICAR,))),
    ],
)  # fmt: skip
def test_each_condition(when: When, holds: Facts, fails: Facts | None) -> None:
    policy = one_rule(when=when)
    assert decide(holds, policy).rules == ("x",)
    assert decide(holds, policy).reason
    if fails is not None:
        assert decide(fails, policy).rules == ("default",)


def test_conditions_on_a_finding_are_about_one_and_the_same() -> None:
    policy = one_rule(when=When(category=("malware",), engine=("office",)))
    assert decide(facts(findings=(EICAR, MACRO)), policy).rules == ("default",)


@pytest.mark.parametrize(
    ("action", "rest", "told"),
    [
        ("reject", {}, "550 5.7.1 Message refused (id i)"),
        ("reject", {"code": 554}, "554 5.7.1 Message refused (id i)"),
        ("reject", {"text": "No"}, "550 5.7.1 No"),
        ("reject", {"enhanced": "5.6.0"}, "550 5.6.0 Message refused (id i)"),
        ("tempfail", {"code": 450}, "450 4.7.1 Message deferred, try again later (id i)"),
        ("drop", {"code": 421}, "421 4.7.1 Message deferred, try again later (id i)"),
        ("drop", {"enhanced": "4.7.0"}, "451 4.7.0 Message deferred, try again later (id i)"),
        ("quarantine", {}, "250 2.0.0 Message received (id i)"),
        ("quarantine", {"code": 550}, "550 5.7.1 Message refused (id i)"),
    ],
)
def test_the_reply_of_a_rule_is_of_one_class(action: str, rest: dict[str, Any], told: str) -> None:
    decision = decide(CLEAN, one_rule(action, when=When(), **rest))
    assert reply_text(decision, "i") == told
    assert decision.delivers is False


def test_the_answer_to_quarantine_is_a_setting() -> None:
    policy = Policy.from_settings(PolicySettings("quarantine", ()), quarantine_answer=550)
    assert reply_text(decide(CLEAN, policy), "i") == "550 5.7.1 Message refused (id i)"


def test_a_drop_can_be_a_reset() -> None:
    assert decide(CLEAN, one_rule("drop", when=When(), reset=True)).reset


def test_the_default_can_tag() -> None:
    decision = decide(CLEAN, Policy.from_settings(PolicySettings("tag", ())))
    assert decision.headers == (("X-Netinspect-Action", "tag"),)
    assert decision.rules == ("default",)


def test_a_hostile_name_does_not_make_a_pattern_slow() -> None:
    policy = one_rule(when=When(attachment=("*a*a*a*a*a*a*a*a*b",)))
    artifact = dataclasses.replace(ISO, name="a" * 1024)
    start = time.process_time()
    decide(facts(artifacts=(artifact,)), policy)
    assert time.process_time() - start < 0.5


def test_a_clean_mail_costs_next_to_nothing() -> None:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(1000):
            decide(CLEAN, POLICY)
        best = min(best, (time.process_time() - start) / 1000)
    assert best < 20e-6  # about 0.2 µs; the bound leaves room for a slow machine

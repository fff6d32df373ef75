"""The conditions of a rule, compiled once into plain functions over `Facts`.

A compiled condition answers with the reason that goes into the record, or None. Patterns are compiled with fnmatch's
translation, whose stars cannot backtrack into each other, so a sender cannot make one slow.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Callable

from netinspect.config.rules import When
from netinspect.identity.domains import OurNetworks
from netinspect.policy.facts import Facts
from netinspect.scan.contract import Finding, Unscanned

Condition = Callable[[Facts], str | None]
"""The reason when the condition holds, else None."""

NO_EVIDENCE = "conditions of the rule hold"
"""The reason where a rule asks for nothing that was found."""

_Test = Callable[[Facts], bool]


def needs_evidence(when: When) -> bool:
    """Whether the conditions can hold only where something was found, malformed or not looked at."""
    return bool(
        when.about_finding or when.unscanned or when.unscanned_reason or when.anomaly or when.smuggling
    )


def compile_when(when: When) -> Condition:
    """Compile the conditions of one rule, its expression excepted."""
    tests = _circumstances(when)
    finding = _finding_test(when) if when.about_finding else None
    anomaly = _pattern(when.anomaly) if when.anomaly else None
    unscanned = when.unscanned
    fitting = _pattern(when.unscanned_reason) if when.unscanned_reason else None
    smuggling = when.smuggling

    def condition(facts: Facts) -> str | None:
        for test in tests:
            if not test(facts):
                return None
        reasons: list[str] = []
        if finding is not None:
            found = next((entry for entry in facts.findings if finding(entry)), None)
            if found is None:
                return None
            reasons.append(finding_text(found))
        if smuggling is not None:
            if _smuggled(facts) is not smuggling:
                return None
            if smuggling:
                reasons.append("line end that is not CRLF around a lone dot")
        if unscanned is not None:
            if bool(facts.unscanned) is not unscanned:
                return None
            if unscanned:
                reasons.append(unscanned_text(facts.unscanned[0]))
        if fitting is not None:
            # Every reason, not one of them: an engine that is down must not hide behind an encrypted archive.
            if not facts.unscanned or not all(fitting(unscanned_text(entry)) for entry in facts.unscanned):
                return None
            reasons.append(unscanned_text(facts.unscanned[0]))
        if anomaly is not None:
            kind = next((entry.kind for entry in facts.anomalies if anomaly(entry.kind)), None)
            if kind is None:
                return None
            reasons.append(f"anomaly {kind}")
        return "; ".join(reasons) or NO_EVIDENCE

    return condition


def first_unmet(when: When, facts: Facts) -> str:
    """Give the first condition that does not hold, as it is written in the file (for `policy test`); `""`: all hold."""
    for condition in _each(when):
        if compile_when(condition)(facts) is None:
            given = [
                f"{field.name} = {_shown(getattr(condition, field.name))}"
                for field in dataclasses.fields(condition)
                if getattr(condition, field.name) != field.default
            ]
            return ", ".join(given)
    return ""


_OF_FINDING = ("category", "severity_max", "engine", "signature")


def _each(when: When) -> list[When]:
    """The conditions one by one; those about a finding stay together."""
    given = {
        field.name: getattr(when, field.name)
        for field in dataclasses.fields(when)
        if field.name != "cel" and getattr(when, field.name) != field.default
    }
    finding = {name: given.pop(name) for name in _OF_FINDING if name in given}
    groups = [{name: value} for name, value in given.items()]
    return [When(**group) for group in (*groups, *([finding] if finding else []))]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def finding_text(finding: Finding) -> str:
    """Give one finding as a short exact line: `malware: clamd Eicar-Test-Signature`."""
    text = f"{finding.category}: {finding.engine} {finding.signature}"
    return f"{text} ({finding.detail})" if finding.detail else text


def unscanned_text(unscanned: Unscanned) -> str:
    """Give what could not be looked at, the engine named once: `clamd: timeout`."""
    if unscanned.reason.startswith(unscanned.engine):
        return unscanned.reason
    return f"{unscanned.engine}: {unscanned.reason}"


def _smuggled(facts: Facts) -> bool:
    return facts.envelope.smuggling or any(finding.category == "smuggling" for finding in facts.findings)


def _finding_test(when: When) -> Callable[[Finding], bool]:
    categories = frozenset(when.category)
    severity = when.severity_max or 3
    engine = _pattern(when.engine) if when.engine else None
    signature = _pattern(when.signature) if when.signature else None

    def test(finding: Finding) -> bool:
        return (
            (not categories or finding.category in categories)
            and finding.severity <= severity
            and (engine is None or engine(finding.engine))
            and (signature is None or signature(finding.signature))
        )

    return test


def _circumstances(when: When) -> tuple[_Test, ...]:
    """What is true of session, envelope and content whether or not anything was found."""
    tests: list[_Test] = []
    if when.zone:
        zone = when.zone
        tests.append(lambda facts: facts.session.zone == zone)
    if when.authenticated is not None:
        authenticated = when.authenticated
        tests.append(lambda facts: facts.session.authenticated is authenticated)
    if when.tls is not None:
        tls = when.tls
        tests.append(lambda facts: facts.session.tls is tls)
    if when.client:
        clients = OurNetworks(when.client)
        tests.append(lambda facts: facts.session.src_ip in clients)
    if when.helo:
        helo = _pattern(when.helo)
        tests.append(lambda facts: helo(facts.session.helo))
    if when.mail_from:
        sender = _pattern(when.mail_from)
        tests.append(lambda facts: sender(facts.envelope.mail_from))
    if when.recipient:
        recipient = _pattern(when.recipient)
        tests.append(lambda facts: any(recipient(address) for address in facts.envelope.recipients))
    if when.size_min:
        size = when.size_min
        tests.append(lambda facts: facts.envelope.size >= size)
    if when.attachment:
        name = _pattern(when.attachment)
        tests.append(lambda facts: any(artifact.name and name(artifact.name) for artifact in facts.artifacts))
    if when.magic:
        magic = _pattern(when.magic)
        tests.append(lambda facts: any(magic(artifact.magic) for artifact in facts.artifacts))
    return tuple(tests)


def _pattern(globs: tuple[str, ...]) -> Callable[[str], bool]:
    compiled = re.compile("|".join(fnmatch.translate(glob) for glob in globs), re.IGNORECASE)
    return lambda text: compiled.match(text) is not None

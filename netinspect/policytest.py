"""`netinspect policy test`: which rule decides about a mail and why, and what another configuration would change.

The engines look at each file once, as `netinspect scan` has them look; the rules of both configurations judge the same
facts. Connection and envelope are what the command line supposes of them, for a file has none.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TextIO

from netinspect.assembly import inspector_of
from netinspect.config import DEFAULT_RULES, Settings
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector, Judgement
from netinspect.policy import Decision, Facts, Policy, Step, decide, explain, reply_text
from netinspect.scanfiles import INBOUND, Failure, files, judge_path, printable

_BUILT_IN = frozenset(rule.name for rule in DEFAULT_RULES)

FINE, CHANGED, FAILED = 0, 1, 2
"""Exit codes."""

_SKIPPED_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Supposed:
    """What is taken for the connection and the envelope of every file."""

    zone: Literal["external", "internal"] = "external"
    client: str = INBOUND.src_ip
    helo: str = ""
    mail_from: str = ""
    recipients: tuple[str, ...] = ()
    authenticated: bool = False
    tls: bool = False

    def of(self, facts: Facts) -> Facts:
        """Give the facts of a file with this connection and envelope."""
        session = replace(
            facts.session, zone=self.zone, src_ip=self.client, helo=self.helo, authenticated=self.authenticated,
            tls=self.tls,
        )  # fmt: skip
        envelope = replace(facts.envelope, mail_from=self.mail_from, recipients=self.recipients)
        return replace(facts, session=session, envelope=envelope)


class Configuration:
    """The rules of one file and the names they protect. `name` is shown."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.source or "built-in defaults"
        self._policy = Policy.from_settings(settings.policy, quarantine_answer=settings.quarantine.answer)
        self._identity = Identity(settings.networks)

    def judge(self, facts: Facts, incident_id: str) -> Outcome:
        """Let the rules decide, and have each say why."""
        session = facts.session
        checks = (
            self._identity.check_client(session) if session.src_ip != INBOUND.src_ip else None,
            self._identity.check_helo(session, session.helo) if session.helo else None,
            self._identity.check_mail_from(session, facts.envelope.mail_from) if facts.envelope.mail_from else None,
        )
        found = tuple(finding for finding in checks if finding is not None)
        if found:
            facts = replace(facts, findings=found + facts.findings)
        decision = decide(facts, self._policy)
        return Outcome(decision, tuple(explain(facts, self._policy)), reply_text(decision, incident_id))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one configuration makes of a file. `reply` is what the client would be told."""

    decision: Decision
    steps: tuple[Step, ...]
    reply: str

    def differs(self, other: Outcome) -> bool:
        """Whether the client, the server or the reader of the mail would notice a difference."""
        mine, theirs = self.decision, other.decision
        return (mine.action, self.reply, mine.reset) != (theirs.action, other.reply, theirs.reset)


def run(
    settings: Settings,
    names: Sequence[str],
    *,
    other: Settings | None = None,
    supposed: Supposed | None = None,
    as_json: bool = False,
    all_rules: bool = False,
    out: TextIO,
    err: TextIO,
) -> int:
    """Test the files and all files in folders; give the exit code. What could not be read goes to `err`.

    Of the rules that do not hold those of the configuration's file are shown, with `all_rules` the built-in ones too.
    """
    configurations = [Configuration(one) for one in (settings, other) if one is not None]
    with asyncio.Runner() as runner:
        show = _json if as_json else functools.partial(_readable, all_rules=all_rules)
        work = _run(settings, names, configurations, supposed or Supposed(), show, out, err)
        return runner.get_loop().run_until_complete(work)


async def _run(
    settings: Settings,
    names: Sequence[str],
    configurations: list[Configuration],
    supposed: Supposed,
    show: Callable[[str, Facts, Sequence[Outcome], Sequence[Configuration]], str],
    out: TextIO,
    err: TextIO,
) -> int:
    inspector = inspector_of(settings)
    worst = FINE
    seen = 0
    changes: dict[str, int] = {}
    await inspector.panel.start()
    try:
        async for name, answer in _judged(inspector, names, 2 * settings.scan.workers):
            if isinstance(answer, Failure):
                err.write(f"netinspect: {answer}\n")
                worst = FAILED
                continue
            seen += 1
            facts = supposed.of(answer.facts)
            outcomes = [one.judge(facts, answer.incident_id) for one in configurations]
            first, last = outcomes[0], outcomes[-1]
            if first.differs(last):
                worst = max(worst, CHANGED)
                change = f"{first.decision.action} → {last.decision.action}"
                changes[change] = changes.get(change, 0) + 1
            out.write(show(name, facts, outcomes, configurations))
    finally:
        await inspector.panel.close()
    if len(configurations) > 1 and show is not _json:
        out.write(_summary(seen, changes))
    return worst


async def _judged(
    inspector: Inspector, names: Sequence[str], most: int
) -> AsyncIterator[tuple[str, Judgement | Failure]]:
    """Judge a few files at a time; the answers come in the order of the names."""
    batch: list[str] = []
    for item in files(names):
        if isinstance(item, Failure):
            yield item.name, item
            continue
        batch.append(item)
        if len(batch) >= most or item == "-":
            for answer in await _batch(inspector, batch):
                yield answer
            batch = []
    for answer in await _batch(inspector, batch):
        yield answer


async def _batch(inspector: Inspector, names: Sequence[str]) -> list[tuple[str, Judgement | Failure]]:
    answers = await asyncio.gather(*(judge_path(inspector, name) for name in names))
    return list(zip(names, answers, strict=True))


# --- what is printed --------------------------------------------------------------------------------------------------


def _readable(
    name: str, facts: Facts, outcomes: Sequence[Outcome], configurations: Sequence[Configuration], *, all_rules: bool
) -> str:
    first, last = outcomes[0], outcomes[-1]
    lines = [f"{name}: {_verdict(first)}", *_steps(first.steps, all_rules), f"  {_coverage(facts)}"]
    if len(outcomes) > 1:
        which = configurations[-1].name
        if first.differs(last):
            lines += [f"  with {which}: {first.decision.action} → {_verdict(last)}", *_steps(last.steps, all_rules)]
        elif first.decision.rules != last.decision.rules:
            lines.append(f"  with {which}: the same, {_verdict(last)}")
        else:
            lines.append(f"  with {which}: the same")
    return "".join(f"{printable(line)}\n" for line in lines)


def _verdict(outcome: Outcome) -> str:
    decision = outcome.decision
    text = f"{decision.action}, rule {', '.join(decision.rules)}"
    if decision.reason:
        text += f": {decision.reason}"
    return text if decision.delivers else f"{text} [{outcome.reply}]"


def _steps(steps: Sequence[Step], all_rules: bool) -> list[str]:
    """What each rule said; the one that decides is on the line above."""
    if not all_rules:
        steps = [step for step in steps if not step.holds and step.rule not in _BUILT_IN]
    width = max((len(step.rule) for step in steps), default=0)
    words = {True: "yes: ", False: "no, needs ", None: ""}
    return [f"    {step.rule:<{width}}  {step.action:<8}  {words[step.holds]}{step.why}" for step in steps]


def _coverage(facts: Facts) -> str:
    coverage = facts.coverage
    if coverage is None:
        return "coverage: none"
    text = f"coverage: {coverage.parts} parts, {coverage.bytes} octets"
    if coverage.complete:
        return f"{text}, all decoded and scanned"
    text += f", {coverage.decoded} decoded, {coverage.scanned} scanned"
    skipped = [f"{one.path or 'the message'} ({one.reason})" for one in coverage.skipped[:_SKIPPED_SHOWN]]
    more = len(coverage.skipped) - len(skipped)
    if more:
        skipped.append(f"and {more} more")
    return f"{text}; skipped: {', '.join(skipped)}" if skipped else text


def _summary(seen: int, changes: dict[str, int]) -> str:
    changed = sum(changes.values())
    text = f"{seen} file{'s' * (seen != 1)}, {changed} would change"
    if changes:
        text += ": " + ", ".join(f"{change} ({count})" for change, count in sorted(changes.items()))
    return text + "\n"


def _json(name: str, facts: Facts, outcomes: Sequence[Outcome], configurations: Sequence[Configuration]) -> str:
    del configurations
    record: dict[str, Any] = {"file": os.fsencode(name).decode("utf-8", "replace"), "clean": facts.clean}
    record |= _outcome(outcomes[0])
    if facts.coverage is not None:
        coverage = facts.coverage
        record["coverage"] = {
            "parts": coverage.parts, "bytes": coverage.bytes, "decoded": coverage.decoded,
            "scanned": coverage.scanned, "complete": coverage.complete,
            "skipped": [{"path": one.path, "reason": one.reason} for one in coverage.skipped],
        }  # fmt: skip
    if len(outcomes) > 1:
        record["changed"] = outcomes[0].differs(outcomes[1])
        record["other"] = _outcome(outcomes[1])
    return json.dumps(record) + "\n"


def _outcome(outcome: Outcome) -> dict[str, Any]:
    decision = outcome.decision
    return {
        "action": decision.action,
        "rules": list(decision.rules),
        "reason": decision.reason,
        "reply": outcome.reply,
        "steps": [
            {"rule": step.rule, "action": step.action, "holds": step.holds, "why": step.why} for step in outcome.steps
        ],
    }

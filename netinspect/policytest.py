"""`netinspect policy test`: which rule decides about a mail and why, and what another configuration would change.

The engines look at each file once, as `netinspect scan` has them look; the rules of both configurations judge the same
facts. Connection and envelope are what the command line supposes of them, for a file has none. Of a capture each mail
and each refused session is tested, with the connection it had.
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
from netinspect.inspector import Inspector, Judgement
from netinspect.policy import Facts, Step
from netinspect.policy.compare import Configuration, Ruling, given_up, undecided
from netinspect.replay.drive import Item, Job, Order, drive
from netinspect.replay.engine import Outcome
from netinspect.replay.source import is_capture
from netinspect.scanfiles import INBOUND, Failure, files, is_regular, judge_path
from netinspect.terminal import printable

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
    show: Callable[[str, Facts, Sequence[Ruling], Sequence[Configuration]], str],
    out: TextIO,
    err: TextIO,
) -> int:
    inspector = inspector_of(settings)
    test = _Test(configurations, show, out, err)
    await inspector.panel.start()
    try:
        async for name, answer in _judged(inspector, names, 2 * max(settings.scan.workers, 1)):
            if isinstance(answer, Failure):
                test.failed(str(answer))
            elif isinstance(answer, Judgement):
                test.judged(name, supposed.of(answer.facts), answer.incident_id)
            else:
                await drive(Job(settings, ((name, name),)), _Ended(name, test), _Watch(name, test).outcome)
    finally:
        await inspector.panel.close()
    if len(configurations) > 1 and show is not _json:
        out.write(_summary(test.seen, test.changes))
    return test.worst


class _Test:
    """What was seen so far."""

    def __init__(
        self,
        configurations: list[Configuration],
        show: Callable[[str, Facts, Sequence[Ruling], Sequence[Configuration]], str],
        out: TextIO,
        err: TextIO,
    ) -> None:
        self._configurations = configurations
        self._show = show
        self._out = out
        self._err = err
        self.worst = FINE
        self.seen = 0
        self.changes: dict[str, int] = {}

    def failed(self, reason: str) -> None:
        """Something could not be read."""
        self._err.write(f"netinspect: {reason}\n")
        self.worst = FAILED

    def replayed(self, name: str, facts: Facts, incident_id: str) -> None:
        """A mail or a refused session of a capture. It has a connection, so nothing is supposed."""
        if not given_up(facts):
            facts = undecided(facts)
            self.judged(name, facts, incident_id)

    def judged(self, name: str, facts: Facts, incident_id: str) -> None:
        """A file, or what stands for one."""
        rulings = [one.judge(facts, incident_id) for one in self._configurations]
        self.seen += 1
        first, last = rulings[0], rulings[-1]
        if first.differs(last):
            self.worst = max(self.worst, CHANGED)
            change = f"{first.decision.action} → {last.decision.action}"
            self.changes[change] = self.changes.get(change, 0) + 1
        self._out.write(self._show(name, facts, rulings, self._configurations))


class _Watch:
    """Hands on what comes out of a capture, under the name of the capture and the frame that completed it."""

    def __init__(self, name: str, test: _Test) -> None:
        self._name = name
        self._test = test

    def outcome(self, outcome: Outcome) -> None:
        if not outcome.verdict.bare:
            judgement = outcome.judgement
            name = f"{self._name} frame {outcome.verdict.number}"
            self._test.replayed(name, judgement.facts, judgement.incident_id)


class _Ended:
    """The sink of a replay whose records nobody wants."""

    def __init__(self, name: str, test: _Test) -> None:
        self._name = name
        self._test = test

    def item(self, item: Item) -> None:
        """Seen already."""

    def at(self, order: Order, octets: int) -> None:
        """Nobody waits for it."""

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        """Tell what could not be read."""
        if not warning:
            self._test.failed(f"{printable(self._name)}: {reason}")


async def _judged(
    inspector: Inspector, names: Sequence[str], most: int
) -> AsyncIterator[tuple[str, Judgement | Failure | None]]:
    """Judge a few files at a time; the answers come in the order of the names. None: a capture, not read yet."""
    batch: list[str] = []
    for item in files(names):
        if isinstance(item, Failure):
            yield item.name, item
            continue
        capture = item != "-" and is_regular(item) and is_capture(item)
        if not capture:
            batch.append(item)
        if len(batch) >= most or item == "-" or capture:
            for answer in await _batch(inspector, batch):
                yield answer
            batch = []
        if capture:
            yield item, None
    for answer in await _batch(inspector, batch):
        yield answer


async def _batch(inspector: Inspector, names: Sequence[str]) -> list[tuple[str, Judgement | Failure]]:
    answers = await asyncio.gather(*(judge_path(inspector, name) for name in names))
    return list(zip(names, answers, strict=True))


# --- what is printed --------------------------------------------------------------------------------------------------


def _readable(
    name: str, facts: Facts, outcomes: Sequence[Ruling], configurations: Sequence[Configuration], *, all_rules: bool
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


def _verdict(outcome: Ruling) -> str:
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


def _json(name: str, facts: Facts, outcomes: Sequence[Ruling], configurations: Sequence[Configuration]) -> str:
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


def _outcome(outcome: Ruling) -> dict[str, Any]:
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

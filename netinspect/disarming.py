"""Disarming a mail: what runs is taken out of its parts, the rest stays as it came, octet for octet.

    leaves with something active ─▶ a worker cleans each ─▶ the engines look at it ─▶ message rewritten ─▶ read again
                                    cannot be cleaned, or is still active: a text ───▶

What is active: a finding of `MACROS` of any severity, one of `ACTIVE` of severity 1 or 2, and anything that could not
be looked at. Severity 3 of `ACTIVE` is information and its part is left alone, unless the mail has nothing graver: then
it must be what the rule is about.

A mail that cannot be disarmed is never delivered as one that was: quarantine where it must not be altered (signed,
ambiguous) or is not harmless afterwards, tempfail where an engine gave no answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.disarm.contract import Cleaned
from netinspect.disarm.replacement import text_for
from netinspect.disarm.rewrite import CannotRewrite, Edit, Replacement, has_dkim, plan, protection, rewritten, target_of
from netinspect.limits import Limits
from netinspect.mime.part import Leaf, Part
from netinspect.policy.conditions import finding_text, unscanned_text
from netinspect.policy.decision import Action, Decision, Disarmed
from netinspect.policy.facts import Facts
from netinspect.policy.rules import Policy, headers_of, instead_of_disarm
from netinspect.scan.contract import Category, Examination, Finding, Unscanned
from netinspect.scan.panel import Panel
from netinspect.spool import Spool

MACROS: Final[frozenset[Category]] = frozenset({
    "macro", "macro-autoexec", "macro-suspicious", "macro-replication", "xlm-macro", "dde",
})  # fmt: skip
"""Taken out whatever the severity: code, or a command."""

ACTIVE: Final[frozenset[Category]] = frozenset({
    "malware", "exploit", "embedded-object", "external-template", "banned-type", "disguised-type", "outbreak",
})  # fmt: skip
"""Taken out from severity 2 on."""

PARTS: Final = 100
"""Parts of one mail that are cleaned or replaced: honest mails have a few, and each may cost a worker's time."""

ASIDE: Final = 262_144
"""Octets from which on a message is written anew in a thread."""


class NothingActive(Exception):
    """There is nothing in the mail to take out."""


class CannotDisarm(Exception):
    """The mail cannot be altered so that it is harmless and still the mail it was; the text says why."""


class TryLater(Exception):
    """An engine gave no answer, for a reason that is not the mail's: later it may."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What is disarmed: its structure, its leaves and, in their order, what the engines say of each.

    `results` may go on behind the leaves: with answers about the message as a whole. `spool` is the message, `None`
    where a lone file is judged, of which only the content is cleaned.
    """

    root: Part
    leaves: Sequence[Leaf]
    results: Sequence[Examination]
    spool: Spool | None
    incident_id: str


LookAgain = Callable[[Spool], Awaitable[tuple[dict[str, str], list[Examination]]]]
"""Reads a rewritten message: the SHA-256 of each leaf by its path, and what the engines say. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Room:
    """What disarming works with."""

    panel: Panel
    limits: Limits
    new_spool: Callable[[], Spool]
    look_again: LookAgain


async def carry_out(
    mail: Mail, facts: Facts, decision: Decision, policy: Policy, room: Room
) -> tuple[Facts, Decision, Spool | None]:
    """Do what `decision` says, whose action is disarm: the completed decision and the message that may be delivered.

    Without a message the decision is another one, or `mail` is a lone file. Whoever gets the message closes it.
    """
    action: Action
    message: Spool | None = None
    try:
        disarmed, edits = await _disarm(mail, room)
        if mail.spool is not None:
            message = await _write_anew(mail, mail.spool, disarmed, edits, room)
    except NothingActive as reason:
        action, why = "tag", str(reason)
    except CannotDisarm as reason:
        action, why = "quarantine", f"cannot be disarmed: {reason}"
    except TryLater as reason:
        action, why = "tempfail", f"cannot be disarmed now: {reason}"
    except OSError as error:
        action, why = "tempfail", f"cannot be disarmed now: {error.strerror or error}"
    else:
        reasons = [decision.reason] if decision.reason else []
        if mail.spool is not None and has_dkim(mail.root):
            facts = replace(facts, anomalies=(*facts.anomalies, Anomaly("dkim_broken", "mime", 0, "by disarming")))
            reasons.append("the DKIM signature does not verify any more")
        headers = decision.headers or headers_of(facts, "disarm")
        return facts, replace(decision, reason="; ".join(reasons), headers=headers, disarmed=disarmed), message
    return facts, instead_of_disarm(decision, policy, action, facts, why), None


def is_active(finding: Finding) -> bool:
    """Whether what the finding is about must not reach the reader of a disarmed mail."""
    return finding.category in MACROS or (finding.category in ACTIVE and finding.severity < 3)


def remaining(results: Iterable[Examination]) -> str:
    """What is still active in what was disarmed, or could not be looked at; `""`: nothing.

    Raises:
        TryLater: an engine gave no answer.
    """
    for result in results:
        for finding in result.findings:
            if is_active(finding):
                return finding_text(finding)
        for entry in result.unscanned:
            _unless_later(entry)
            return unscanned_text(entry)
    return ""


async def _disarm(mail: Mail, room: Room) -> tuple[tuple[Disarmed, ...], list[Edit]]:
    """Clean or replace what is active: what was done, and the edits that do it in the message."""
    flagged = _flagged(mail)
    if mail.spool is not None and (scheme := protection(mail.root, mail.leaves)):
        raise CannotDisarm(f"the message is signed or encrypted ({scheme})")
    if len(flagged) > PARTS:
        raise CannotDisarm(f"more than {PARTS} parts of it are active")
    work = _Work(room, mail.incident_id)
    for target in _by_target(mail, flagged):
        await work.take(target)
    edits: list[Edit] = []
    if mail.spool is not None:
        arguments = (mail.root, mail.leaves, work.replacements, mail.spool.chunks)
        try:
            edits = await asyncio.to_thread(plan, *arguments) if mail.spool.size > ASIDE else plan(*arguments)
        except CannotRewrite as reason:
            raise CannotDisarm(str(reason)) from None
    return tuple(work.disarmed), edits


async def _write_anew(
    mail: Mail, spool: Spool, disarmed: tuple[Disarmed, ...], edits: Sequence[Edit], room: Room
) -> Spool:
    """The message with the edits made, once it was read again and nothing active was found in it."""
    fresh = room.new_spool()
    try:
        pieces = rewritten(spool.chunks(), edits)
        if spool.size > ASIDE:
            await asyncio.to_thread(_write, fresh, pieces)
        else:
            _write(fresh, pieces)
        digests, results = await room.look_again(fresh)
        left = remaining(results)
        if left:
            raise CannotDisarm(f"afterwards still {left}")
        if not reads_as_meant(mail.leaves, digests, disarmed):
            raise CannotDisarm("the message would read differently afterwards")
    except BaseException:
        fresh.close()
        raise
    return fresh


def _write(spool: Spool, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        spool.write(piece)
    spool.flush()


def reads_as_meant(before: Iterable[Leaf], after: Mapping[str, str], disarmed: Iterable[Disarmed]) -> bool:
    """Whether a rewritten message has the parts it should: new contents where they belong, the others as before."""
    altered = {one.path: one.disarmed_sha256 for one in disarmed}
    # What stood in an encoded message that was replaced is gone with it, as are other readings of what was there.
    gone = tuple(f"{path}{mark}" for path in altered for mark in ".~")
    wanted = {leaf.path: leaf.sha256 for leaf in before if not leaf.path.startswith(gone)} | altered
    return wanted == after


def _unless_later(entry: Unscanned) -> None:
    """Raise `TryLater` where the reason is the engine's and not the content's."""
    if (
        entry.engine in ("panel", "spool", "netinspect")
        or (entry.engine == "worker" and _is_about_the_pool(entry.reason))
        or (entry.engine == "clamd" and not entry.reason.startswith(_CLAMD_ABOUT_CONTENT))
    ):
        raise TryLater(unscanned_text(entry))


_CLAMD_ABOUT_CONTENT: Final = ("limit exceeded", "size limit", "too much")


def _is_about_the_pool(reason: str) -> bool:
    """Whether the reason is not one of a worker that had the content (`scan.pool`)."""
    return reason in ("busy", "closed") or reason.startswith("content: ")


def _flagged(mail: Mail) -> list[tuple[Leaf, list[str]]]:
    """The leaves that must not stay as they are, with what is said of each."""
    for result in mail.results:
        for entry in result.unscanned:
            _unless_later(entry)
    whole = remaining(mail.results[len(mail.leaves) :])
    if whole:
        raise CannotDisarm(f"{whole}, in the message as a whole")
    pairs = list(zip(mail.leaves, mail.results, strict=False))
    for test in (is_active, _is_known):
        found: list[tuple[Leaf, list[str]]] = []
        for leaf, result in pairs:
            why = [f"{finding.category}: {finding.signature}" for finding in result.findings if test(finding)]
            why += [unscanned_text(entry) for entry in result.unscanned]
            why += [f"mime: {doubt}" for doubt in leaf.why if doubt.startswith("limit")]
            if why:
                found.append((leaf, why))
        if found:
            return found
    raise NothingActive("there is nothing in it to disarm")


def _is_known(finding: Finding) -> bool:
    return finding.category in ACTIVE


def _by_target(mail: Mail, flagged: Sequence[tuple[Leaf, list[str]]]) -> list[_Target]:
    """What has to be cleaned or replaced as a whole, in the order of the message."""
    leaves = {leaf.path: leaf for leaf in mail.leaves}
    targets: dict[str, _Target] = {}
    for leaf, why in flagged:
        path = target_of(mail.root, leaf.path)
        if path not in leaves:
            raise CannotDisarm(f"ambiguous: {leaf.path}")
        target = targets.setdefault(path, _Target(leaves[path]))
        target.whole = target.whole or path != leaf.path
        target.why.update(dict.fromkeys(why))
    return list(targets.values())


@dataclass(slots=True)
class _Target:
    """A leaf that is to be cleaned; `whole`: replaced, because what is active stands in an encoded message in it."""

    leaf: Leaf
    whole: bool = False
    why: dict[str, None] = field(default_factory=dict)


class _Work:
    """The new contents while they are made, one after the other; the time of one judgement bounds all of them."""

    def __init__(self, room: Room, incident_id: str) -> None:
        self._panel = room.panel
        self._new_spool = room.new_spool
        self._incident_id = incident_id
        self._end = asyncio.get_running_loop().time() + room.limits.scan_time
        self._left = room.limits.message_size
        self.replacements: dict[str, Replacement] = {}
        self.disarmed: list[Disarmed] = []

    async def take(self, target: _Target) -> None:
        """Clean one leaf, or put a text in its place."""
        leaf = target.leaf
        cleaned = "contains a message with active content" if target.whole else await self._cleaned(leaf)
        if isinstance(cleaned, str):
            data = text_for(leaf.name, list(target.why), self._incident_id)
            removed: tuple[str, ...] = (f"file: {cleaned}",)
        else:
            data = cleaned.data
            removed = tuple(f"{one.what}: {one.where}" if one.where else one.what for one in cleaned.removed)
            self._left -= len(data)
        replaced = isinstance(cleaned, str)
        digest = hashlib.sha256(data).hexdigest()
        self.replacements[leaf.path] = Replacement(data, notice=replaced)
        self.disarmed.append(Disarmed(leaf.path, leaf.name, leaf.sha256, digest, removed, replaced))

    async def _cleaned(self, leaf: Leaf) -> Cleaned | str:
        """The cleaned content once the engines have nothing more to say of it; or why there is none."""
        if leaf.content.size > self._left:
            return "too much to clean in one message"
        try:
            async with asyncio.timeout_at(self._end):
                cleaned = await self._panel.disarm(leaf)
                if isinstance(cleaned, str):
                    if _is_about_the_pool(cleaned):
                        raise TryLater(f"worker: {cleaned}")
                    return cleaned
                if len(cleaned.data) > self._left:
                    return "too much to clean in one message"
                left = await self._still(leaf, cleaned.data)
        except TimeoutError:
            return "timeout"
        return f"after cleaning still {left}" if left else cleaned

    async def _still(self, leaf: Leaf, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        if digest == leaf.sha256:
            return "what it was"
        content = self._new_spool()
        try:
            content.write(data)
            again = Leaf(leaf.part, content, digest, False, leaf.text, leaf.name, leaf.declared)
            return remaining(await self._panel.examine([again]))
        finally:
            content.close()

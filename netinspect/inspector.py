"""The one pipeline: bytes of a message in, a judgement out.

The gateway, the replay and `netinspect scan` all come through here with the same facts, so they cannot disagree.

    inspection = inspector.begin(session)
    inspection.feed(data)               # as it arrives; leaves are parsed out and big ones scanned at once
    inspection.end(envelope, end, anomalies)
    judgement = await inspection.judge()
    inspection.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.files.artifact import Artifact
from netinspect.files.passwords import header_text
from netinspect.identity.zone import Identity
from netinspect.limits import Limits
from netinspect.mime.parser import MimeParser
from netinspect.mime.part import Leaf, Part
from netinspect.mime.readings import ambiguous, other_readings
from netinspect.policy.coverage import cover, uncovered
from netinspect.policy.decision import Decision
from netinspect.policy.facts import EnvelopeFacts, Facts, MailFacts, SessionFacts
from netinspect.policy.rules import Policy, decide
from netinspect.scan.contract import Examination, Finding, Unscanned
from netinspect.scan.panel import Panel
from netinspect.smtp.events import Envelope, MessageEnd
from netinspect.spool import Spool, SpoolBudget

EARLY = 65_536
"""Leaves of this size and more are given to the engines while the rest of the message still arrives."""
AGAIN_ASIDE = 262_144
"""Ambiguous messages above this size are read again in a thread: it may take seconds."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found and what is to be done about it."""

    facts: Facts
    decision: Decision
    incident_id: str


class Inspector:
    """Holds what all inspections share: the engines, the policy, who we are."""

    def __init__(
        self, limits: Limits, panel: Panel, policy: Policy, identity: Identity, spool_directory: Path | None = None
    ) -> None:
        self.limits = limits
        self.panel = panel
        self.policy = policy
        self.identity = identity
        self.budget = SpoolBudget(limits.spool_memory_total)
        self.spool_directory = spool_directory

    def new_spool(self) -> Spool:
        """An empty spool under the common memory budget."""
        return Spool(self.limits, self.budget, self.spool_directory)

    def begin(self, session: SessionFacts) -> Inspection:
        """Start with a message of this session."""
        return Inspection(self, session)

    def judge_session(self, session: SessionFacts, finding: Finding, mail_from: str = "") -> Judgement:
        """Judge a session by what it said before there is a message."""
        facts = Facts(session, EnvelopeFacts(mail_from=mail_from), findings=(finding,))
        return Judgement(facts, decide(facts, self.policy), incident_id(facts))


class Inspection:
    """One message on its way in. The spool holds it as it came, dot-unstuffed."""

    __slots__ = (
        "_again",
        "_anomalies",
        "_bare",
        "_closed",
        "_early",
        "_envelope",
        "_failed",
        "_inspector",
        "_leaves",
        "_parser",
        "_results",
        "_users",
        "rewritten",
        "session",
        "spool",
    )

    def __init__(self, inspector: Inspector, session: SessionFacts) -> None:
        self._inspector = inspector
        self.session = session
        self.spool = inspector.new_spool()
        self._parser = MimeParser(inspector.limits, inspector.new_spool)
        self.rewritten: Spool | None = None
        """The message as disarmed; `None` as long as it is not."""
        self._leaves: list[Leaf] = []
        self._results: list[Examination] = []
        self._early: dict[int, asyncio.Task[list[Examination]]] = {}
        self._envelope = EnvelopeFacts()
        self._anomalies: tuple[Anomaly, ...] = ()
        self._again = False
        self._failed = ""
        self._bare = False
        self._users = 0
        self._closed = False

    @property
    def limits(self) -> Limits:
        """The bounds of this inspection."""
        return self._inspector.limits

    @property
    def failed(self) -> bool:
        """The spool could not hold all of it."""
        return bool(self._failed)

    @property
    def leaves(self) -> Sequence[Leaf]:
        """What was taken out of the message so far, until `close`."""
        return self._leaves

    def feed(self, data: bytes) -> None:
        """Take the next octets. A spool that fails makes the message unscanned; it never raises."""
        if self._failed:
            return
        try:
            self.spool.write(data)
            self._take(self._parser.feed(data))
        except OSError as error:
            self._failed = f"spool: {error.strerror or error}"

    def _take(self, leaves: Sequence[Leaf]) -> None:
        for leaf in leaves:
            if leaf.content.size >= EARLY:
                task = asyncio.ensure_future(self._inspector.panel.examine([leaf]))
                self._early[len(self._leaves)] = task
            self._leaves.append(leaf)

    def take_file(self, name: str, pieces: Iterable[bytes]) -> None:
        """Judge the octets of a file as the only attachment, instead of a message that was fed.

        Like `feed` it makes of a spool that fails something unscanned; what `pieces` raises goes through.
        """
        content = self._inspector.new_spool()
        digest = hashlib.sha256()
        self._bare = True
        part = Part(path="1", filename=name)
        try:
            for piece in pieces:
                digest.update(piece)
                try:
                    content.write(piece)
                except OSError as error:
                    self._failed = f"spool: {error.strerror or error}"
                    break
        finally:
            leaf = Leaf(part, content, digest.hexdigest(), undecoded=False, text=False, name=name, declared="")
            self._leaves.append(leaf)

    def end(self, envelope: Envelope, end: MessageEnd, anomalies: tuple[Anomaly, ...] = ()) -> None:
        """The message is complete."""
        self._envelope = EnvelopeFacts(
            mail_from=envelope.mail_from,
            recipients=tuple(envelope.recipients),
            size=end.size,
            smuggling=end.smuggling,
        )
        if not self._failed and not self._bare:
            try:
                self.spool.flush()
                self._leaves.extend(self._parser.close())
                if ambiguous(self._parser, self._leaves):
                    self._again = self.spool.size > AGAIN_ASIDE
                    if not self._again:
                        self._leaves.extend(other_readings(self._parser, self._leaves, self.spool))
            except OSError as error:
                self._failed = f"spool: {error.strerror or error}"
        self._anomalies = anomalies

    async def _read_again(self) -> None:
        """The other readings of a big message, in a thread: they cost too much for the loop."""
        self._again = False
        try:
            found = await asyncio.to_thread(other_readings, self._parser, tuple(self._leaves), self.spool)
        except OSError as error:
            self._failed = f"spool: {error.strerror or error}"
        else:
            self._leaves.extend(found)

    async def judge(self) -> Judgement:
        """Wait for the engines and let the policy decide; what it wants disarmed is."""
        with self.in_use():
            self._results = await self._examine()
            facts = self._facts(self._results)
            judgement = Judgement(facts, decide(facts, self._inspector.policy), incident_id(facts))
            if judgement.decision.action == "disarm":
                return await self.disarm(judgement)
            return judgement

    async def _examine(self) -> list[Examination]:
        """What the engines say of each leaf, and where there are doubts of the message as a whole."""
        if self._again:
            await self._read_again()
        rest = [leaf for at, leaf in enumerate(self._leaves) if at not in self._early]
        panel = self._inspector.panel
        examined = await panel.examine(rest, self._words) if rest else []
        answers = iter(examined)
        results: list[Examination] = []
        for at in range(len(self._leaves)):
            early = self._early.get(at)
            if early is None:
                results.append(next(answers))
                continue
            answer = (await early)[0]
            if any(one.reason == "encrypted" for one in answer.unscanned):
                # It came before the texts that may tell its password. They are known now and travel along.
                texts = [leaf for leaf in rest if leaf.text]
                answer = (await panel.examine([self._leaves[at], *texts], self._words))[0]
            results.append(answer)
        if any(leaf.undecoded for leaf in self._leaves):
            outcome = await self._inspector.panel.scan_message(self.spool)
            results.append(
                Examination(
                    findings=tuple(item for item in outcome if isinstance(item, Finding)),
                    unscanned=tuple(item for item in outcome if isinstance(item, Unscanned)),
                )
            )
        return results

    def _words(self) -> bytes:
        """The texts of the header where a password may stand."""
        return header_text(self._parser.root.headers.fields)

    async def disarm(self, judgement: Judgement) -> Judgement:
        """Carry out a decision whose action is disarm: `rewritten` becomes the message as it may be delivered.

        Where that cannot be done the judgement that comes back says quarantine (it must not be altered, or is not
        harmless afterwards), tempfail (an engine gave no answer) or tag (nothing is active in it). Of a lone file only
        the content is cleaned, and nothing is rewritten.
        """
        from netinspect import disarming  # only where mail is disarmed

        inspector = self._inspector
        self._forget_rewritten()
        with self.in_use():
            message = None if self._bare else self.spool
            mail = disarming.Mail(self._parser.root, self._leaves, self._results, message, judgement.incident_id)
            room = disarming.Room(inspector.panel, inspector.limits, inspector.new_spool, self._look_again)
            facts, decision, self.rewritten = await disarming.carry_out(
                mail, judgement.facts, judgement.decision, inspector.policy, room
            )
        return replace(judgement, facts=facts, decision=decision)

    async def _look_again(self, fresh: Spool) -> tuple[dict[str, str], list[Examination]]:
        """The SHA-256 of each leaf of a rewritten message, by its path, and what the engines say of it."""
        again = Inspection(self._inspector, self.session)
        try:
            for piece in fresh.chunks():
                again.feed(piece)
                await asyncio.sleep(0)  # other sessions come in between
            again.end(Envelope(), MessageEnd(fresh.size))
            with again.in_use():
                results = await again._examine()
            if again._failed:
                raise OSError(again._failed)
            return {leaf.path: leaf.sha256 for leaf in again._leaves}, results
        finally:
            again.close()

    def _forget_rewritten(self) -> None:
        spool, self.rewritten = self.rewritten, None
        if spool is not None:
            spool.close()

    def facts_without_scan(self, reason: str) -> Facts:
        """What is known of a message that no engine has seen, with the reason on record."""
        return self._facts([], (Unscanned("netinspect", reason),))

    def _facts(self, results: Sequence[Examination], unscanned: tuple[Unscanned, ...] = ()) -> Facts:
        findings: list[Finding] = []
        missing: list[Unscanned] = list(unscanned)
        anomalies = [*self._anomalies, *self._parser.anomalies]
        artifacts: list[Artifact] = []
        for result in results:
            artifacts += result.artifacts
            findings += result.findings
            missing += result.unscanned
            anomalies += result.anomalies
        if self._envelope.smuggling:
            findings.append(Finding("smtp", "smuggling.end-of-data", "smuggling", 1))
        if self._failed:
            missing.append(Unscanned("spool", self._failed))
        for leaf in self._leaves:
            if leaf.why:
                _doubts(leaf, findings, missing)
        summary = self._parser.mail
        attachments = tuple([leaf.name for leaf in self._leaves if leaf.name and not leaf.text])
        mail = MailFacts(attachments=attachments)
        if summary is not None:
            mail = MailFacts(summary.from_, summary.to, summary.subject, summary.message_id, attachments)
        engines = self._inspector.panel.engines
        if results or not self._leaves:
            coverage = cover(
                artifacts,
                missing,
                undecoded=[(leaf.path, ", ".join(leaf.why)) for leaf in self._leaves if leaf.undecoded],
                passed=[(one.detail, "on the allow list") for one in anomalies if one.kind == "allow_listed"],
                scanned=bool(engines),
            )
        else:
            reason = unscanned[0].reason if unscanned else "not judged"
            coverage = uncovered(len(self._leaves), sum(leaf.size for leaf in self._leaves), reason)
        return Facts(
            session=self.session,
            envelope=self._envelope,
            mail=mail,
            artifacts=tuple(artifacts),
            findings=tuple(findings),
            unscanned=tuple(missing),
            anomalies=tuple(anomalies),
            headers=tuple(self._parser.root.headers.fields),
            coverage=coverage,
            engines=engines,
        )

    def close(self) -> None:
        """Let go of the message and of everything that was taken out of it.

        What an engine still reads stays until it is done: a content that vanishes under a scan must not look clean.
        """
        if self._closed:
            return
        self._closed = True
        if not self._users:
            self._release()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts `close` lets nothing go."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._closed and not self._users:
                self._release()

    def _release(self) -> None:
        running = [task for task in self._early.values() if not task.done()]
        if running:
            running[0].add_done_callback(lambda _: self._release())
            return
        self._early.clear()
        self._results = []
        self.spool.close()
        self._forget_rewritten()
        self._parser.discard()
        for leaf in self._leaves:
            leaf.content.close()
        self._leaves.clear()


# Two programs take different files out of this message; or the file comes from elsewhere, or in pieces.
_SERIOUS = frozenset({"readings_differ", "partial", "external_body"})


def _doubts(leaf: Leaf, findings: list[Finding], missing: list[Unscanned]) -> None:
    """A part that may be read in another way is a finding; one that was left unread at a limit was not looked at."""
    for why in leaf.why:
        if why.startswith("limit"):
            missing.append(Unscanned("mime", why, leaf.sha256))
        else:
            signature = f"mime.{why.replace('_', '-')}"
            severity: Literal[2, 3] = 2 if why in _SERIOUS else 3
            findings.append(Finding("mime", signature, "ambiguous-mime", severity, leaf.sha256, leaf.path))


def flow_id_of(source: tuple[str, int], destination: tuple[str, int]) -> int:
    """A number for the connection, the same in the gateway and in a capture of it (53 bits, so JSON keeps it)."""
    text = f"{source[0]} {source[1]} {destination[0]} {destination[1]} tcp"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") >> 3


def incident_id(facts: Facts) -> str:
    """A short name under which a judgement is found on record; the same for the same mail in the same connection."""
    state = hashlib.blake2b(digest_size=8)
    session, envelope = facts.session, facts.envelope
    parts = (str(session.flow_id), session.helo, envelope.mail_from, *envelope.recipients, str(envelope.size))
    state.update("\0".join(parts).encode("utf-8", "surrogateescape"))
    for artifact in facts.artifacts:
        if not artifact.parent_sha256:
            state.update(artifact.hashes.sha256.encode())
    return state.hexdigest()

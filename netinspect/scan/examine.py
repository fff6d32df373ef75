"""One content and everything inside it, examined: a pure function of the octets and the settings.

Runs in a worker. The tree is walked depth first; every content in it is hashed, typed, matched against the rules and
looked into by the office engine; archives give the next level under one common budget. What is listed is bounded too
(`LISTED`), so that a hostile archive cannot flood whoever reads the answer; what is not listed is examined as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.files import kind as kinds
from netinspect.files.artifact import Artifact, Hashes
from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits
from netinspect.scan.contract import Examination, Finding, Unscanned
from netinspect.scan.rules import RuleEngine

LISTED: Final = 1000
"""Artifacts, findings, reasons and anomalies of one leaf that are listed, each."""

_UNPACKABLE: Final = kinds.ZIPS | kinds.NOT_UNPACKED | {"gzip", "bzip2", "xz", "tar"}


class Examiner:
    """`rules` and `office` None or False switch the engine off."""

    def __init__(self, limits: Limits, rules: RuleEngine | None = None, *, office: bool = True) -> None:
        self._limits = limits
        self._rules = rules
        self._office = office
        self.fingerprint = f"examiner 1, {rules.fingerprint if rules else 'no rules'}"
        if office:
            # Costs a third of a second: not paid by whoever imports this for something else.
            from netinspect.scan import office as engine

            self._engine = engine
            self.fingerprint += f", {engine.FINGERPRINT}"

    def examine(
        self, data: bytes, *, name: str = "", declared: str = "", path: str = "", sha256: str = "", text: bool = False
    ) -> Examination:
        """Examine one leaf; `sha256` is computed when it is `""`. Hostile content raises nothing but MemoryError."""
        kind = kinds.identify(data, name)
        hashes = _hashes(data, sha256)
        sha256 = hashes.sha256
        itself = Artifact(hashes, len(data), kind, path, name, declared, "", "CLOSED", text)
        matches = self.look_rules(data, sha256)
        if kind in _PLAIN and not matches and kinds.zip_end(data) < 0 and not _carries_macros(data):
            return Examination((itself,))
        walk = _Walk(self, self._limits)
        walk.artifacts.append(itself)
        walk.take(matches)
        walk.enter(data, itself, 0)
        return walk.result()

    def look_rules(self, data: bytes, sha256: str) -> Sequence[Finding | Unscanned]:
        """What the rules say of one content."""
        return self._rules.scan(data, sha256) if self._rules else ()

    def look_office(self, data: bytes, kind: str, sha256: str) -> Sequence[Finding | Unscanned]:
        """What the office engine says of one content."""
        return self._engine.scan(data, kind, sha256) if self._office else ()

    def look_part(self, name: str, data: bytes, sha256: str) -> Sequence[Finding]:
        """What the office engine says of one part of an OOXML document."""
        return self._engine.part(name, data, sha256) if self._office else ()


_PLAIN: Final = frozenset({"text", "html", "xml", "eml", "png", "jpeg", "gif", "pdf", "data", "empty"})


def _carries_macros(data: bytes) -> bool:
    first, second, third = kinds.MACRO_MARKS
    return first in data or second in data or third in data


def _hashes(data: bytes, sha256: str = "") -> Hashes:
    # SHA-1 and MD5 name a content in other people's lists; nothing here trusts them.
    return Hashes(
        sha256 or hashlib.sha256(data).hexdigest(),
        hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )


class _Walk:
    """The examination of one leaf while it is made."""

    def __init__(self, examiner: Examiner, limits: Limits) -> None:
        self._examiner = examiner
        self._limits = limits
        self._budget = Budget(limits)
        self.artifacts: list[Artifact] = []
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self._unscanned: dict[tuple[str, str], Unscanned] = {}
        self._anomalies: dict[tuple[str, str], Anomaly] = {}

    def take(self, answers: Sequence[Finding | Unscanned]) -> None:
        """Note what an engine said, each thing once."""
        for answer in answers:
            if isinstance(answer, Finding):
                known = (answer.engine, answer.signature, answer.sha256)
                if known in self._findings:
                    continue
                if len(self._findings) >= LISTED:
                    if answer.severity == 3:
                        continue
                    least = max(self._findings, key=lambda key: self._findings[key].severity)
                    if self._findings[least].severity <= answer.severity:
                        continue
                    del self._findings[least]
                self._findings[known] = answer
            elif len(self._unscanned) < LISTED:
                self._unscanned.setdefault((answer.engine, answer.reason), answer)

    def enter(self, data: bytes, artifact: Artifact, depth: int) -> None:
        """Examine what is in `artifact`, which itself was matched against the rules already."""
        sha256, kind = artifact.hashes.sha256, artifact.magic
        self.take(self._examiner.look_office(data, kind, sha256))
        if kind not in _UNPACKABLE and kinds.zip_end(data) < 0:
            return
        if depth >= self._limits.archive_depth:
            self._over("archive_depth", sha256)
            return
        report = Report()
        document = kind in kinds.OOXML
        for member in unpack(data, kind, artifact.name, self._budget, report):
            if document:
                self.take(self._examiner.look_part(member.name, member.data, sha256))
            if not member.part:
                self._member(member.name, member.data, artifact, depth + 1)
        for reason in report.unscanned:
            self._over(reason, sha256)
        for name in report.encrypted[:LISTED]:
            self.take((
                Finding("files", "Encrypted.Member", "encrypted", 3, sha256, name[: self._limits.name_length]),
                Unscanned("files", "encrypted", sha256),
            ))  # fmt: skip
        for anomaly in report.anomalies:
            if len(self._anomalies) < LISTED:
                self._anomalies.setdefault((anomaly.kind, anomaly.detail), anomaly)

    def _member(self, name: str, data: bytes, parent: Artifact, depth: int) -> None:
        kind = kinds.identify(data, name)
        hashes = _hashes(data)
        name = name[: self._limits.name_length]
        artifact = Artifact(
            hashes, len(data), kind, f"{parent.path}/{name}"[:4096], name, parent_sha256=parent.hashes.sha256
        )
        if len(self.artifacts) < LISTED:
            self.artifacts.append(artifact)
        else:
            self._anomalies.setdefault(("not_listed", ""), Anomaly("not_listed", "file", 0, ""))
        self.take(self._examiner.look_rules(data, hashes.sha256))
        self.enter(data, artifact, depth)

    def _over(self, reason: str, sha256: str) -> None:
        answers: list[Finding | Unscanned] = [Unscanned("files", reason, sha256)]
        if reason in _LIMITS:
            answers.append(Finding("files", f"Limit.{reason}", "archive-limit", 2, sha256))
        self.take(answers)

    def result(self) -> Examination:
        """All of it."""
        return Examination(
            tuple(self.artifacts), tuple(self._findings.values()), tuple(self._unscanned.values()),
            tuple(self._anomalies.values()),
        )  # fmt: skip


_LIMITS: Final = frozenset({"archive_depth", "archive_members", "archive_bytes", "member_bytes", "archive_ratio"})

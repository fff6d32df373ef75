"""One content and everything inside it, examined: a pure function of the octets and the settings.

Runs in a worker. The tree is walked depth first; every content in it is hashed, typed, matched against the rules and
looked into by the office engine; archives give the next level under one common budget. What is listed is bounded too
(`LISTED`), so that a hostile archive cannot flood whoever reads the answer; what is not listed is examined as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

from netinspect.anomaly import Anomaly
from netinspect.files import kind as kinds
from netinspect.files import passwords
from netinspect.files.artifact import Artifact, Hashes
from netinspect.files.unpack import Budget, Report, Sight, load, unpack
from netinspect.limits import Limits
from netinspect.scan import names
from netinspect.scan.contract import Category, Examination, Finding, Opened, Unscanned
from netinspect.scan.rules import RuleEngine

LISTED: Final = 1000
"""Artifacts, findings, reasons and anomalies of one leaf that are listed, each."""


class Examiner:
    """`rules` and `office` None or False switch the engine off."""

    def __init__(self, limits: Limits, rules: RuleEngine | None = None, *, office: bool = True) -> None:
        self._limits = limits
        self._rules = rules
        self._office = office
        load()
        self.fingerprint = f"examiner 2, {rules.fingerprint if rules else 'no rules'}"
        if office:
            # Costs a third of a second: not paid by whoever imports this for something else.
            from netinspect.scan import office as engine

            self._engine = engine
            self.fingerprint += f", {engine.FINGERPRINT}"

    def examine(
        self,
        data: bytes,
        *,
        name: str = "",
        declared: str = "",
        path: str = "",
        sha256: str = "",
        text: bool = False,
        texts: Sequence[bytes] = (),
        opened: int = 0,
    ) -> Examination:
        """Examine one leaf; `sha256` is computed when it is `""`. Hostile content raises nothing but MemoryError.

        `texts` are the texts of the same mail, where a password may stand. Of what a password opened, up to `opened`
        octets come back with the answer.
        """
        kind = kinds.identify(data, name)
        hashes = _hashes(data, sha256)
        sha256 = hashes.sha256
        itself = Artifact(hashes, len(data), kind, path, name, declared, "", "CLOSED", text)
        matches = (*self.look_rules(data, sha256), *names.findings(name, kind, sha256))
        if (
            kind in _PLAIN and not matches and not kinds.may_hold(data, kind, body=text) and not _carries_macros(data)
            and not names.claims_archive(name, kind)
        ):  # fmt: skip
            return Examination((itself,))
        walk = _Walk(self, self._limits, (*texts, _words_of(name)), opened)
        walk.artifacts.append(itself)
        walk.hold(len(data))
        walk.take(matches)
        walk.enter(data, itself, 0)
        return walk.result()

    def look_rules(self, data: bytes, sha256: str) -> Sequence[Finding | Unscanned]:
        """What the rules say of one content."""
        return self._rules.scan(data, sha256) if self._rules else ()

    def look_office(self, data: bytes, kind: str, sha256: str) -> Sequence[Finding | Unscanned]:
        """What the office engine says of one content."""
        return self._engine.scan(data, kind, sha256) if self._office else ()

    def unlock(
        self, data: bytes, answers: Sequence[Finding | Unscanned], sha256: str, tried: Sequence[str]
    ) -> tuple[Sequence[Finding | Unscanned], bytes]:
        """Open a document that the office engine found encrypted: what to say then, its plain content or `b""`."""
        return self._engine.unlock(data, answers, sha256, tried) if self._office else (answers, b"")

    def look_part(self, name: str, data: bytes, sha256: str, kind: str) -> Sequence[Finding]:
        """What the office engine says of one part of a document of `kind`."""
        return self._engine.part(name, data, sha256, kind) if self._office else ()


def _words_of(name: str) -> bytes:
    """A file's name as a text that may tell its own password."""
    return name.rpartition(".")[0].replace("_", " ").replace("-", " ").encode("utf-8", "replace")


_PLAIN: Final = frozenset({"text", "html", "eml", "png", "jpeg", "gif", "data", "empty"})


def _carries_macros(data: bytes) -> bool:
    first, second, third = kinds.MACRO_MARKS
    # The first octet is that of a sheet of Excel 2 to 4, which is no compound file.
    return data[:1] == b"\t" or first in data or second in data or third in data


def _hashes(data: bytes, sha256: str = "") -> Hashes:
    # SHA-1 and MD5 name a content in other people's lists; nothing here trusts them.
    return Hashes(
        sha256 or hashlib.sha256(data).hexdigest(),
        hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )


class _Walk:
    """The examination of one leaf while it is made."""

    def __init__(self, examiner: Examiner, limits: Limits, texts: Sequence[bytes], opened: int) -> None:
        self._examiner = examiner
        self._limits = limits
        self._texts = texts
        self._told: list[str] = []
        self._budget = Budget(limits, self._passwords)
        self._entered: set[str] = set()
        self._keeps = opened > 0
        self._room = opened
        self._opened: dict[str, Opened] = {}
        self.artifacts: list[Artifact] = []
        self._findings: dict[tuple[str, str, str], Finding] = {}
        self._unscanned: dict[tuple[str, str], Unscanned] = {}
        self._anomalies: dict[tuple[str, str], Anomaly] = {}

    def _passwords(self) -> list[str]:
        self._told = passwords.candidates(self._texts)
        return [*self._told, *passwords.COMMON]

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
        if sha256 in self._entered:  # what is in it was examined, or is being examined: an archive may hold itself
            return
        self._entered.add(sha256)
        answers, plain = self._examiner.look_office(data, kind, sha256), b""
        if any(answer.reason == "encrypted" for answer in answers if isinstance(answer, Unscanned)):
            answers, plain = self._examiner.unlock(
                data, answers, sha256, (_STANDARD, *self._budget.passwords)
            )
        self.take(answers)
        claims = names.claims_archive(artifact.name, kind)
        if not plain and not claims and not kinds.may_hold(data, kind, body=artifact.text):
            return
        if depth >= self._limits.archive_depth:
            if plain or kind in _ARCHIVES or kinds.carries(data):
                self._over("archive_depth", sha256)
            return
        if plain:
            self._open(plain)
            self._member(artifact.name or "decrypted", plain, artifact, depth + 1)
            return
        report = Report()
        openings = self._budget.openings
        document = kind in kinds.OOXML or kind == "odf"
        for member in unpack(data, kind, artifact.name, self._budget, report):
            if document:
                self.take(self._examiner.look_part(member.name, member.data, sha256, kind))
            if not member.part:
                claims = False
                if self._budget.openings > openings:
                    self._open(member.data)
                before = self._budget.openings
                self._member(member.name, member.data, artifact, depth + 1)
                openings += self._budget.openings - before  # those were of what is in it
            del member  # or it would be there while the next is unpacked
        if claims and not report.encrypted:
            report.could_not("cannot open: named as an archive")
        self._note(report, sha256)

    def _open(self, data: bytes) -> None:
        """Keep what a password opened for the engine that saw it closed; what is in it that engine finds itself."""
        if not self._keeps or len(self._opened) >= LISTED:
            return
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._opened:
            fits = len(data) <= self._room and len(self._opened) < LISTED - 1
            self._room -= len(data) if fits else 0
            self._opened[sha256] = Opened(sha256, data if fits else None)

    def _note(self, report: Report, sha256: str) -> None:
        for reason in report.unscanned:
            self._over(reason, sha256)
        for name in report.encrypted[:LISTED]:
            self.take((
                Finding("files", "Encrypted.Member", "encrypted", 2, sha256, name[: self._limits.name_length]),
                Unscanned("files", "encrypted", sha256),
            ))  # fmt: skip
        self.take([finding for sight in report.sights if (finding := self._seen(sight, report, sha256))])
        for anomaly in report.anomalies:
            if len(self._anomalies) < LISTED:
                self._anomalies.setdefault((anomaly.kind, anomaly.detail), anomaly)

    def _seen(self, sight: Sight, report: Report, sha256: str) -> Finding | None:
        """What a sight of the unpackers means."""
        if sight.trait == "password":
            whose = "from the mail" if sight.detail.rpartition(": ")[2] in self._told else "from the list"
            return Finding(
                "files", "Encrypted.Opened", "encrypted", 3, sha256, f"opened with a password {whose}: {sight.detail}"
            )
        if sight.trait == "autorun":
            # Most documents open with a view of their first page: only with a script is it one that starts something.
            if not any(other.trait == "javascript" for other in report.sights):
                return None
            return Finding("files", "Pdf.AutoRun", "macro-autoexec", 3, sha256)
        signature, category, severity = _SIGHTS[sight.trait]
        return Finding("files", signature, category, severity, sha256, sight.detail)

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
        self.take(names.findings(name, kind, hashes.sha256, nested=True))
        self.hold(len(data))
        self.enter(data, artifact, depth)
        self.hold(-len(data))

    def hold(self, octets: int) -> None:
        """Note that what is entered next lies in so much more (or less)."""
        self._budget.held += octets

    def _over(self, reason: str, sha256: str) -> None:
        answers: list[Finding | Unscanned] = [Unscanned("files", reason, sha256)]
        if reason in _LIMITS:
            answers.append(Finding("files", f"Limit.{reason}", "archive-limit", 2, sha256))
        self.take(answers)

    def result(self) -> Examination:
        """All of it."""
        return Examination(
            tuple(self.artifacts), tuple(self._findings.values()), tuple(self._unscanned.values()),
            tuple(self._anomalies.values()), tuple(self._opened.values()),
        )  # fmt: skip


_STANDARD: Final = "VelvetSweatshop"
"""What Excel encrypts with when only writing is protected: tried first, for each try on a document costs 0.1 s."""
_ARCHIVES: Final = kinds.ARCHIVES | kinds.ZIPS
_LIMITS: Final = frozenset({
    "archive_depth", "archive_members", "archive_bytes", "archive_held", "member_bytes", "archive_ratio",
    "unpack_time",
})  # fmt: skip

_SIGHTS: Final[dict[str, tuple[str, Category, Literal[1, 2, 3]]]] = {
    "package": ("Package", "embedded-object", 3),
    "link": ("Package.Link", "embedded-object", 3),
    "attachment": ("Pdf.Attachment", "embedded-object", 3),
    "javascript": ("Pdf.JavaScript", "macro", 3),
    "launch": ("Pdf.Launch", "embedded-object", 2),
    "remote": ("Pdf.Remote", "external-template", 2),
    "smuggled": ("Html.Smuggled", "embedded-object", 2),
}

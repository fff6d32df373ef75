"""What a decision to disarm makes of a mail: what is cleaned, replaced, left alone, and when it is not disarmed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect import disarming as module
from netinspect import records
from netinspect.config import PolicySettings, RuleSettings, When
from netinspect.config.schema import NetworkSettings
from netinspect.disarm.contract import Cleaned, Removal
from netinspect.disarming import is_active
from netinspect.files.artifact import Artifact, Hashes
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspection, Inspector, Judgement
from netinspect.limits import Limits
from netinspect.mime.part import Leaf
from netinspect.policy import Decision, Policy, SessionFacts
from netinspect.scan.contract import EngineState, Examination, Finding, Unscanned
from netinspect.scan.panel import Panel
from netinspect.smtp.events import Envelope, MessageEnd
from netinspect.spool import Spool

SESSION = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25)
RULE = RuleSettings("macros", "disarm", When(category=("macro", "malware", "embedded-object")))
DOCUMENT = b"DOC with a MACRO in it \x00\xff" * 40
CLEAN = DOCUMENT.replace(b"MACRO", b"")
OTHER = bytes(range(256)) * 20


MARKS: list[tuple[bytes, Any, Any]] = [
    (b"MACRO", "macro", 3), (b"VIRUS", "malware", 1), (b"PACKAGE", "embedded-object", 3),
]  # fmt: skip


class Engines:
    """Find marks in contents, and clean what begins with DOC of the mark MACRO."""

    engines = (EngineState("test"),)

    def __init__(self) -> None:
        self.cleaned: list[str] = []
        self.hang = False

    async def examine(self, leaves: Sequence[Leaf], words: object = None) -> list[Examination]:
        return [self._one(leaf) for leaf in leaves]

    def _one(self, leaf: Leaf) -> Examination:
        data = leaf.content.getvalue()
        found: list[Finding] = []
        missing: list[Unscanned] = []
        for mark, category, severity in MARKS:
            if mark in data:
                found.append(Finding("test", mark.decode().lower(), category, severity, leaf.sha256))
        for mark, engine, reason in ((b"CLOSED", "office", "encrypted"), (b"DOWN", "clamd", "no connection")):
            if mark in data:
                missing.append(Unscanned(engine, reason, leaf.sha256))
        artifact = Artifact(Hashes(leaf.sha256, "", ""), leaf.size, "data", leaf.path, leaf.name, text=leaf.text)
        return Examination((artifact,), tuple(found), tuple(missing))

    async def scan_message(self, spool: Spool) -> list[Finding | Unscanned]:
        return []

    async def disarm(self, leaf: Leaf) -> Cleaned | str:
        self.cleaned.append(leaf.path)
        if self.hang:
            await asyncio.sleep(60)
        data = leaf.content.getvalue()
        if data.startswith(b"DIED"):
            return "died"
        if data.startswith(b"BUSY"):
            return "busy"
        if not data.startswith(b"DOC"):
            return "no type that can be cleaned"
        if b"STUBBORN" in data:
            return Cleaned(data + b"!", (Removal("vba"),))
        if b"IDLE" in data:
            return Cleaned(data)
        found = tuple(Removal(what, "there") for what in ("MACRO", "PACKAGE") if what.encode() in data)
        return Cleaned(data.replace(b"MACRO", b"").replace(b"PACKAGE", b"").replace(b"WAKES", b"DOWN"), found)


def part(data: bytes, name: str, kind: str = "application/octet-stream") -> bytes:
    return (
        b"Content-Type: %s\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="%s"\r\n\r\n%s'
        % (kind.encode(), name.encode(), base64.encodebytes(data).replace(b"\n", b"\r\n"))
    )


def mail(*parts: bytes, head: bytes = b"", kind: bytes = b"mixed") -> bytes:
    body = b"".join(b"--=b\r\n" + one for one in (b"\r\nhello there\r\n", *parts))
    return (
        head + b"From: a@outside.example\r\nSubject: s\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/' + kind + b'; boundary="=b"\r\n\r\npreamble\r\n' + body + b"--=b--\r\nepilogue\r\n"
    )  # fmt: skip


class Judged:
    """A judgement and the message that may be delivered, if there is one."""

    def __init__(self, judgement: Judgement, message: bytes | None, came: bytes, engines: Engines) -> None:
        self.judgement, self.message, self.came, self.engines = judgement, message, came, engines
        self.decision = judgement.decision

    def parts(self) -> list[tuple[str, bytes]]:
        """File name and content of each leaf of the delivered message, as Python's own parser reads it."""
        assert self.message is not None
        parsed = email.message_from_bytes(self.message, policy=email.policy.SMTP)
        return [
            (one.get_filename() or "", cast(bytes, one.get_payload(decode=True)))
            for one in parsed.walk()
            if not one.is_multipart()
        ]


def inspector(engines: Engines, rule: RuleSettings = RULE, limits: Limits | None = None) -> Inspector:
    policy = Policy.from_settings(PolicySettings("accept", (rule,)), quarantine_answer=550)
    return Inspector(limits or Limits(), cast(Panel, engines), policy, Identity(NetworkSettings()))


@contextlib.contextmanager
def begun(raw: bytes, engines: Engines, **more: Any) -> Iterator[Inspection]:
    made = inspector(engines, **more)
    inspection = made.begin(SESSION)
    inspection.feed(raw)
    inspection.end(Envelope(mail_from="a@outside.example"), MessageEnd(len(raw)))
    yield inspection
    inspection.close()
    assert made.budget.used == 0
    assert inspection.rewritten is None


def judge(raw: bytes, engines: Engines | None = None, **more: Any) -> Judged:
    engines = engines or Engines()
    with begun(raw, engines, **more) as inspection:
        judgement = asyncio.run(inspection.judge())
        message = inspection.rewritten.getvalue() if inspection.rewritten is not None else None
        return Judged(judgement, message, raw, engines)


def altered(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    """What differs, between the beginning and the end that both have."""
    shorter = min(len(before), len(after))
    start = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    stop = 0
    while stop < shorter - start and before[-1 - stop] == after[-1 - stop]:
        stop += 1
    return before[start : len(before) - stop], after[start : len(after) - stop]


@pytest.mark.parametrize("aside", [0, 1 << 20], ids=["in-a-thread", "at-once"])
def test_a_document_is_cleaned_and_all_the_rest_stays(aside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASIDE", aside)
    one = judge(mail(part(OTHER, "other.bin"), part(DOCUMENT, "a.docm"), part(OTHER[:99], "last.bin")))
    assert one.decision.action == "disarm"
    assert one.parts() == [
        ("", b"hello there"), ("other.bin", OTHER), ("a.docm", CLEAN), ("last.bin", OTHER[:99]),
    ]  # fmt: skip
    assert one.engines.cleaned == ["1.3"]
    assert one.message is not None
    before, after = altered(one.came, one.message)
    assert before in base64.encodebytes(DOCUMENT).replace(b"\n", b"\r\n")
    assert after in base64.encodebytes(CLEAN).replace(b"\n", b"\r\n")


def test_what_was_done_is_on_record_and_in_the_header() -> None:
    one = judge(mail(part(DOCUMENT, "a.docm"), part(b"VIRUS", "b.exe")))
    (verdict,) = (
        record["verdict"]
        for record in records.transaction_records(
            one.judgement.facts, one.decision, now=records.datetime.now().astimezone(), incident_id="i"
        )
        if record["event_type"] == "verdict"
    )
    notice = one.parts()[2][1]
    assert verdict["disarm"] == [
        {
            "path": "1.2", "filename": "a.docm", "sha256": hashlib.sha256(DOCUMENT).hexdigest(),
            "disarmed_sha256": hashlib.sha256(CLEAN).hexdigest(), "removed": ["MACRO: there"], "replaced": False,
        },
        {
            "path": "1.3", "filename": "b.exe", "sha256": hashlib.sha256(b"VIRUS").hexdigest(),
            "disarmed_sha256": hashlib.sha256(notice).hexdigest(),
            "removed": ["file: no type that can be cleaned"], "replaced": True,
        },
    ]  # fmt: skip
    assert one.decision.headers[0] == ("X-Netinspect-Action", "disarm")
    assert one.decision.headers[1][0] == "X-Netinspect-Finding"
    assert one.decision.rules == ("macros",)


def test_what_cannot_be_cleaned_is_replaced_by_a_text_with_the_id() -> None:
    one = judge(mail(part(b"VIRUS", "b.exe"), part(OTHER, "c.bin")))
    (_, _), (name, text), (_, other) = one.parts()
    assert name == "b.exe.removed.txt"
    assert one.judgement.incident_id.encode() in text
    assert b"malware: virus" in text
    assert b"VIRUS" not in (one.message or b"").replace(b"X-Netinspect", b"")
    assert other == OTHER


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"DIED MACRO", "died"), (b"DOC STUBBORN MACRO", "after cleaning still macro: test macro"),
        (b"DOC IDLE MACRO", "after cleaning still what it was"), (b"DOC CLOSED", "after cleaning still what it was"),
    ],
)  # fmt: skip
def test_a_cleaner_that_fails_costs_the_part(data: bytes, why: str) -> None:
    one = judge(mail(part(b"DOC MACRO", "a"), part(data, "b")))
    assert [(entry.replaced, entry.removed) for entry in one.decision.disarmed] == [
        (False, ("MACRO: there",)), (True, (f"file: {why}",)),
    ]  # fmt: skip


def test_a_cleaner_that_takes_too_long_costs_the_part() -> None:
    engines = Engines()
    engines.hang = True
    one = judge(mail(part(DOCUMENT, "a"), part(DOCUMENT, "b")), engines, limits=Limits(scan_time=0.05))
    assert [entry.removed for entry in one.decision.disarmed] == [("file: timeout",)] * 2
    assert b"MACRO" not in b"".join(data for _, data in one.parts() if data.startswith(b"DOC"))


def test_an_engine_that_cannot_answer_now_defers_the_mail() -> None:
    for raw in (mail(part(DOCUMENT, "a"), part(b"DOWN", "b")), mail(part(b"DOC MACRO WAKES", "a"))):
        one = judge(raw)
        assert (one.decision.action, one.decision.code, one.message) == ("tempfail", 451, None)
        assert "clamd: no connection" in one.decision.reason
        assert one.decision.rules == ("macros",)


def test_a_cleaner_that_is_not_free_defers_the_mail() -> None:
    one = judge(mail(part(b"BUSY MACRO", "a")))
    assert (one.decision.action, one.message) == ("tempfail", None)
    assert one.decision.reason.endswith("cannot be disarmed now: worker: busy")


def test_a_mail_full_of_active_parts_goes_to_quarantine() -> None:
    one = judge(mail(*[part(b"DOC MACRO %d" % number, "a") for number in range(module.PARTS + 1)]))
    assert (one.decision.action, one.message, one.engines.cleaned) == ("quarantine", None, [])


def test_only_information_is_left_alone_beside_something_graver_and_cleaned_where_it_is_all() -> None:
    beside = judge(mail(part(b"DOC PACKAGE", "a"), part(DOCUMENT, "b")))
    assert beside.engines.cleaned == ["1.3"]
    alone = judge(mail(part(b"DOC PACKAGE", "a"), part(OTHER, "b")))
    assert alone.parts()[1] == ("a", b"DOC ")


def test_a_mail_with_nothing_in_it_is_tagged() -> None:
    one = judge(mail(part(OTHER, "a")), rule=RuleSettings("all", "disarm"))
    assert (one.decision.action, one.message, one.decision.disarmed) == ("tag", None, ())
    assert one.decision.reason.endswith("there is nothing in it to disarm")
    assert one.decision.headers[0] == ("X-Netinspect-Action", "tag")


SIGNATURE = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nMIIC\r\n"
PGP = b"\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nhello\r\n-----BEGIN PGP SIGNATURE-----\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        mail(part(DOCUMENT, "a.docm"), SIGNATURE, kind=b'signed; protocol="application/pkcs7-signature"'),
        mail(part(DOCUMENT, "a.docm"), PGP),
    ],
    ids=["smime", "openpgp"],
)
def test_a_signed_message_goes_to_quarantine_and_is_not_altered(raw: bytes) -> None:
    one = judge(raw)
    assert (one.decision.action, one.decision.code, one.message) == ("quarantine", 550, None)
    assert "cannot be disarmed: the message is signed" in one.decision.reason
    assert one.engines.cleaned == []


def test_a_part_that_programs_read_in_two_ways_goes_to_quarantine() -> None:
    twice = b"Content-Transfer-Encoding: 8bit\r\n" + part(b"DOC MACRO", "a.docm")
    one = judge(mail(twice))
    assert (one.decision.action, one.message) == ("quarantine", None)
    assert "ambiguous" in one.decision.reason


def test_what_is_found_in_the_message_as_a_whole_goes_to_quarantine() -> None:
    class Whole(Engines):
        async def scan_message(self, spool: Spool) -> list[Finding | Unscanned]:
            return [Finding("clamd", "Mail.Worm", "malware", 1)]

    doubtful = b"Content-Transfer-Encoding: base64\r\n\r\n@@@@@@ # AAAA\r\n"
    one = judge(mail(doubtful, part(DOCUMENT, "a")), Whole())
    assert (one.decision.action, one.message) == ("quarantine", None)
    assert "Mail.Worm" in one.decision.reason


def test_a_dkim_signature_that_breaks_is_noted() -> None:
    one = judge(mail(part(DOCUMENT, "a"), head=b"DKIM-Signature: v=1; d=outside.example\r\n"))
    assert one.decision.action == "disarm"
    assert [one.kind for one in one.judgement.facts.anomalies] == ["dkim_broken"]
    assert "DKIM" in one.decision.reason
    assert judge(mail(part(DOCUMENT, "a"))).judgement.facts.anomalies == ()


def test_a_message_in_an_encoded_message_is_replaced_as_a_whole() -> None:
    inner = mail(part(DOCUMENT, "a.docm"))
    one = judge(mail(part(inner, "forwarded.eml", "message/rfc822"), part(OTHER, "c")))
    (entry,) = one.decision.disarmed
    assert (entry.path, entry.replaced) == ("1.2", True)
    assert b"MACRO" not in b"".join(data for _, data in one.parts())
    assert one.parts()[-1] == ("c", OTHER)


def test_a_document_in_a_forwarded_message_is_cleaned_in_its_place() -> None:
    inner = mail(part(DOCUMENT, "a.docm"))
    one = judge(mail(b"Content-Type: message/rfc822\r\n\r\n" + inner.replace(b"=b", b"=inner")))
    assert one.decision.disarmed[0].path == "1.2.1.2"
    assert ("a.docm", CLEAN) in one.parts()


def test_a_rewritten_message_in_which_something_is_left_goes_to_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rewritten", lambda chunks, edits: iter([b"".join(chunks)]))
    one = judge(mail(part(DOCUMENT, "a")))
    assert (one.decision.action, one.message) == ("quarantine", None)
    assert "afterwards still macro" in one.decision.reason


def test_a_rewritten_message_that_lost_something_goes_to_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rewritten", lambda chunks, edits: iter([b"Subject: x\r\n\r\nhello\r\n"]))
    one = judge(mail(part(DOCUMENT, "a")))
    assert (one.decision.action, one.message) == ("quarantine", None)
    assert "read differently" in one.decision.reason


def test_a_full_disk_defers_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Spool, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with begun(mail(part(DOCUMENT, "a")), Engines()) as inspection:
        monkeypatch.setattr(Spool, "write", full)
        judgement = asyncio.run(inspection.judge())
        monkeypatch.undo()
    assert judgement.decision.action == "tempfail"
    assert "No space left" in judgement.decision.reason


def test_cleaned_parts_together_are_bounded_by_the_size_of_a_message() -> None:
    limits = Limits(message_size=len(DOCUMENT) + 10)
    one = judge(mail(part(DOCUMENT, "a"), part(DOCUMENT + b"2", "b")), limits=limits)
    assert [entry.removed for entry in one.decision.disarmed] == [
        ("MACRO: there",), ("file: too much to clean in one message",),
    ]  # fmt: skip


def test_of_a_lone_file_only_the_content_is_cleaned() -> None:
    made = inspector(Engines())
    inspection = made.begin(SESSION)
    inspection.take_file("a.docm", [DOCUMENT])
    inspection.end(Envelope(), MessageEnd(len(DOCUMENT)))
    judgement = asyncio.run(inspection.judge())
    assert inspection.rewritten is None
    inspection.close()
    assert judgement.decision.action == "disarm"
    assert judgement.decision.disarmed[0].removed == ("MACRO: there",)


def test_a_decision_of_somebody_else_can_be_carried_out_later() -> None:
    with begun(mail(part(DOCUMENT, "a")), Engines(), rule=RuleSettings("x", "tag")) as inspection:

        async def run() -> Judgement:
            judgement = await inspection.judge()
            assert (judgement.decision.action, inspection.rewritten) == ("tag", None)
            return await inspection.disarm(replace(judgement, decision=Decision("disarm", rules=("mine",))))

        judgement = asyncio.run(run())
        assert inspection.rewritten is not None
        assert (judgement.decision.action, judgement.decision.rules) == ("disarm", ("mine",))
        assert judgement.decision.headers[0] == ("X-Netinspect-Action", "disarm")


CONTENTS = st.sampled_from(
    [
        b"harmless", b"DOC MACRO", b"DOC MACRO WAKES", b"VIRUS", b"DOC CLOSED", b"DOC STUBBORN MACRO", b"DIED MACRO",
        b"DOC PACKAGE", OTHER, b"", b"text\r\n--=b\r\n", b"MACRO" * 99,
    ]
)  # fmt: skip
BODIES = st.recursive(
    st.builds(part, CONTENTS, st.sampled_from(["a.docm", "b.txt", "c"])) | st.just(PGP) | st.just(SIGNATURE),
    lambda inner: st.builds(
        lambda parts, number: (
            b'Content-Type: multipart/mixed; boundary="=b%d"\r\n\r\n' % number
            + b"".join(b"--=b%d\r\n" % number + one for one in parts)
            + b"--=b%d--\r\n" % number
        ),
        st.lists(inner, min_size=1, max_size=3),
        st.integers(0, 99),
    )
    | st.builds(lambda one: b"Content-Type: message/rfc822\r\n\r\n" + one, inner)
    | st.builds(lambda one: part(one, "m.eml", "message/rfc822"), inner),
    max_leaves=6,
)


@given(st.lists(BODIES, max_size=4), st.booleans(), st.sampled_from([b"\r\n", b"\n"]))
def test_whatever_the_mail_nothing_active_is_delivered_as_disarmed(
    parts: list[bytes], dkim: bool, newline: bytes
) -> None:
    raw = mail(*parts, head=b"DKIM-Signature: v=1\r\n" if dkim else b"").replace(b"\r\n", newline)
    one = judge(raw, rule=RuleSettings("all", "disarm"))
    assert one.decision.rules == ("all",)
    if one.decision.action != "disarm":
        assert one.message is None
        assert one.decision.action in ("tag", "quarantine", "tempfail")
        return
    contents = [data for _, data in one.parts()]
    assert not any(b"MACRO" in data or b"VIRUS" in data for data in contents)
    # Only information may be left, which is left alone beside something graver.
    again = judge(cast(bytes, one.message), rule=RuleSettings("all", "disarm")).judgement.facts
    assert not any(is_active(finding) for finding in again.findings)
    assert not again.unscanned


@pytest.mark.parametrize(
    ("category", "severity", "active"),
    [
        ("macro", 3, True), ("dde", 3, True), ("malware", 2, True), ("embedded-object", 3, False),
        ("embedded-object", 2, True), ("encrypted", 1, False), ("spoof", 1, False), ("banned-type", 2, True),
    ],
)  # fmt: skip
def test_what_counts_as_active(category: Any, severity: Any, active: bool) -> None:
    assert is_active(Finding("x", "y", category, severity)) is active

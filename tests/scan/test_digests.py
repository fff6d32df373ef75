"""Without engines: each content is named and hashed, no process is started, and nothing is said to be clean."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from netinspect.assembly import inspector_of, panel_of, without_engines
from netinspect.config import Settings, load
from netinspect.config.schema import FieldError, ScanSettings
from netinspect.errors import ConfigError
from netinspect.inspector import Judgement
from netinspect.limits import Limits
from netinspect.policy.facts import SessionFacts
from netinspect.samples import archives, office
from netinspect.scan import digests
from netinspect.scan.digests import DigestsOnly
from netinspect.scan.panel import Panel
from netinspect.scan.pool import LeafRequest
from netinspect.smtp.events import Envelope, MessageEnd
from tests.scan.test_plaintext import Leaf

SESSION = SessionFacts("external", "192.0.2.1", 40000, "198.51.100.25", 25, 1)
BARE = without_engines(Settings())


def judged(message: bytes, settings: Settings = BARE) -> Judgement:
    async def work() -> Judgement:
        inspector = inspector_of(settings)
        await inspector.panel.start()
        inspection = inspector.begin(SESSION)
        try:
            inspection.feed(message)
            inspection.end(Envelope("a@example.org", ["b@example.com"]), MessageEnd(len(message)))
            return await inspection.judge()
        finally:
            inspection.close()
            await inspector.panel.close()

    return asyncio.run(work())


def with_attachment(content: bytes, name: str) -> bytes:
    return (
        b"From: a@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
        b"--x\r\n\r\nsee there\r\n--x\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Disposition: attachment; filename=" + name.encode() + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(content).replace(b"\n", b"\r\n") + b"--x--\r\n"
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"just octets" * 1000, archives.eicar_zip(), office.melissa_doc()])
def test_each_leaf_has_its_three_digests_and_nothing_in_it_is_looked_for(content: bytes) -> None:
    judgement = judged(with_attachment(content, "a.bin"))
    text, attachment = judgement.facts.artifacts
    assert (text.path, attachment.path) == ("1.1", "1.2")
    assert attachment.hashes.sha256 == hashlib.sha256(content).hexdigest()
    assert attachment.hashes.sha1 == hashlib.sha1(content, usedforsecurity=False).hexdigest()
    assert attachment.hashes.md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert attachment.size == len(content)
    assert judgement.facts.findings == ()


def test_it_is_accepted_but_not_clean_and_coverage_says_that_nothing_was_scanned() -> None:
    facts = judged(b"Subject: x\r\n\r\nhello\r\n").facts
    assert not facts.clean
    assert facts.engines == ()
    assert facts.coverage is not None
    assert (facts.coverage.parts, facts.coverage.decoded, facts.coverage.scanned) == (1, 1, 0)
    assert facts.coverage.skipped[0].reason == "no engine is on"


def test_what_a_name_says_is_said_all_the_same() -> None:
    (finding,) = judged(with_attachment(b"MZ" + bytes(100), "invoice.pdf.exe")).facts.findings
    assert (finding.engine, finding.category) == ("names", "disguised-type")


def test_no_process_is_started() -> None:
    def children() -> int:
        return sum(len((one / "children").read_text().split()) for one in Path("/proc/self/task").iterdir())

    async def more() -> int:
        before = children()
        panel = panel_of(BARE)
        await panel.start()
        count = children() - before
        await panel.close()
        return count

    assert asyncio.run(more()) == 0


def test_a_big_leaf_is_hashed_beside_the_loop_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = Leaf(b"octets" * 5000, text=False, name="a.bin")
    here = asyncio.run(digests.describe(leaf, leaf.content))
    monkeypatch.setattr(digests, "ASIDE", 1000)
    assert asyncio.run(digests.describe(leaf, leaf.content)) == here


def test_a_content_that_cannot_be_read_is_unscanned() -> None:
    class Broken:
        size = 10

        def getvalue(self) -> bytes:
            raise OSError("gone")

    leaf = Leaf(b"0123456789")
    leaf.content = Broken()  # type: ignore[assignment]
    answer = asyncio.run(digests.describe(leaf, leaf.content))
    assert [one.reason for one in answer.unscanned] == ["content unreadable"]
    assert answer.artifacts[0].state == "TRUNCATED"


def test_a_block_list_is_looked_up_without_workers(tmp_path: Path) -> None:
    content = b"known to be bad"
    block = tmp_path / "block"
    block.write_text(hashlib.md5(content, usedforsecurity=False).hexdigest() + "\n")
    scan = replace(BARE.scan, hash_block=(str(block),))
    judgement = judged(with_attachment(content, "a.bin"), replace(BARE, scan=scan))
    assert [finding.engine for finding in judgement.facts.findings] == ["hashes"]
    assert judgement.decision.action == "reject"


def test_the_stand_in_for_workers_answers_in_order_and_cleans_nothing() -> None:
    async def work() -> None:
        workers = DigestsOnly()
        await workers.start()
        answers = await workers.examine([LeafRequest(b"one", path="1"), LeafRequest(b"two", path="2")])
        assert [one.artifacts[0].path for one in answers] == ["1", "2"]
        assert answers[0].artifacts[0].hashes.sha256 == hashlib.sha256(b"one").hexdigest()
        assert await workers.disarm(b"one") == "no worker"
        await workers.close()

    asyncio.run(work())


def test_the_panel_gives_the_same_without_as_with_the_way_through_cache_and_jobs() -> None:
    class Workers:
        """Not the stand-in itself, so that the panel goes the long way."""

        fingerprint = "1"
        start, close, disarm = DigestsOnly.start, DigestsOnly.close, DigestsOnly.disarm
        examine = DigestsOnly.examine

    async def work(panel: Panel) -> object:
        await panel.start()
        leaves = [Leaf(b"hello", path="1"), Leaf(b"hello", path="2"), Leaf(b"x", name="a.exe")]
        answer = await panel.examine(leaves)
        await panel.close()
        return answer

    assert asyncio.run(work(Panel(Limits(), DigestsOnly()))) == asyncio.run(work(Panel(Limits(), Workers())))  # type: ignore[arg-type]


def test_engines_that_need_a_worker_are_refused_without_one(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="0 leaves nobody"):
        ScanSettings(workers=0)
    with pytest.raises(FieldError, match="0 leaves nobody"):
        ScanSettings(workers=0, office=False)
    assert ScanSettings(workers=0, office=False, rules=False).workers == 0
    file = tmp_path / "netinspect.toml"
    file.write_text("[scan]\nworkers = 0\n")
    with pytest.raises(ConfigError, match="office = false and rules = false"):
        load(file)


def test_a_rule_that_disarms_needs_a_worker(tmp_path: Path) -> None:
    file = tmp_path / "netinspect.toml"
    file.write_text(
        f'[scan]\nworkers = 0\noffice = false\nrules = false\n[quarantine]\ndirectory = "{tmp_path}"\n'
        '[[policy.rule]]\nname = "d"\nwhen = "true"\naction = "disarm"\n'
    )
    with pytest.raises(ConfigError, match="there are none"):
        load(file)

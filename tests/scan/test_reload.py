"""Rules of the administrator change while mails are judged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from netinspect.limits import Limits
from netinspect.scan import rulefiles
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from netinspect.scan.rulefiles import RuleSource, load_sources

LIMITS = Limits(worker_time=5.0, scan_time=5.0)
OLD = 'rule Old { strings: $a = "word" condition: $a }'
NEW = 'rule New { strings: $a = "word" condition: $a }'
BROKEN = "rule New\n{\n condition: $missing }"


def leaf(data: bytes = b"a word") -> LeafRequest:
    return LeafRequest(data, "", "text/plain", "1", hashlib.sha256(data).hexdigest())


async def said(pool: WorkerPool) -> list[str]:
    (examination,) = await pool.examine([leaf()])
    return [one.signature for one in examination.findings] + [one.reason for one in examination.unscanned]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


def run(
    scenario: Callable[[WorkerPool], Awaitable[None]], folder: Path, *, faults: bool = False, count: int = 2
) -> None:
    async def whole() -> None:
        settings = WorkerSettings(count=count, office=False, rules_dir=str(folder), faults=faults)
        pool = WorkerPool(LIMITS, settings)
        await pool.start()
        try:
            async with asyncio.timeout(60):
                await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(whole())


def changed(folder: Path, text: str) -> tuple[RuleSource, ...]:
    (folder / "ours.yar").write_text(text)
    return load_sources(str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ours.yar").write_text(OLD)
    return tmp_path


def test_new_rules_replace_the_old_ones_in_every_worker(folder: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        before, old = set(pool.pids), pool.fingerprint
        assert await said(pool) == ["Old"]
        assert await pool.take_rules(changed(folder, NEW)) == ""
        assert [await said(pool) for _ in range(6)] == [["New"]] * 6
        assert pool.fingerprint != old
        assert len(pool.pids) == 2
        assert before.isdisjoint(pool.pids)

    run(scenario, folder)


def test_a_broken_rule_is_refused_with_its_place_and_the_old_ones_stay(folder: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        before, old = set(pool.pids), pool.fingerprint
        refused = await pool.take_rules(changed(folder, BROKEN))
        assert "ours.yar:3" in refused
        assert pool.rules_fault == refused
        assert await said(pool) == ["Old"]
        assert (set(pool.pids), pool.fingerprint) == (before, old)
        assert await pool.take_rules(changed(folder, NEW)) == ""
        assert pool.rules_fault == ""
        assert await said(pool) == ["New"]

    run(scenario, folder)


def test_a_worker_that_is_replaced_after_a_refusal_has_the_old_rules(folder: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert await pool.take_rules(changed(folder, BROKEN))
        (died,) = await pool.examine([leaf(b"netinspect-fault:exit")])
        assert died.unscanned[0].reason == "died"
        assert await said(pool) == ["Old"]

    run(scenario, folder, faults=True, count=1)


def test_a_worker_at_work_finishes_its_job_with_the_rules_it_has(folder: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        big = leaf(b"word " * 2_000_000)
        busy = [asyncio.create_task(pool.examine([big])) for _ in range(2)]
        await asyncio.sleep(0)
        assert await pool.take_rules(changed(folder, NEW)) == ""
        for task in busy:
            (examination,) = await task
            assert examination.unscanned == ()
            assert examination.findings[0].signature in ("Old", "New")

        async def two() -> bool:
            return len(pool.pids) == 2

        await until(two)
        assert [await said(pool) for _ in range(4)] == [["New"]] * 4

    run(scenario, folder)


def test_a_change_in_the_folder_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulefiles, "LOOK_EVERY", 0.05)

    async def scenario(pool: WorkerPool) -> None:
        changed(folder, BROKEN)

        async def refused() -> bool:
            return bool(pool.rules_fault)

        async def new() -> bool:
            return await said(pool) == ["New"]

        async def none() -> bool:
            return await said(pool) == []

        await until(refused)
        assert await said(pool) == ["Old"]
        changed(folder, NEW + " // mended")
        await until(new)
        (folder / "ours.yar").unlink()
        await until(none)

    run(scenario, folder, count=1)


def test_a_folder_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    taken: list[int] = []

    async def take(sources: tuple[RuleSource, ...]) -> str:
        taken.append(len(sources))
        return ""

    async def whole() -> None:
        (tmp_path / "ours.yar").write_text(OLD)
        watcher = asyncio.create_task(rulefiles.watch(str(tmp_path), load_sources(str(tmp_path)), take))
        await asyncio.sleep(0.1)
        (tmp_path / "ours.yar").write_bytes(b"\xff\xfe")
        await asyncio.sleep(0.3)
        assert taken == []
        (tmp_path / "ours.yar").write_text(NEW)

        async def was_taken() -> bool:
            return bool(taken)

        await until(was_taken)
        watcher.cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rulefiles, "LOOK_EVERY", 0.05)
        asyncio.run(asyncio.wait_for(whole(), 20))


def test_a_worker_that_dies_while_broken_rules_are_tried_is_replaced(folder: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        trying = asyncio.create_task(pool.take_rules(changed(folder, BROKEN)))
        await asyncio.sleep(0)
        (died,) = await pool.examine([leaf(b"netinspect-fault:exit")])
        assert died.unscanned[0].reason == "died"
        assert await trying
        assert await said(pool) == ["Old"]

    run(scenario, folder, faults=True, count=1)

"""The workers' second kind of job: a file comes back clean, or there is a reason; the worker is never believed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netinspect.disarm.contract import Cleaned
from netinspect.limits import Limits
from netinspect.samples import archives, office
from netinspect.scan.panel import Panel
from netinspect.scan.pool import INLINE, WorkerPool, WorkerSettings
from netinspect.spool import Spool, SpoolBudget
from tests.scan.test_pool import LIMITS, PLAIN, leaf, reasons, run

DISARMING = replace(PLAIN, disarm=True)


def fault(what: str) -> bytes:
    return b"netinspect-fault:" + what.encode()


@pytest.fixture
def spools() -> Iterator[Callable[[bytes, int], Spool]]:
    made: list[Spool] = []

    def make(data: bytes, memory: int) -> Spool:
        spool = Spool(replace(Limits(), spool_memory=memory), SpoolBudget(1 << 30))
        spool.write(data)
        made.append(spool)
        return spool

    yield make
    for spool in made:
        spool.close()


def test_a_document_comes_back_without_its_macros() -> None:
    async def scenario(pool: WorkerPool) -> None:
        file = await pool.disarm(office.melissa_docm(), "list.docm")
        assert isinstance(file, Cleaned)
        assert {one.what for one in file.removed} >= {"vba"}
        (answer,) = await pool.examine([leaf(file.data, "list.docm")])
        assert [found.category for found in answer.findings if found.severity < 3] == []

    run(scenario, settings=replace(DISARMING, office=True, rules=True))


def test_what_cannot_be_cleaned_comes_back_as_a_reason() -> None:
    async def scenario(pool: WorkerPool) -> None:
        for data in (archives.eicar_zip(), b"\x7fELF" + bytes(100), b""):
            reason = await pool.disarm(data, "a.bin")
            assert isinstance(reason, str)
            assert reason not in ("", "died", "garbage answer")

    run(scenario, settings=DISARMING)


def test_cleaning_needs_no_setting_and_does_not_disturb_other_jobs() -> None:
    async def scenario(pool: WorkerPool) -> None:
        document = office.melissa_docm()
        jobs = [pool.disarm(document, "a.docm"), pool.examine([leaf(b"text")]), pool.disarm(document, "b.docm")]
        first, answers, second = await asyncio.gather(*jobs)
        assert isinstance(first, Cleaned)
        assert first == second
        assert reasons(answers) == [""]

    run(scenario)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["memory", "disk"])
def test_a_big_file_travels_by_descriptor_and_comes_back_whole(
    spools: Callable[[bytes, int], Spool], memory: int
) -> None:
    html = b"<html><body>" + b"<p>harmless text</p>\n" * 40_000 + b"<script>x()</script></body></html>"
    assert len(html) > INLINE

    async def scenario(pool: WorkerPool) -> None:
        before = len(os.listdir("/proc/self/fd"))
        spool = spools(html, memory)
        file = await pool.disarm(spool, "page.html")
        assert isinstance(file, Cleaned), file
        assert file.data.count(b"harmless text") == 40_000
        assert b"script" not in file.data
        assert len(os.listdir("/proc/self/fd")) - before == (1 if memory == 0 else 0)

    run(scenario, settings=DISARMING)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("memory", "died"), ("exit", "died"), ("half", "died"), ("garbage", "garbage answer"),
        ("flood", "garbage answer"), ("much", "garbage answer"), ("lie", "garbage answer"),
        ("removal", "garbage answer"),
    ],
)  # fmt: skip
def test_a_worker_that_fails_costs_the_file_and_is_replaced(what: str, reason: str) -> None:
    async def scenario(pool: WorkerPool) -> None:
        first = pool.pids
        assert await pool.disarm(fault(what), "a.docm") == reason
        assert reasons(await pool.examine([leaf(b"next")])) == [""]
        assert pool.pids != first

    run(scenario)


def test_octets_behind_an_answer_that_has_none_are_refused() -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert reasons(await pool.examine([leaf(fault("unasked"))])) == ["garbage answer"]
        assert reasons(await pool.examine([leaf(b"next")])) == [""]

    run(scenario)


def test_a_worker_over_its_time_is_killed() -> None:
    async def scenario(pool: WorkerPool) -> None:
        start = time.monotonic()
        assert await pool.disarm(fault("hang")) == "timeout"
        assert time.monotonic() - start < 3

    run(scenario, limits=replace(LIMITS, worker_time=0.5, scan_time=20.0))


def test_a_worker_killed_in_the_middle_costs_the_file_only() -> None:
    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pool.pids
        asyncio.get_running_loop().call_later(0.1, os.kill, pid, signal.SIGKILL)
        waiting = [asyncio.ensure_future(pool.disarm(fault("hang"))), asyncio.ensure_future(pool.examine([leaf(b"x")]))]
        assert await waiting[0] == "died"
        assert reasons(await waiting[1]) == [""]

    run(scenario, limits=replace(LIMITS, worker_time=20.0, scan_time=20.0))


def test_a_file_that_finds_no_worker_in_time_is_not_cleaned() -> None:
    async def scenario(pool: WorkerPool) -> None:
        hanging = asyncio.ensure_future(pool.disarm(fault("hang")))
        await asyncio.sleep(0)
        assert await pool.disarm(b"x") == "busy"
        assert await hanging == "timeout"

    run(scenario, limits=replace(LIMITS, worker_time=1.0, scan_time=0.2))


def test_a_closed_pool_and_a_closed_spool_are_reasons(spools: Callable[[bytes, int], Spool]) -> None:
    async def whole() -> None:
        pool = WorkerPool(LIMITS, PLAIN)
        await pool.start()
        spool = spools(os.urandom(400_000), 0)
        spool.close()
        reason = await pool.disarm(spool)
        assert isinstance(reason, str)
        assert reason.startswith("content: ")
        await pool.close()
        assert await pool.disarm(b"late") == "closed"

    asyncio.run(whole())


def test_cleaning_counts_as_a_job_and_other_rules_come_in_between(tmp_path: Path) -> None:
    async def scenario(pool: WorkerPool) -> None:
        first = pool.pids
        for _ in range(3):
            assert isinstance(await pool.disarm(fault("no such fault")), str)
        assert not set(first) & set(pool.pids)
        assert await pool.take_rules(pool._sources) == ""
        assert isinstance(await pool.disarm(b"\x7fELF"), str)
        assert reasons(await pool.examine([leaf(b"text")])) == [""]

    run(scenario, settings=replace(PLAIN, jobs=2))


def test_the_panel_gives_the_cleaned_file_or_a_reason_in_bounded_time(
    spools: Callable[[bytes, int], Spool],
) -> None:
    class Slow:
        fingerprint = ""

        async def disarm(self, content: Spool, name: str, declared: str) -> Cleaned | str:
            if name == "slow":
                await asyncio.sleep(60)
            return Cleaned(content.getvalue())

    class Named:
        def __init__(self, name: str, data: bytes) -> None:
            self.path, self.name, self.declared, self.text = "1", name, "", False
            self.sha256 = hashlib.sha256(data).hexdigest()
            self.content = spools(data, 1 << 30)

    async def whole() -> None:
        panel = Panel(Limits(scan_time=0.1), Slow())  # type: ignore[arg-type]
        panel._loop = asyncio.get_running_loop()
        assert await panel.disarm(Named("fast", b"x")) == Cleaned(b"x")
        big = bytes(2_000_000)
        for _ in range(3):  # what was taken of the room for big contents is given back
            assert await panel.disarm(Named("slow", big)) == "timeout"
        assert await panel.disarm(Named("fast", big)) == Cleaned(big)

    asyncio.run(whole())


def test_workers_start_without_what_cleans_where_nothing_is_disarmed() -> None:
    assert WorkerSettings().disarm is False

"""The workers: every job is answered, whatever becomes of the process that had it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from netinspect.errors import EngineError
from netinspect.limits import Limits
from netinspect.samples import archives, office
from netinspect.scan import pool as pool_module
from netinspect.scan.contract import Examination
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from netinspect.spool import Spool, SpoolBudget
from tests.files import made

LIMITS = Limits(worker_time=5.0, scan_time=5.0)
PLAIN = WorkerSettings(count=1, office=False, faults=True)


def leaf(data: bytes, name: str = "") -> LeafRequest:
    return LeafRequest(data, name, "application/octet-stream", "1", hashlib.sha256(data).hexdigest())


def fault(what: str) -> LeafRequest:
    return leaf(b"netinspect-fault:" + what.encode())


def reasons(examinations: Sequence[Examination]) -> list[str]:
    return [one.unscanned[0].reason if one.unscanned else "" for one in examinations]


def signatures(examinations: Sequence[Examination]) -> list[list[str]]:
    return [[found.signature for found in one.findings if found.engine != "names"] for one in examinations]


def run(
    scenario: Callable[[WorkerPool], Awaitable[None]], limits: Limits = LIMITS, settings: WorkerSettings = PLAIN
) -> None:
    async def whole() -> None:
        pool = WorkerPool(limits, settings)
        await pool.start()
        pids = pool.pids
        try:
            async with asyncio.timeout(25):
                await scenario(pool)
        finally:
            await pool.close()
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(whole())


def test_a_message_is_examined_in_one_round_trip_and_in_order() -> None:
    async def scenario(pool: WorkerPool) -> None:
        answers = await pool.examine(
            [leaf(b"Good morning"), leaf(archives.eicar_zip(), "a.zip"), leaf(office.melissa_docm()), leaf(b"")]
        )
        assert signatures(answers)[1] == ["EICAR_Test_File"]
        assert "Melissa.AddressBook" in signatures(answers)[2]
        assert [one.artifacts[0].magic for one in answers] == ["text", "zip", "docm", "empty"]
        assert [one.artifacts[0].name for one in answers] == ["", "a.zip", "", ""]
        assert "oletools" in pool.fingerprint
        assert "yara-x" in pool.fingerprint

    run(scenario, settings=WorkerSettings(count=1))


def test_a_password_in_one_leaf_opens_another() -> None:
    closed = made.packed({"eicar.com": archives.eicar()}, "SevenZip", password="Offer-7781")  # noqa: S106

    async def scenario(pool: WorkerPool) -> None:
        told = LeafRequest(b"The password is Offer-7781.", path="1.1", text=True)
        _, opened = await pool.examine([told, leaf(closed, "a.7z")])
        assert "EICAR_Test_File" in [found.signature for found in opened.findings]
        assert opened.unscanned == ()
        (alone,) = await pool.examine([leaf(closed, "a.7z")])
        assert [one.reason for one in alone.unscanned] == ["encrypted"]

    run(scenario, settings=WorkerSettings(count=1))


def test_no_leaves_no_answers() -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert await pool.examine([]) == []

    run(scenario)


def test_two_hundred_jobs_at_once_are_all_answered() -> None:
    async def scenario(pool: WorkerPool) -> None:
        contents = [b"%d " % number + (archives.eicar() if number % 7 == 0 else b"text") for number in range(200)]
        answers = await asyncio.gather(*(pool.examine([leaf(content)]) for content in contents))
        expected = [hashlib.sha256(content).hexdigest() for content in contents]
        assert [answer[0].artifacts[0].hashes.sha256 for answer in answers] == expected
        assert [signatures(answer)[0] != [] for answer in answers] == [number % 7 == 0 for number in range(200)]

    run(scenario, settings=replace(PLAIN, count=2))


def test_it_works_under_uvloop() -> None:
    async def whole() -> None:
        pool = WorkerPool(LIMITS, PLAIN)
        await pool.start()
        contents = [os.urandom(10), archives.eicar_zip(), os.urandom(1_000_000)]
        answers = await pool.examine([leaf(content) for content in contents])
        assert reasons(await pool.examine([fault("exit")])) == ["died"]
        await pool.close()
        assert [one.artifacts[0].size for one in answers] == [len(content) for content in contents]

    uvloop.run(whole())


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


@pytest.mark.parametrize("size", [0, 1000, 262_144, 262_145, 3_000_000])
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["memory", "disk"])
def test_spools_are_examined_where_they_are(spools: Callable[[bytes, int], Spool], size: int, memory: int) -> None:
    data = os.urandom(size)
    sha256 = hashlib.sha256(data).hexdigest()

    async def scenario(pool: WorkerPool) -> None:
        spool = spools(data, memory)
        (answer,) = await pool.examine([LeafRequest(spool, "n", "d", "1", "")])
        assert (answer.artifacts[0].hashes.sha256, answer.artifacts[0].size) == (sha256, size)
        assert spool.getvalue() == data

    run(scenario)


def test_many_big_leaves_are_cut_into_several_jobs() -> None:
    contents = [os.urandom(300_000) for _ in range(20)] + [os.urandom(200_000) for _ in range(8)]

    async def scenario(pool: WorkerPool) -> None:
        before = len(os.listdir("/proc/self/fd"))
        answers = await pool.examine([leaf(content) for content in contents])
        assert [one.artifacts[0].hashes.sha256 for one in answers] == [leaf(content).sha256 for content in contents]
        assert len(os.listdir("/proc/self/fd")) == before

    run(scenario, settings=replace(PLAIN, count=2))


def test_a_closed_spool_is_unscanned(spools: Callable[[bytes, int], Spool]) -> None:
    async def scenario(pool: WorkerPool) -> None:
        spool = spools(os.urandom(400_000), 0)
        spool.close()
        (reason,) = reasons(await pool.examine([LeafRequest(spool)]))
        assert reason.startswith("content: ")

    run(scenario)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("memory", "died"), ("exit", "died"), ("half", "died"), ("garbage", "garbage answer"),
        ("flood", "garbage answer"), ("lie", "garbage answer"),
    ],
)  # fmt: skip
def test_a_worker_that_fails_costs_one_job_and_is_replaced(what: str, reason: str) -> None:
    async def scenario(pool: WorkerPool) -> None:
        first = pool.pids
        answers = await asyncio.gather(
            pool.examine([leaf(b"before"), fault(what), leaf(b"after")]), pool.examine([leaf(archives.eicar())])
        )
        assert reasons(answers[0]) == [reason] * 3
        assert [one.unscanned[0].engine for one in answers[0]] == ["worker"] * 3
        assert signatures(answers[1]) == [["EICAR_Test_File"]]
        assert pool.pids != first

    run(scenario)


@pytest.mark.parametrize("what", ["hang", "spin"])
def test_a_worker_over_its_time_is_killed(what: str) -> None:
    async def scenario(pool: WorkerPool) -> None:
        start = time.monotonic()
        assert reasons(await pool.examine([fault(what)])) == ["timeout"]
        assert time.monotonic() - start < 2
        assert reasons(await pool.examine([leaf(b"next")])) == [""]

    run(scenario, limits=replace(LIMITS, worker_time=0.5, scan_time=20.0))


def test_a_worker_over_its_cpu_time_is_ended_by_the_kernel() -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert reasons(await pool.examine([fault("spin")])) == ["died"]

    run(scenario, limits=replace(LIMITS, worker_cpu=1, worker_time=20.0))


def test_a_worker_killed_in_the_middle_costs_its_job_only() -> None:
    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pool.pids
        asyncio.get_running_loop().call_later(0.1, os.kill, pid, signal.SIGKILL)
        waiting = [asyncio.ensure_future(pool.examine([one])) for one in (fault("hang"), leaf(b"next"), leaf(b"last"))]
        assert [reasons(await one) for one in waiting] == [["died"], [""], [""]]

    run(scenario, limits=replace(LIMITS, worker_time=20.0, scan_time=20.0))


def test_a_worker_outlives_the_signals_that_stop_the_gateway() -> None:
    async def scenario(pool: WorkerPool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert reasons(await pool.examine([leaf(b"text")])) == [""]
        assert pool.pids == (pid,)

    run(scenario)


def test_a_job_that_finds_no_worker_in_time_is_unscanned() -> None:
    async def scenario(pool: WorkerPool) -> None:
        hanging = asyncio.ensure_future(pool.examine([fault("hang")]))
        await asyncio.sleep(0)
        assert reasons(await pool.examine([leaf(b"text")])) == ["busy"]
        assert reasons(await hanging) == ["timeout"]

    run(scenario, limits=replace(LIMITS, worker_time=1.0, scan_time=0.2))


def test_who_stops_waiting_disturbs_nobody() -> None:
    async def scenario(pool: WorkerPool) -> None:
        tasks = [asyncio.ensure_future(pool.examine([leaf(b"%d" % number)])) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks[::2], return_exceptions=True)
        assert [reasons(await task) for task in tasks[1::2]] == [[""]] * 10
        assert reasons(await pool.examine([leaf(b"text")])) == [""]

    run(scenario)


def test_a_worker_is_replaced_after_its_number_of_jobs() -> None:
    async def scenario(pool: WorkerPool) -> None:
        first = pool.pids
        for number in range(5):
            assert reasons(await pool.examine([leaf(b"%d" % number)])) == [""]
        assert not set(first) & set(pool.pids)

    run(scenario, settings=replace(PLAIN, jobs=2))


def test_what_waits_when_the_pool_closes_is_unscanned() -> None:
    async def whole() -> None:
        pool = WorkerPool(LIMITS, PLAIN)
        await pool.start()
        waiting = [asyncio.ensure_future(pool.examine([one])) for one in (fault("hang"), leaf(b"next"))]
        await asyncio.sleep(0)
        await pool.close()
        assert [reasons(await one) for one in waiting] == [["closed"], ["closed"]]
        assert reasons(await pool.examine([leaf(b"late")])) == ["closed"]
        await pool.close()

    asyncio.run(whole())


@pytest.mark.parametrize("attempt", ["socket", "write", "fork", "execute", "kill"])
def test_a_worker_is_denied_what_it_does_not_need(attempt: str) -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert "seccomp" in pool.confined
        assert reasons(await pool.examine([fault(attempt)])) == [""]

    run(scenario)


def test_the_test_faults_are_off_by_default() -> None:
    async def scenario(pool: WorkerPool) -> None:
        assert reasons(await pool.examine([fault("exit")])) == [""]

    run(scenario, settings=WorkerSettings(count=1, office=False))


def test_a_broken_rule_stops_the_start_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "broken.yar").write_text("rule A\n{\n condition: $missing }")

    async def whole() -> None:
        pool = WorkerPool(LIMITS, replace(PLAIN, rules_dir=str(tmp_path)))
        with pytest.raises(EngineError) as caught:
            await pool.start()
        assert caught.value.place.endswith("broken.yar:3")
        assert pool.pids == ()

    asyncio.run(whole())


def test_a_rule_file_broken_later_does_not_matter_to_a_new_worker(tmp_path: Path) -> None:
    rule = tmp_path / "ours.yar"
    rule.write_text('rule Ours { strings: $a = "forbidden" condition: $a }')

    async def scenario(pool: WorkerPool) -> None:
        before = pool.fingerprint
        rule.write_text("rule {")
        assert reasons(await pool.examine([fault("exit")])) == ["died"]
        assert signatures(await pool.examine([leaf(b"forbidden")])) == [["Ours"]]
        assert pool.fingerprint == before

    run(scenario, settings=replace(PLAIN, rules_dir=str(tmp_path)))


def test_a_machine_without_our_interpreter_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netinspect.scan.child.sys.executable", "/nowhere/python")

    async def whole() -> None:
        with pytest.raises(EngineError, match="no worker can be started"):
            await WorkerPool(LIMITS, PLAIN).start()

    asyncio.run(whole())


def test_a_worker_that_cannot_be_replaced_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_RETRY_MOST", 0.2)

    async def scenario(pool: WorkerPool) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("netinspect.scan.child.sys.executable", "/nowhere/python")
            assert reasons(await pool.examine([fault("exit")])) == ["died"]
            await asyncio.sleep(0.1)
        assert reasons(await pool.examine([leaf(b"text")])) == [""]

    run(scenario)

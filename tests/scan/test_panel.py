"""The panel: each content once, all engines side by side, and nothing clean that was not looked at."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from netinspect.anomaly import Anomaly
from netinspect.files.artifact import Artifact, Hashes
from netinspect.limits import Limits
from netinspect.scan.clamd import ClamdEngine
from netinspect.scan.contract import Examination, Finding, Unscanned
from netinspect.scan.gate import ByteGate
from netinspect.scan.hashes import HashLists
from netinspect.scan.panel import Panel
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from netinspect.spool import Spool, SpoolBudget
from tests.scan.conftest import RealClamd, Run
from tests.scan.eicar import EICAR
from tests.scan.fake_clamd import FakeClamd


@dataclass
class Leaf:
    content: Spool
    sha256: str
    path: str = "1"
    name: str = ""
    declared: str = "text/plain"
    text: bool = False


def leaf(data: bytes, path: str = "1", name: str = "") -> Leaf:
    content = Spool(Limits(), SpoolBudget(1 << 28))
    content.write(data)
    return Leaf(content, hashlib.sha256(data).hexdigest(), path, name)


class FakeWorkers:
    """Answers at once, or as `behave` says; counts what it was asked."""

    def __init__(self, behave: Callable[[Sequence[LeafRequest]], Awaitable[list[Examination]]] | None = None) -> None:
        self.fingerprint = "workers:1"
        self.asked: list[list[str]] = []
        self.behave = behave
        self.open: set[str] = set()
        self.most_open = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def examine(self, leaves: Sequence[LeafRequest]) -> list[Examination]:
        self.asked.append([one.sha256 for one in leaves])
        if self.behave is not None:
            return await self.behave(leaves)
        return [examined(one) for one in leaves]


def examined(request: LeafRequest) -> Examination:
    hashes = Hashes(request.sha256, "1" * 40, "2" * 32)
    return Examination((Artifact(hashes, 1, "data", request.path, request.name, request.declared),))


async def using(panel: Panel, work: Awaitable[Any]) -> Any:
    await panel.start()
    try:
        return await work
    finally:
        await panel.close()


def test_a_clean_leaf_is_clean_and_in_order(run: Run[Any]) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers)
    leaves = [leaf(b"a", "1"), leaf(b"b", "2"), leaf(b"c", "3")]
    answers = run(using(panel, panel.examine(leaves)))
    assert [one.artifacts[0].path for one in answers] == ["1", "2", "3"]
    assert all(not one.findings and not one.unscanned for one in answers)
    assert len(workers.asked) == 1


def test_no_leaves_ask_nobody(run: Run[Any]) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers)
    assert run(using(panel, panel.examine([]))) == []
    assert workers.asked == []


def test_the_same_content_is_examined_once_and_found_at_each_place(run: Run[Any]) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers)

    async def work() -> None:
        first = await panel.examine([leaf(b"same", "1"), leaf(b"same", "2")])
        second = await panel.examine([leaf(b"same", "7")])
        assert [one.artifacts[0].path for one in (*first, *second)] == ["1", "2", "7"]

    run(using(panel, work()))
    assert len(workers.asked) == 1
    assert len(workers.asked[0]) == 1


def test_what_is_encrypted_is_examined_again_and_the_known_text_goes_along(run: Run[Any]) -> None:
    async def closed(leaves: Sequence[LeafRequest]) -> list[Examination]:
        answers = [examined(one) for one in leaves]
        finding = Finding("files", "Encrypted.Member", "encrypted", 2)
        pairs = zip(leaves, answers, strict=True)
        return [answer if one.text else replace(answer, findings=(finding,)) for one, answer in pairs]

    workers = FakeWorkers(closed)
    panel = Panel(Limits(), workers)
    text = replace(leaf(b"The password is hunter2.", "1"), text=True)
    archive = leaf(b"archive", "2", "a.7z")

    async def work() -> None:
        for _ in range(2):
            answers = await panel.examine([text, archive])
            assert [one.artifacts[0].path for one in answers] == ["1", "2"]
            assert [len(one.findings) for one in answers] == [0, 1]

    run(using(panel, work()))
    assert [sorted(asked) for asked in workers.asked] == [sorted([text.sha256, archive.sha256])] * 2


def test_the_same_content_under_another_name_is_examined_again(run: Run[Any]) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers)

    async def work() -> None:
        await panel.examine([leaf(b"same", name="a.pdf")])
        await panel.examine([leaf(b"same", name="a.pdf.exe")])

    run(using(panel, work()))
    assert len(workers.asked) == 2


def test_fifty_mails_with_one_attachment_cost_one_scan(run: Run[Any]) -> None:
    async def slowly(leaves: Sequence[LeafRequest]) -> list[Examination]:
        await asyncio.sleep(0.1)
        return [examined(one) for one in leaves]

    workers = FakeWorkers(slowly)
    panel = Panel(Limits(), workers)

    async def work() -> list[list[Examination]]:
        return await asyncio.gather(*(panel.examine([leaf(b"x", str(n))]) for n in range(50)))

    answers = run(using(panel, work()))
    assert [one.artifacts[0].path for (one,) in answers] == [str(n) for n in range(50)]
    assert len(workers.asked) == 1


def test_when_the_mail_that_works_is_given_up_another_takes_over(run: Run[Any]) -> None:
    async def slowly(leaves: Sequence[LeafRequest]) -> list[Examination]:
        await asyncio.sleep(0.1)
        return [examined(one) for one in leaves]

    workers = FakeWorkers(slowly)
    panel = Panel(Limits(), workers)

    async def work() -> None:
        first, *rest = (asyncio.ensure_future(panel.examine([leaf(b"x", str(n))])) for n in range(4))
        await asyncio.sleep(0.02)
        first.cancel()
        rest.pop().cancel()
        answers = await asyncio.gather(*rest)
        assert [one.artifacts[0].path for (one,) in answers] == ["1", "2"]

    run(using(panel, work()))
    assert len(workers.asked) == 2
    assert panel._in_work == {}


def test_new_signatures_mean_a_new_examination(run: Run[Any]) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers)

    async def work() -> None:
        await panel.examine([leaf(b"x")])
        workers.fingerprint = "workers:2"
        await panel.examine([leaf(b"x")])

    run(using(panel, work()))
    assert len(workers.asked) == 2


def test_workers_that_take_too_long_are_a_timeout(run: Run[Any]) -> None:
    async def never(leaves: Sequence[LeafRequest]) -> list[Examination]:
        await asyncio.sleep(60)
        return []

    panel = Panel(Limits(scan_time=0.1), FakeWorkers(never))
    one = leaf(b"x", "1.2", "n")
    (answer,) = run(using(panel, panel.examine([one])))
    assert answer.unscanned == (Unscanned("panel", "timeout", one.sha256),)
    assert (answer.artifacts[0].path, answer.artifacts[0].state) == ("1.2", "TRUNCATED")
    assert panel._in_work == {}
    assert len(panel.cache) == 0


@pytest.mark.parametrize("fault", ["raises", "too few", "cancels"])
def test_workers_that_fail_are_never_clean(run: Run[Any], caplog: pytest.LogCaptureFixture, fault: str) -> None:
    async def badly(leaves: Sequence[LeafRequest]) -> list[Examination]:
        if fault == "raises":
            raise KeyError("ours")
        if fault == "cancels":
            raise asyncio.CancelledError
        return []

    panel = Panel(Limits(), FakeWorkers(badly))
    one = leaf(b"x")
    (answer,) = run(using(panel, panel.examine([one])))
    assert answer.unscanned == (Unscanned("panel", "closed" if fault == "cancels" else "fault", one.sha256),)
    assert bool(caplog.records) == (fault != "cancels")


def test_with_clamd_off_nothing_is_missing(run: Run[Any]) -> None:
    panel = Panel(Limits(), FakeWorkers())
    (answer,) = run(using(panel, panel.examine([leaf(EICAR)])))
    assert answer.unscanned == ()


def test_clamds_finding_is_added_to_the_workers_answer(run: Run[Any], clamd: RealClamd) -> None:
    panel = Panel(Limits(), FakeWorkers(), ClamdEngine(clamd.unix))
    infected, clean = leaf(EICAR, "1"), leaf(b"clean", "2")

    async def work() -> None:
        for _ in range(2):
            first, second = await panel.examine([infected, clean])
            assert first.findings == (Finding("clamd", "Test.Eicar.UNOFFICIAL", "malware", 1, infected.sha256),)
            assert first.artifacts[0].hashes.sha256 == infected.sha256
            assert not second.findings
            assert not second.unscanned

    run(using(panel, work()))
    assert panel.cache.hits == 2


def test_real_workers_and_a_real_clamd_agree(run: Run[Any], clamd: RealClamd) -> None:
    panel = Panel(Limits(), WorkerPool(Limits(), WorkerSettings(count=1)), ClamdEngine(clamd.unix))

    async def work() -> None:
        before = panel.fingerprint
        infected, clean = await panel.examine([leaf(EICAR, "1", "e.com"), leaf(b"hello\r\n", "2")])
        assert {(one.engine, one.category) for one in infected.findings} >= {("clamd", "malware"), ("rules", "malware")}
        assert not infected.unscanned
        assert clean.artifacts[0].hashes.md5 == hashlib.md5(b"hello\r\n").hexdigest()  # noqa: S324
        assert not clean.findings
        assert not clean.unscanned
        assert panel.fingerprint == before
        assert len(panel.cache) == 2

    run(using(panel, work()))


def test_a_clamd_that_is_down_makes_it_unscanned_and_uncached(run: Run[Any], sockets: Path) -> None:
    workers = FakeWorkers()
    panel = Panel(Limits(), workers, ClamdEngine(f"unix:{sockets / 's'}", retry_after=0.0))
    one = leaf(b"x")

    async def work() -> None:
        (answer,) = await panel.examine([one])
        assert answer.unscanned == (Unscanned("clamd", "unreachable", one.sha256),)
        with FakeClamd(sockets / "s"):
            (answer,) = await panel.examine([one])
            assert answer.unscanned == ()

    run(using(panel, work()))
    assert len(workers.asked) == 2


def test_a_clamd_slower_than_the_whole_judgement_is_a_timeout(run: Run[Any], sockets: Path) -> None:
    with FakeClamd(sockets / "s", "hung") as fake:
        panel = Panel(Limits(scan_time=0.2), FakeWorkers(), ClamdEngine(fake.address, Limits(scan_time=20)))
        (answer,) = run(using(panel, panel.examine([leaf(b"x")])))
    assert [(one.engine, one.reason) for one in answer.unscanned] == [("panel", "timeout")]


def test_a_scan_that_cannot_begin_is_never_clean(
    run: Run[Any], sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ClamdEngine):
        def submit(self, content: object, sha256: str = "") -> asyncio.Future[Any]:
            raise RuntimeError("ours")

    panel = Panel(Limits(), FakeWorkers(), Broken(f"unix:{sockets / 's'}"))
    (answer,) = run(using(panel, panel.examine([leaf(b"x")])))
    assert [(one.engine, one.reason) for one in answer.unscanned] == [("clamd", "fault")]
    assert "a scan could not begin" in caplog.text


def test_a_blocked_content_is_found_from_the_cache_too_and_inside_archives(run: Run[Any], tmp_path: Path) -> None:
    inner = Hashes("f" * 64, "e" * 40, "d" * 32)

    async def unpack(leaves: Sequence[LeafRequest]) -> list[Examination]:
        return [
            Examination((*examined(one).artifacts, Artifact(inner, 1, "exe", f"{one.path}/a.exe"))) for one in leaves
        ]

    path = tmp_path / "block"
    path.write_text("0" * 64)
    hashes = HashLists.load([path])
    panel = Panel(Limits(), FakeWorkers(unpack), hashes=hashes)

    async def work() -> None:
        (before,) = await panel.examine([leaf(b"x")])
        assert before.findings == ()
        path.write_text(inner.md5 + ",Worm.A\n")
        hashes.refresh()
        (after,) = await panel.examine([leaf(b"x")])
        assert after.findings == (Finding("hashes", "Worm.A", "malware", 1, inner.sha256, inner.md5),)

    run(using(panel, work()))
    assert panel.cache.hits == 1


def test_changed_lists_are_taken_over_while_running(
    run: Run[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinspect.scan.panel.LISTS_EVERY", 0.02)
    path = tmp_path / "block"
    path.write_text("")
    panel = Panel(Limits(), FakeWorkers(), hashes=HashLists.load([path]))
    one = leaf(b"x")

    async def work() -> None:
        path.write_text(one.sha256)
        for _ in range(500):
            if (await panel.examine([one]))[0].findings:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the list was not read again")

    run(using(panel, work()))


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_an_allowed_leaf_is_not_scanned_and_on_record_as_such(run: Run[Any], tmp_path: Path, size: int) -> None:
    data = EICAR + bytes(size)
    allowed = leaf(data, "2", "tool.exe")
    path = tmp_path / "allow"
    path.write_text(allowed.sha256)
    workers = FakeWorkers()
    panel = Panel(Limits(), workers, hashes=HashLists.load([], [path]))
    other, answer = run(using(panel, panel.examine([leaf(b"other"), allowed])))
    assert other.anomalies == ()
    assert not answer.findings
    assert not answer.unscanned
    assert answer.anomalies == (Anomaly("allow_listed", "file", 0, allowed.sha256),)
    (artifact,) = answer.artifacts
    assert artifact.hashes.md5 == hashlib.md5(data).hexdigest()  # noqa: S324
    assert (artifact.path, artifact.name, artifact.size) == ("2", "tool.exe", len(data))
    assert len(workers.asked) == 1


def test_big_contents_are_let_in_by_their_octets(run: Run[Any]) -> None:
    open_now = 0
    most = 0

    async def count(leaves: Sequence[LeafRequest]) -> list[Examination]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        return [examined(one) for one in leaves]

    panel = Panel(Limits(), FakeWorkers(count), work_bytes=4_500_000)
    leaves = [leaf(b"%d" % n + bytes(2_000_000)) for n in range(8)]

    async def work() -> None:
        await asyncio.gather(*(panel.examine([one]) for one in leaves))

    run(using(panel, work()))
    assert most == 2
    assert panel._gate.used == 0


def test_the_gate_is_fair_and_forgets_who_gave_up(run: Run[Any]) -> None:
    async def work() -> None:
        gate = ByteGate(10)
        await gate.acquire(1000)
        assert gate.used == 10
        order: list[int] = []

        async def enter(number: int, size: int) -> None:
            await gate.acquire(size)
            order.append(number)

        tasks = [asyncio.ensure_future(enter(number, size)) for number, size in enumerate((4, 6, 8, 2))]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.release(1000)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == [0]
        assert gate.used == 4
        tasks[2].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == [0, 3]
        gate.release(4)
        gate.release(2)
        assert gate.used == 0

    run(work())

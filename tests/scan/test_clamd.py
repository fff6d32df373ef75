"""clamd: what counts as clean, what happens to a scan when clamd misbehaves, and the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.errors import ConfigError
from netinspect.limits import Limits
from netinspect.scan.clamd import SMALL, ClamdEngine
from netinspect.scan.clamd_wire import Address, Version, judge, query_version
from netinspect.scan.contract import Finding, Unscanned
from netinspect.spool import Spool, SpoolBudget
from tests.scan.conftest import ENCRYPTED_MARK, LIMITS_MARK, STREAM_MAX, RealClamd, Run
from tests.scan.eicar import EICAR
from tests.scan.fake_clamd import FakeClamd

Outcome = tuple[Finding | Unscanned, ...]
BIG = SMALL * 4


def unscanned(reason: str, sha256: str = "") -> Outcome:
    return (Unscanned("clamd", reason, sha256),)


async def using(engine: ClamdEngine, work: Callable[[ClamdEngine], Awaitable[Any]]) -> Any:
    await engine.start()
    try:
        return await work(engine)
    finally:
        await engine.close()


def spool_of(content: bytes, *, memory: int = 4_194_304) -> Spool:
    limits = Limits(spool_memory=memory)
    spool = Spool(limits, SpoolBudget(limits.spool_memory_total))
    for start in range(0, len(content), 65_536):
        spool.write(content[start : start + 65_536])
    spool.flush()
    return spool


# --- what an answer means ---------------------------------------------------------------------------------------------


def test_only_the_exact_ok_is_clean() -> None:
    assert judge(b"stream: OK") == ()
    wrong = (b"", b"OK", b"stream: OK ", b"stream:OK", b"stream: ok", b"Stream: OK", b"stream: OK\n", b"fd[1]: OK")
    for almost in wrong:
        assert judge(almost) != ()


def test_a_found_name_is_malware_of_the_highest_severity() -> None:
    assert judge(b"stream: Win.Test.A-1 FOUND", "ab") == (Finding("clamd", "Win.Test.A-1", "malware", 1, "ab"),)


def test_extended_detection_info_is_not_part_of_the_name() -> None:
    answer = b"stream: Test.Eicar(44d88612fea8a8f36de82e1278abb02f:68) FOUND"
    assert judge(answer) == (Finding("clamd", "Test.Eicar", "malware", 1),)


def test_an_exceeded_limit_is_neither_clean_nor_a_virus() -> None:
    assert judge(b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND") == unscanned("limit exceeded: MaxFileSize")
    assert judge(b"stream: Heuristics.Limits.Exceeded FOUND") == unscanned("limit exceeded")


def test_an_encrypted_content_is_a_finding_of_its_own_category() -> None:
    name = "Heuristics.Encrypted.PDF"
    assert judge(f"stream: {name} FOUND".encode()) == (Finding("clamd", name, "encrypted", 3),)


def test_an_error_is_unscanned_with_its_words() -> None:
    assert judge(b"INSTREAM size limit exceeded. ERROR") == unscanned("size limit")
    assert judge(b"stream: Can't allocate memory ERROR") == unscanned("error: Can't allocate memory")
    assert judge(b"ERROR") == unscanned("error")


def test_what_is_no_answer_of_clamd_means_nothing() -> None:
    nameless = (b"stream: FOUND", b"stream:  FOUND", b"stream: a\nb FOUND")
    for garbage in (*nameless, b"\xff\x16", b"PONG", b"stream: \x1b[2J ERROR"):
        assert judge(garbage) is None


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda name: f"stream: {name}".encode()))
def test_nothing_but_ok_is_ever_clean(answer: bytes) -> None:
    assert judge(answer) != () or answer == b"stream: OK"


def test_the_version_tells_engine_signatures_and_their_date() -> None:
    version = Version.parse("ClamAV 1.0.9/27000/Sat Nov  1 09:26:00 2025")
    assert version is not None
    assert (version.engine, version.database) == ("1.0.9", 27000)
    assert version.built is not None
    assert (version.built.year, version.built.month, version.built.day, version.built.hour) == (2025, 11, 1, 9)
    assert version.built.tzinfo is not None
    assert Version.parse("ClamAV 1.4.6") == Version("1.4.6")
    assert Version.parse("Postfix 3.7") is None


def test_addresses_are_read_and_wrong_ones_name_the_remedy() -> None:
    assert Address.parse("unix:/run/clamd.ctl") == Address("unix", path="/run/clamd.ctl")
    assert Address.parse("tcp:localhost:3310") == Address("tcp", host="localhost", port=3310)
    assert str(Address.parse("tcp:[::1]:3310")) == "tcp:[::1]:3310"
    for wrong in ("", "/run/clamd.ctl", "unix:clamd.ctl", "tcp:localhost", "tcp:h:0", "tcp:h:70000", "udp:h:1"):
        with pytest.raises(ConfigError, match=r"unix:/run/clamav/clamd\.ctl"):
            ClamdEngine(wrong)


# --- faults -----------------------------------------------------------------------------------------------------------

BREAKS = {
    "garbage": "garbage", "html": "half an answer", "half": "half an answer", "close": "connection lost",
    "reset": "connection lost", "wrong_id": "garbage", "no_id": "garbage", "flood": "garbage", "twice": "garbage",
    "clean_ish": "garbage",
}  # fmt: skip


@pytest.mark.parametrize("size", [0, 100, BIG])
@pytest.mark.parametrize("fault", sorted(BREAKS))
def test_a_broken_answer_is_never_clean(run: Run[Any], sockets: Path, fault: str, size: int) -> None:
    async def work(engine: ClamdEngine) -> Outcome:
        return await engine.scan(bytes(size), "ab")

    with FakeClamd(sockets / "s", fault) as fake:
        outcome = run(using(ClamdEngine(fake.address, timeout=5), work))
    (only,) = outcome
    assert isinstance(only, Unscanned)
    assert only.sha256 == "ab"
    assert only.reason == BREAKS[fault]


def test_an_ok_before_all_of_the_content_was_sent_is_not_taken(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> Outcome:
        return await engine.scan(bytes(BIG * 4))

    with FakeClamd(sockets / "s", "early") as fake:
        assert run(using(ClamdEngine(fake.address), work)) == unscanned("garbage")


@pytest.mark.parametrize("size", [100, BIG])
@pytest.mark.parametrize("fault", ["hung", "deaf", "slow"])
def test_a_clamd_that_does_not_answer_in_time_is_a_timeout(run: Run[Any], sockets: Path, fault: str, size: int) -> None:
    async def work(engine: ClamdEngine) -> tuple[Outcome, float]:
        began = time.monotonic()
        return await engine.scan(bytes(size)), time.monotonic() - began

    with FakeClamd(sockets / "s", fault, delay=3) as fake:
        outcome, took = run(using(ClamdEngine(fake.address, timeout=0.3), work))
    assert outcome == unscanned("timeout")
    assert took < 1


def test_a_hung_session_is_not_used_again(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        return [await engine.scan(b"first"), await engine.scan(b"second")]

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["hung"]
        assert run(using(ClamdEngine(fake.address, timeout=0.3), work)) == [unscanned("timeout"), ()]


def test_a_late_answer_is_not_taken_for_another_scan(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        late = engine.submit(b"late")
        await asyncio.sleep(0.2)
        other = engine.submit(b"other" + EICAR)
        return [await late, await other]

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["slow"]
        fake.delay = 0.4
        outcomes = run(using(ClamdEngine(fake.address, timeout=0.35, sessions=1), work))
    assert outcomes == [unscanned("timeout"), (Finding("clamd", "Test.Eicar", "malware", 1),)]


@pytest.mark.parametrize("size", [100, BIG])
def test_a_lost_connection_is_tried_once_more(run: Run[Any], sockets: Path, size: int) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        return [await engine.scan(bytes(size)), await engine.scan(bytes(size) + EICAR)]

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["close", "", "half", ""]
        assert run(using(ClamdEngine(fake.address), work)) == [(), (Finding("clamd", "Test.Eicar", "malware", 1),)]


def test_one_wrong_answer_in_a_read_makes_the_others_of_that_read_doubtful(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> Outcome:
        return await engine.scan(b"x")

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["twice", ""]
        assert run(using(ClamdEngine(fake.address), work)) == ()
        assert len(fake.streams) == 2


def test_answers_may_come_octet_by_octet(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        return list(await asyncio.gather(*(engine.scan(b"%d" % n + EICAR * (n % 2)) for n in range(6))))

    with FakeClamd(sockets / "s", "split") as fake:
        outcomes = run(using(ClamdEngine(fake.address), work))
    assert [bool(outcome) for outcome in outcomes] == [False, True] * 3
    assert not any(isinstance(one, Unscanned) for outcome in outcomes for one in outcome)


@pytest.mark.parametrize("size", [100, BIG])
def test_an_error_of_clamd_is_unscanned(run: Run[Any], sockets: Path, size: int) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        return [await engine.scan(bytes(size)), await engine.scan(bytes(size)), await engine.scan(bytes(size))]

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["error", "limit"]
        outcomes = run(using(ClamdEngine(fake.address), work))
    assert outcomes == [unscanned("error: Can't allocate memory"), unscanned("size limit"), ()]


def test_an_idle_session_that_clamd_closed_is_reopened_quietly(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        first = await engine.scan(b"first")
        big = await engine.scan(bytes(BIG))
        fake.drop_connections()
        await asyncio.sleep(0.1)
        return [first, big, await engine.scan(b"second"), await engine.scan(bytes(BIG))]

    with FakeClamd(sockets / "s") as fake:
        assert run(using(ClamdEngine(fake.address), work)) == [(), (), (), ()]
        assert len(fake.streams) == 4


def test_without_a_clamd_scans_fail_at_once_and_do_not_storm(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        began = time.monotonic()
        outcomes = [await engine.scan(b"x") for _ in range(50)] + [await engine.scan(bytes(BIG))]
        assert time.monotonic() - began < 0.5
        down = engine.health
        assert not down["up"]
        assert down["fault"]
        with FakeClamd(sockets / "s") as fake:
            outcomes.append(await engine.scan(b"x"))
            await asyncio.sleep(0.6)
            outcomes.append(await engine.scan(b"x"))
            assert fake.connections == 1
        assert engine.health["up"]
        return outcomes

    outcomes = run(using(ClamdEngine(f"unix:{sockets / 's'}", retry_after=0.5), work))
    assert outcomes == [unscanned("unreachable")] * 52 + [()]


def test_a_scan_given_up_leaves_its_neighbours_alone(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        await engine.scan(b"warm")
        given_up = engine.submit(b"given up")
        kept = engine.submit(b"kept")
        given_up.cancel()
        big = engine.submit(bytes(BIG))
        await asyncio.sleep(0.05)
        big.cancel()
        return [await kept, await engine.scan(b"later"), await engine.scan(bytes(BIG))]

    with FakeClamd(sockets / "s") as fake:
        fake.faults = ["", "slow", "slow", "slow"]
        fake.delay = 0.1
        assert run(using(ClamdEngine(fake.address, sessions=1), work)) == [(), (), ()]


def test_closing_the_engine_answers_what_waits(run: Run[Any], sockets: Path) -> None:
    async def work() -> list[Outcome]:
        engine = ClamdEngine(fake.address)
        await engine.start()
        await engine.scan(b"warm")
        waiting = [engine.submit(b"small"), engine.submit(bytes(BIG))]
        await asyncio.sleep(0.05)
        waiting.append(engine.submit(bytes(BIG)))
        await engine.close()
        waiting.append(engine.submit(b"after"))
        return [await one for one in waiting]

    with FakeClamd(sockets / "s", "hung") as fake:
        fake.faults = [""]
        assert run(work()) == [unscanned("closed")] * 4


def test_a_spool_that_is_shorter_than_it_says_is_not_taken_for_clean(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        outcomes = []
        for size in (100, BIG):
            spool = spool_of(bytes(size))
            spool.close()
            outcomes.append(await engine.scan(spool))
        return outcomes

    with FakeClamd(sockets / "s") as fake:
        assert run(using(ClamdEngine(fake.address), work)) == [unscanned("content unreadable")] * 2
        assert fake.streams == []


def test_a_slow_clamd_bounds_what_waits_in_memory_and_drops_nothing(run: Run[Any], sockets: Path) -> None:
    content = os.urandom(SMALL)

    async def work(engine: ClamdEngine) -> list[Outcome]:
        await engine.scan(b"warm")
        scans = [engine.submit(content) for _ in range(60)]
        queued = [session._accepted - session._sent for session in engine._all]
        assert max(queued) < 2_000_000
        return [await scan for scan in scans]

    with FakeClamd(sockets / "s") as fake:
        assert run(using(ClamdEngine(fake.address), work)) == [()] * 60
        assert fake.streams[1:] == [content] * 60


def test_a_new_database_changes_the_fingerprint(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> list[str]:
        seen = [engine.fingerprint]
        assert not await engine.refresh()
        fake.version = "ClamAV 1.0.9/27001/Sun Nov 22 09:26:00 2020"
        assert await engine.refresh()
        assert engine.health["database"] == 27001
        age = engine.health["signature_age"]
        assert isinstance(age, int)
        assert age > 1000
        fake.version = "rubbish"
        assert not await engine.refresh()
        return [*seen, engine.fingerprint]

    with FakeClamd(sockets / "s", version="ClamAV 1.0.9/27000/Sat Nov 21 09:26:00 2020") as fake:
        before, after = run(using(ClamdEngine(fake.address), work))
    assert before != after


def test_the_version_is_looked_at_in_the_background(run: Run[Any], sockets: Path) -> None:
    async def work(engine: ClamdEngine) -> None:
        before = engine.fingerprint
        fake.version = "ClamAV 1.0.9/2/Sun Nov 22 09:26:00 2020"
        for _ in range(500):
            if engine.fingerprint != before:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("nobody looked")

    with FakeClamd(sockets / "s") as fake:
        run(using(ClamdEngine(fake.address, refresh_every=0.1), work))


def test_a_version_that_drips_in_is_given_up_in_time(sockets: Path) -> None:
    def drip() -> None:
        client, _ = server.accept()
        with client, contextlib.suppress(OSError):
            for _ in range(200):
                client.send(b"C")
                time.sleep(0.02)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sockets / "s"))
        server.listen()
        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(OSError, match="Could not get version"):
            query_version(Address.parse(f"unix:{sockets / 's'}"), 0.2)
        assert time.monotonic() - began < 1
        thread.join(5)


# --- the real clamd ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_the_real_clamd_finds_and_clears(run: Run[Any], clamd: RealClamd, kind: str) -> None:
    async def work(engine: ClamdEngine) -> None:
        assert engine.health["up"] is True
        assert str(engine.version).startswith("1.")
        assert await engine.scan(b"") == ()
        assert await engine.scan(b"hello") == ()
        found = (Finding("clamd", "Test.Eicar.UNOFFICIAL", "malware", 1, "ab"),)
        assert await engine.scan(EICAR, "ab") == found
        assert await engine.scan(LIMITS_MARK) == unscanned("limit exceeded: MaxFileSize.UNOFFICIAL")
        assert [one.category for one in await engine.scan(ENCRYPTED_MARK) if isinstance(one, Finding)] == ["encrypted"]
        filler = os.urandom(1_500_000)
        assert await engine.scan(filler) == ()
        assert await engine.scan(filler + EICAR, "ab") == found
        for memory in (4_194_304, 1):
            with spool_of(filler + EICAR, memory=memory) as spool:
                assert await engine.scan(spool, "ab") == found
            with spool_of(b"small" + EICAR, memory=memory) as spool:
                assert await engine.scan(spool, "ab") == found

    run(using(ClamdEngine(getattr(clamd, kind)), work))


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_what_is_over_the_real_clamds_stream_limit_is_unscanned(run: Run[Any], clamd: RealClamd, kind: str) -> None:
    async def work(engine: ClamdEngine) -> None:
        with spool_of(bytes(STREAM_MAX * 3), memory=1) as spool:
            assert await engine.scan(spool) == unscanned("size limit")
        assert await engine.scan(b"after") == ()
        assert await engine.scan(os.urandom(BIG)) == ()

    run(using(ClamdEngine(getattr(clamd, kind)), work))


def test_three_hundred_scans_at_once_get_each_their_own_answer(run: Run[Any], clamd: RealClamd) -> None:
    async def work(engine: ClamdEngine) -> list[Outcome]:
        contents = []
        for number in range(300):
            size = BIG if number % 50 == 0 else 200
            contents.append(b"%d " % number + os.urandom(size) + (EICAR if number % 3 == 0 else b""))
        outcomes: list[Outcome] = await asyncio.gather(*map(engine.scan, contents))
        assert len(engine._all) <= 6
        return outcomes

    outcomes = run(using(ClamdEngine(clamd.unix), work))
    assert [bool(outcome) for outcome in outcomes] == [number % 3 == 0 for number in range(300)]
    assert not any(isinstance(one, Unscanned) for outcome in outcomes for one in outcome)


def test_killing_the_real_clamd_in_the_middle_makes_nothing_clean_and_a_restart_heals(
    run: Run[Any], mortal_clamd: RealClamd
) -> None:
    async def work(engine: ClamdEngine) -> None:
        assert await engine.scan(b"warm") == ()
        waiting = [engine.submit(os.urandom(50_000) + EICAR) for _ in range(40)]
        waiting += [engine.submit(os.urandom(1_000_000) + EICAR) for _ in range(8)]
        await asyncio.sleep(0.005)
        await asyncio.to_thread(mortal_clamd.kill)
        outcomes = [await one for one in waiting]
        assert () not in outcomes
        assert any(isinstance(outcome[0], Unscanned) for outcome in outcomes)
        (refused,) = await engine.scan(b"while it is down")
        assert isinstance(refused, Unscanned)
        await asyncio.to_thread(mortal_clamd.start)
        await asyncio.sleep(0.2)
        assert await engine.scan(b"back") == ()
        assert [type(one) for one in await engine.scan(EICAR)] == [Finding]

    run(using(ClamdEngine(mortal_clamd.unix, retry_after=0.2), work))

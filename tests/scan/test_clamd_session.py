"""One session against a peer that the test plays itself: octets in, outcomes out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.scan.clamd_session import Scan, Session
from netinspect.scan.contract import Finding, Unscanned
from tests.scan.conftest import Run

Outcome = tuple[Finding | Unscanned, ...]


class Play:
    """A session, its peer's end, and what the session reported as lost."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        ours, self.peer = socket.socketpair()
        self.lost: list[tuple[str, list[Scan]]] = []
        self.session = Session(ours, self.loop, lambda session, scans: self.lost.append((session.reason, scans)))

    def scan(self, content: bytes = b"x", timeout: float = 5.0) -> Scan:
        scan = Scan(content, "", self.loop.create_future(), self.loop.time() + timeout)
        self.session.send(scan)
        return scan

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            with contextlib.suppress(BrokenPipeError):
                self.peer.send(piece)
            await settled()

    def heard(self) -> bytes:
        self.peer.setblocking(False)
        return self.peer.recv(1 << 20)

    def close(self) -> None:
        self.session.close()
        self.peer.close()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def played(work: Callable[[Play], Any]) -> Any:
    async def run() -> Any:
        play = Play()
        try:
            return await work(play)
        finally:
            play.close()

    return run()


@given(st.data(), st.integers(1, 8))
def test_however_the_answers_are_cut_and_ordered_each_scan_gets_its_own(data: st.DataObject, scans: int) -> None:
    order = data.draw(st.permutations(range(scans)))
    answers = b"".join(b"%d: stream: %s\0" % (n + 1, b"V%d FOUND" % n if n % 2 else b"OK") for n in order)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answers)), max_size=8)))
    pieces = [answers[a:b] for a, b in zip([0, *cuts], [*cuts, len(answers)], strict=True) if b > a]

    async def work(play: Play) -> list[Outcome]:
        waiting = [play.scan() for _ in range(scans)]
        await play.say(*pieces)
        assert play.session.alive
        assert play.session.pending == 0
        return [scan.future.result() for scan in waiting]

    outcomes = asyncio.run(played(work))
    assert outcomes == [(Finding("clamd", f"V{n}", "malware", 1),) if n % 2 else () for n in range(scans)]


@given(st.binary(min_size=1, max_size=64))
def test_no_octets_but_the_exact_answer_make_a_scan_clean(noise: bytes) -> None:
    async def work(play: Play) -> Scan:
        scan = play.scan()
        await play.say(noise)
        play.peer.close()
        await settled()
        return scan

    scan = asyncio.run(played(work))
    assert not scan.future.done() or scan.future.result() != () or noise.startswith(b"1: stream: OK\0")


@given(st.lists(st.sampled_from([b"1: stream: OK", b"2: stream: OK", b"3: stream: OK", b"01: stream: OK", b"1: x"])))
def test_a_read_with_one_wrong_answer_settles_nothing(frames: list[bytes]) -> None:
    async def work(play: Play) -> tuple[list[bool], bool]:
        scans = [play.scan(), play.scan()]
        await play.say(b"".join(frame + b"\0" for frame in frames))
        return [scan.future.done() for scan in scans], play.session.alive

    done, alive = asyncio.run(played(work))
    good = {b"1: stream: OK", b"2: stream: OK"}
    if set(frames) <= good and len(set(frames)) == len(frames):
        assert done == [b"%d: stream: OK" % number in frames for number in (1, 2)]
        assert alive
    else:
        assert done == [False, False]
        assert not alive


def test_the_commands_are_framed_as_clamd_wants_them(run: Run[Any]) -> None:
    async def work(play: Play) -> bytes:
        play.scan(b"abc")
        play.scan(b"")
        return play.heard()

    zero = b"\0\0\0\0"
    expected = b"zIDSESSION\0zINSTREAM\0\0\0\0\3abc" + zero + b"zINSTREAM\0" + zero
    assert run(played(work)) == expected


@pytest.mark.parametrize("end", ["eof", "garbage"])
def test_a_lost_session_reports_each_unanswered_scan_once(run: Run[Any], end: str) -> None:
    async def work(play: Play) -> None:
        first, second, third = play.scan(), play.scan(), play.scan()
        await play.say(b"2: stream: OK\0")
        third.future.cancel()
        if end == "eof":
            play.peer.close()
        else:
            await play.say(b"rubbish\0")
        await asyncio.sleep(0.01)
        assert second.future.result() == ()
        assert play.lost == [("connection lost" if end == "eof" else "garbage", [first])]
        assert play.session.lost.done()

    run(played(work))


def test_an_overdue_scan_retires_the_session_which_ends_with_its_last_answer(run: Run[Any]) -> None:
    async def work(play: Play) -> None:
        overdue, patient = play.scan(timeout=0.05), play.scan()
        await asyncio.sleep(0.1)
        assert overdue.future.result() == (Unscanned("clamd", "timeout"),)
        assert not play.session.alive
        await play.say(b"1: stream: OK\0")
        assert not play.session.lost.done()
        await play.say(b"2: stream: OK\0")
        assert patient.future.result() == ()
        assert play.session.lost.done()
        assert play.lost == []

    run(played(work))


@pytest.mark.parametrize("as_bytes", [True, False])
def test_an_upload_is_cut_into_chunks_and_waits_for_a_slow_reader(run: Run[Any], as_bytes: bool) -> None:
    content = random.Random(1).randbytes(3_000_000)

    class Pieces:
        size = len(content)

        def chunks(self, size: int, /) -> Any:
            yield b""
            yield from (content[at : at + 70_000] for at in range(0, len(content), 70_000))

        def getvalue(self) -> bytes:
            raise AssertionError("an upload is never put together")

    async def work(play: Play) -> bytes:
        scan = Scan(content if as_bytes else Pieces(), "", play.loop.create_future(), play.loop.time() + 5)
        upload = asyncio.ensure_future(play.session.upload(scan))
        heard = b""
        play.peer.setblocking(False)
        while not heard.endswith(b"\0\0\0\0"):
            await asyncio.sleep(0.001)
            assert play.session._accepted - play.session._sent < 2_000_000
            with contextlib.suppress(BlockingIOError):
                heard += play.peer.recv(100_000)
        await upload
        await play.say(b"1: stream: OK\0")
        assert scan.future.result() == ()
        assert play.session.alive
        return heard

    heard = run(played(work)).removeprefix(b"zIDSESSION\0zINSTREAM\0")
    joined = b""
    while size := int.from_bytes(heard[:4], "big"):
        joined += heard[4 : 4 + size]
        heard = heard[4 + size :]
    assert heard == b"\0\0\0\0"
    assert joined == content

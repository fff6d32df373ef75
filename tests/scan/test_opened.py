"""What a password opened is shown to clamd, which saw it closed; and where the password is looked for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from netinspect.files import passwords
from netinspect.limits import Limits
from netinspect.samples import archives
from netinspect.scan import wire
from netinspect.scan.clamd_wire import Outcome
from netinspect.scan.contract import Examination, Finding, Opened, Unscanned
from netinspect.scan.examine import Examiner
from netinspect.scan.panel import Panel
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from tests.files.test_odf import PLAIN, encrypted
from tests.scan.test_panel import FakeWorkers, examined, leaf, using

EXAMINER = Examiner(Limits())
SECRET = encrypted(PLAIN, "Sommer24")
TELLS = b"The password is Sommer24"
Run = Callable[[Any], Any]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- the examiner ---------------------------------------------------------------------------------------------------


def test_what_a_password_opened_comes_back() -> None:
    opened = EXAMINER.examine(SECRET, texts=[TELLS], opened=1 << 20).opened
    assert {one.data for one in opened} >= set(PLAIN.values())
    assert all(one.data is not None and one.sha256 == digest(one.data) for one in opened)


def test_what_stood_open_does_not_come_back() -> None:
    inner = archives.make_zip({"open.txt": b"open"})
    outer = archives.make_zip({"first.odt": SECRET, "second.zip": inner, "last.txt": b"last"})
    opened = {one.data for one in EXAMINER.examine(outer, texts=[TELLS], opened=1 << 20).opened}
    assert opened >= set(PLAIN.values())
    assert opened.isdisjoint({inner, b"open", b"last", SECRET})


def test_more_than_there_is_room_for_is_said() -> None:
    opened = EXAMINER.examine(SECRET, texts=[TELLS], opened=100).opened
    assert digest(PLAIN["Pictures/a.bin"]) in {one.sha256 for one in opened if one.data is None}
    assert sum(len(one.data) for one in opened if one.data is not None) <= 100


def test_nothing_comes_back_unless_it_is_wanted() -> None:
    assert EXAMINER.examine(SECRET, texts=[TELLS]).opened == ()


def test_the_name_of_a_file_may_tell_its_password() -> None:
    assert not EXAMINER.examine(SECRET, name="offer_password_Sommer24.odt").unscanned
    assert EXAMINER.examine(SECRET, name="offer.odt").unscanned


# --- the header -----------------------------------------------------------------------------------------------------


def test_a_password_in_the_subject_is_found() -> None:
    text = passwords.header_text([
        ("Received", b"from password (Sommer23)"), ("Subject", b"=?utf-8?q?Rechnung=2C_Passwort=3A_Sommer24?="),
    ])  # fmt: skip
    assert "Sommer24" in passwords.candidates([text])
    assert b"Sommer23" not in text


def test_a_header_that_speaks_of_no_password_is_not_sent_along() -> None:
    assert passwords.header_text([("Subject", b"Invoice 4711"), ("To", b"a@example.org")]) == b""


# --- the wire -------------------------------------------------------------------------------------------------------


def test_opened_contents_travel_behind_the_answer(run: Run) -> None:
    async def ask() -> list[Examination]:
        pool = WorkerPool(Limits(), WorkerSettings(count=1, rules=False, office=False, opened=wire.OPENED))
        await pool.start()
        try:
            requests = [LeafRequest(SECRET, "a.odt"), LeafRequest(b"letter", "b.txt"), LeafRequest(TELLS, text=True)]
            return await pool.examine(requests)
        finally:
            await pool.close()

    answers = run(ask())
    assert {one.data for one in answers[0].opened} >= set(PLAIN.values())
    assert answers[1].opened == answers[2].opened == ()


def test_octets_that_are_missing_or_too_many_are_a_bad_answer() -> None:
    answer = EXAMINER.examine(b"letter", opened=100)
    packed = wire.pack(Examination(answer.artifacts, opened=(Opened(digest(b"abc"), b"abc"),)))
    text = wire.frame([False, [packed]])[0][wire.HEADER.size :]
    assert wire.read_answer(text, [""], b"abc")[1][0].opened == (Opened(digest(b"abc"), b"abc"),)
    for octets in (b"ab", b"abcd", b""):
        with pytest.raises(wire.BadAnswer):
            wire.read_answer(text, [""], octets)


@pytest.mark.parametrize("row", [["x", 1], ["a" * 64, -2], ["a" * 64, "1"], ["a" * 64], ["a" * 64, 1 << 60]])
def test_a_lie_about_what_was_opened_is_a_bad_answer(row: list[Any]) -> None:
    packed = [*wire.pack(EXAMINER.examine(b"letter")), [row]]
    text = wire.frame([False, [packed]])[0][wire.HEADER.size :]
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(text, [""], b"abc")


# --- the panel ------------------------------------------------------------------------------------------------------


class FakeClamd:
    """Finds what it is told to find, and counts what it saw."""

    fingerprint = version = "clamd 1"

    def __init__(self, *finds: bytes, slow: bool = False) -> None:
        self.finds, self.slow = finds, slow
        self.seen: list[bytes] = []
        self.health: dict[str, object] = {"version": "1", "database": 1, "signature_age": 0}

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def submit(self, content: Any, sha256: str = "") -> asyncio.Future[Outcome]:
        data = content if isinstance(content, bytes) else content.getvalue()
        self.seen.append(data)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not self.slow or not isinstance(content, bytes):
            found = (Finding("clamd", "Test", "malware", 1, sha256),) if data in self.finds else ()
            future.set_result(found)
        return future


def answers_with(*opened: Opened) -> Callable[[Sequence[LeafRequest]], Any]:
    async def behave(leaves: Sequence[LeafRequest]) -> list[Examination]:
        return [Examination(examined(one).artifacts, opened=opened) for one in leaves]

    return behave


def panel_with(clamd: FakeClamd, *opened: Opened, limits: Limits | None = None) -> Panel:
    return Panel(limits or Limits(), FakeWorkers(answers_with(*opened)), clamd)  # type: ignore[arg-type]


def test_clamd_sees_what_was_opened(run: Run) -> None:
    clamd = FakeClamd(b"harmful")
    panel = panel_with(clamd, Opened(digest(b"harmful"), b"harmful"), Opened(digest(b"good"), b"good"))
    (answer,) = run(using(panel, panel.examine([leaf(b"closed")])))
    assert answer.findings == (Finding("clamd", "Test", "malware", 1, digest(b"harmful")),)
    assert answer.opened == answer.unscanned == ()
    assert clamd.seen == [b"closed", b"harmful", b"good"]


def test_what_was_too_much_is_unscanned_by_clamd(run: Run) -> None:
    panel = panel_with(FakeClamd(), Opened("b" * 64, None))
    (answer,) = run(using(panel, panel.examine([leaf(b"closed")])))
    assert answer.unscanned == (Unscanned("clamd", "too much was encrypted", "b" * 64),)


def test_what_clamd_had_no_time_for_is_unscanned(run: Run) -> None:
    panel = panel_with(FakeClamd(slow=True), Opened("b" * 64, b"opened"), limits=Limits(scan_time=0.2))
    (answer,) = run(using(panel, panel.examine([leaf(b"closed")])))
    assert answer.artifacts
    assert answer.unscanned == (Unscanned("clamd", "timeout", "b" * 64),)


def test_other_words_of_the_mail_go_along_only_with_something_that_can_be_closed(run: Run) -> None:
    asked: list[list[bytes]] = []

    async def behave(leaves: Sequence[LeafRequest]) -> list[Examination]:
        asked.append([one.data for one in leaves if isinstance(one.data, bytes)])
        return [examined(one) for one in leaves]

    panel = Panel(Limits(), FakeWorkers(behave))
    (answer,) = run(using(panel, panel.examine([leaf(b"closed")], lambda: TELLS)))
    assert asked == [[TELLS]]
    assert answer.artifacts[0].hashes.sha256 == digest(b"closed")

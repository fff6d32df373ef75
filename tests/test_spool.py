"""Spools: bounded memory, nameless files, a full disk."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.spool import Spool, SpoolBudget

SMALL = Limits(spool_memory=10_000, spool_memory_total=30_000)


def test_small_content_stays_in_memory_and_counts_against_the_budget() -> None:
    budget = SpoolBudget(30_000)
    spool = Spool(SMALL, budget)
    spool.write(b"abc")
    spool.write(b"def")
    assert (spool.size, spool.on_disk, spool.getvalue(), budget.used) == (6, False, b"abcdef", 6)
    assert spool.file is None
    with pytest.raises(ValueError, match="memory"):
        spool.fileno()
    spool.close()
    assert budget.used == 0


def test_more_than_its_own_limit_goes_to_disk_and_frees_the_memory(tmp_path: Path) -> None:
    budget = SpoolBudget(30_000)
    with Spool(SMALL, budget, tmp_path) as spool:
        for _ in range(30):
            spool.write(b"x" * 999)
        assert spool.on_disk
        assert budget.used == 0
        assert spool.getvalue() == b"x" * 29_970
        assert os.fstat(spool.fileno()).st_size == 29_970
        assert list(tmp_path.iterdir()) == []  # no name in the directory


def test_when_the_common_budget_is_used_up_the_next_spool_goes_to_disk_at_once() -> None:
    budget = SpoolBudget(15_000)
    first, second = Spool(SMALL, budget), Spool(SMALL, budget)
    first.write(b"a" * 9_000)
    second.write(b"b" * 9_000)
    assert (first.on_disk, second.on_disk) == (False, True)
    first.close()
    third = Spool(SMALL, budget)
    third.write(b"c" * 9_000)
    assert not third.on_disk
    second.close()
    third.close()
    assert budget.used == 0


def test_many_short_pieces_are_joined() -> None:
    spool = Spool(Limits(), SpoolBudget(10_000_000))
    for _ in range(20_000):
        spool.write(b"0123456789" * 5)
    assert sum(1 for _ in spool.chunks()) < 20
    assert spool.getvalue() == b"0123456789" * 100_000


def test_chunks_can_be_read_twice_and_are_never_longer_than_asked() -> None:
    for limits in (Limits(), SMALL):
        with Spool(limits, SpoolBudget(1_000_000)) as spool:
            spool.write(b"a" * 50_000)
            spool.write(b"b")
            pieces = list(spool.chunks(7_000))
            assert max(map(len, pieces)) <= 7_000
            assert b"".join(pieces) == b"".join(spool.chunks()) == b"a" * 50_000 + b"b"


def test_close_twice_gives_the_budget_back_once_and_later_writes_are_refused() -> None:
    budget = SpoolBudget(100)
    spool = Spool(Limits(), budget)
    spool.write(b"12345")
    spool.close()
    spool.close()
    assert budget.used == 0
    with pytest.raises(ValueError, match="closed"):
        spool.write(b"6")


def test_a_spool_that_nobody_closed_gives_its_budget_back() -> None:
    budget = SpoolBudget(100)
    Spool(Limits(), budget).write(b"12345")
    gc.collect()
    assert budget.used == 0


def _full(*_: object, **__: object) -> Any:
    return open("/dev/full", "r+b", buffering=0)


def test_a_full_disk_raises_and_the_spool_says_that_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", _full)
    budget = SpoolBudget(30_000)
    spool = Spool(SMALL, budget)
    spool.write(b"a" * 9_000)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        spool.write(b"a" * 9_000)
    assert caught.value.errno == errno.ENOSPC
    assert spool.failed
    with pytest.raises(OSError, match="failed before"):
        spool.write(b"a")
    spool.close()
    assert budget.used == 0


def test_a_full_disk_shows_at_flush_when_only_short_pieces_were_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", _full)
    spool = Spool(Limits(spool_memory=0), SpoolBudget(0))
    spool.write(b"short")
    with pytest.raises(OSError, match="space"):
        spool.flush()
    assert spool.failed
    spool.close()


def test_a_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    spool = Spool(Limits(spool_memory=0), SpoolBudget(0), tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        spool.write(b"x")
    assert spool.failed
    spool.close()


def test_the_budget_holds_under_threads() -> None:
    budget = SpoolBudget(1_000)

    def work() -> None:
        for _ in range(2_000):
            if budget.take(300):
                assert budget.used <= 1_000
                budget.give(300)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert budget.used == 0


@given(st.lists(st.binary(max_size=9_000), max_size=12), st.integers(0, 20_000), st.integers(0, 20_000))
def test_what_is_read_is_what_was_written(pieces: list[bytes], memory: int, total: int) -> None:
    budget = SpoolBudget(total)
    with Spool(Limits(spool_memory=memory), budget) as spool:
        for piece in pieces:
            spool.write(piece)
            assert budget.used <= total
        whole = b"".join(pieces)
        assert spool.size == len(whole)
        assert b"".join(spool.chunks(1_000)) == whole == spool.getvalue()
    assert budget.used == 0

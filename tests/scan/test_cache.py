"""The cache: bounded, never stale, and an answer fits wherever the same content stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.artifact import Artifact, Hashes
from netinspect.scan.cache import ExaminationCache, Key, rebase
from netinspect.scan.contract import Examination, Finding, Unscanned


def key(number: int, name: str = "") -> Key:
    return (f"{number:064x}", name, "text/plain", False)


def examined(path: str = "1", members: int = 0) -> Examination:
    artifacts = [Artifact(Hashes("a", "b", "c"), 1, "zip", path)]
    artifacts += [Artifact(Hashes("d", "e", "f"), 1, "data", f"{path}/m{n}", parent_sha256="a") for n in range(members)]
    return Examination(tuple(artifacts))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cache_of(entries: int = 4, clock: Clock | None = None) -> ExaminationCache:
    cache = ExaminationCache(entries, 100.0, clock or Clock())
    assert cache.get(key(0), "v1") is None
    return cache


def test_what_was_put_is_found_under_the_same_key_only() -> None:
    cache = cache_of()
    assert cache.put(key(1, "a.pdf"), "v1", examined())
    assert cache.get(key(1, "a.pdf"), "v1") == examined()
    assert cache.get(key(1, "a.pdf.exe"), "v1") is None
    assert (cache.hits, cache.misses) == (1, 2)


def test_new_signatures_empty_it() -> None:
    cache = cache_of()
    cache.put(key(1), "v1", examined())
    assert cache.get(key(1), "v2") is None
    assert len(cache) == 0
    assert cache.get(key(1), "v1") is None


def test_an_answer_of_old_signatures_that_comes_late_is_not_kept() -> None:
    cache = cache_of()
    cache.get(key(2), "v2")
    assert not cache.put(key(1), "v1", examined())
    assert cache.get(key(1), "v2") is None


def test_an_answer_does_not_stand_for_ever() -> None:
    clock = Clock()
    cache = cache_of(clock=clock)
    cache.put(key(1), "v1", examined())
    clock.now = 99.9
    assert cache.get(key(1), "v1") is not None
    clock.now = 100.0
    assert cache.get(key(1), "v1") is None
    assert len(cache) == 0


def test_what_is_missing_for_the_moment_is_not_kept() -> None:
    for engine in ("clamd", "worker", "panel", "office", "rules"):
        cache = cache_of()
        assert not cache.put(key(1), "v1", Examination(unscanned=(Unscanned(engine, "timeout"),)))
        assert cache.get(key(1), "v1") is None


def test_what_can_never_be_looked_at_is_kept_as_such() -> None:
    cache = cache_of()
    for number, missing in enumerate((Unscanned("files", "archive_ratio"), Unscanned("office", "encrypted"))):
        assert cache.put(key(number), "v1", Examination(unscanned=(missing,)))
        assert cache.get(key(number), "v1") == Examination(unscanned=(missing,))


def test_the_least_recently_used_goes_first() -> None:
    cache = cache_of(entries=3)
    for number in range(3):
        cache.put(key(number), "v1", examined())
    cache.get(key(0), "v1")
    cache.put(key(3), "v1", examined())
    assert [cache.get(key(number), "v1") is not None for number in range(4)] == [True, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60))))
def test_it_is_bounded_in_entries_and_in_what_they_hold(puts: list[tuple[int, int]]) -> None:
    cache = cache_of(entries=10)
    for number, members in puts:
        cache.put(key(number), "v1", examined(members=members))
        held = list(cache._known.values())
        assert len(held) <= 10
        assert cache._weight == sum(entry[2] for entry in held) <= 40


def test_rebase_moves_the_leaf_and_all_in_it() -> None:
    moved = rebase(examined("1.2", members=2), "3")
    assert [one.path for one in moved.artifacts] == ["3", "3/m0", "3/m1"]
    assert moved == examined("3", members=2)
    assert rebase(examined("1"), "1.10") == examined("1.10")


def test_rebase_keeps_everything_else() -> None:
    artifact = Artifact(Hashes("a", "b", "c"), 5, "doc", "1", "n", "d/e", "", "TRUNCATED", True)
    findings = (Finding("x", "y", "macro", 3, "a"),)
    moved = rebase(Examination((artifact,), findings), "2")
    (only,) = moved.artifacts
    assert only == Artifact(Hashes("a", "b", "c"), 5, "doc", "2", "n", "d/e", "", "TRUNCATED", True)
    assert moved.findings is findings


def test_rebase_of_nothing_is_nothing() -> None:
    assert rebase(Examination(), "2") == Examination()

"""How much of a message was looked at, and what may be called clean."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from netinspect.files.artifact import Artifact, Hashes
from netinspect.policy import Coverage, Facts, SessionFacts, Skipped
from netinspect.policy.coverage import SKIPPED, cover, uncovered
from netinspect.scan.contract import Finding, Unscanned

SESSION = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25)


def part(path: str, size: int = 10, digest: str = "", **rest: str) -> Artifact:
    return Artifact(Hashes(digest or f"h{path}", "", ""), size, "data", path, **rest)  # type: ignore[arg-type]


TEXT, ZIP, MEMBER, OTHER = part("1.1", 6), part("1.2", 100), part("1.2/a.doc", 50), part("1.20", 7)
ALL = (TEXT, ZIP, MEMBER, OTHER)


def test_what_was_wholly_looked_at_is_complete() -> None:
    coverage = cover(ALL)
    assert coverage == Coverage(4, 163, 4, 163, 4, 163)
    assert coverage.complete


def test_a_message_without_any_part_is_complete() -> None:
    assert cover(()).complete


def test_what_no_engine_looked_at_is_not_scanned_nor_is_what_is_inside() -> None:
    coverage = cover(ALL, (Unscanned("clamd", "timeout", "h1.2"),))
    assert (coverage.scanned, coverage.scanned_bytes) == (2, 13)
    assert coverage.skipped == (Skipped("1.2", "clamd: timeout"),)
    assert (coverage.decoded, coverage.complete) == (4, False)


def test_a_member_that_was_not_looked_at_leaves_the_rest_scanned() -> None:
    coverage = cover(ALL, (Unscanned("office", "office: timeout", "h1.2/a.doc"),))
    assert coverage.scanned == 3
    assert coverage.skipped == (Skipped("1.2/a.doc", "office: timeout"),)


def test_the_same_content_in_two_places_is_skipped_in_both() -> None:
    twice = (part("1.1", digest="x"), part("1.2", digest="x"))
    assert [one.path for one in cover(twice, (Unscanned("clamd", "gone", "x"),)).skipped] == ["1.1", "1.2"]


@pytest.mark.parametrize("entry", [Unscanned("spool", "disk full"), Unscanned("files", "gone", "no such part")])
def test_what_is_about_no_part_is_about_the_message(entry: Unscanned) -> None:
    coverage = cover(ALL, (entry,))
    assert coverage.skipped == (Skipped("", f"{entry.engine}: {entry.reason}"),)
    assert not coverage.complete


def test_what_may_be_read_otherwise_is_not_decoded_and_what_was_cut_neither() -> None:
    cut = dataclasses.replace(OTHER, state="TRUNCATED")
    coverage = cover((TEXT, ZIP, cut), undecoded=[("1.1", "base64_rubbish")])
    assert (coverage.decoded, coverage.decoded_bytes, coverage.scanned) == (1, 100, 3)
    assert coverage.skipped == (
        Skipped("1.1", "not decoded: base64_rubbish"),
        Skipped("1.20", "not decoded: truncated"),
    )


def test_what_was_let_through_by_its_hash_was_not_looked_at() -> None:
    coverage = cover(ALL, passed=[("h1.1", "on the allow list")])
    assert coverage.scanned == 3
    assert coverage.skipped == (Skipped("1.1", "on the allow list"),)


def test_without_an_engine_nothing_was_looked_at() -> None:
    coverage = cover(ALL, scanned=False)
    assert (coverage.decoded, coverage.scanned, coverage.scanned_bytes) == (4, 0, 0)
    assert coverage.skipped == (Skipped("", "no engine is on"),)
    assert not cover((), scanned=False).complete


def test_a_message_that_was_not_judged_is_not_covered() -> None:
    assert uncovered(3, 99, "busy") == Coverage(3, 99, skipped=(Skipped("", "busy"),))


def test_the_list_of_what_was_skipped_is_bounded_and_the_counts_are_not() -> None:
    parts = tuple(part(f"1.{number}") for number in range(SKIPPED + 50))
    coverage = cover(parts, [Unscanned("clamd", "gone", one.hashes.sha256) for one in parts])
    assert len(coverage.skipped) == SKIPPED
    assert (coverage.parts, coverage.scanned) == (SKIPPED + 50, 0)


def test_clean_is_said_only_of_a_message_wholly_covered() -> None:
    clean = Facts(SESSION, coverage=cover(ALL))
    assert clean.clean
    note = Finding("office", "x", "macro", 3)
    assert dataclasses.replace(clean, findings=(note,)).clean
    changes: tuple[dict[str, Any], ...] = (
        {"coverage": None},
        {"coverage": cover(ALL, passed=[("h1.1", "on the allow list")])},
        {"unscanned": (Unscanned("clamd", "gone"),)},
        {"findings": (note, dataclasses.replace(note, severity=2))},
    )
    for change in changes:
        assert not dataclasses.replace(clean, **change).clean

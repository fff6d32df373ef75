"""Hash lists: what a line may be, what blocks, what lets through, and what happens when a file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from netinspect.errors import EngineError
from netinspect.files.artifact import Artifact, Hashes
from netinspect.scan.contract import Finding
from netinspect.scan.hashes import HashLists

CONTENT = b"content"
HASHES = Hashes(
    hashlib.sha256(CONTENT).hexdigest(), hashlib.sha1(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()  # noqa: S324
)
ARTIFACT = Artifact(HASHES, len(CONTENT), "text", "1")


def listed(tmp_path: Path, text: str, name: str = "block") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("digest", [HASHES.sha256, HASHES.sha1, HASHES.md5, HASHES.sha256.upper()])
def test_each_kind_of_digest_blocks(tmp_path: Path, digest: str) -> None:
    lists = HashLists.load([listed(tmp_path, f"# comment\n\n{digest},Worm.A\r\n")])
    assert lists.check(ARTIFACT) == Finding("hashes", "Worm.A", "malware", 1, HASHES.sha256, digest.lower())


@pytest.mark.parametrize("line", ["{}", "{}  some file.exe", "{}\tcomment", "  {}  ", "{} *file", "{},"])
def test_a_digest_without_a_name_names_itself(tmp_path: Path, line: str) -> None:
    finding = HashLists.load([listed(tmp_path, line.format(HASHES.sha256))]).check(ARTIFACT)
    assert finding is not None
    assert finding.signature == f"Blocked.{HASHES.sha256[:16]}"


def test_what_is_not_listed_is_neither_blocked_nor_allowed(tmp_path: Path) -> None:
    lists = HashLists.load([listed(tmp_path, "0" * 64)], [listed(tmp_path, "1" * 64, "allow")])
    assert lists.check(ARTIFACT) is None
    assert not lists.allowed(HASHES.sha256)
    assert len(lists) == 2


def test_an_artifact_without_digests_is_not_blocked_by_accident(tmp_path: Path) -> None:
    lists = HashLists.load([listed(tmp_path, "# nothing\n")])
    assert lists.check(Artifact(Hashes(HASHES.sha256, "", ""), 1, "data", "1")) is None


def test_an_allowed_digest_lets_through_unless_it_is_blocked_too(tmp_path: Path) -> None:
    allow = listed(tmp_path, HASHES.sha256, "allow")
    assert HashLists.load([], [allow]).allowed(HASHES.sha256)
    assert not HashLists.load([listed(tmp_path, HASHES.sha256)], [allow]).allowed(HASHES.sha256)


@pytest.mark.parametrize("digest", [HASHES.sha1, HASHES.md5])
def test_an_allow_list_takes_no_digest_that_can_be_forged(tmp_path: Path, digest: str) -> None:
    path = listed(tmp_path, f"# one\n{digest}\n")
    with pytest.raises(EngineError, match=r"block:2: an allow list takes no .*; write the SHA-256"):
        HashLists.load([], [path])


@pytest.mark.parametrize("line", ["xyz", HASHES.sha256[:-1], "g" * 64, "٣" * 64, ",name", f"name,{HASHES.sha256}"])
def test_a_wrong_line_is_an_error_that_names_it(tmp_path: Path, line: str) -> None:
    path = listed(tmp_path, f"{HASHES.sha256}\n{line}\n")
    with pytest.raises(EngineError, match=f"^{path}:2: "):
        HashLists.load([path])


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere: the hash list cannot be read"):
        HashLists.load([tmp_path / "nowhere"])


def test_a_changed_list_counts_from_the_next_look_on(tmp_path: Path) -> None:
    path = listed(tmp_path, "0" * 64)
    lists = HashLists.load([path])
    assert not lists.refresh()
    path.write_text(HASHES.sha256)
    os.utime(path, ns=(1, 1))
    assert lists.check(ARTIFACT) is None
    assert lists.refresh()
    assert lists.check(ARTIFACT) is not None


@pytest.mark.parametrize("change", ["broken", "gone"])
def test_a_list_that_breaks_later_leaves_the_old_one_in_force(tmp_path: Path, change: str) -> None:
    path = listed(tmp_path, HASHES.sha256)
    lists = HashLists.load([path])
    if change == "gone":
        path.unlink()
    else:
        path.write_text(HASHES.sha256 + "\nhalf a li")
    assert not lists.refresh()
    assert lists.fault
    assert lists.check(ARTIFACT) is not None
    path.write_text("0" * 64 + "\n\n\n")
    assert lists.refresh()
    assert not lists.fault
    assert lists.check(ARTIFACT) is None

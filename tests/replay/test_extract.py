"""What is stored of a capture, and the index of it."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from netinspect.errors import EnvironmentFault
from netinspect.replay import extract
from netinspect.replay.index import COLUMNS, Index
from tests.replay.captures import mail, run, talk, write

NAMED = b'From: a@example.org\r\nSubject: =cmd()\r\nContent-Type: application/x-a; name="%s"\r\n\r\ncontent\r\n'


def index(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "index.json").read_text())
    return rows


def stored(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"index.json", "index.csv"}


def test_mails_and_their_parts_are_stored_under_their_digest(tmp_path: Path) -> None:
    message = mail(1, attachment=b"\0" * 5000)
    capture = write(tmp_path / "a.pcap", [talk(1, message, message)])
    run(tmp_path, capture, extract="out")
    out = tmp_path / "out"
    digest = hashlib.sha256(message).hexdigest()
    content = hashlib.sha256(b"\0" * 5000).hexdigest()
    assert (out / "mails" / digest[:2] / f"{digest}.eml").read_bytes() == message
    assert (out / "files" / content[:2] / content).read_bytes() == b"\0" * 5000
    rows = index(out)
    assert {row["stored"] for row in rows} == stored(out), "each file is in the index, and the other way round"
    assert [row["kind"] for row in rows] == ["mail", "file", "file"] * 2
    for row in rows:
        assert hashlib.sha256((out / row["stored"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["mail_sha256"] == digest
        assert row["pcap_filename"] == capture
        assert row["verdict"]
    assert [row["name"] for row in rows] == ["", "", "f1.bin"] * 2


def test_nobody_else_can_read_it_and_nothing_can_be_run(tmp_path: Path) -> None:
    run(tmp_path, write(tmp_path / "a.pcap", [talk(1, mail(1))]), extract="deep/out")
    for path in (tmp_path / "deep" / "out").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", [b"../../../etc/passwd", b"/etc/passwd", b"a\\b", b"nul", b"-rf", b"x" * 500])
def test_no_name_from_a_mail_gets_into_a_path(tmp_path: Path, name: bytes) -> None:
    run(tmp_path, write(tmp_path / "a.pcap", [talk(1, NAMED % name)]), extract="out")
    assert all(Path(place).name.split(".")[0].isalnum() for place in stored(tmp_path / "out"))
    assert len(stored(tmp_path / "out")) == 2
    assert set(os.listdir(tmp_path)) == {"a.pcap", "out", "netinspect.toml"}


def test_the_same_content_is_stored_once_and_never_written_over(tmp_path: Path) -> None:
    capture = write(tmp_path / "a.pcap", [talk(1, mail(1))])
    run(tmp_path, capture, extract="out")
    before = {place: (tmp_path / "out" / place).stat().st_ino for place in stored(tmp_path / "out")}
    for place in before:
        (tmp_path / "out" / place).write_bytes(b"somebody else's")
    run(tmp_path, capture, extract="out")
    for place, inode in before.items():
        assert (tmp_path / "out" / place).stat().st_ino == inode
        assert (tmp_path / "out" / place).read_bytes() == b"somebody else's"


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(extract.os, "link", link)
    run(tmp_path, write(tmp_path / "a.pcap", [talk(1, mail(1), mail(1), mail(2))]), extract="out")
    assert {row["stored"] for row in index(tmp_path / "out")} == stored(tmp_path / "out")


def test_the_folder_can_be_used_again(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.pcap", [talk(1, mail(1))]), write(tmp_path / "b.pcap", [talk(2, mail(2))])
    run(tmp_path, first, extract="out")
    run(tmp_path, second, extract="out")
    run(tmp_path, first, extract="out")
    assert [row["pcap_filename"] for row in index(tmp_path / "out")] == [second] * 2 + [first] * 2
    assert {row["stored"] for row in index(tmp_path / "out")} == stored(tmp_path / "out")


def test_both_indexes_say_the_same_but_for_formulas(tmp_path: Path) -> None:
    run(tmp_path, write(tmp_path / "a.pcap", [talk(1, NAMED % b"@SUM(A1)", mail(2))]), extract="out")
    with open(tmp_path / "out" / "index.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    rows = index(tmp_path / "out")
    assert [row["sha256"] for row in table] == [row["sha256"] for row in rows]
    assert table[1]["name"] == "'@SUM(A1)"
    assert table[0]["subject"] == "'=cmd()"
    assert rows[0]["subject"] == "=cmd()"


def test_a_folder_in_use_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = Index(str(out), [])
    with pytest.raises(EnvironmentFault, match="in use"):
        Index(str(out), [])
    first.close()
    Index(str(out), []).close()
    assert index(out) == []


@pytest.mark.parametrize("text", ["{}", "[\n{}\n]", "[\n1\n]", "[\n\xff", "", "[{]"])
def test_an_index_of_somebody_else_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(EnvironmentFault, match="no index of netinspect"):
        Index(str(tmp_path), [])
    assert (tmp_path / "index.json").read_bytes() == text.encode("latin-1")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    capture = write(tmp_path / "a.pcap", [talk(1, mail(1))])
    with pytest.raises(EnvironmentFault, match=r"out: cannot write"):
        run(tmp_path, capture, extract="out")

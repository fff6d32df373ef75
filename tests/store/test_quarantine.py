"""A quarantined message is there whole after `put`, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from netinspect.policy import Decision, EnvelopeFacts, Facts, SessionFacts
from netinspect.scan.contract import Finding
from netinspect.store.quarantine import Quarantine

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
FACTS = Facts(
    SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25, helo="mx.example.net"),
    EnvelopeFacts("a@example.net", ("bü@example.org",), 11),
    findings=(Finding("clamd", "Eicar", "malware", 1),),
)
DECISION = Decision("quarantine", "malware", 250, rules=("malware",))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_message_and_envelope_are_kept(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "deep" / "q")
    folder = quarantine.put([b"Subject: x\r\n", b"\r\n."], FACTS, DECISION, "4f2c", [{"event_type": "smtp"}], now=NOW)
    assert folder == tmp_path / "deep" / "q" / "2026" / "11" / "22" / "4f2c"
    assert (folder / "message.eml").read_bytes() == b"Subject: x\r\n\r\n."
    envelope = json.loads((folder / "envelope.json").read_bytes())
    assert envelope["incident_id"] == "4f2c"
    assert envelope["time"] == "2026-11-22T05:00:00+00:00"
    assert envelope["session"]["src_ip"] == "198.51.100.9"
    assert envelope["envelope"]["recipients"] == ["bü@example.org"]
    assert envelope["decision"]["rules"] == ["malware"]
    assert envelope["findings"][0]["signature"] == "Eicar"
    assert envelope["records"] == [{"event_type": "smtp"}]
    assert os.listdir(tmp_path / "deep" / "q" / "tmp") == []


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    folder = Quarantine(tmp_path / "q").put([b"x"], FACTS, DECISION, "4f2c", now=NOW)
    for path in (tmp_path / "q").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    assert folder.is_dir()


def test_the_same_incident_again_does_not_overwrite(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    kept = [quarantine.put([str(n).encode()], FACTS, DECISION, "4f2c", now=NOW) for n in range(3)]
    assert [folder.name for folder in kept] == ["4f2c", "4f2c-2", "4f2c-3"]
    assert [(folder / "message.eml").read_bytes() for folder in kept] == [b"0", b"1", b"2"]


def test_a_message_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise OSError("spool is gone")

    with pytest.raises(OSError, match="spool is gone"):
        Quarantine(tmp_path).put(broken(), FACTS, DECISION, "4f2c", now=NOW)
    assert files(tmp_path) == []
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_fails_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        Quarantine(tmp_path).put([b"x"], FACTS, DECISION, "4f2c", now=NOW)
    monkeypatch.undo()
    assert files(tmp_path) == []


def test_files_folder_and_parents_are_synced_before_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path).partition("4f2c.")[0])
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    Quarantine(tmp_path).put([b"x"], FACTS, DECISION, "4f2c", now=NOW)
    assert synced == [".", "tmp/", "tmp/", "tmp/", ".", "2026", "2026/11", "2026/11/22"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "-x", "a\n", "x" * 200])
def test_an_incident_id_is_never_a_way_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no incident id"):
        Quarantine(tmp_path).put([b"x"], FACTS, DECISION, name, now=NOW)
    assert files(tmp_path) == []

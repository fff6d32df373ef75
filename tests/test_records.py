"""Event records in the field names of Suricata's EVE, and the file they go to."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import resource
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.anomaly import Anomaly
from netinspect.errors import EnvironmentFault
from netinspect.files.artifact import Artifact, Hashes
from netinspect.policy import Coverage, Decision, Disarmed, EnvelopeFacts, Facts, MailFacts, SessionFacts, Skipped
from netinspect.records import RecordWriter, serialize, session_records, timestamp, transaction_records
from netinspect.scan.contract import EngineState, Finding, Unscanned

NOW = datetime(2026, 11, 22, 5, 0, 0, 123456, tzinfo=UTC)
SESSION = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25, flow_id=42, helo="mx.example.net")
ZIP = Artifact(Hashes("aa", "bb", "cc"), 100, "zip", "1.2", name="bill.zip", declared="application/zip")
MEMBER = Artifact(Hashes("dd", "ee", "ff"), 68, "data", "1.2/eicar.com", "eicar.com", "", "aa", "TRUNCATED")
FACTS = Facts(
    SESSION,
    EnvelopeFacts("a@example.net", ("b@example.org", "c@example.org"), 5000),
    MailFacts("A <a@example.net>", ("b@example.org",), "Bücher", "<1@example.net>", ("bill.zip",)),
    artifacts=(ZIP, MEMBER),
    findings=(Finding("clamd", "Eicar-Test-Signature", "malware", 1, "dd"),),
    unscanned=(Unscanned("office", "timeout"), Unscanned("office", "timeout"), Unscanned("clamd", "clamd: gone")),
    anomalies=(Anomaly("base64_rubbish", "mime", 7, "x"), Anomaly("gap", "tcp", 9)),
)
REFUSED = Decision("reject", "malware: clamd Eicar", 550, "5.7.1", "Message refused (id {id})", ("malware",))


def make(facts: Facts = FACTS, decision: Decision | None = REFUSED, **rest: Any) -> list[dict[str, Any]]:
    rest = {"now": NOW, "incident_id": "4f2c", "tx_id": 1, "reply": "550 5.7.1 Message refused (id 4f2c)", **rest}
    records = transaction_records(facts, decision, **rest)
    lines = serialize(records).decode("ascii").splitlines()
    assert [json.loads(line) for line in lines] == records
    return records


def test_a_refused_mail_is_on_record_with_all_its_evidence() -> None:
    records = make()
    assert [record["event_type"] for record in records] == [
        "smtp", "fileinfo", "fileinfo", "alert", "anomaly", "anomaly", "verdict",
    ]  # fmt: skip
    for record in records:
        assert {key: record[key] for key in list(record)[:9] if key != "event_type"} == {
            "timestamp": "2026-11-22T05:00:00.123456+0000",
            "flow_id": 42,
            "src_ip": "198.51.100.9",
            "src_port": 40000,
            "dest_ip": "192.0.2.1",
            "dest_port": 25,
            "proto": "TCP",
            "tx_id": 1,
        }
    smtp, outer, inner, alert, anomaly, gap, verdict = records
    assert smtp["smtp"] == {
        "helo": "mx.example.net",
        "mail_from": "<a@example.net>",
        "rcpt_to": ["<b@example.org>", "<c@example.org>"],
    }
    assert smtp["email"] == {
        "from": "A <a@example.net>",
        "to": ["b@example.org"],
        "subject": "Bücher",
        "message_id": "<1@example.net>",
        "attachment": ["bill.zip"],
    }
    assert outer["fileinfo"] == {
        "filename": "bill.zip", "magic": "zip", "size": 100, "md5": "cc", "sha1": "bb", "sha256": "aa",
        "state": "CLOSED", "path": "1.2",
    }  # fmt: skip
    assert inner["fileinfo"]["parent_sha256"] == "aa"
    assert inner["fileinfo"]["state"] == "TRUNCATED"
    assert alert["alert"] == {
        "signature": "Eicar-Test-Signature",
        "category": "malware",
        "severity": 1,
        "engine": "clamd",
    }
    assert alert["sha256"] == "dd"
    assert anomaly["anomaly"] == {
        "type": "applayer", "layer": "mime", "event": "base64_rubbish", "offset": 7, "detail": "x",
    }  # fmt: skip
    assert gap["anomaly"]["type"] == "stream"
    assert verdict["verdict"] == {
        "action": "reject",
        "reply": "550 5.7.1 Message refused (id 4f2c)",
        "reason": "malware: clamd Eicar",
        "rules": ["malware"],
        "incident_id": "4f2c",
        "unscanned": ["office: timeout", "clamd: gone"],
        "zone": "external",
    }


def test_a_verdict_says_how_much_was_looked_at_and_by_whom() -> None:
    clamd = EngineState("clamd", "ClamAV 1.4.6", "27000", 3)
    engines = (clamd, EngineState("rules", "1.23.0", "4e97"), EngineState("x"))
    coverage = Coverage(2, 168, 1, 100, 1, 100, (Skipped("1.2/\udcff", "truncated"),))
    made = make(dataclasses.replace(FACTS, coverage=coverage, engines=engines))[-1]["verdict"]
    assert made["clean"] is False
    assert made["coverage"] == {
        "parts": 2, "bytes": 168, "decoded": 1, "decoded_bytes": 100, "scanned": 1, "scanned_bytes": 100,
        "skipped": [{"path": "1.2/?", "reason": "truncated"}],
    }  # fmt: skip
    assert made["engines"] == [
        {"name": "clamd", "version": "ClamAV 1.4.6", "signatures": "27000", "signature_age": 3},
        {"name": "rules", "version": "1.23.0", "signatures": "4e97"},
        {"name": "x"},
    ]
    whole = make(Facts(SESSION, EnvelopeFacts(), MailFacts(), coverage=Coverage(1, 5, 1, 5, 1, 5)))[-1]["verdict"]
    assert (whole["clean"], whole["coverage"]["skipped"], whole["engines"]) == (True, [], [])



def test_what_was_disarmed_is_on_record_and_stays_away_from_other_verdicts() -> None:
    parts = (
        Disarmed("1.2", "a\udc80.docm", "aa", "bb", ("vba: word/\udc80.bin",)),
        Disarmed("1.3", "b.exe", "cc", "dd", ("file: no cleaner for exe",), replaced=True),
    )
    verdict = make(decision=Decision("disarm", "macro", rules=("macros",), disarmed=parts))[-1]["verdict"]
    assert verdict["disarm"] == [
        {
            "path": "1.2", "filename": "a?.docm", "sha256": "aa", "disarmed_sha256": "bb",
            "removed": ["vba: word/?.bin"], "replaced": False,
        },
        {
            "path": "1.3", "filename": "b.exe", "sha256": "cc", "disarmed_sha256": "dd",
            "removed": ["file: no cleaner for exe"], "replaced": True,
        },
    ]  # fmt: skip
    assert "disarm" not in make()[-1]["verdict"]


def test_a_mail_without_header_has_an_empty_email_object() -> None:
    records = make(Facts(SESSION, EnvelopeFacts("", ("b@example.org",)), MailFacts()))
    assert records[0]["email"] == {}
    assert records[0]["smtp"]["mail_from"] == "<>"


def test_a_transaction_that_was_reset_has_no_email_object_and_no_verdict() -> None:
    records = session_records(SESSION, None, now=NOW, mail_from="a@example.net", recipients=("b@example.org",))
    assert [record["event_type"] for record in records] == ["smtp"]
    assert "email" not in records[0]
    assert records[0]["smtp"]["rcpt_to"] == ["<b@example.org>"]


def test_a_refused_session_has_alert_and_verdict() -> None:
    spoof = Finding("identity", "spoof.helo", "spoof", 1, detail="HELO example.org")
    drop = Decision("drop", "spoof", 550, "5.7.1", rules=("spoof",))
    records = session_records(SESSION, drop, now=NOW, findings=(spoof,), incident_id="x", reply="550 no")
    assert [record["event_type"] for record in records] == ["smtp", "alert", "verdict"]
    assert records[0]["smtp"] == {"helo": "mx.example.net"}
    assert records[1]["alert"]["detail"] == "HELO example.org"
    assert "sha256" not in records[1]
    silent = SessionFacts("external", "10.0.0.1", 1, "192.0.2.1", 25)
    records = session_records(silent, drop, now=NOW, findings=(spoof,))
    assert [record["event_type"] for record in records] == ["alert", "verdict"]


def test_the_time_keeps_its_zone() -> None:
    assert timestamp(NOW.astimezone(timezone(timedelta(hours=-3, minutes=-30)))) == "2026-11-22T01:30:00.123456-0330"


@given(st.text(), st.text(), st.text())
def test_whatever_a_sender_writes_is_one_line_of_valid_json(helo: str, name: str, subject: str) -> None:
    session = SessionFacts("external", "::1", 1, "::1", 25, helo=helo)
    mail = MailFacts(subject=subject + "\udc80", attachments=(name,))
    facts = Facts(session, EnvelopeFacts(name, (helo,)), mail, findings=(Finding("x", name, "macro", 3, detail=helo),))
    data = serialize(transaction_records(facts, REFUSED, now=NOW))
    lines = data.splitlines()
    assert len(lines) == 3
    assert data.count(b"\n") == 3
    for line in lines:
        json.dumps(json.loads(line), ensure_ascii=False).encode()


def test_no_records_are_no_octets() -> None:
    assert serialize([]) == b""


def test_an_ordinary_mail_costs_microseconds() -> None:
    facts = Facts(SESSION, FACTS.envelope, FACTS.mail, artifacts=(ZIP,))
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(200):
            serialize(transaction_records(facts, REFUSED, now=NOW, incident_id="x", reply="250 ok"))
        best = min(best, (time.process_time() - start) / 200)
    assert best < 300e-6  # about 30 µs; the bound leaves room for a slow machine


def test_lines_are_appended_and_a_rotated_file_is_left_alone(tmp_path: Path) -> None:
    file, rotated = tmp_path / "events.json", tmp_path / "events.json.1"
    file.write_bytes(b"0\n")
    writer = RecordWriter(str(file), fsync=True)
    writer.write(b"1\n")
    file.rename(rotated)
    writer.write(b"2\n")
    writer.reopen()
    writer.write(b"3\n")
    writer.close()
    writer.write(b"4\n")
    assert rotated.read_bytes() == b"0\n1\n2\n"
    assert file.read_bytes() == b"3\n"
    assert writer.lost == 0


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    RecordWriter(str(tmp_path / "events.json")).close()
    assert (tmp_path / "events.json").stat().st_mode & 0o007 == 0


def test_a_file_that_cannot_be_opened_is_told_at_start(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"no/events\.json: records cannot be written: No such file"):
        RecordWriter(str(tmp_path / "no" / "events.json"))


def test_records_can_go_to_standard_output_or_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    writer = RecordWriter("-", fsync=True)
    writer.write(b"{}\n")
    writer.reopen()
    writer.close()
    nowhere = RecordWriter("")
    nowhere.write(b"[]\n")
    nowhere.reopen()
    nowhere.close()
    os.write(1, b"still open\n")
    assert capfd.readouterr().out == "{}\nstill open\n"


def test_a_full_disk_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = RecordWriter("/dev/full")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            writer.write(b"{}\n")
    writer.close()
    assert writer.lost == 3
    assert [os.strerror(errno.ENOSPC) in record.getMessage() for record in caplog.records] == [True]


def test_after_half_a_line_the_next_stands_on_a_line_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.json"
    writer = RecordWriter(str(file))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:4]))
    writer.write(b'{"a":"0123456789"}\n')
    monkeypatch.setattr(os, "write", real)
    with caplog.at_level(logging.WARNING):
        writer.write(b"{}\n")
    writer.close()
    assert file.read_bytes() == b'{"a":"01\n{}\n'
    assert writer.lost == 1
    assert "writing again, 1 transactions were lost" in caplog.text


def test_a_failed_reopen_keeps_the_old_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    writer = RecordWriter(str(folder / "events.json"))
    folder.rename(tmp_path / "old")
    writer.reopen()
    writer.write(b"{}\n")
    writer.close()
    assert (tmp_path / "old" / "events.json").read_bytes() == b"{}\n"
    assert "cannot reopen" in caplog.text


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 20
    before = len(os.listdir("/proc/self/fd"))
    writer = RecordWriter(str(tmp_path / "events.json"))
    for _ in range(20):
        writer.reopen()
    writer.close()
    assert len(os.listdir("/proc/self/fd")) == before

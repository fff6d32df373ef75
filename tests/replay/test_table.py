"""The table on the terminal, from records alone."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from netinspect.replay.table import PIPED, Brief, Sums, Table, brief
from netinspect.terminal import width

COMMON = {"timestamp": "2026-11-22T05:00:07.123456+0000", "src_ip": "192.0.2.10", "dest_ip": "198.51.100.25"}


def made(action: str = "accept", reason: str = "", *, email: bool = True, **more: Any) -> list[dict[str, Any]]:
    people = ["<b@example.com>", "<c@example.com>"]
    smtp: dict[str, Any] = {"helo": "client", "mail_from": "<alice@example.org>", "rcpt_to": people}
    first = {**COMMON, "event_type": "smtp", "smtp": smtp}
    if email:
        first["email"] = {"subject": "Invoice\n4711"}
    verdict = {"action": action, "reason": reason, "unscanned": [], **more}
    return [first, {**COMMON, "event_type": "verdict", "verdict": verdict}]


def told(records: list[dict[str, Any]]) -> Brief:
    found = brief(records)
    assert found is not None
    return found


def shown(columns: int, *rows: list[dict[str, Any]], compared: bool = False) -> list[str]:
    out = io.StringIO()
    table = Table(out, columns, compared=compared)
    for row in rows:
        table.row(told(row))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [40, 80, 100, 132, PIPED, 250])
def test_no_line_is_longer_than_the_terminal_is_wide(columns: int) -> None:
    records = made("quarantine", "malware: Eicar-Test-Signature (clamd) in part 1.2 of the message" * 3)
    records[0]["email"]["subject"] = "日本語" * 50
    records[1] |= {"src_ip": "2001:db8:1111:2222:3333:4444:5555:6666", "dest_ip": "2001:db8::1"}
    lines = shown(columns, records)
    assert max(width(line) for line in lines) <= columns


def test_eighty_columns_give_lines_with_everything() -> None:
    lines = shown(80, made("reject", "malware: Eicar-Test-Signature"), made())
    assert lines[3] == "2026-11-22 (UTC)"
    assert lines[4] == "05:00:07  reject      alice@example.org → b@example.com, c@example.com"
    assert lines[5] == "          192.0.2.10 → 198.51.100.25         Invoice\\n4711"
    assert lines[6] == "          malware: Eicar-Test-Signature"
    assert len(lines) == 9, "without a reason there is no line for it"


def test_a_wide_terminal_gives_one_line() -> None:
    lines = shown(PIPED, made("reject", "malware: Eicar-Test-Signature"))
    assert len(lines) == 3
    for text in ("05:00:07", "reject", "192.0.2.10 → 198.51.100.25", "alice@example.org → b@example.com, c@example"):
        assert text in lines[2]
    assert lines[2].endswith("malware: Eicar-Test-Signature")


def test_a_date_is_told_when_it_changes() -> None:
    later = made()
    later[1]["timestamp"] = "2026-11-23T00:00:00.000000+0000"
    lines = shown(160, made(), made(), later)
    assert [line for line in lines if "UTC" in line] == ["2026-11-22 (UTC)", "2026-11-23 (UTC)"]


def test_a_session_without_a_transaction_shows_what_it_called_itself() -> None:
    records = made("reject", "spoof.helo")
    records[0]["smtp"] = {"helo": "mail.example.com"}
    assert "HELO mail.example.com" in shown(160, records)[2]


def test_records_about_the_capture_are_no_row() -> None:
    assert brief([{**COMMON, "event_type": "anomaly", "anomaly": {}}]) is None
    assert brief([]) is None


def test_what_another_policy_changes_is_the_verdict_and_the_reason() -> None:
    other = {"action": "quarantine", "reason": "rule strict", "rules": [], "reply": ""}
    lines = shown(160, made("accept", "default", changed=True, other=other), compared=True)
    assert "accept → quarantine" in lines[2]
    assert lines[2].endswith("rule strict")
    lines = shown(160, made("accept", "default", changed=False, other=other), compared=True)
    assert "→ quarantine" not in lines[2]


def test_colours_do_not_change_the_places() -> None:
    out = io.StringIO()
    table = Table(out, 80, coloured=True)
    table.row(told(made("reject", "malware")))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert "05:00:07  \x1b[1;31mreject    \x1b[0m  alice" in out.getvalue()
    assert plain.splitlines() == shown(80, made("reject", "malware"))


def test_the_reason_of_a_mail_that_was_not_looked_at_is_that() -> None:
    records = made("tempfail", unscanned=["clamd: timeout", "replay: gap"])
    assert told(records).why == "not looked at: clamd: timeout, replay: gap"


def test_the_sums_count_verdicts_findings_and_changes() -> None:
    sums = Sums()
    alert = {**COMMON, "event_type": "alert", "alert": {"category": "malware"}}
    other = {"action": "accept", "reason": "", "rules": [], "reply": ""}
    sums.add(told([*made("reject")[:1], alert, alert, *made("reject", changed=True, other=other)[1:]]))
    sums.add(told(made(email=False)))
    sums.add(told(made(unscanned=["replay: gap"])))
    assert sums.lines("other.toml") == [
        "2 mails, 3 verdicts: accept 2, reject 1",
        "found: malware 1",
        "not wholly looked at: 1",
        "with other.toml: 1 would change: reject → accept 1",
    ]


def test_nothing_is_a_sum_too() -> None:
    assert Sums().lines() == ["0 mails, 0 verdicts: none"]

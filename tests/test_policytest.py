"""`netinspect policy test`: which rule decides and why, and what another configuration would change."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from netinspect import policytest
from netinspect.cli import main
from netinspect.config import load
from netinspect.policytest import CHANGED, FAILED, FINE
from netinspect.samples import mails
from netinspect.samples.archives import encrypted_zip
from tests.replay import captures

CLEAN = b"From: a@outside.example\r\nSubject: hello\r\n\r\nA plain text.\r\n"
ONE = """\
[scan]
workers = 1
[networks]
domains = ["example.org"]
[[policy.rule]]
name = "inside"
when = { zone = "internal", cel = 'session.client.within("10.0.0.0/8")' }
action = "accept"
[[policy.rule]]
name = "hello"
when = 'header("subject") == "hello" && envelope.recipients.size() > 1'
action = "tempfail"
"""
OTHER = """\
[[policy.rule]]
name = "plain"
when = 'mail.subject == "hello"'
action = "reject"
"""


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NETINSPECT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("one.toml").write_text(ONE)
    Path("other.toml").write_text(OTHER)
    Path("clean.eml").write_bytes(CLEAN)
    Path("eicar.eml").write_bytes(mails.eicar_mail())


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(["-c", "one.toml", "policy", "test", *args])
    told = capsys.readouterr()
    return code, told.out, told.err


def judged(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = run(capsys, "--json", *args)
    return code, [json.loads(line) for line in out.splitlines()]


def test_it_shows_the_rule_that_decides_and_why_those_before_it_did_not(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "clean.eml", "eicar.eml")
    lines = out.splitlines()
    assert (code, err) == (FINE, "")
    assert lines[0] == "clean.eml: accept, rule default"
    assert lines[1] == '    inside  accept    no, needs zone = "internal"'
    assert lines[2].split()[:4] == ["hello", "tempfail", "no,", "needs"]
    assert lines[3] == "  coverage: 1 parts, 15 octets, all decoded and scanned"
    assert lines[4].startswith("eicar.eml: reject, rule malware: malware: rules EICAR_Test_File [550 5.7.1 Message")
    assert "spoof" not in out


def test_with_v_the_built_in_rules_are_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "-v", "eicar.eml")
    words = [" ".join(line.split()) for line in out.splitlines()]
    assert 'spoof drop no, needs category = ["spoof"]' in words
    assert "malware reject yes: malware: rules EICAR_Test_File" in words


def test_connection_and_envelope_are_what_the_options_say(capsys: pytest.CaptureFixture[str]) -> None:
    def rule(*options: str) -> list[str]:
        _, (one,) = judged(capsys, "clean.eml", *options)
        return list(one["rules"])

    assert rule("--zone", "internal", "--client", "10.1.2.3") == ["inside"]
    assert rule("--zone", "internal", "--client", "192.0.2.1") == ["default"]
    assert rule("--rcpt", "a@x", "--rcpt", "b@x") == ["hello"]
    assert rule("--mail-from", "boss@example.org") == ["spoof"]
    assert rule("--mail-from", "boss@example.org", "--authenticated", "--tls") == ["default"]
    assert rule("--helo", "mx.example.org") == ["spoof"]
    with pytest.raises(SystemExit):
        run(capsys, "clean.eml", "--client", "localhost")


def test_a_second_configuration_shows_what_would_change(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "clean.eml", "eicar.eml", "--policy", "other.toml")
    assert code == CHANGED
    assert '  with other.toml: accept → reject, rule plain: when mail.subject == "hello" [550 5.7.1' in out
    assert "  with other.toml: the same\n" in out
    assert out.endswith("2 files, 1 would change: accept → reject (1)\n")


def test_a_second_configuration_that_changes_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "eicar.eml", "--policy", "one.toml")
    assert code == FINE
    assert out.endswith("1 file, 0 would change\n")


def test_json_says_the_same_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, (clean, closed) = judged(capsys, "clean.eml", zipped(), "--policy", "other.toml")
    assert code == CHANGED
    assert (clean["file"], clean["action"], clean["rules"]) == ("clean.eml", "accept", ["default"])
    assert clean["clean"] is True
    assert clean["coverage"]["complete"] is True
    assert clean["changed"] is True
    assert clean["other"]["steps"] == [
        {"rule": "plain", "action": "reject", "holds": True, "why": 'when mail.subject == "hello"'}
    ]
    assert clean["steps"][-1] == {"rule": "default", "action": "accept", "holds": True, "why": "no rule holds"}
    assert (closed["action"], closed["rules"], closed["changed"]) == ("tag", ["encrypted"], False)
    assert (closed["clean"], closed["coverage"]["complete"]) == (False, False)
    assert "encrypted" in closed["coverage"]["skipped"][0]["reason"]


def zipped() -> str:
    Path("closed.zip").write_bytes(encrypted_zip())
    return "closed.zip"


def test_what_was_not_looked_at_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, zipped())
    assert "decoded, " in out
    assert "; skipped: 1 (files: encrypted)" in out


def test_what_cannot_be_read_is_told_and_the_rest_is_judged(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "nowhere.eml", "clean.eml")
    assert code == FAILED
    assert err == "netinspect: nowhere.eml: No such file or directory\n"
    assert out.startswith("clean.eml: accept")


def test_a_wrong_configuration_names_line_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.toml").write_text(OTHER.replace("mail.subject", "mail.subjekt"))
    code, out, err = run(capsys, "clean.eml", "--policy", "other.toml")
    assert (code, out) == (2, "")
    assert err == (
        'netinspect: other.toml:3:14: [[policy.rule]] when: mail has no field "subjekt"; did you mean "subject"?\n'
    )


def test_mails_and_refused_sessions_of_a_capture_are_tested_with_their_connection(tmp_path: Path) -> None:
    first = captures.settings(tmp_path)
    talks = [captures.talk(1, captures.mail(1)), captures.talk(2, captures.mail(2), sender=f"boss@{captures.OURS}")]
    name = captures.write(tmp_path / "a.pcap", talks)
    (tmp_path / "cut.pcap").write_bytes(Path(name).read_bytes()[:-4])
    (tmp_path / "other.toml").write_text("[scan]\noffice = false\nrules = false\nworkers = 0\n")
    out, err = io.StringIO(), io.StringIO()
    other = load(tmp_path / "other.toml", {})
    assert policytest.run(first, [name], other=other, out=out, err=err) == 1
    assert f"{name} frame " in out.getvalue()
    assert "drop → accept" in out.getvalue()
    assert "3 files, 2 would change" in out.getvalue()
    assert policytest.run(first, [str(tmp_path / "cut.pcap")], out=out, err=err) == 2
    assert err.getvalue().startswith(f"netinspect: {tmp_path}/cut.pcap: truncated")

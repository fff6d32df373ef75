"""`netinspect replay` as people and scripts use it."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from netinspect import cli as command_line
from netinspect.errors import EnvironmentFault, NetinspectError
from netinspect.replay import output, reading
from netinspect.replay.output import Progress
from netinspect.terminal import StatusLine
from tests.replay.captures import OURS, cli, joined, mail, run, sessions, settings, talk, write
from tests.replay.make import Talk, frames, pcap


def test_events_are_records_with_the_name_of_the_capture(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1), mail(2))])
    ran = run(tmp_path, name, events="-")
    assert {record["pcap_filename"] for record in ran.records} == {name}
    assert [record["email"]["subject"] for record in ran.of("smtp")] == ["note 1", "note 2"]
    assert [record["verdict"]["reply"] for record in ran.of("verdict")] == ["250 2.0.0 queued"] * 2
    assert ran.err == ""


def test_events_to_a_file_leave_the_table_on_the_terminal(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1))])
    events = tmp_path / "events.json"
    events.write_text("old\n")
    ran = run(tmp_path, name, events=str(events))
    assert [json.loads(line)["event_type"] for line in events.read_text().splitlines()][-1] == "verdict"
    assert "note 1" in ran.out
    assert "1 mail, 1 verdict:" in ran.out
    assert not stat.S_IMODE(events.stat().st_mode) & 0o007 or events.stat().st_size


@pytest.mark.parametrize(
    ("talks", "status"),
    [
        ([talk(1)], 0),
        ([], 0),
        ([talk(1, mail(1), sender=f"boss@{OURS}")], 1),
    ],
)
def test_the_exit_code_says_what_was_found(tmp_path: Path, talks: list[object], status: int) -> None:
    assert run(tmp_path, write(tmp_path / "a.pcap", talks)).status == status  # type: ignore[arg-type]


def test_a_clean_mail_that_engines_saw_is_0(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1))])
    assert run(tmp_path, name, text="[scan]\nworkers = 1\noffice = false\n").status == 0


def test_each_capture_is_judged_by_itself_in_the_order_given(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{letter}.pcap", [talk(number, mail(number))]) for number, letter in enumerate("bca")]
    ran = run(tmp_path, *names)
    assert [line for line in ran.out.splitlines() if line.endswith(".pcap:")] == [f"{name}:" for name in names]


def test_a_damaged_capture_is_told_and_the_others_are_done(tmp_path: Path) -> None:
    whole = pcap(frames(talk(1, mail(1), mail(2)).segments))
    (tmp_path / "cut.pcap").write_bytes(whole[:-5])
    (tmp_path / "text.pcap").write_text("this is no capture at all\n")
    good = write(tmp_path / "good.pcap", [talk(2, mail(3))])
    ran = run(tmp_path, str(tmp_path / "cut.pcap"), str(tmp_path / "text.pcap"), good, events="-")
    assert ran.status == 2
    assert [record["email"]["subject"] for record in ran.of("smtp")] == ["note 1", "note 2", "note 3"]
    told = ran.err.splitlines()
    assert len(told) == 2
    assert told[0].startswith(f"netinspect: {tmp_path}/cut.pcap: truncated")
    assert told[1].startswith(f"netinspect: {tmp_path}/text.pcap: ")
    anomalies = [record for record in ran.of("anomaly") if record["anomaly"]["layer"] == "capture"]
    assert [record["anomaly"]["event"] for record in anomalies] == ["truncated"]
    assert anomalies[0]["pcap_filename"].endswith("cut.pcap")


def test_the_zone_is_what_the_command_line_says(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1), sender=f"boss@{OURS}")])
    actions = {}
    for zone in ("external", "internal"):
        ran = run(tmp_path, name, events="-", zone=zone)
        actions[zone] = {record["verdict"]["action"] for record in ran.of("verdict")}
        assert {record["verdict"]["zone"] for record in ran.of("verdict")} == {zone}
    assert "drop" in actions["external"]
    assert "drop" not in actions["internal"]


# --- as a process -----------------------------------------------------------------------------------------------------


def test_standard_input_is_a_capture_and_standard_output_composes(tmp_path: Path) -> None:
    ran = cli(tmp_path, "-", "--events", "-", given=pcap(frames(talk(1, mail(1)).segments)))
    assert ran.err == ""
    assert [record["event_type"] for record in ran.records][-1] == "verdict"


def test_a_live_capture_is_judged_while_it_goes_on(tmp_path: Path) -> None:
    settings(tmp_path)
    line = [sys.executable, "-m", "netinspect", "-c", str(tmp_path / "netinspect.toml"), "replay", "-", "--events", "-"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pcap(frames(talk(1, mail(1)).segments)))
        process.stdin.flush()
        seen = b""
        while b'"verdict"' not in seen:
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece
            seen += piece
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130


def test_control_c_keeps_what_is_complete(tmp_path: Path) -> None:
    settings(tmp_path)
    line = [sys.executable, "-m", "netinspect", "-c", str(tmp_path / "netinspect.toml"), "replay", "-"]
    line += ["--events", str(tmp_path / "events"), "--extract", str(tmp_path / "out")]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        process.stdin.write(pcap(frames(talk(1, mail(1)).segments)))
        process.stdin.flush()
        end = time.monotonic() + 60
        while not ((tmp_path / "events").exists() and (tmp_path / "events").stat().st_size):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
    assert json.loads((tmp_path / "events").read_text().splitlines()[-1])["event_type"] == "verdict"
    assert len(json.loads((tmp_path / "out" / "index.json").read_text())) == 2
    assert b"1 mail" in out
    assert err == b""


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    settings(tmp_path)
    name = write(tmp_path / "a.pcap", sessions(60))
    program = f"{sys.executable} -m netinspect -c {tmp_path}/netinspect.toml"
    line = f"{program} replay {name} {name} {name} --events - | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=True)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_a_full_disk_is_told_with_its_name(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1))])
    ran = cli(tmp_path, name, "--events", "/dev/full")
    assert ran.status == 2
    assert ran.err == "netinspect: /dev/full: cannot write: No space left on device\n"


@pytest.mark.parametrize(
    "wrong",
    [["--workers", "0"], ["--workers", "x"], ["--zone-of", "eth0"], ["--zone-of", "=external"], ["--zone", "here"], []],
)
def test_a_wrong_option_is_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["a.pcap", *wrong] if wrong else []
    with pytest.raises(SystemExit) as ended:
        command_line.main(["replay", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_standard_input_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(NetinspectError, match="named twice"):
        run(tmp_path, "-", "-")


def test_processes_and_a_cluster_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(NetinspectError, match="goes not with"):
        run(tmp_path, "a.pcap", workers=2, scheduler="tcp://127.0.0.1:1")


def test_events_that_cannot_be_opened_are_one_line(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [])
    with pytest.raises(EnvironmentFault, match="nowhere/events: cannot write"):
        run(tmp_path, name, events=str(tmp_path / "nowhere" / "events"))


# --- progress ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def test_progress_tells_share_rate_and_time_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0" * 4000)
    progress = Progress(StatusLine(Terminal()), ((str(tmp_path / "a"), "day.pcap"),))
    progress.at(0, 1000)
    assert progress.text(progress._began + 2) == "netinspect: 25 %, 1 kB of 4 kB, 500 B/s, 0:06 left, day.pcap"
    pipe = Progress(StatusLine(Terminal()), (("-", "-"),))
    pipe.at(0, 1000)
    assert pipe.text(pipe._began + 2) == "netinspect: 1 kB, 500 B/s, -"


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_is_shown_on_a_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.0)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((60, 20)))
    captures = ((write(tmp_path / "a.pcap", [talk(1)]), "day.pcap"),)
    err = Terminal()
    with output.Output(output.Wanted(events="-"), captures, io.StringIO(), err, progress=wanted) as made:
        made.at((0, 1, 0), 10)
        made.failed(0, "truncated")
        made.failed(0, "truncated")
    assert ("netinspect: 0 %" in err.getvalue()) is wanted or "day.pcap" in err.getvalue()
    assert err.getvalue().count("truncated") == 1
    assert ("\r" in err.getvalue()) is wanted


# --- connections with two readings ------------------------------------------------------------------------------------


def two_readings(number: int) -> Talk:
    """A mail in which a segment comes a second time with something else in it."""
    one = talk(number, mail(number, subject="first"))
    at = next(at for at, segment in enumerate(one.segments) if b"Subject: first" in segment.payload)
    segment = one.segments[at]
    again = segment.with_payload(segment.payload.replace(b"Subject: first", b"Subject: other"))
    one.segments.insert(at + 1, again)
    return one


def test_both_readings_of_a_connection_are_judged(tmp_path: Path) -> None:
    cut = [talk(number, mail(number), start=50) for number in range(10, 18)]
    for one in cut:
        del one.segments[-7:]  # what goes on until the capture ends comes out at its end, before any second reading
    talks = [talk(1, mail(1)), *(two_readings(number) for number in range(2, 6)), talk(7, mail(7)), *cut]
    name = write(tmp_path / "a.pcap", talks)
    ran = run(tmp_path, name, events="-")
    read = [(one["email"]["subject"], one.get("tcp_reading")) for one in ran.of("smtp")]
    assert [subject for subject, reading in read if reading is None].count("first") == 4
    assert [subject for subject, reading in read if reading == "last"] == ["other"] * 4
    assert "tcp_overlap_conflict" in {one["anomaly"]["event"] for one in ran.of("anomaly")}
    assert cli(tmp_path, name, "--events", "-", "--workers", "2").out == ran.out
    piped = cli(tmp_path, "-", "--events", "-", given=Path(name).read_bytes())
    assert piped.out == ran.out.replace(json.dumps(name), '"-"')


def test_a_pipe_without_a_copy_says_that_a_reading_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    octets = pcap(joined([two_readings(1)]))
    monkeypatch.setattr(reading, "COPIED", 1000)
    writer = threading.Thread(target=pipe.write_bytes, args=(octets,))
    writer.start()
    ran = run(tmp_path, str(pipe), events="-")
    writer.join()
    assert ran.status == 2
    assert ran.err == f"netinspect: {pipe}: 1 connection with copies of octets that differ not read a second time\n"


def test_the_report_names_every_capture_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    whole = pcap(frames(talk(1, mail(1, subject="Hello you")).segments))
    (tmp_path / "cut.pcap").write_bytes(whole[:-5])
    empty = write(tmp_path / "empty.pcap", [])
    page = tmp_path / "page.html"
    ran = run(tmp_path, str(tmp_path / "cut.pcap"), empty, report=str(page), events=str(tmp_path / "events"))
    assert ran.status == 2
    text = page.read_text()
    for words in ("cut.pcap", "empty.pcap", "Hello you", "truncated"):
        assert words in text


@pytest.mark.parametrize("name", ["nowhere/page.html", "."])
def test_a_report_that_could_not_be_written_is_told_before_anything_is_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnvironmentFault, match="cannot write"):
        run(tmp_path, str(tmp_path / "none.pcap"), report=str(tmp_path / name))

"""The captures of the bench hold what they say, and the harness measures what was really read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import captures, replay
from tests.bench.peers import BenchError
from tests.bench.report import CaptureRun, Figure, Results, markdown


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> captures.Made:
    return captures.write(tmp_path_factory.mktemp("bench") / "mostly.pcap", 4, 0.9)


def test_the_same_arguments_give_the_same_octets(made: captures.Made, tmp_path: Path) -> None:
    again = captures.write(tmp_path / "again.pcap", 4, 0.9)
    assert again.path.read_bytes() == made.path.read_bytes()
    assert made.octets == made.path.stat().st_size
    assert captures.write(tmp_path / "other.pcap", 4, 0.9, seed=2).path.read_bytes() != made.path.read_bytes()


def test_the_share_of_mail_is_what_was_asked_for(made: captures.Made, tmp_path: Path) -> None:
    assert 0.7 < made.share < 1
    assert captures.write(tmp_path / "tenth.pcap", 8, 0.1).share < 0.4  # a PDF more or less counts in so small a one


def test_netinspect_sees_every_message_of_a_capture(made: captures.Made, tmp_path: Path) -> None:
    bench = replay.Bench(tmp_path, replay.QUICK, Results(quick=True))
    run = bench.ours(made)
    assert run.mails == made.mails > 10
    assert min(run.rate, run.wall, run.cpu) > 0
    assert bench.results.captures == [run]


def _events(path: Path, mails: int, **verdict: object) -> Path:
    lines: list[object] = []
    for _ in range(mails):
        lines.append({"event_type": "smtp", "email": {}})
        lines.append({"event_type": "fileinfo", "fileinfo": {"md5": "0" * 32, "sha1": "0" * 40, "sha256": "0" * 64}})
        lines.append({"event_type": "verdict", "verdict": {"action": "accept", "unscanned": [], **verdict}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_run_that_missed_something_is_no_measurement(made: captures.Made, tmp_path: Path) -> None:
    replay.check(_events(tmp_path / "all", made.mails), made)
    with pytest.raises(BenchError, match="messages"):
        replay.check(_events(tmp_path / "one missing", made.mails - 1), made)
    with pytest.raises(BenchError, match="should not be"):
        replay.check(_events(tmp_path / "gap", made.mails, unscanned=["replay: gap"]), made)


def test_a_program_that_fails_says_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="exit 3: no such thing"):
        replay.run([sys.executable, "-c", "print('no such thing'); exit(3)"], tmp_path / "log")


def test_memory_is_that_of_the_program_and_not_of_who_started_it(tmp_path: Path) -> None:
    hold = "import time; block = bytearray(b'x') * 60_000_000; time.sleep(0.8)"
    assert 60e6 < replay.run([sys.executable, "-c", hold], tmp_path / "log").memory < 120e6
    assert 60e6 < replay.run([sys.executable, "-c", hold], tmp_path / "log", sample=True).memory < 120e6


def test_the_table_shows_the_run_in_the_middle() -> None:
    results = Results(quick=False, figures=[Figure("x", 1.0)])
    for turn, wall in enumerate((1.0, 9.0, 2.0)):
        results.captures.append(CaptureRun("tshark", "10 % mail", turn, 5, 300 / wall, wall, wall, 100.0))
    where = {"cores": 2, "cpu": "c", "kernel": "k", "python": "3", "load_average": 0.0}
    table = markdown(results, {**where, "packages": {"mitmproxy": "12", "uvloop": "0"}})
    assert "| tshark | 10 % mail | 5 | 150 | 2.00 | 2.00 | 100 |" in table
    assert "dot to reply" not in table

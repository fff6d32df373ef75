"""A real scheduler and two workers on loopback: the records are those of one process, and failures have a name."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netinspect.assembly import without_engines
from netinspect.config import Settings
from netinspect.errors import ConfigError, EnvironmentFault
from netinspect.replay import command, dask
from netinspect.replay.drive import Job
from netinspect.replay.output import FAILED, FINE, FOUND
from tests.replay import make, sabotage

ROOT = Path(__file__).parents[2]
START = 40.0


class Cluster:
    """Scheduler and workers as an administrator starts them, in processes of their own."""

    def __init__(self, folder: Path, *, nanny: bool = False) -> None:
        self.folder = folder
        self.address = ""
        self._nanny = nanny
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        file = self.folder / "scheduler.json"
        self._start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        until = time.monotonic() + START
        while not self.address:
            assert time.monotonic() < until, self.log()
            with contextlib.suppress(FileNotFoundError, ValueError):
                self.address = json.loads(file.read_text())["address"]
            time.sleep(0.05)
        return self

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        """Start one; it takes its first task a second or two later."""
        return self._start(
            "dask_worker", self.address, "--nthreads", "1", "--name", name, "--nanny" if self._nanny else "--no-nanny",
            "--local-directory", str(self.folder), "--death-timeout", str(START),
        )  # fmt: skip

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "false",
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{program}", *arguments, "--no-dashboard"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder,
            )  # fmt: skip
        self._running.append(process)
        return process

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("dask")) as made:
        made.worker("one")
        made.worker("two")
        yield made


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """A folder of seven captures with one to three mails each."""
    folder = tmp_path / "captures"
    folder.mkdir()
    for number in range(7):
        mails = [
            b"From: a@example.org\r\nSubject: mail %d of %d\r\n\r\nhello\r\n" % (serial, number)
            for serial in range(1 + number % 3)
        ]
        talk = make.Talk(client_address=(f"192.0.2.{number + 1}", 40_000 + number)).session(*mails)
        (folder / f"{number}.pcap").write_bytes(make.pcap(make.frames(talk.segments)))
    return folder


def replayed(captures: Path, events: Path, scheduler: str = "") -> tuple[int, bytes, str]:
    """Exit code, events, what was said."""
    out, err = io.StringIO(), io.StringIO()
    options = command.Options(
        (str(captures),), events=str(events), extract=f"{events}.files", scheduler=scheduler, engines=False,
        progress=False,
    )  # fmt: skip
    code = command.run(Settings(), options, out=out, err=err)
    return code, events.read_bytes(), err.getvalue()


def test_two_workers_give_the_very_records_of_one_process(cluster: Cluster, captures: Path, tmp_path: Path) -> None:
    alone = replayed(captures, tmp_path / "alone")
    assert alone[0] == FINE
    assert alone[1].count(b'"event_type":"verdict"') == 13
    assert replayed(captures, tmp_path / "shared", cluster.address) == alone
    files = {one.relative_to(tmp_path / "alone.files") for one in (tmp_path / "alone.files").rglob("*")}
    assert files == {one.relative_to(tmp_path / "shared.files") for one in (tmp_path / "shared.files").rglob("*")}
    assert len(files) > 13


def test_a_capture_that_cannot_be_read_is_named_and_the_others_are_done(
    cluster: Cluster, captures: Path, tmp_path: Path
) -> None:
    whole = (captures / "3.pcap").read_bytes()
    (captures / "3.pcap").write_bytes(whole[: len(whole) // 2])
    alone = replayed(captures, tmp_path / "alone")
    shared = replayed(captures, tmp_path / "shared", cluster.address)
    assert shared == alone
    assert shared[0] == FAILED
    assert "3.pcap" in shared[2]


def test_findings_make_the_same_exit_code(cluster: Cluster, captures: Path, tmp_path: Path) -> None:
    part = b'Content-Type: application/octet-stream; name="a.pdf.exe"\r\n\r\nMZ' + bytes(100) + b"\r\n"
    talk = make.Talk().session(part)
    (captures / "x.pcap").write_bytes(make.pcap(make.frames(talk.segments)))
    alone = replayed(captures, tmp_path / "alone")
    assert alone[0] == FOUND
    assert replayed(captures, tmp_path / "shared", cluster.address) == alone


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "CONNECT", 2.0)
    monkeypatch.setattr(dask, "PATIENCE", 1.0)


@pytest.mark.usefixtures("short")
def test_a_scheduler_that_is_not_there_is_one_line(captures: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be reached") as told:
        replayed(captures, tmp_path / "events", "tcp://127.0.0.1:9")
    assert "\n" not in str(told.value)


def test_an_address_that_is_none_is_one_line(captures: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="cannot be reached"):
        replayed(captures, tmp_path / "events", "gopher://127.0.0.1")


@pytest.mark.usefixtures("short")
def test_a_scheduler_without_workers_is_given_up(captures: Path, tmp_path: Path) -> None:
    with Cluster(tmp_path) as empty, pytest.raises(EnvironmentFault, match="has no workers"):
        replayed(captures, tmp_path / "events", empty.address)


def test_standard_input_cannot_be_shared_out() -> None:
    with pytest.raises(ConfigError, match="other machines"):
        dask.run("tcp://127.0.0.1:9", Job(Settings(), (("-", "-"),)), dask.Told())


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EnvironmentFault, match="not installed"):
        dask.run("tcp://127.0.0.1:9", Job(Settings(), ()), dask.Told())


def test_a_worker_of_another_version_is_refused(captures: Path) -> None:
    job = Job(without_engines(Settings()), ((str(captures / "0.pcap"), "0"),))
    assert "0.0.0" in dask.task(job, "0.0.0").fault
    assert dask.task(job, dask.__version__).fault == ""


@pytest.mark.usefixtures("short")
def test_a_capture_whose_worker_dies_is_done_by_another_and_one_that_kills_all_is_named(
    captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = replayed(captures, tmp_path / "alone")
    with Cluster(tmp_path) as cluster:
        for name in ("a", "b", "c", "d"):
            cluster.worker(name)
        monkeypatch.setattr(dask, "PATIENCE", START)
        monkeypatch.setattr(dask, "task", sabotage.once)
        assert replayed(captures, tmp_path / "shared", cluster.address) == alone
        assert (captures / "2.pcap.died").exists()
        monkeypatch.setattr(dask, "task", sabotage.always)
        code, events, said = replayed(captures, tmp_path / "killed", cluster.address)
    assert code == FAILED
    assert "2.pcap: not done by the cluster: the workers that tried it died" in said
    assert [line for line in alone[1].splitlines() if b"2.pcap" not in line] == events.splitlines()


def test_dask_is_loaded_only_when_it_is_asked_for() -> None:
    program = "import sys, netinspect.cli, netinspect.replay.dask; print('distributed' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "False"

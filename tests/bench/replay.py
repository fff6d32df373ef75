"""Captures read again, beside tshark and tcpflow: wall time, CPU time and memory of whole process trees.

All three read a capture that was just written (it is in the page cache) and write what they find to the same disk:

    tshark -r F -q --export-objects imf,DIR      the messages as files
    tcpflow -r F -o DIR                          each direction of each connection as a file, nothing is parsed
    netinspect replay --no-engines --events FILE F    SMTP, MIME, decoding, three digests of each part: records

The programs take turns, another one first in each round. A netinspect that does not see every message of the capture,
with nothing missing in it, is not measured at all; what the others miss is in the note.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import captures, peers, proc
from tests.bench.captures import Made
from tests.bench.peers import ROOT, BenchError, last_lines
from tests.bench.report import CaptureRun, Figure, Results

TENTH_TSHARK = "replay, capture with 10 % of mail: MB a second, times tshark"
TENTH_TCPFLOW = "replay, capture with 10 % of mail: MB a second, times tcpflow"
MOSTLY_TSHARK = "replay, capture of mostly mail: MB a second, times tshark"
MOSTLY_TCPFLOW = "replay, capture of mostly mail: MB a second, times tcpflow"
TWO = "replay, capture of mostly mail: two workers, times one"
MEMORY = "replay of a large capture: memory at most"

OURS, TWICE, TSHARK, TCPFLOW = "netinspect", "netinspect, 2 workers", "tshark", "tcpflow"
_SECONDS = 600
_NOT_MEASURED = frozenset({"NETINSPECT_CONFIG", "PYTHONDONTWRITEBYTECODE"})
"""Of the environment: a configuration of this machine, and that each start compiles all modules anew."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Megabytes of the captures, and rounds."""

    rounds: int
    capture: int
    large: int


FULL = Sizes(rounds=3, capture=300, large=1000)
QUICK = Sizes(rounds=1, capture=30, large=60)


@dataclass(frozen=True, slots=True)
class _Ran:
    wall: float
    cpu: float
    memory: int


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(argv: list[str], log: Path, *, sample: bool = False) -> _Ran:
    """Run a program to its end: wall and CPU seconds of it and all that it waited for, and octets of memory.

    With `sample` that is the most that the whole tree held, looked at 20 times a second (not where time is measured);
    without, what its processes had resident, looked at four times a second: that costs nothing. Raises BenchError.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_MEASURED}
    with log.open("wb") as out, contextlib.ExitStack() as stack:
        start = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT, env=environment, start_new_session=True
        )
        peak = None
        if sample:
            with contextlib.suppress(ProcessLookupError):  # it has ended already, with an error
                peak = stack.enter_context(proc.PeakMemory(process.pid, every=0.05))
        ended, resident = threading.Event(), [0]

        def look() -> None:
            while not ended.wait(0.25):
                resident[0] = max(resident[0], proc.resident_peak(process.pid))
                if time.monotonic() - start > _SECONDS:
                    process.kill()

        watch = threading.Thread(target=look, daemon=True)
        watch.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        ended.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise BenchError(f"{argv[0]}: exit {process.returncode}: {last_lines(log)}")
    return _Ran(wall, used.ru_utime + used.ru_stime, peak.peak.total if peak else resident[0])


class Bench:
    """The folder, the configuration and the results so far."""

    def __init__(self, folder: Path, sizes: Sizes, results: Results) -> None:
        self.folder = folder
        self.sizes = sizes
        self.results = results
        self._config = folder / "replay.toml"
        self._config.write_text("")
        self._out = folder / "replay-out"
        # As a package that is installed, which pip compiles.
        compileall.compile_dir(ROOT / "netinspect", quiet=1)

    def ours(self, made: Made, workers: int = 1, *, turn: int = 0, sample: bool = False) -> CaptureRun:
        """One run of netinspect. Raises BenchError unless it saw all that is in the capture."""
        events = self.folder / "replay-events.json"
        events.unlink(missing_ok=True)
        argv = [
            sys.executable, "-m", "netinspect", "-c", str(self._config), "replay", "--no-engines", "--no-progress",
            "--workers", str(workers), "--events", str(events), str(made.path),
        ]  # fmt: skip
        ran = run(argv, self.folder / "replay.log", sample=sample)
        check(events, made)
        return self._note(OURS if workers == 1 else TWICE, made, turn, ran, made.mails)

    def tshark(self, made: Made, turn: int) -> CaptureRun:
        program = peers.find("tshark", "tshark")
        with self._output() as out:
            ran = run([program, "-r", str(made.path), "-q", "--export-objects", f"imf,{out}"], self.folder / "log")
            return self._note(TSHARK, made, turn, ran, sum(1 for _ in out.iterdir()))

    def tcpflow(self, made: Made, turn: int) -> CaptureRun:
        program = peers.find("tcpflow", "tcpflow")
        with self._output() as out:
            ran = run([program, "-r", str(made.path), "-o", str(out)], self.folder / "log")
            return self._note(TCPFLOW, made, turn, ran, None)

    @contextlib.contextmanager
    def _output(self) -> Iterator[Path]:
        self._out.mkdir()
        try:
            yield self._out
        finally:
            shutil.rmtree(self._out)

    def _note(self, who: str, made: Made, turn: int, ran: _Ran, mails: int | None) -> CaptureRun:
        rate = made.octets / ran.wall / 1e6
        run = CaptureRun(who, made.path.stem, turn, mails, rate, ran.wall, ran.cpu, ran.memory / 1e6)
        self.results.captures.append(run)
        _say(f"  {run.load}, {who}: {rate:.0f} MB/s, wall {ran.wall:.2f} s, CPU {ran.cpu:.2f} s, {run.memory:.0f} MB")
        return run

    def capture(self, name: str, megabytes: int, share: float) -> Made:
        """Make one. Raises BenchError where the disk has no room for it and for what comes out of it."""
        free = shutil.disk_usage(self.folder).free
        if free < 4 * megabytes * 1_000_000:
            raise BenchError(f"{self.folder}: {free / 1e9:.1f} GB are too little for a capture of {megabytes} MB")
        made = captures.write(self.folder / f"{name}.pcap", megabytes, share)
        with made.path.open("rb") as file:
            while file.read(1 << 20):  # into the page cache
                pass
        return made


def check(events: Path, made: Made) -> None:
    """Whether the records are those of the capture: every message, each with its parts, and nothing missing."""
    mails = parts = 0
    for line in events.read_bytes().splitlines():
        record = json.loads(line)
        kind = record["event_type"]
        mails += kind == "smtp" and "email" in record
        if kind == "fileinfo":
            info = record["fileinfo"]
            parts += len(info["md5"]) == 32 and len(info["sha1"]) == 40 and len(info["sha256"]) == 64
        if kind == "verdict" and (record["verdict"]["unscanned"] or record["verdict"]["action"] != "accept"):
            raise BenchError(f"netinspect: a verdict that should not be: {line[:300].decode()}")
    if mails != made.mails or parts < mails:
        raise BenchError(f"netinspect: {mails} of {made.mails} messages, {parts} parts")


def _middle(runs: list[CaptureRun]) -> CaptureRun:
    return sorted(runs, key=lambda run: run.wall)[len(runs) // 2]


def _against(name: str, ours: CaptureRun, theirs: CaptureRun, target: float | None, mails: int) -> Figure:
    note = (
        f"{ours.rate:.0f} against {theirs.rate:.0f} MB/s; CPU {ours.cpu:.2f} against {theirs.cpu:.2f} s, "
        f"memory {ours.memory:.0f} against {theirs.memory:.0f} MB"
    )
    if theirs.mails is not None and theirs.mails < mails:
        note += f"; {theirs.who} gave {theirs.mails} of {mails} messages"
    return Figure(name, ours.rate / theirs.rate, "times", target, at_least=True, note=note)


def _tenth(bench: Bench) -> list[Figure]:
    made = bench.capture("10 % mail", bench.sizes.capture, 0.1)
    runs: dict[str, list[CaptureRun]] = {OURS: [], TSHARK: [], TCPFLOW: []}
    for turn in range(bench.sizes.rounds):
        for who in _order(runs, turn):
            runs[who].append(
                bench.ours(made, turn=turn) if who == OURS
                else bench.tshark(made, turn) if who == TSHARK else bench.tcpflow(made, turn)
            )  # fmt: skip
    made.path.unlink()
    ours = _middle(runs[OURS])
    return [
        _against(TENTH_TSHARK, ours, _middle(runs[TSHARK]), 8, made.mails),
        _against(TENTH_TCPFLOW, ours, _middle(runs[TCPFLOW]), 1, made.mails),
    ]


def _mostly(bench: Bench) -> list[Figure]:
    made = bench.capture("mostly mail", bench.sizes.capture, 0.95)
    runs: dict[str, list[CaptureRun]] = {OURS: [], TWICE: [], TSHARK: [], TCPFLOW: []}
    for turn in range(bench.sizes.rounds):
        for who in _order(runs, turn):
            runs[who].append(
                bench.ours(made, 1 if who == OURS else 2, turn=turn) if who in (OURS, TWICE)
                else bench.tshark(made, turn) if who == TSHARK else bench.tcpflow(made, turn)
            )  # fmt: skip
    made.path.unlink()
    ours = _middle(runs[OURS])
    two = _against(TWO, _middle(runs[TWICE]), ours, 1.7, made.mails)
    if (os.cpu_count() or 1) < 2:
        two = Figure(TWO, None, note="this machine has one processor")
    return [
        _against(MOSTLY_TSHARK, ours, _middle(runs[TSHARK]), 4, made.mails),
        _against(MOSTLY_TCPFLOW, ours, _middle(runs[TCPFLOW]), None, made.mails),
        two,
    ]


def _order(runs: dict[str, list[CaptureRun]], turn: int) -> list[str]:
    who = list(runs)
    at = turn % len(who)
    return who[at:] + who[:at]


def _memory(bench: Bench) -> list[Figure]:
    made = bench.capture("large", bench.sizes.large, 0.95)
    try:
        one, two = bench.ours(made, sample=True), bench.ours(made, 2, sample=True)
    finally:
        made.path.unlink()
    note = f"{made.octets / 1e6:,.0f} MB of mostly mail, whole process tree; with two workers {two.memory:.0f} MB"
    return [Figure(MEMORY, one.memory, "MB", 300, note=note)]


def measure(folder: Path, results: Results) -> None:
    """All of it. What cannot be measured says so among the figures, and the rest goes on."""
    bench = Bench(folder, QUICK if results.quick else FULL, results)
    for names, scenario in (
        ([TENTH_TSHARK, TENTH_TCPFLOW], _tenth),
        ([MOSTLY_TSHARK, MOSTLY_TCPFLOW, TWO], _mostly),
        ([MEMORY], _memory),
    ):
        _say(f"{names[0]} …")
        try:
            results.figures += scenario(bench)
        except BenchError as error:
            _say(f"  could not be measured: {error}")
            results.figures += [Figure(name, None, note=str(error)) for name in names]

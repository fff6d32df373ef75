"""Files without a network: documents beside olevba, and the memory of a worker that meets a bomb."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from netinspect.errors import EngineError
from netinspect.limits import Limits
from netinspect.samples import office
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from tests.bench import messages
from tests.bench.peers import ROOT, BenchError, Server
from tests.bench.report import Figure
from tests.scan.test_bombs import BOMBS, peak_of

DOCUMENTS = "benign documents: files a second of one scan, times one olevba process a file"
BOMB = "bombs: memory of a worker at most"
WORKERS = 2
"""Of the scan, and olevba processes at a time."""
_OWN = 48
_SECONDS = 600


def own(folder: Path, number: int = _OWN) -> list[Path]:
    """Documents that netinspect makes itself: no two alike, none with a macro."""
    folder.mkdir()
    makers = (
        (".docx", lambda serial: office.plain_docx(f"Report {serial}.", {"word/media/1.bin": bytes([serial]) * 9_000})),
        (".doc", lambda serial: office.plain_doc(f"Report {serial}. " * 500)),
        (".docx", messages.docx),
    )
    paths = []
    for serial, (ending, make) in zip(range(number), itertools.cycle(makers), strict=False):
        path = folder / f"{serial}{ending}"
        path.write_bytes(make(serial))
        paths.append(path)
    return paths


def benign(corpus: Path) -> list[Path]:
    """The files of a corpus that its `cases.jsonl` says are clean; without one, all in the folder."""
    cases = corpus / "cases.jsonl"
    if not cases.is_file():
        return sorted(path for path in corpus.rglob("*") if path.is_file())
    read = map(json.loads, cases.read_text("utf-8").splitlines())
    paths = [corpus / case["id"] for case in read if "clean" in case["expect"]]
    return [path for path in paths if path.is_file()]


def _scan(paths: Sequence[Path], config: Path) -> str:
    """One `netinspect scan` of them all; what it said about them in words. Raises BenchError."""
    argv = [sys.executable, "-m", "netinspect", "-c", str(config), "scan", "--json", *map(str, paths)]
    ran = subprocess.run(argv, capture_output=True, cwd=ROOT, timeout=_SECONDS, check=False)
    records = list(map(json.loads, ran.stdout.splitlines()))
    verdicts = [record["verdict"] for record in records if record["event_type"] == "verdict"]
    if ran.returncode not in (0, 1) or len(verdicts) != len(paths):
        said = ran.stderr.decode(errors="replace")[-200:]
        raise BenchError(f"scan: {len(verdicts)} verdicts of {len(paths)} files: {said}")
    if any(verdict["unscanned"] for verdict in verdicts):
        raise BenchError("scan: there are files that were not looked at")
    return f"{sum(verdict['action'] != 'accept' for verdict in verdicts)} not accepted"


def _olevba(path: Path) -> None:
    argv = [sys.executable, "-m", "oletools.olevba", str(path)]
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, check=False)


def _children() -> float:
    """CPU seconds of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def documents(folder: Path, clamd: Server | None, corpus: Path | None, rounds: int) -> list[Figure]:
    """Wall time of both in turn, two at a time each; starting up counts on both sides. A corpus is read once."""
    rounds = 1 if corpus else rounds
    paths = benign(corpus) if corpus else own(folder / "documents")
    if not paths:
        raise BenchError(f"{corpus} has no benign files")
    config = folder / "documents.toml"
    daemon = f'clamd = "unix:{clamd.socket}"\n' if clamd else ""
    config.write_text(f"[scan]\n{daemon}workers = {WORKERS}\n")
    said, ours, theirs, cpu = "", [], [], [0.0, 0.0]
    for _ in range(rounds):
        before, start = _children(), time.monotonic()
        said = _scan(paths, config)
        ours.append(len(paths) / (time.monotonic() - start))
        middle, start = _children(), time.monotonic()
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(_olevba, paths))
        theirs.append(len(paths) / (time.monotonic() - start))
        cpu = [cpu[0] + middle - before, cpu[1] + _children() - middle]
    each = [1000 * used / rounds / len(paths) for used in cpu]
    whose = f"{len(paths)} of {corpus.name}" if corpus else f"{len(paths)} of our own making"
    note = (
        f"{whose}, {WORKERS} at a time, {'with' if clamd else 'without'} clamd, {said}: "
        f"{median(ours):.0f} against {median(theirs):.1f} a second; CPU {each[0]:.0f} against {each[1]:.0f} ms a file"
    )
    return [Figure(DOCUMENTS, median(ours) / median(theirs), "times", 5, at_least=True, note=note)]


async def _bomb(data: bytes) -> tuple[int, float]:
    """Octets that a fresh worker held at most, and seconds."""
    pool = WorkerPool(Limits(), WorkerSettings(count=1))
    await pool.start()
    try:
        (worker,) = pool.pids
        start = time.monotonic()
        (answer,) = await pool.examine([LeafRequest(data, name="bomb", path="1", sha256="0" * 64)])
        if not answer.unscanned or "died" in [one.reason for one in answer.unscanned]:
            raise BenchError(f"a bomb was taken for {answer.unscanned or 'harmless'}")
        return peak_of(worker), time.monotonic() - start
    finally:
        await pool.close()


def bombs(names: Sequence[str] = tuple(BOMBS)) -> list[Figure]:
    """VmHWM of a worker, a fresh one for each bomb."""
    try:
        peaks = {name: asyncio.run(_bomb(BOMBS[name]())) for name in names}
    except EngineError as error:
        raise BenchError(str(error)) from error
    worst = max(peaks, key=lambda name: peaks[name][0])
    slowest = max(peaks, key=lambda name: peaks[name][1])
    note = f"{len(peaks)} bombs; most memory: {worst}; longest: {slowest}, {peaks[slowest][1]:.1f} s"
    return [Figure(BOMB, peaks[worst][0] / 1e6, "MB", 256, note=note)]

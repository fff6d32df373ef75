"""How much of a corpus of known files is judged rightly: `make corpus DIR=... SCORER=...`.

    python -m tests.bench.corpus DIR --scorer score.py [--folders GLOB...] [--least PERCENT] [--jobs N]

Corpus and scorer are other people's and stay where they are. The scorer is run for one subfolder after the other
against the netinspect of this environment and a clamd of our own with the database `DIR/db`; its lines about failures
are printed, then a line for each subfolder and one for all. Exit: 0 good enough, 1 not (fewer real cases than
`--least`, or a control missed), 2 it could not be measured.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.bench import peers
from tests.bench.peers import BenchError

FOLDERS = ("eml-*", "docs-*", "archives-*")
LEAST = 97.0
_ROW = re.compile(r"^total +(\d+)/(\d+) +(\d+)/(\d+)\b", re.MULTILINE)
_LONGEST = 3600
"""Seconds for one subfolder: each file has a bound of its own in the scorer."""


@dataclass(frozen=True, slots=True)
class Score:
    """Cases that passed, and all: real ones, and controls, which a silent program would pass."""

    passed: int = 0
    real: int = 0
    controls_passed: int = 0
    controls: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.passed + other.passed,
            self.real + other.real,
            self.controls_passed + other.controls_passed,
            self.controls + other.controls,
        )

    @property
    def percent(self) -> float:
        return 100 * self.passed / self.real if self.real else 100.0

    def good(self, least: float) -> bool:
        return self.percent >= least and self.controls_passed == self.controls

    def __str__(self) -> str:
        real, controls = f"{self.passed}/{self.real}", f"{self.controls_passed}/{self.controls}"
        return f"{real:>10} real ({self.percent:5.1f} %) {controls:>9} controls"


def read(said: str) -> Score:
    """The scorer's line of totals. Raises BenchError when there is none."""
    found = _ROW.search(said)
    if found is None:
        raise BenchError(f"the scorer printed no line of totals: {said.strip()[-300:] or 'nothing at all'}")
    return Score(*map(int, found.groups()))


def folders(corpus: Path, globs: list[str]) -> list[str]:
    """The subfolders with cases that one of `globs` fits."""
    names = sorted(entry.name for entry in corpus.iterdir() if entry.is_dir() and entry.name != "db")
    return [name for name in names if any(fnmatch(name, glob) for glob in globs)]


def score(corpus: Path, scorer: Path, folder: str, command: list[str], jobs: int) -> tuple[Score, list[str]]:
    """Run the scorer over one subfolder: what it counted, and its lines about failures."""
    argv = [sys.executable, str(scorer), str(corpus), "--netinspect", shlex.join(command), "--only", folder]
    ran = subprocess.run(
        [*argv, "--jobs", str(jobs), "--failures"], capture_output=True, text=True, timeout=_LONGEST, check=False
    )
    if ran.returncode:
        raise BenchError(f"the scorer ended with {ran.returncode}: {ran.stderr.strip()[-300:]}")
    return read(ran.stdout), [line for line in ran.stdout.splitlines() if line.startswith("FAIL ")]


def run(corpus: Path, scorer: Path, globs: list[str], least: float, jobs: int) -> bool:
    """Measure and print; whether it was good enough. Raises BenchError."""
    if not (corpus / "cases.jsonl").is_file():
        raise BenchError(f"{corpus} is no corpus: it has no cases.jsonl; name the unpacked folder: make corpus DIR=...")
    if not scorer.is_file():
        raise BenchError(f"there is no scorer at {scorer}; name its score.py: make corpus DIR=... SCORER=...")
    chosen = folders(corpus, globs)
    if not chosen:
        raise BenchError(f"no subfolder of {corpus} is named like {' or '.join(globs)}")
    total, database = Score(), corpus / "db"
    with tempfile.TemporaryDirectory(prefix="netinspect-corpus-") as name, peers.clamd(Path(name), database) as clamd:
        config = Path(name) / "corpus.toml"
        config.write_text(f'[scan]\nclamd = "unix:{clamd.socket}"\n')
        command = [sys.executable, "-m", "netinspect", "-c", str(config)]
        for folder in chosen:
            one, failures = score(corpus, scorer, folder, command, jobs)
            for line in failures:
                print(line)
            print(f"{folder:26}{one}", flush=True)
            total += one
    print(f"{'all':26}{total}", flush=True)
    if not total.good(least):
        wanted = f"at least {least:g} % of the real cases and all controls are wanted"
        print(f"corpus: not good enough: {wanted}", file=sys.stderr)
    return total.good(least)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.corpus", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("corpus", metavar="DIR", type=Path, help="the unpacked corpus, with cases.jsonl and db/")
    parser.add_argument("--scorer", type=Path, required=True, help="score.py of the corpus tools")
    parser.add_argument("--folders", nargs="+", default=list(FOLDERS), metavar="GLOB", help=" ".join(FOLDERS))
    parser.add_argument("--least", type=float, default=LEAST, metavar="PERCENT", help=f"{LEAST:g}")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    try:
        good = run(options.corpus.resolve(), options.scorer.resolve(), options.folders, options.least, options.jobs)
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

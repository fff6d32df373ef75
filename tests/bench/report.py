"""Figures, their targets, and how both are shown: Markdown for people, JSON for comparisons."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """One load against one server."""

    who: str
    load: str
    round: int
    messages: int
    rate: float
    """Messages a second."""
    cpu_ms: float
    """CPU milliseconds a message: the server's whole process tree."""
    clamd_ms: float
    """CPU milliseconds a message: clamd."""
    client_ms: float
    """CPU milliseconds a message: the load client."""
    reply_ms: float
    """Median milliseconds from the final dot to its reply."""
    replies: dict[str, int]


@dataclass(frozen=True, slots=True)
class CaptureRun:
    """One program over one capture."""

    who: str
    load: str
    round: int
    mails: int | None
    """Messages that came out; None where the program does not look for them."""
    rate: float
    """MB (10^6 octets) of the capture a second."""
    wall: float
    cpu: float
    """Seconds, of the whole process tree."""
    memory: float
    """MB at most."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `target` is a bound for `value`; without one the figure is for information."""

    name: str
    value: float | None
    """None: could not be measured, `note` says why."""
    unit: str = ""
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.target is None:
            return ""
        good = self.value >= self.target if self.at_least else self.value <= self.target
        return "met" if good else "missed"


@dataclass(slots=True)
class Results:
    """All that was measured in one run of the bench."""

    quick: bool
    runs: list[Run] = field(default_factory=list)
    captures: list[CaptureRun] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    seconds: float = 0.0
    stolen: float = 0.0
    """Share of the machine's time that its host gave to others meanwhile, 0 to 1."""

    def medians(self, who: str, load: str) -> Run | None:
        """The rounds of one load against one server as one `Run`, each number the median; None without rounds."""
        rounds = [run for run in self.runs if (run.who, run.load) == (who, load)]
        if not rounds:
            return None

        def middle(name: str) -> float:
            return float(median(getattr(run, name) for run in rounds))

        replies: dict[str, int] = {}
        for run in rounds:
            for code, count in run.replies.items():
                replies[code] = replies.get(code, 0) + count
        return Run(
            who,
            load,
            round=0,
            messages=sum(run.messages for run in rounds),
            rate=middle("rate"),
            cpu_ms=middle("cpu_ms"),
            clamd_ms=middle("clamd_ms"),
            client_ms=middle("client_ms"),
            reply_ms=middle("reply_ms"),
            replies=replies,
        )

    @property
    def complete(self) -> bool:
        return all(figure.value is not None for figure in self.figures)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine())
    packages = {}
    for name in ("mitmproxy", "uvloop", "yara-x", "oletools", "pyclamd"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": packages,
        "load_average": os.getloadavg()[0],
    }


def _number(value: float, unit: str) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}".rstrip()


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def markdown(results: Results, where: dict[str, Any]) -> str:
    """Two tables: the figures with their targets, and the medians of every load behind them."""
    lines = [
        f"Measured in {results.seconds:.0f} s on {where['cores']} cores of {where['cpu']}, Linux {where['kernel']}, "
        f"Python {where['python']}, mitmproxy {where['packages']['mitmproxy']}, uvloop {where['packages']['uvloop']}; "
        f"load average at start {where['load_average']:.2f}, {results.stolen:.1%} of the time stolen by the host."
    ]
    if results.quick:
        lines.append("A quick run: one round and few messages. Not for quoting.")
    lines += ["", _row("figure", "measured", "target", "", "note"), "| --- | ---: | ---: | --- | --- |"]
    for figure in results.figures:
        measured = "" if figure.value is None else _number(figure.value, figure.unit)
        sign = "≥" if figure.at_least else "≤"
        target = "" if figure.target is None else f"{sign} {_number(figure.target, figure.unit)}"
        lines.append(_row(figure.name, measured, target, figure.verdict, figure.note))
    if results.captures:
        lines += _captures(results.captures)
    if not results.runs:
        return "\n".join(lines)
    lines += [
        "",
        "Medians of all rounds; CPU is utime + stime of the whole process tree, clamd and the load client apart.",
        "",
        _row("server", "load", "messages", "a second", "CPU ms", "clamd CPU ms", "client CPU ms", "dot to reply ms"),
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for who, load in dict.fromkeys((run.who, run.load) for run in results.runs):
        run = results.medians(who, load)
        if run is not None:
            numbers = (run.rate, run.cpu_ms, run.clamd_ms, run.client_ms, run.reply_ms)
            lines.append(_row(who, load, str(run.messages), *(_number(number, "") for number in numbers)))
    return "\n".join(lines)


def _captures(runs: list[CaptureRun]) -> list[str]:
    lines = [
        "",
        "Captures: the run in the middle of all rounds; CPU and memory are those of the whole process tree.",
        "",
        _row("program", "capture", "messages", "MB a second", "seconds", "CPU seconds", "memory MB"),
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for who, load in dict.fromkeys((run.who, run.load) for run in runs):
        rounds = sorted((run for run in runs if (run.who, run.load) == (who, load)), key=lambda run: run.wall)
        run = rounds[len(rounds) // 2]
        numbers = (run.rate, run.wall, run.cpu, run.memory)
        mails = "" if run.mails is None else str(run.mails)
        lines.append(_row(who, load, mails, *(_number(number, "") for number in numbers)))
    return lines


def as_json(results: Results, where: dict[str, Any]) -> dict[str, Any]:
    """Everything, each single run too."""
    return {
        "machine": where,
        "quick": results.quick,
        "seconds": round(results.seconds, 1),
        "stolen": round(results.stolen, 4),
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in results.figures],
        "runs": [asdict(run) for run in results.runs],
        "captures": [asdict(run) for run in results.captures],
    }

"""Puts together what comes out of the processes that judge: events, table, index, report, progress, exit code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self, TextIO

from netinspect import __version__
from netinspect.anomaly import Anomaly
from netinspect.records import Record
from netinspect.replay.drive import LAST, Captures, Item, Order
from netinspect.replay.extract import write, writing
from netinspect.replay.index import Index
from netinspect.replay.table import PIPED, Sums, Table
from netinspect.terminal import NARROW, StatusLine, count, size

FINE, FOUND, FAILED = 0, 1, 2
"""Exit codes."""

PROGRESS_AFTER = 1.0
"""Seconds; a short run needs no progress."""
PROGRESS_EVERY = 0.2
REPORTED: Final = 20
"""Faults of one capture that are told."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the results go: paths, `""` for nowhere; `-` for `events` is standard output. `other` names a policy."""

    events: str = ""
    report: str = ""
    extract: str = ""
    other: str = ""


if TYPE_CHECKING:
    from netinspect.replay.report import Report


class Output:
    """Takes items in order (a `drive.Sink`). A context: what is complete is put in its place at the end of it."""

    def __init__(
        self, wanted: Wanted, captures: Captures, out: TextIO, err: TextIO, *, progress: bool = True
    ) -> None:
        self._wanted = wanted
        self._captures = captures
        self._names = [name for _, name in captures]
        self._out = out
        self._line = StatusLine(err, on=progress)
        self._progress = Progress(self._line, captures)
        self._sums = Sums()
        self._told: dict[int, set[str]] = {}
        self._capture = -1
        self._table: Table | None = None
        if wanted.events != "-":
            self._table = Table(out, _columns(out), compared=bool(wanted.other), coloured=_coloured(out))
        self._events = -1
        self._index: Index | None = None
        self._report: Report | None = None
        self.worst = FINE
        """The exit code so far."""

    def __enter__(self) -> Self:
        """Open what is to be written. Raises EnvironmentFault."""
        wanted = self._wanted
        with contextlib.ExitStack() as stack:
            stack.callback(self._line.clear)
            if wanted.events not in ("", "-"):
                with writing(wanted.events):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                    self._events = os.open(wanted.events, flags, 0o640)  # who writes to whom is not for everybody
                stack.callback(os.close, self._events)
            if wanted.extract:
                with writing(wanted.extract):
                    os.makedirs(wanted.extract, mode=0o700, exist_ok=True)
                self._index = Index(wanted.extract, self._names)
                stack.callback(self._index.close)
            if wanted.report:
                from netinspect.replay.report import Report  # it loads a template engine

                _may_write_beside(wanted.report)
                self._report = Report()
                for path, name in self._captures:
                    self._report.add_capture(name, _size(path) or -1)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None or issubclass(kind, KeyboardInterrupt | asyncio.CancelledError):
                self._finish()

    # --- the sink -------------------------------------------------------------------------------------------------

    def item(self, item: Item) -> None:
        """Write the records of one verdict wherever they are wanted. Raises EnvironmentFault, OSError of `out`."""
        if not item.fine:
            self.worst = max(self.worst, FOUND)
        if self._events >= 0:
            with writing(self._wanted.events):
                write(self._events, item.lines)
        elif self._wanted.events:
            self._out.write(item.lines.decode("ascii"))
        if self._index is not None:
            for row in item.stored:
                self._index.add(row)
        if self._report is not None and item.order[1] != LAST:
            records: list[Record] = [json.loads(line) for line in item.lines.splitlines()]
            name = self._names[item.order[0]]
            self._report.add_records(records, capture=name, connection=item.order[2])
        if self._table is not None and item.brief is not None:
            self._line.clear()
            if item.order[0] != self._capture and len(self._names) > 1:
                self._table.heading(self._names[item.order[0]])
            self._capture = item.order[0]
            self._table.row(item.brief)
            self._sums.add(item.brief)

    def at(self, order: Order, octets: int) -> None:
        """A batch is done: what reads along shall see what there is."""
        self._out.flush()
        self._progress.at(order[0], octets)

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        """Tell it, once. A warning does not count."""
        told = self._told.setdefault(capture, set())
        if not warning:
            self.worst = FAILED
        if reason not in told and len(told) < REPORTED:
            told.add(reason)
            self._line.say(f"{self._names[capture]}: {reason}")

    # --- the end --------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._line.clear()
        if self._report is not None:
            for number, (name, octets) in enumerate(zip(self._names, self._progress.sizes, strict=True)):
                told = [Anomaly(reason, "file") for reason in sorted(self._told.get(number, ()))]
                self._report.add_capture(name, octets or -1, told)
            self._report.write(self._wanted.report, now=datetime.now(UTC), version=__version__)
        if self._table is not None:
            lines = [*self._sums.lines(self._wanted.other), self._progress.sum(len(self._names))]
            self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()


class Progress:
    """How far it is, on a terminal: share, rate, time left, name."""

    def __init__(self, line: StatusLine, captures: Captures) -> None:
        self._line = line
        self._names = [name for _, name in captures]
        self.sizes = [_size(path) for path, _ in captures]
        self._done = [0] * len(captures)
        self._capture = 0
        self._began = time.monotonic()
        self._next = self._began + PROGRESS_AFTER

    def at(self, capture: int, octets: int) -> None:
        """So many octets of this capture are read."""
        self._done[capture] = octets
        self._capture = capture
        if not self._line.on:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_EVERY
            self._line.show(lambda columns: self.text(now))

    def text(self, now: float) -> str:
        """`37 %, 126 MB of 340 MB, 48.1 MB/s, 0:04 left, day.pcapng`; what is not known is left out."""
        done, total = sum(self._done), sum(self.sizes)
        rate = done / max(now - self._began, 0.001)
        parts = [f"{size(done)}", f"{size(rate)}/s"]
        if all(self.sizes):
            parts = [f"{100 * done // total:d} %", f"{size(done)} of {size(total)}", f"{size(rate)}/s"]
            if rate:
                parts.append(f"{_clock((total - done) / rate)} left")
        return f"netinspect: {', '.join(parts)}, {self._names[self._capture]}"

    def sum(self, captures: int) -> str:
        """What was read in which time."""
        seconds = max(time.monotonic() - self._began, 0.001)
        done = sum(self._done)
        return f"{count(captures, 'capture')}, {size(done)} in {seconds:.1f} s ({size(done / seconds)}/s)"


def _may_write_beside(path: str) -> None:
    """That a file can be written at the end is found out at the beginning. Raises EnvironmentFault."""
    folder = os.path.dirname(path) or "."
    with writing(path):
        if path == "-" or os.path.isdir(path):
            raise OSError(errno.EISDIR, "must name a file")
        if not os.path.isdir(folder):
            raise OSError(errno.ENOENT, "there is no such folder")
        if not os.access(folder, os.W_OK):
            raise OSError(errno.EACCES, "the folder cannot be written to")


def _size(path: str) -> int:
    """Octets of a file, 0 where nobody knows."""
    try:
        return os.stat(path).st_size if path != "-" else 0
    except OSError:
        return 0


def _clock(seconds: float) -> str:
    whole = max(round(seconds), 0)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _columns(out: TextIO) -> int:
    return shutil.get_terminal_size((NARROW, 24)).columns if out.isatty() else PIPED


def _coloured(out: TextIO) -> bool:
    """NO_COLOR: https://no-color.org"""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

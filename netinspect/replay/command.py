"""`netinspect replay`: every session of mail in captures, judged as at the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

from netinspect.assembly import without_engines
from netinspect.config import Settings
from netinspect.errors import ConfigError
from netinspect.policy.facts import Zone
from netinspect.replay import workers
from netinspect.replay.drive import Captures, Job, drive
from netinspect.replay.output import Output, Wanted
from netinspect.replay.source import expand


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for. `other` is the second configuration."""

    captures: tuple[str, ...]
    events: str = ""
    report: str = ""
    extract: str = ""
    workers: int = 1
    other: Settings | None = None
    zone: Zone | None = None
    zones: dict[str, Zone] = field(default_factory=dict)
    keylog: str = ""
    scheduler: str = ""
    engines: bool = True
    progress: bool = True


def run(settings: Settings, options: Options, *, out: TextIO, err: TextIO) -> int:
    """Judge all sessions in the captures; give the exit code.

    Raises:
        NetinspectError: it cannot be done at all, or what comes out cannot be written. A capture that cannot be read is
            told on `err`, and the others are done.
    """
    if options.scheduler and options.workers > 1:
        raise ConfigError("goes not with --scheduler", place="--workers", remedy="the cluster has workers of its own")
    if not options.engines:
        settings = without_engines(settings)
    with captures_of(options.captures, settings, spooled=options.workers > 1) as captures:
        job = Job(settings, captures, options.zone, options.zones, options.keylog, options.other, options.extract)
        other = (options.other.source or "built-in defaults") if options.other else ""
        wanted = Wanted(options.events, options.report, options.extract, other)
        with Output(wanted, captures, out, err, progress=options.progress) as output:
            if options.scheduler:
                from netinspect.replay import dask

                dask.run(options.scheduler, job, output)
            elif options.workers > 1:
                workers.run(job, options.workers, output)
            else:
                asyncio.run(drive(job, output))
        return output.worst


@contextlib.contextmanager
def captures_of(names: tuple[str, ...], settings: Settings, *, spooled: bool) -> Iterator[Captures]:
    """The captures that are meant. With `spooled` what is no file is copied into one, for it is read several times."""
    found: list[tuple[str, str]] = []
    with contextlib.ExitStack() as stack:
        for name in expand(names):
            path = name
            if spooled and not _is_file(name):
                path = stack.enter_context(_copied(name, settings.spool.directory))
            found.append((path, name))
        if sum(name == "-" for _, name in found) > 1:
            raise ConfigError("is named twice", place="-", remedy="standard input can be read once")
        yield tuple(found)


def _is_file(name: str) -> bool:
    try:
        return name != "-" and stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return name != "-"  # opening it fails at once and says why


@contextlib.contextmanager
def _copied(name: str, folder: str) -> Iterator[str]:
    """What comes from a pipe, in a file of our own; the disk bounds it."""
    with tempfile.NamedTemporaryFile(dir=folder or None, prefix="netinspect-") as copy:
        with open(0 if name == "-" else name, "rb", closefd=name != "-", buffering=0) as pipe:
            shutil.copyfileobj(pipe, copy, 1 << 20)
        copy.flush()
        yield copy.name

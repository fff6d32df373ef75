"""The files of rules: the package's own and those of an administrator's folder.

The parent reads them, the workers compile them (`rules`): so all workers, also one that is started later, have the same
set, and a file that is broken in the meantime changes nothing. `watch` looks for changes of the administrator's folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from netinspect.errors import EngineError

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0
"""Seconds between two looks at the folder."""


@dataclass(frozen=True, slots=True)
class RuleSource:
    """One rule file; `origin` is its path, for errors."""

    origin: str
    text: str


def load_sources(folder: str = "") -> tuple[RuleSource, ...]:
    """Read the package's rules and all `*.yar` and `*.yara` in `folder` (`""`: none), in the order of their names.

    Raises EngineError when the folder or a file of it cannot be read.
    """
    shipped = resources.files("netinspect.scan") / "rules"
    files: list[Any] = sorted((f for f in shipped.iterdir() if f.name.endswith(".yar")), key=lambda f: f.name)
    if folder:
        root = Path(folder)
        if not root.is_dir():
            raise EngineError("the folder of rules does not exist", place=folder, remedy="make it or change rules_dir")
        files += sorted(path for path in root.iterdir() if path.suffix in (".yar", ".yara"))
    sources = []
    for path in files:
        try:
            sources.append(RuleSource(str(path), path.read_text("utf-8")))
        except OSError as error:
            raise EngineError(f"the rule file cannot be read: {error.strerror}", place=str(path)) from error
        except UnicodeDecodeError as error:
            raise EngineError("the rule file is not UTF-8", place=str(path)) from error
    return tuple(sources)


def state(folder: str) -> tuple[tuple[str, int, int, int], ...]:
    """Names, times, sizes and inodes of the rule files in `folder`; it changes when one of them does."""
    seen = []
    try:
        for path in sorted(Path(folder).iterdir()):
            if path.suffix in (".yar", ".yara"):
                told = path.stat()
                seen.append((path.name, told.st_mtime_ns, told.st_size, told.st_ino))
    except OSError:
        return (("", 0, 0, 0),)
    return tuple(seen)


def digest(sources: Sequence[RuleSource]) -> str:
    """A short fingerprint of a set of rules; it changes when any text does."""
    whole = hashlib.sha256()
    for source in sources:
        text = source.text.encode("utf-8")
        whole.update(len(text).to_bytes(8, "big") + text)
    return whole.hexdigest()[:16]


async def watch(
    folder: str, first: tuple[RuleSource, ...], take: Callable[[tuple[RuleSource, ...]], Awaitable[str]]
) -> None:
    """Give the rules to `take` whenever a file in `folder` changes, for ever; `first` are those in force.

    `take` answers `""`, or why it refused them; then the rules in force stay until the next change.
    """
    seen: tuple[tuple[str, int, int, int], ...] | None = None  # a change before the first look counts too
    force = digest(first)
    while True:
        await asyncio.sleep(LOOK_EVERY)
        now = await asyncio.to_thread(state, folder)
        if now == seen:
            continue
        seen = now
        try:
            sources = await asyncio.to_thread(load_sources, folder)
        except EngineError as fault:
            log.error("the rules stay as they were: %s", fault)
            continue
        if digest(sources) == force:
            continue
        refused = await take(sources)
        if refused:
            log.error("the rules stay as they were: %s", refused)
        else:
            force = digest(sources)
            log.info("new rules are in force: %d files", len(sources))

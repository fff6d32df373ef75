"""The workers: child processes that examine and clean, behind one `examine` and one `disarm`.

All leaves of a message travel in one round trip. What does not come back is an answer too: a worker that takes too
long, dies or talks rubbish is killed and replaced, and what it was asked is `Unscanned("worker", reason)`; it is not
asked again, because the content may be the reason. Reasons: `timeout` (limits.worker_time), `died` (memory, CPU time, a
crash), `garbage answer`, `busy` (no worker was free within limits.scan_time), `content: ...` (the spool could not be
read), `closed`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

from netinspect.disarm.contract import Cleaned
from netinspect.errors import EngineError
from netinspect.limits import Limits
from netinspect.scan import wire
from netinspect.scan.child import Child, CleanJob, Job
from netinspect.scan.contract import Examination, Unscanned
from netinspect.scan.rulefiles import RuleSource, load_sources, watch

log = logging.getLogger(__name__)

ENGINE: Final = "worker"

INLINE: Final = 262_144
"""Octets up to which a leaf travels inside the request; a bigger one is passed as a descriptor."""
BATCH_OCTETS: Final = 1_048_576
BATCH_LEAVES: Final = 256

_RETRY_FIRST, _RETRY_MOST = 1.0, 30.0
_SOON: Final = 0.05


class Content(Protocol):
    """What is used of a spool."""

    @property
    def size(self) -> int: ...

    def chunks(self, size: int, /) -> Iterator[bytes]: ...

    def getvalue(self) -> bytes: ...


@runtime_checkable
class FileContent(Protocol):
    """A spool that may be on disk, where its descriptor is passed instead of its octets."""

    @property
    def on_disk(self) -> bool: ...

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class LeafRequest:
    """One decoded leaf to examine; its content stays open until the answer is there."""

    data: bytes | Content
    name: str = ""
    declared: str = ""
    path: str = ""
    sha256: str = ""
    text: bool = False


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How many workers and what they look with. `faults` lets certain contents make a worker fail, for tests only.

    `disarm`: load what cleans files at the start, rather than with the first file that is to be cleaned.
    """

    count: int = 2
    rules_dir: str = ""
    office: bool = True
    rules: bool = True
    jobs: int = 5000
    """Jobs after which a worker is replaced."""
    faults: bool = False
    disarm: bool = False
    opened: int = 0
    """Octets of what passwords opened that come back with an answer (`wire.OPENED` where clamd shall see them)."""


class WorkerPool:
    """Starts the workers, gives them the jobs in the order they come, replaces those that fail."""

    def __init__(self, limits: Limits, settings: WorkerSettings | None = None) -> None:
        self._limits = limits
        self._settings = settings or WorkerSettings()
        self._sources: tuple[RuleSource, ...] = ()
        self._children: set[Child] = set()
        self._idle: list[Child] = []
        self._waiting: deque[Job] = deque()
        self._started: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._running = False
        self._retry = _RETRY_FIRST
        self._respawn: set[asyncio.TimerHandle] = set()
        self._watch: asyncio.Task[None] | None = None
        self._fresh: dict[Child, asyncio.Future[str]] = {}
        self._outdated: set[Child] = set()
        self._changing = asyncio.Lock()
        self.rules_fault = ""
        """Why the last change of the administrator's rules was refused; empty when all is well."""
        self.fingerprint = ""
        """Versions of the engines and digest of the rules; `""` before the start. A change drops what was cached."""
        self.confined: tuple[str, ...] = ()
        """Which of `network` and `seccomp` the kernel gave the workers."""

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are ready."""
        return tuple(child.pid for child in self._children if child.ready)

    async def start(self) -> None:
        """Start all workers and wait until each is ready.

        Raises EngineError when the rules are broken or a worker cannot be started at all.
        """
        if self._settings.rules:
            self._sources = load_sources(self._settings.rules_dir)
        self._running = True
        self._started = asyncio.get_running_loop().create_future()
        try:
            for _ in range(self._settings.count):
                self._spawn()
            await self._started
            if self._settings.rules and self._settings.rules_dir:
                watcher = watch(self._settings.rules_dir, self._sources, self.take_rules)
                self._watch = asyncio.get_running_loop().create_task(watcher)
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError):
                raise EngineError(f"no worker can be started: {error}") from error
            raise

    async def close(self) -> None:
        """Kill all workers and wait until they are gone; what still waits is unscanned."""
        self._running = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        for timer in self._respawn:
            timer.cancel()
        self._respawn.clear()
        for child in list(self._children):
            child.kill("closed")
        while self._waiting:
            self._waiting.popleft().settle("closed")
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def examine(self, leaves: Sequence[LeafRequest]) -> list[Examination]:
        """Examine `leaves`; one examination for each, in their order. Never raises for what is in them."""
        if len(leaves) == 1:
            return await self._batch(leaves)
        batches = [self._batch(batch) for batch in _batches(leaves)]
        if len(batches) == 1:
            return await batches[0]
        return [examination for answers in await asyncio.gather(*batches) for examination in answers]

    async def disarm(self, content: bytes | Content, name: str = "", declared: str = "", /) -> Cleaned | str:
        """Clean one file; or why there is no cleaned one: what the cleaner says, or a reason of the pool's own.

        What comes back was written by a process that had read hostile octets: it is to be examined like any other.
        """
        if not self._running:
            return "closed"
        job = CleanJob(asyncio.get_running_loop().create_future(), self._limits.message_size)
        try:
            inline: list[wire.Octets] = []
            where = _enclose(job, inline, content)
            job.pieces = wire.frame({"clean": [_size(content), where, name, declared]}, *inline)
        except (OSError, ValueError) as error:
            job.drop()
            return f"content: {error}"
        cleaned: Cleaned | str = await self._ask(job)
        return cleaned

    async def take_rules(self, sources: tuple[RuleSource, ...]) -> str:
        """Put other rules in force, one worker after the other; `""`, or why the old ones stay.

        The first new worker decides: only when it has compiled the rules do they replace the old ones. No job is lost:
        an old worker finishes what it has. One change after the other.
        """
        async with self._changing:
            return "" if sources == self._sources else await self._take(sources)

    async def _take(self, sources: tuple[RuleSource, ...]) -> str:
        before, self._sources = self._sources, sources
        old = set(self._children)
        self.rules_fault = await self._start_fresh()
        if self.rules_fault:
            self._sources = before
            return self.rules_fault
        for number, child in enumerate(old):
            if number and child in self._children and await self._start_fresh():
                break  # no more can be started: what is old is replaced when it ends
            self._retire(child)
        self._outdated |= old & self._children
        return ""

    async def _start_fresh(self) -> str:
        """Start one more worker and wait until it is ready; `""`, or why it is not."""
        try:
            child = self._spawn()
        except OSError as error:
            return f"no worker can be started: {error}"
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._fresh[child] = ready
        try:
            return await ready
        finally:
            self._fresh.pop(child, None)

    def _retire(self, child: Child) -> None:
        """End an old worker in whose place there is a new one, when it has nothing to do."""
        if child in self._children:
            self._outdated.add(child)
            if child in self._idle:
                child.kill("retired")

    # --- one job ----------------------------------------------------------------------------------------------

    async def _batch(self, leaves: Sequence[LeafRequest]) -> list[Examination]:
        if not self._running:
            return _unscanned(leaves, "closed")
        # A worker whose room is used up keeps one octet of it for each further leaf.
        room = self._settings.opened and self._settings.opened + len(leaves)
        job = Job(asyncio.get_running_loop().create_future(), room)
        try:
            _fill(job, leaves)
        except (OSError, ValueError) as error:
            job.drop()
            return _unscanned(leaves, f"content: {error}")
        answer: list[Examination] | str = await self._ask(job)
        return _unscanned(leaves, answer) if isinstance(answer, str) else answer

    async def _ask(self, job: Job) -> Any:
        """Give the job to a worker, now or when one is free; its answer, or a text that says why there is none."""
        if self._idle:
            self._idle.pop().run(job)
        else:
            job.timer = asyncio.get_running_loop().call_later(self._limits.scan_time, job.settle, "busy")
            self._waiting.append(job)
        return await job.future

    def _on_idle(self, child: Child) -> None:
        if child in self._outdated:
            child.kill("retired")
            return
        ready = self._fresh.get(child)
        if ready is not None and not ready.done():
            self.fingerprint, self.confined = child.fingerprint, child.confined
            ready.set_result("")
        if self._started is not None and not self._started.done():
            self.fingerprint, self.confined = child.fingerprint, child.confined
            if sum(one.ready for one in self._children) == self._settings.count:
                self._started.set_result(None)
        self._retry = _RETRY_FIRST
        while self._waiting:
            job = self._waiting.popleft()
            if job.timer is not None:
                job.timer.cancel()
                job.timer = None
            if job.future.done():  # nobody waits any more
                job.drop()
                continue
            child.run(job)
            return
        self._idle.append(child)

    # --- the processes ----------------------------------------------------------------------------------------

    def _spawn(self) -> Child:
        settings = {
            "limits": dataclasses.asdict(self._limits), "rules": [[one.origin, one.text] for one in self._sources],
            "office": self._settings.office, "jobs": self._settings.jobs, "faults": self._settings.faults,
            "disarm": self._settings.disarm, "opened": self._settings.opened,
        }  # fmt: skip
        child = Child(wire.frame(settings), self._limits.worker_time, self._on_idle, self._on_gone)
        self._children.add(child)
        return child

    def _on_gone(self, child: Child) -> None:
        self._children.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        task = asyncio.ensure_future(asyncio.to_thread(child.reap))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        fresh = self._fresh.get(child)
        if fresh is not None and not fresh.done():
            fresh.set_result(str(child.error or "a worker died before it was ready"))
            if self._running and len(self._children) < self._settings.count:
                self._replace(_SOON)  # another one ended meanwhile; by then the rules that this one refused are gone
            return
        if not self._running:
            return
        if child.ready:
            self._outdated.discard(child)
            if len(self._children) < self._settings.count:
                self._replace(0.0)
        elif self._started is not None and not self._started.done():
            self._started.set_exception(child.error or EngineError("a worker died before it was ready"))
        else:
            log.error("a worker did not start: %s; next try in %.0f s", child.error or "no reason known", self._retry)
            self._replace(self._retry)
            self._retry = min(self._retry * 2, _RETRY_MOST)

    def _replace(self, delay: float) -> None:
        def now() -> None:
            self._respawn.discard(timer)
            try:
                self._spawn()
            except OSError as error:
                log.error("no worker can be started: %s", error)
                self._replace(_RETRY_MOST)

        timer = asyncio.get_running_loop().call_later(delay, now)
        self._respawn.add(timer)


def _unscanned(leaves: Sequence[LeafRequest], reason: str) -> list[Examination]:
    return [Examination(unscanned=(Unscanned(ENGINE, reason, leaf.sha256),)) for leaf in leaves]


def _size(content: bytes | Content) -> int:
    return len(content) if isinstance(content, bytes) else content.size


def _batches(leaves: Sequence[LeafRequest]) -> Iterator[list[LeafRequest]]:
    """Cut `leaves` so that a job stays bounded in octets, descriptors and number."""
    batch: list[LeafRequest] = []
    octets = big = 0
    for leaf in leaves:
        size = _size(leaf.data)
        if batch and (len(batch) == BATCH_LEAVES or big == wire.MAX_DESCRIPTORS or octets + size > BATCH_OCTETS):
            yield batch
            batch, octets, big = [], 0, 0
        batch.append(leaf)
        if size > INLINE:
            big += 1
        else:
            octets += size
    if batch:
        yield batch


def _fill(job: Job, leaves: Sequence[LeafRequest]) -> None:
    """Make the frame and the descriptors; OSError when a content cannot be read, ValueError when it is closed."""
    table = []
    inline: list[wire.Octets] = []
    for leaf in leaves:
        where = _enclose(job, inline, leaf.data)
        table.append((_size(leaf.data), where, leaf.name, leaf.declared, leaf.path, leaf.sha256, leaf.text))
        job.asked.append(leaf.sha256)
    job.pieces = wire.frame(table, *inline)


def _enclose(job: Job, inline: list[wire.Octets], content: bytes | Content) -> int:
    """Put a content into a job: the number of its descriptor, or -1 and its octets are the next of `inline`."""
    if _size(content) > INLINE:
        job.descriptors.append(_descriptor(content))
        return len(job.descriptors) - 1
    inline.append(content if isinstance(content, bytes) else content.getvalue())
    return -1


def _descriptor(content: bytes | Content) -> int:
    """A read-only descriptor of `content`: of its own file, or of memory that cannot be written any more."""
    if isinstance(content, FileContent) and content.on_disk:
        # Opened anew, because the spool's own descriptor would let the worker write.
        return os.open(f"/proc/self/fd/{content.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for chunk in (content,) if isinstance(content, bytes) else content.chunks(INLINE):
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

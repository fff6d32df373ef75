"""All engines over the leaves of a message: side by side, each content once.

    cache ─▶ in work for another mail? wait for that ─▶ workers (one round trip) + clamd (one scan a leaf) ─▶ cache
                                                                                       hash lists, always fresh ─▶

What is missing when the time is up, or because an engine failed in a way it should not, is `Unscanned`; nothing that
was not looked at comes out as clean. An engine that is off by setting says nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Protocol

from netinspect.disarm.contract import Cleaned
from netinspect.files.artifact import Artifact, Hashes
from netinspect.files.passwords import TEXT
from netinspect.limits import Limits
from netinspect.scan import digests
from netinspect.scan.cache import ExaminationCache, Key, rebase
from netinspect.scan.clamd import ClamdEngine
from netinspect.scan.clamd_session import Spooled
from netinspect.scan.clamd_wire import Outcome
from netinspect.scan.contract import EngineState, Examination, Finding, Unscanned
from netinspect.scan.gate import ByteGate
from netinspect.scan.hashes import HashLists
from netinspect.scan.plaintext import PlainText, TextLeaf
from netinspect.scan.pool import LeafRequest

log = logging.getLogger(__name__)

BIG = 1_048_576
"""Octets from which on a content counts against `WORK_BYTES`."""
WORK_BYTES = 67_108_864
"""Octets of big contents in work at once: what the workers and clamd unpack of them lives in memory."""
ALONG = 4
"""Known texts that travel along to a worker."""
LISTS_EVERY = 1.0
"""Seconds between two looks at the hash lists' files."""


class LeafLike(TextLeaf, Protocol):
    """What is used of a leaf. Its owner closes the content, and not before `examine` is done."""

    @property
    def content(self) -> Spooled: ...


class Workers(Protocol):
    """What is used of the worker pool."""

    @property
    def fingerprint(self) -> str: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def examine(self, leaves: Sequence[LeafRequest], /) -> list[Examination]: ...

    async def disarm(self, content: Spooled, name: str, declared: str, /) -> Cleaned | str: ...


class _Job:
    """One content in work; whoever needs the same waits for `done`, which is cancelled when the work is given up."""

    __slots__ = ("at", "done", "key", "leaf")

    def __init__(self, at: int, key: Key, leaf: LeafLike, done: asyncio.Future[Examination]) -> None:
        self.at = at
        self.key = key
        self.leaf = leaf
        self.done = done


class Panel:
    """The engines of one process.

    Args:
        limits: `scan_time` bounds one call of `examine`, `cache_entries` the cache.
        workers: unpacking, office and rules, in child processes.
        clamd: `None` is off.
        hashes: `None` is off.
        plain: answers for plain texts without a worker; `None`: the workers are always asked.
        work_bytes: octets of big contents in work at once.
        worker_engines: what the workers look with, by name and version.
    """

    def __init__(
        self,
        limits: Limits,
        workers: Workers,
        clamd: ClamdEngine | None = None,
        hashes: HashLists | None = None,
        *,
        plain: PlainText | None = None,
        work_bytes: int = WORK_BYTES,
        worker_engines: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.clamd = clamd
        self.hashes = hashes
        self.cache = ExaminationCache(limits.cache_entries)
        self._limits = limits
        self._workers = workers
        self._plain = plain
        self._gate = ByteGate(work_bytes)
        self._in_work: dict[Key, asyncio.Future[Examination]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._worker_engines = tuple(worker_engines)
        self._engines: tuple[EngineState, ...] = ()
        self._engines_of: tuple[object, ...] = ()
        self._loop: asyncio.AbstractEventLoop
        # Without engines there is nothing to wait for, and what is known costs more to look up than to make.
        self._alone = clamd is None and isinstance(workers, digests.DigestsOnly)

    @property
    def fingerprint(self) -> str:
        """Changes when an engine or its signatures do. Hash lists are looked up afresh each time and not part of it."""
        if self.clamd is None:
            return self._workers.fingerprint
        return f"{self._workers.fingerprint}|{self.clamd.fingerprint}"

    @property
    def engines(self) -> tuple[EngineState, ...]:
        """The engines that are on; the same object until one of them, its signatures or the day changes."""
        now = (self._workers.fingerprint, self.clamd and self.clamd.version, len(self.hashes or ()), date.today())
        if now != self._engines_of:
            self._engines_of = now
            self._engines = tuple(self._states())
        return self._engines

    def _states(self) -> Iterator[EngineState]:
        # The rules' and the other engines' digests are in one fingerprint: what it changes with is what they look for.
        digest = hashlib.blake2b(self._workers.fingerprint.encode(), digest_size=6).hexdigest()
        for name, version in self._worker_engines:
            yield EngineState(name, version, digest if name == "rules" else "")
        if self.clamd is not None:
            health = self.clamd.health
            age = health["signature_age"]
            database = health["database"]
            yield EngineState(
                "clamd", str(health["version"] or ""), str(database) if database else "",
                age if isinstance(age, int) else None,
            )  # fmt: skip
        if self.hashes is not None:
            yield EngineState("hashes", "", f"{len(self.hashes)} entries")

    async def start(self) -> None:
        """Start the engines. Raises `EngineError` where one cannot be built; a clamd that is down is no reason."""
        self._loop = asyncio.get_running_loop()
        await self._workers.start()
        if self.clamd is not None:
            await self.clamd.start()
        if self.hashes is not None:
            self._watch = self._loop.create_task(self._watch_lists(self.hashes))

    async def close(self) -> None:
        """Stop the engines; calls still waiting get `Unscanned`."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        if self.clamd is not None:
            await self.clamd.close()
        await self._workers.close()
        # A YARA-X scanner may be freed only where it was made, and the collector runs in any thread.
        self._plain = None

    async def _watch_lists(self, hashes: HashLists) -> None:
        while True:
            await asyncio.sleep(LISTS_EVERY)
            await asyncio.to_thread(hashes.refresh)

    # --- one message ------------------------------------------------------------------------------------------

    async def examine(
        self, leaves: Sequence[LeafLike], words: Callable[[], bytes] = bytes
    ) -> list[Examination]:
        """Examine the leaves of one message; the answers stand in the same order. Never raises for content.

        `words` gives other text of the mail where a password may stand (`passwords.header_text`); it is asked only
        where something could be closed.
        """
        hashes = self.hashes
        if self._alone and hashes is None:
            return [await digests.describe(leaf, leaf.content) for leaf in leaves]
        fingerprint = self.fingerprint
        results: dict[int, Examination] = {}
        mine: list[_Job] = []
        others: list[_Job] = []
        allowed: list[tuple[int, LeafLike]] = []
        for at, leaf in enumerate(leaves):
            if hashes is not None and hashes.allowed(leaf.sha256):
                allowed.append((at, leaf))
                continue
            key = (leaf.sha256, leaf.name, leaf.declared, leaf.text)
            known = self.cache.get(key, fingerprint)
            if known is not None:
                results[at] = rebase(known, leaf.path)
                continue
            done = self._in_work.get(key)
            if done is None:
                done = self._in_work[key] = self._loop.create_future()
                mine.append(_Job(at, key, leaf, done))
            else:
                others.append(_Job(at, key, leaf, done))
        # No await before this: whatever is registered as in work has to be worked on.
        if mine:
            answered = [leaf for at, leaf in enumerate(leaves) if at in results]
            await self._work(mine, fingerprint, results, answered, words)
        for job in others:
            results[job.at] = await self._join(job)
        for at, leaf in allowed:
            results[at] = await digests.allowed(leaf)
        if hashes is None:
            return [results[at] for at in range(len(leaves))]
        return [_listed(results[at], hashes) for at in range(len(leaves))]

    async def scan_message(self, content: Spooled) -> Outcome:
        """Let clamd look at a whole message, for one whose parts could not all be decoded with certainty.

        The engines that work on leaves have nothing to say to it; without clamd the answer is empty.
        """
        if self.clamd is None:
            return ()
        try:
            async with asyncio.timeout(self._limits.scan_time):
                return await self.clamd.submit(content, "")
        except TimeoutError:
            return (Unscanned("clamd", "timeout"),)

    async def disarm(self, leaf: LeafLike) -> Cleaned | str:
        """Let a worker clean one content; or why there is no cleaned one. Never raises for content.

        What comes back has to be examined: it was made by a process that had read hostile octets.
        """
        size = leaf.content.size
        entered = False
        try:
            async with asyncio.timeout(self._limits.scan_time):
                if size >= BIG:
                    await self._gate.acquire(size)
                    entered = True
                return await self._workers.disarm(leaf.content, leaf.name, leaf.declared)
        except TimeoutError:
            return "timeout"
        finally:
            if entered:
                self._gate.release(size)

    async def _join(self, job: _Job) -> Examination:
        """The answer that another call is working on; if that call is given up, the work is ours."""
        done: asyncio.Future[Examination] | None = job.done
        results: dict[int, Examination] = {}
        while done is not None:
            # Not `await done`: that this call is given up must not take the answer from the others.
            await asyncio.wait((done,), timeout=self._limits.scan_time)
            if not done.done():
                return _missing(job.leaf, "timeout")
            if not done.cancelled():
                return rebase(done.result(), job.leaf.path)
            done = self._in_work.get(job.key)
        job.done = self._in_work[job.key] = self._loop.create_future()
        await self._work([job], self.fingerprint, results)
        return results[job.at]

    async def _work(
        self, jobs: list[_Job], fingerprint: str, results: dict[int, Examination], known: Sequence[LeafLike] = (),
        words: Callable[[], bytes] = bytes,
    ) -> None:  # fmt: skip
        big = sum(size for job in jobs if (size := job.leaf.content.size) >= BIG)
        entered = False
        scans: list[asyncio.Future[Outcome]] = []
        examined: list[Examination] | str = "timeout"
        try:
            try:
                async with asyncio.timeout(self._limits.scan_time):
                    if big:
                        await self._gate.acquire(big)
                        entered = True
                    if self.clamd is not None:
                        for job in jobs:
                            scans.append(self._submit(self.clamd, job.leaf))
                    examined = self._look_at_texts(jobs) or await self._ask_workers(jobs, known, words)
                    if self.clamd is not None and not isinstance(examined, str):
                        examined = await self._show_opened(self.clamd, examined)
                    for scan in scans:
                        if not scan.done():
                            await scan
            except TimeoutError:
                log.warning("the judgement of %d contents took more than %g s", len(jobs), self._limits.scan_time)
            for index, job in enumerate(jobs):
                answer = _missing(job.leaf, examined) if isinstance(examined, str) else examined[index]
                if answer.opened:  # the time was up before clamd had seen it
                    answer = _told(answer, [Unscanned("clamd", "timeout", one.sha256) for one in answer.opened])
                if self.clamd is not None:
                    answer = _with_clamd(answer, scans[index] if scans else None, job.leaf.sha256)
                if not any(finding.category == "encrypted" for finding in answer.findings):
                    # The next mail with the same archive may say another password.
                    self.cache.put(job.key, fingerprint, answer)
                results[job.at] = answer
                job.done.set_result(answer)
        finally:
            for scan in scans:
                scan.cancel()
            for job in jobs:
                self._in_work.pop(job.key, None)
                job.done.cancel()
            if entered:
                self._gate.release(big)

    def _submit(self, clamd: ClamdEngine, leaf: LeafLike) -> asyncio.Future[Outcome]:
        try:
            return clamd.submit(leaf.content, leaf.sha256)
        except Exception:
            # A fault of ours or a spool that cannot be read: the mail waits, and it is in the log.
            log.exception("clamd: a scan could not begin")
            failed: asyncio.Future[Outcome] = self._loop.create_future()
            failed.set_result((Unscanned("clamd", "fault", leaf.sha256),))
            return failed

    def _look_at_texts(self, jobs: list[_Job]) -> list[Examination]:
        """The answers where all contents are plain texts with nothing in them; else none, and the workers are asked."""
        answers: list[Examination] = []
        if self._plain is not None:
            for job in jobs:
                answer = self._plain.examine(job.leaf)
                if answer is None:
                    return []
                answers.append(answer)
        return answers

    async def _show_opened(self, clamd: ClamdEngine, examined: list[Examination]) -> list[Examination]:
        """Let clamd look at what the workers opened with a password: it saw that closed."""
        shown = []
        for answer in examined:
            if answer.opened:
                outcome: list[Finding | Unscanned] = []
                for one in answer.opened:
                    if one.data is None:
                        outcome.append(Unscanned("clamd", "too much was encrypted", one.sha256))
                    else:
                        outcome += await clamd.submit(one.data, one.sha256)
                answer = _told(answer, outcome)
            shown.append(answer)
        return shown

    async def _ask_workers(
        self, jobs: list[_Job], known: Sequence[LeafLike], words: Callable[[], bytes]
    ) -> list[Examination] | str:
        """The workers' answers, or why there are none.

        Texts whose answer is `known` travel along with something else: a password for it may stand there.
        """
        leaves = [job.leaf for job in jobs]
        closable = not all(leaf.text for leaf in leaves)
        if closable:
            leaves += [leaf for leaf in known if leaf.text and leaf.content.size <= TEXT][:ALONG]
        try:
            requests = [
                LeafRequest(
                    data=leaf.content, name=leaf.name, declared=leaf.declared, path=leaf.path, sha256=leaf.sha256,
                    text=leaf.text,
                )
                for leaf in leaves
            ]  # fmt: skip
            told = words() if closable else b""
            if told:
                requests.append(LeafRequest(data=told, declared="text/plain", text=True))
            examined = await self._workers.examine(requests)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this call was given up but what it waited for.
            return "closed"
        except Exception:
            log.exception("workers: the examination failed")
            return "fault"
        if len(examined) != len(requests):
            log.error("workers: %d answers for %d contents", len(examined), len(leaves))
            return "fault"
        return examined[: len(jobs)]


def _with_clamd(answer: Examination, scan: asyncio.Future[Outcome] | None, sha256: str) -> Examination:
    if scan is None or not scan.done() or scan.cancelled():
        late = Unscanned("panel", "timeout", sha256)
        outcome: Outcome = () if late in answer.unscanned else (late,)
    else:
        outcome = scan.result()
    return _told(answer, outcome) if outcome else answer


def _told(answer: Examination, outcome: Sequence[Finding | Unscanned]) -> Examination:
    """The answer with clamd's beside it, and without what was opened for clamd."""
    return Examination(
        answer.artifacts,
        answer.findings + tuple(one for one in outcome if isinstance(one, Finding)),
        answer.unscanned + tuple(one for one in outcome if isinstance(one, Unscanned)),
        answer.anomalies,
    )


def _listed(examination: Examination, hashes: HashLists) -> Examination:
    """With the findings of the block lists: for the leaf and for all that was found inside it."""
    found = tuple(finding for artifact in examination.artifacts if (finding := hashes.check(artifact)) is not None)
    if not found:
        return examination
    return Examination(
        examination.artifacts, found + examination.findings, examination.unscanned, examination.anomalies
    )


def _missing(leaf: LeafLike, reason: str) -> Examination:
    """Nothing is known but what the leaf says itself."""
    artifact = Artifact(
        Hashes(leaf.sha256, "", ""), leaf.content.size, "data", leaf.path, leaf.name, leaf.declared, "", "TRUNCATED",
        leaf.text,
    )  # fmt: skip
    return Examination((artifact,), unscanned=(Unscanned("panel", reason, leaf.sha256),))

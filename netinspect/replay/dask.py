"""`--scheduler ADDRESS`: captures shared out over the machines of a Dask cluster, one task a capture.

    client ─▶ scheduler ─▶ workers: drive ─▶ items of one capture ─▶ client ─▶ Output, in the order of the captures

A worker reads the capture itself, so its path (and those of a key log, of lists and rules, and of the folder to extract
to) must mean the same file there; what is sent is the job, what comes back are the records as they will be written.
They are those of one process, whatever the number of workers.

Dask gives a task whose worker died to another one, a few times (`distributed.scheduler.allowed-failures`), and then
gives it up, together with what waited at the same workers. Each such capture is tried once more by itself; if that
fails it is told, and the others are done. Whoever may talk to a scheduler may run anything on its workers: on a network
that others share, Dask's own TLS settings are needed (an address that begins with `tls://`).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from netinspect import __version__
from netinspect.errors import ConfigError, EnvironmentFault, NetinspectError
from netinspect.replay.drive import LAST, Item, Job, Order, Sink, drive

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT: Final = 10.0
"""Seconds to reach the scheduler."""
PATIENCE: Final = 30.0
"""Seconds without any worker, at the start or later, after which the rest is given up."""
RETRIES: Final = 1
"""Tries more for a capture whose task raised something (a full disk, a fault of ours); dead workers count apart."""
FETCH: Final = 120.0
"""Seconds for the records of one capture to come over the network before it is asked again who has them."""
_LOOK: Final = 1.0


@dataclass(slots=True)
class Told:
    """What one task brings back (a `drive.Sink`). `fault`: the settings cannot be carried out on that worker."""

    items: list[Item] = field(default_factory=list)
    failures: list[tuple[str, bool]] = field(default_factory=list)
    octets: int = 0
    fault: str = ""

    def item(self, item: Item) -> None:
        """Keep it."""
        self.items.append(item)

    def at(self, order: Order, octets: int) -> None:
        """Note how much was read."""
        self.octets = octets

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        """Keep it."""
        self.failures.append((reason, warning))


def task(job: Job, version: str) -> Told:
    """Read the one capture of `job`; runs in a worker."""
    told = Told()
    if version != __version__:
        # Records are the same whoever makes them; those of another version may not be.
        told.fault = f"a worker has netinspect {__version__}, this is {version}"
        return told
    try:
        asyncio.run(drive(job, told))
    except NetinspectError as error:
        told.fault = str(error)
    return told


def run(address: str, job: Job, sink: Sink) -> None:
    """Do the job on the cluster of this scheduler. Nothing of `distributed` is loaded before.

    Raises:
        ConfigError: a capture that only this process can read.
        EnvironmentFault: Dask is not installed, the scheduler cannot be reached or goes away, it has no workers, or
            the settings cannot be carried out there. A capture that cannot be read is told to the sink.
    """
    for path, name in job.captures:
        if path == "-" or name == "-":
            raise ConfigError("cannot be read by other machines", place="-", remedy="write it to a shared file")
    try:
        import distributed
    except ImportError:
        raise EnvironmentFault(
            "Dask is not installed", place="--scheduler", remedy="pip install 'netinspect[dask]'"
        ) from None
    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        # The first line: what follows is how Dask got there.
        reason = str(error).partition("\n")[0]
        raise EnvironmentFault(f"the scheduler cannot be reached: {reason}", place=address) from None
    with client:
        _Cluster(client, address, _absolute(job), sink).run()


def _absolute(job: Job) -> Job:
    """The folder where a worker stands is another one."""
    captures = tuple((os.path.abspath(path), name) for path, name in job.captures)
    keylog, extract = (os.path.abspath(path) if path else "" for path in (job.keylog, job.extract))
    return replace(job, captures=captures, keylog=keylog, extract=extract)


@dataclass(slots=True)
class _Capture:
    """One that was given out. `answer` is what came of it, once it is known."""

    number: int
    future: Any
    answer: Told | BaseException | None = None


class _Cluster:
    """One job on a cluster."""

    def __init__(self, client: Any, address: str, job: Job, sink: Sink) -> None:
        self._client = client
        self._address = address
        self._job = job
        self._sink = sink
        self._run = uuid.uuid4().hex
        self._alone = 0.0  # since when there is no worker

    def run(self) -> None:
        """Give out the tasks, some ahead, and take what they bring in the order of the captures."""
        from distributed.scheduler import KilledWorker

        while not self._threads():
            time.sleep(_LOOK / 5)
        numbers = iter(range(len(self._job.captures)))
        waiting: deque[_Capture] = deque()
        try:
            while True:
                # What is done waits here for those before it: not more than keeps all workers busy.
                most = 2 * max(1, self._threads()) + 2
                waiting.extend(self._submitted(numbers, most - len(waiting)))
                if not waiting:
                    return
                first = waiting[0]
                self._settle(first)
                if isinstance(first.answer, KilledWorker):
                    # Dask blames all that its worker had to do. Alone on the cluster there is nobody else to blame.
                    for other in waiting:
                        self._settle(other)
                    waiting[0] = first = _Capture(first.number, self._submit(first.number, "alone"))
                    self._settle(first)
                waiting.popleft()
                self._take(first)
        finally:
            for one in waiting:
                one.future.cancel()

    def _submitted(self, numbers: Iterator[int], most: int) -> Iterator[_Capture]:
        for _ in range(most):
            number = next(numbers, None)
            if number is None:
                return
            yield _Capture(number, self._submit(number))

    def _submit(self, number: int, what: str = "capture") -> Any:
        one = replace(self._job, captures=(self._job.captures[number],))
        name = f"netinspect-replay-{self._run}-{what}-{number}"
        return self._client.submit(task, one, __version__, key=name, retries=RETRIES, pure=False)

    def _settle(self, one: _Capture) -> None:
        """Wait until the task is done, one way or another, and fetch what it brings: its worker may die afterwards.

        Raises EnvironmentFault when nobody is left to do it.
        """
        from distributed.scheduler import KilledWorker

        future = one.future
        while one.answer is None:
            done = threading.Event()
            future.add_done_callback(lambda _, done=done: done.set())
            while not done.wait(_LOOK):
                self._threads()
            if future.status == "error":
                one.answer = future.exception()
            elif future.status == "cancelled":
                one.answer = EnvironmentFault("the scheduler has forgotten it")
            elif future.status == "finished":
                try:
                    one.answer = future.result(timeout=FETCH)
                except (KilledWorker, CancelledError) as error:  # it was to be done again
                    one.answer = error
                except TimeoutError:
                    self._threads()
            # Else its worker died with the result, and another one does it again.

    def _threads(self) -> int:
        """Tasks that the cluster does at a time. Raises EnvironmentFault after too long a time without any."""
        try:
            workers = self._client.ncores()
        except (OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise EnvironmentFault(f"the scheduler went away: {reason}", place=self._address) from None
        if workers:
            self._alone = 0.0
        elif not self._alone:
            self._alone = time.monotonic()
        elif time.monotonic() - self._alone > PATIENCE:
            raise EnvironmentFault(
                "the scheduler has no workers", place=self._address, remedy=f"start some: dask worker {self._address}"
            )
        return sum(workers.values())

    def _take(self, one: _Capture) -> None:
        sink, number, told = self._sink, one.number, one.answer
        if not isinstance(told, Told):
            sink.failed(number, f"not done by the cluster: {_reason(told)}")
            return
        if told.fault:
            raise EnvironmentFault(told.fault, place=self._address)
        for item in told.items:
            sink.item(item._replace(order=(number, *item.order[1:])))
        for reason, warning in told.failures:
            sink.failed(number, reason, warning=warning)
        sink.at((number, LAST, 0), told.octets)
        one.future.release()


def _reason(fault: BaseException | None) -> str:
    if type(fault).__name__ == "KilledWorker":
        return "the workers that tried it died (memory?)"
    if isinstance(fault, NetinspectError):
        return str(fault)
    return f"{type(fault).__name__}: {fault}".partition("\n")[0]

"""One worker process as the pool sees it: started, asked, read, killed. All on the event loop, nothing blocks."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import netinspect
from netinspect.errors import EngineError
from netinspect.scan import wire

START_TIME: Final = 60.0
"""Seconds a worker may take until it is ready; 0.5 s are usual, a machine under load needs more."""

_BUFFER: Final = 1_048_576

# One for all children: filled and emptied within one callback. A fresh buffer costs three system calls a read.
_received = bytearray(262_144)
_received_view = memoryview(_received)


class Job:
    """A batch of leaves for one round trip. `future` gets the examinations, or is given up by whoever waits.

    `room` is how many octets may follow the JSON of the answer.
    """

    __slots__ = ("asked", "descriptors", "future", "pieces", "room", "timer")

    def __init__(self, future: asyncio.Future[Any], room: int = 0) -> None:
        self.future = future
        self.room = room
        self.asked: list[str] = []
        self.pieces: list[wire.Octets] = []
        self.descriptors: list[int] = []
        self.timer: asyncio.TimerHandle | None = None

    def read(self, text: memoryview, octets: memoryview) -> tuple[bool, Any]:
        """Whether the worker retires, and what `future` gets. Raises BadAnswer."""
        return wire.read_answer(text, self.asked, octets)

    def settle(self, result: Any) -> None:
        """Give the answer, or the reason (a text) why there is none."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.drop()
        if not self.future.done():
            self.future.set_result(result)

    def drop(self) -> None:
        """Free what is only needed to send the job."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors, self.pieces = [], []


class CleanJob(Job):
    """One file to be cleaned; `future` gets it, or the reason why there is none."""

    __slots__ = ()

    def read(self, text: memoryview, octets: memoryview) -> tuple[bool, Any]:
        """As `Job.read`."""
        return wire.read_cleaned(text, octets)


class Child:
    """A worker process.

    `on_idle(child)` is called when it can take a job (also the first time), `on_gone(child)` once, when it never
    will again. `ready` tells whether it ever was; if not, `error` says why, if it said so.
    """

    __slots__ = (
        "_buffer", "_loop", "_need", "_on_gone", "_on_idle", "_out", "_process", "_socket", "_time", "_timer",
        "confined", "error", "fingerprint", "gone", "job", "ready",
    )  # fmt: skip

    def __init__(
        self, settings: Sequence[wire.Octets], time: float, on_idle: Callable[[Child], None],
        on_gone: Callable[[Child], None],
    ) -> None:  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._time = time
        self._on_idle, self._on_gone = on_idle, on_gone
        self.fingerprint = ""
        self.confined: tuple[str, ...] = ()
        self.error: EngineError | None = None
        self.ready = self.gone = False
        self.job: Job | None = None
        self._buffer = bytearray()
        self._need = 0
        self._out: list[memoryview] = []
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                ours.setsockopt(socket.SOL_SOCKET, which, _BUFFER)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "netinspect.scan.worker", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], env=_environment(),
            )  # fmt: skip
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._on_readable)
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(START_TIME, self._on_time)
        self._send(settings, [])

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def run(self, job: Job) -> None:
        """Send `job`; the child must be idle."""
        self.job = job
        self._timer = self._loop.call_later(self._time, self._on_time)
        pieces, descriptors = job.pieces, job.descriptors
        self._send(pieces, descriptors)
        if not self._out:
            job.drop()

    def kill(self, reason: str) -> None:
        """End the process; its job, if it has one, is unscanned for `reason`."""
        if self.gone:
            return
        self.gone = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._out = []
        self._process.kill()
        job, self.job = self.job, None
        if job is not None:
            job.settle(reason)
        self._on_gone(self)

    def reap(self) -> None:
        """Wait for the killed process; blocks for as long as the kernel needs to take its memory back."""
        self._process.wait()

    # --- sending ----------------------------------------------------------------------------------------------

    def _send(self, pieces: Sequence[wire.Octets], descriptors: list[int]) -> None:
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
            sent = self._socket.sendmsg(pieces, rights)
        except BlockingIOError:
            # An idle worker has read all there was, so the buffer is empty: this cannot be for long.
            sent = 0
            if descriptors:
                self._loop.call_soon(self.kill, "died")
                return
        except OSError:
            self._loop.call_soon(self.kill, "died")
            return
        for piece in pieces:
            view = memoryview(piece).cast("B")
            if sent >= len(view):
                sent -= len(view)
            else:
                self._out.append(view[sent:])
                sent = 0
        if self._out:
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out[0])
            except BlockingIOError:
                return
            except OSError:
                self.kill("died")
                return
            if sent < len(self._out[0]):
                self._out[0] = self._out[0][sent:]
            else:
                del self._out[0]
        self._loop.remove_writer(self._socket.fileno())
        if self.job is not None:
            self.job.drop()

    # --- receiving --------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self.gone:
            return
        try:
            size = self._socket.recv_into(_received)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.kill("died")
            return
        frame = _received_view[:size]
        if self._buffer or size < wire.HEADER.size:
            self._buffer += frame
            if len(self._buffer) < max(self._need, wire.HEADER.size):
                return
            frame = memoryview(self._buffer)
        text, octets = wire.HEADER.unpack_from(frame)
        need = wire.HEADER.size + text + octets
        if need - octets > wire.ANSWER_LIMIT or (octets and (self.job is None or octets > self.job.room)):
            self.kill("garbage answer")
        elif len(frame) < need:
            self._need = need
            if not self._buffer:
                self._buffer += frame
        elif len(frame) > need:
            self.kill("garbage answer")  # nobody asked for more
        else:
            self._need = 0
            self._buffer = bytearray()
            self._take(frame[wire.HEADER.size : need - octets], frame[need - octets :])

    def _take(self, text: memoryview, octets: memoryview) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if not self.ready:
                self._start(wire.load(text))
                return
            job = self.job
            if job is None:
                raise wire.BadAnswer("nobody asked")
            retire, answer = job.read(text, octets)
        except wire.BadAnswer:
            self.kill("garbage answer")
            return
        self.job = None
        job.settle(answer)
        if retire:
            self.kill("retired")
        else:
            self._on_idle(self)

    def _start(self, told: Any) -> None:
        if not isinstance(told, dict):
            raise wire.BadAnswer("not the shape of a greeting")
        error = told.get("error")
        if isinstance(error, list) and len(error) == 3:
            message, place, remedy = map(str, error)
            self.error = EngineError(message, place=place, remedy=remedy)
            self.kill("never ready")
            return
        self.fingerprint = str(told.get("fingerprint"))[:500]
        self.confined = tuple(map(str, told.get("confined") or ()))[:8]
        self.ready = True
        self._on_idle(self)

    def _on_time(self) -> None:
        self._timer = None
        self.kill("timeout")


def _environment() -> dict[str, str]:
    """Only what Python needs to find the package: a process that reads hostile octets has no use for our secrets."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH") if name in os.environ}
    places = [str(Path(netinspect.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(place for place in places if place)}

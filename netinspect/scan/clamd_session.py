"""One connection to clamd that many scans share, or one big upload has to itself.

`zIDSESSION` opens it; each `zINSTREAM` takes the next number, and its answer `NUMBER: stream: OK` comes whenever the
scan is done, in any order, split or together with others (clamd(8)). The session writes at once what the socket takes
and queues the rest. It trusts nothing: an answer with a number that is not waited for, one that comes before its
content was sent, bytes that are no answer, or an end in the middle break the session, and no answer of that read
counts.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from netinspect.scan.clamd_wire import ANSWER_MAX, Outcome, judge
from netinspect.scan.contract import Unscanned

QUEUE_HIGH = 1_048_576
"""Octets that may wait in a session for the socket; an upload pauses above, a small scan waits for room."""
PIECE = 262_144
"""Octets of one chunk of an upload: one writev, and small enough not to hold up the loop."""

_OPEN = b"zIDSESSION\0"
_COMMAND = b"zINSTREAM\0"
_END = b"\0\0\0\0"
_NEVER = 1 << 62


class Spooled(Protocol):
    """What is used of a spool."""

    @property
    def size(self) -> int: ...

    def chunks(self, size: int, /) -> Iterator[bytes]: ...

    def getvalue(self) -> bytes: ...


Content = bytes | Spooled


class Scan:
    """One content on its way through clamd; `future` gets the outcome and is never failed, only cancelled."""

    __slots__ = ("content", "deadline", "end", "future", "retried", "sha256", "size")

    def __init__(self, content: Content, sha256: str, future: asyncio.Future[Outcome], deadline: float) -> None:
        self.content = content
        self.size = len(content) if isinstance(content, bytes) else content.size
        self.sha256 = sha256
        self.future = future
        self.deadline = deadline
        self.end = _NEVER
        """The session's octet count at which all of the content is sent."""
        self.retried = False

    def settle(self, outcome: Outcome) -> None:
        """Give the outcome, unless there is one or nobody waits."""
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, reason: str) -> None:
        """The outcome is that there is none."""
        self.settle((Unscanned("clamd", reason, self.sha256),))


class Session:
    """A session on a connected socket.

    `on_lost(session, scans)` is called once when it ends by itself, with the scans that have no answer;
    `reason` then says why. `lost` is done when it has ended in any way.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Session, list[Scan]], None],
    ) -> None:
        sock.setblocking(False)
        self.lost: asyncio.Future[None] = loop.create_future()
        self.reason = ""
        self._sock = sock
        self._loop = loop
        self._on_lost = on_lost
        self._number = 0
        self._pending: dict[bytes, Scan] = {}
        self._rest = b""
        self._out: deque[memoryview] = deque()
        self._accepted = 0
        self._sent = 0
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._retired = False
        loop.add_reader(sock, self._readable)
        self._write(_OPEN)

    @property
    def alive(self) -> bool:
        """It takes scans."""
        return not self._retired and not self.lost.done()

    @property
    def pending(self) -> int:
        """Scans without an answer, given-up ones included."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """So much waits for the socket that the next scan should wait too."""
        return self._accepted - self._sent > QUEUE_HIGH

    # --- sending ----------------------------------------------------------------------------------------------

    def send(self, scan: Scan) -> None:
        """Send a small content whole; it is in memory."""
        content = scan.content
        assert isinstance(content, bytes)  # noqa: S101  # the engine has taken it out of its spool
        self._enter(scan)
        # The length of nothing would read as the end of the stream, and the end as the next command.
        if content:
            head = _COMMAND + len(content).to_bytes(4, "big")
            scan.end = self._accepted + len(head) + len(content) + 4
            self._write(head, content, _END)
        else:
            scan.end = self._accepted + len(_COMMAND) + 4
            self._write(_COMMAND, _END)

    async def upload(self, scan: Scan) -> None:
        """Send a big content piece by piece; return when it is sent, answered, given up, or the session is lost.

        Raises:
            OSError: the content cannot be read, or not all of it.
        """
        self._enter(scan)
        self._write(_COMMAND)
        content = scan.content
        left = scan.size
        for piece in _slices(content) if isinstance(content, bytes) else content.chunks(PIECE):
            if not piece:
                continue
            left -= len(piece)
            self._write(len(piece).to_bytes(4, "big"), piece)
            while self.full and not scan.future.done() and not self.lost.done():
                await self.room()
            if scan.future.done() or self.lost.done():
                return
        if left:
            # A part of a content may be clean where the whole is not.
            raise OSError(f"{left} octets of the content are missing")
        scan.end = self._accepted + 4
        self._write(_END)

    async def room(self) -> None:
        """Wait until a good part of the queue is sent or the session is lost."""
        if self.lost.done():
            return
        if self._room is None:
            self._room = self._loop.create_future()
        await asyncio.wait((self._room,))

    def _enter(self, scan: Scan) -> None:
        self._number += 1
        self._pending[b"%d" % self._number] = scan
        # One timer for the session, not one a scan: it looks for the overdue when it fires.
        if self._timer is None or scan.deadline < self._timer_at:
            self._arm(scan.deadline)

    def _write(self, *buffers: bytes | memoryview) -> None:
        if self.lost.done():
            return
        size = 0
        for buffer in buffers:
            size += len(buffer)
        self._accepted += size
        if self._out:
            self._out.extend(map(memoryview, buffers))
            return
        try:
            sent = self._sock.sendmsg(buffers)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._write_failed()
            return
        self._sent += sent
        if sent == size:
            return
        for buffer in buffers:
            if sent >= len(buffer):
                sent -= len(buffer)
            else:
                self._out.append(memoryview(buffer)[sent:])
                sent = 0
        self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        out = self._out
        try:
            sent = self._sock.sendmsg([out[i] for i in range(min(len(out), 64))])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._write_failed()
            return
        self._sent += sent
        while sent:
            if sent >= len(out[0]):
                sent -= len(out.popleft())
            else:
                out[0] = out[0][sent:]
                sent = 0
        if not out:
            self._loop.remove_writer(self._sock)
        if self._room is not None and self._accepted - self._sent <= QUEUE_HIGH // 2:
            self._free_room()

    def _write_failed(self) -> None:
        # clamd answers `size limit exceeded` and closes while the content is still coming: the answer can be read.
        while not self.lost.done() and self._readable():
            pass
        self._lose("connection lost")

    def _free_room(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    # --- receiving --------------------------------------------------------------------------------------------

    def _readable(self) -> bool:
        """Take what is there; False when there is nothing now."""
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._lose("connection lost")
            return False
        if not data:
            self._lose("half an answer" if self._rest else "connection lost")
            return False
        frames = (self._rest + data).split(b"\0")
        self._rest = frames.pop()
        if len(self._rest) > ANSWER_MAX or not self._take(frames):
            self._lose("garbage")
            return False
        if self._retired:
            self.retire()
        return True

    def _take(self, frames: list[bytes]) -> bool:
        """Settle the scans that one read answered: all of them or, where one answer is wrong, none."""
        taken: dict[bytes, tuple[Scan, Outcome]] = {}
        for frame in frames:
            number, _, answer = frame.partition(b": ")
            scan = self._pending.get(number)
            if scan is None or number in taken:
                return False
            outcome = judge(answer, scan.sha256)
            if outcome is None:
                return False
            if scan.end > self._sent:
                # Before the end of the stream clamd can only say that it will not take it; after that nothing fits.
                if not outcome or not isinstance(outcome[0], Unscanned):
                    return False
                self._retired = True
            taken[number] = scan, outcome
        for number, (scan, outcome) in taken.items():
            del self._pending[number]
            scan.settle(outcome)
        return True

    # --- the end ----------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more scans; close when the last answer is here."""
        self._retired = True
        if all(scan.future.done() for scan in self._pending.values()):
            self.close()

    def close(self, reason: str = "") -> None:
        """Close now without a report; with a `reason`, what has no answer fails for it."""
        if self.lost.done():
            return
        self.lost.set_result(None)
        if reason:
            for scan in self._pending.values():
                scan.fail(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self._sock)
        if self._out:
            self._loop.remove_writer(self._sock)
            self._out.clear()
        self._sock.close()
        self._free_room()

    def _lose(self, reason: str) -> None:
        if self.lost.done():
            return
        self.reason = reason
        self.close()
        scans = [scan for scan in self._pending.values() if not scan.future.done()]
        self._pending.clear()
        self._on_lost(self, scans)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._overdue)

    def _overdue(self) -> None:
        self._timer = None
        now = self._loop.time()
        waiting = [scan for scan in self._pending.values() if not scan.future.done()]
        overdue = [scan for scan in waiting if scan.deadline <= now]
        for scan in overdue:
            scan.fail("timeout")
        if len(overdue) < len(waiting):
            self._arm(min(scan.deadline for scan in waiting if scan.deadline > now))
        if overdue:
            # Who owes one answer may owe all: new scans get a new session, and this one ends with its last.
            self.retire()


def _slices(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), PIECE):
        yield view[start : start + PIECE]

"""A light SMTP load client on asyncio protocols and uvloop, for loopback only and bounded in count and time.

A session walks greeting → EHLO → (MAIL → RCPT → DATA → body), n times → QUIT; each state is one method that takes the
reply's code. A message is a tuple of pieces, so that many big messages can share their bytes, and big ones are
written with the transport's back pressure: the client's memory does not grow with the number of sessions.

Two times are taken: `session`, from connect to the reply to QUIT, and `reply`, from the moment the final dot was
handed to the kernel to the full reply. A message is done when that reply is there, whatever its code.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import uvloop

from tests.bench.messages import Message

HOST = "127.0.0.1"
MOST_MESSAGES = 100_000
MOST_SECONDS = 300.0
_WRITE = 262_144
_END = b".\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send. `messages` are used in turn, from the first."""

    port: int
    messages: Sequence[Message]
    count: int
    connections: int = 1
    per_connection: int = 1
    unique: bool = True
    """A header X-Bench-Id of its own in front of every message, so that no cache of whole messages helps."""
    seconds: float = 60.0
    """No message is started after this."""
    timeout: float = 60.0
    """Seconds a session may wait for one reply."""
    sender: str = "load@sender.example"
    recipient: str = "user@corp.example"

    def __post_init__(self) -> None:
        if not (0 < self.count <= MOST_MESSAGES and 0 < self.seconds <= MOST_SECONDS and self.messages):
            raise ValueError(f"a load is 1 to {MOST_MESSAGES} messages in at most {MOST_SECONDS:.0f} s")


@dataclass(slots=True)
class Tally:
    """What came of a load. Times are milliseconds, `wall` and `cpu` (the client's own) seconds."""

    started: int = 0
    replies: Counter[str] = field(default_factory=Counter)
    """Codes of the replies to end-of-data."""
    errors: Counter[str] = field(default_factory=Counter)
    """Sessions that ended otherwise, by state and reason."""
    samples: list[str] = field(default_factory=list)
    """The first few reply lines that were not 2xx."""
    reply_ms: list[float] = field(default_factory=list)
    session_ms: list[float] = field(default_factory=list)
    wall: float = 0.0
    """From the start to the last reply to end-of-data."""
    cpu: float = 0.0

    @property
    def done(self) -> int:
        return self.replies.total()

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.done / self.wall if self.wall else 0.0

    def problems(self, code: str = "250") -> str:
        """Empty when every started message got `code`, else what happened in words."""
        if self.started and self.replies[code] == self.started and not self.errors:
            return ""
        said = ", ".join(f"{count} times {what}" for what, count in (self.replies + self.errors).most_common(4))
        samples = " | ".join(self.samples)
        return f"{self.replies[code]} of {self.started} messages got {code} ({said}) {samples}".rstrip()


class _Load:
    """The state that all sessions of one load share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self.tag = f"{os.getpid()}.{time.monotonic_ns()}"
        self.start = time.monotonic()
        self.last = self.start
        self.mail = b"MAIL FROM:<%s>\r\n" % plan.sender.encode()
        self.rcpt = b"RCPT TO:<%s>\r\n" % plan.recipient.encode()

    def reserve(self) -> range:
        """The serial numbers of the messages that the next session sends; empty when the load is over."""
        first = self.tally.started
        if time.monotonic() - self.start < self.plan.seconds:
            self.tally.started = min(self.plan.count, first + self.plan.per_connection)
        return range(first, self.tally.started)

    def message(self, serial: int) -> Message:
        message = self.plan.messages[serial % len(self.plan.messages)]
        if self.plan.unique:
            return (b"X-Bench-Id: %s-%d\r\n" % (self.tag.encode(), serial), *message)
        return message


class _Session(asyncio.Protocol):
    """One connection. `finished` gets its result when the connection is over, or, held, when EHLO was answered."""

    def __init__(self, load: _Load, finished: asyncio.Future[None], serials: range, hold: bool = False) -> None:
        self.load = load
        self.finished = finished
        self.hold = hold
        self.serials = iter(serials)
        self.start = time.monotonic()
        self.dot = 0.0
        self.pending = b""
        self.over = False
        self.paused = False
        self.pieces: list[memoryview] = []
        self.state: Callable[[bytes], None] = self.greeting
        self.loop = asyncio.get_running_loop()
        self.timer = self.loop.call_later(load.plan.timeout, self.timed_out)

    # --- transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)  # so that resume_writing means: all of it is in the kernel

    def data_received(self, data: bytes) -> None:
        if self.pending:
            data = self.pending + data
        begin = 0
        while not self.over and (end := data.find(b"\n", begin)) >= 0:
            if data[begin + 3 : begin + 4] != b"-":
                self.state(data[begin:end])
            begin = end + 1
        self.pending = data[begin:]

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.write_on()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over:
            self.fail(f"{self.state.__name__}: connection lost")

    def timed_out(self) -> None:
        self.fail(f"{self.state.__name__}: no reply in {self.load.plan.timeout:.0f} s")

    def fail(self, why: str) -> None:
        self.load.tally.errors[why] += 1
        self.close()

    def close(self) -> None:
        self.over = True
        self.timer.cancel()
        self.transport.abort()
        if not self.finished.done():
            self.finished.set_result(None)

    # --- states: each takes the last line of a reply --------------------------------------------------------------

    def said(self, line: bytes, code: bytes) -> bool:
        """True when the reply is of this kind (first digit); else the session is given up and that is counted."""
        if line[:1] == code:
            return True
        tally = self.load.tally
        if len(tally.samples) < 3:
            tally.samples.append(line[:100].decode("latin-1").rstrip())
        self.fail(f"{self.state.__name__}: {line[:3].decode('latin-1')}")
        return False

    def greeting(self, line: bytes) -> None:
        if self.said(line, b"2"):
            self.state = self.ehlo
            self.transport.write(b"EHLO load.sender.example\r\n")

    def ehlo(self, line: bytes) -> None:
        if not self.said(line, b"2"):
            return
        if self.hold:
            self.timer.cancel()
            self.state = self.idle
            self.finished.set_result(None)
        else:
            self.next_message()

    def idle(self, line: bytes) -> None:
        self.said(line, b"2")

    def next_message(self) -> None:
        serial = next(self.serials, None)
        if serial is None:
            self.state = self.quit
            self.transport.write(b"QUIT\r\n")
            return
        self.message = self.load.message(serial)
        self.state = self.mail
        self.transport.write(self.load.mail)

    def mail(self, line: bytes) -> None:
        if self.said(line, b"2"):
            self.state = self.rcpt
            self.transport.write(self.load.rcpt)

    def rcpt(self, line: bytes) -> None:
        if self.said(line, b"2"):
            self.state = self.data
            self.transport.write(b"DATA\r\n")

    def data(self, line: bytes) -> None:
        if not self.said(line, b"3"):
            return
        self.state = self.end_of_data
        self.dot = 0.0
        if sum(map(len, self.message)) <= _WRITE:
            self.transport.write(b"".join((*self.message, _END)))
        else:
            self.pieces = [memoryview(piece) for piece in (*self.message, _END)]
            self.pieces.reverse()
        self.write_on()

    def write_on(self) -> None:
        """Write until the kernel takes no more; note when it has taken the final dot."""
        while self.pieces and not self.paused:
            piece = self.pieces.pop()
            if len(piece) > _WRITE:
                self.pieces.append(piece[_WRITE:])
            self.transport.write(piece[:_WRITE])
        if not self.pieces and not self.paused and not self.dot and self.state == self.end_of_data:
            self.dot = time.monotonic()
            self.timer.cancel()
            self.timer = self.loop.call_later(self.load.plan.timeout, self.timed_out)

    def end_of_data(self, line: bytes) -> None:
        now = time.monotonic()
        tally = self.load.tally
        tally.replies[line[:3].decode("latin-1")] += 1
        if line[:1] != b"2" and len(tally.samples) < 3:
            tally.samples.append(line[:100].decode("latin-1").rstrip())
        self.load.last = now
        if not self.dot:  # a reply before the message was over: what follows would be taken for commands
            self.fail("reply before the final dot")
            return
        tally.reply_ms.append((now - self.dot) * 1000)
        self.next_message()

    def quit(self, line: bytes) -> None:
        self.load.tally.session_ms.append((time.monotonic() - self.start) * 1000)
        self.close()


async def _worker(load: _Load) -> None:
    loop = asyncio.get_running_loop()
    refused = 0
    while refused < 10 and (serials := load.reserve()):
        finished: asyncio.Future[None] = loop.create_future()
        try:
            await loop.create_connection(partial(_Session, load, finished, serials), HOST, load.plan.port)
        except OSError as error:
            load.tally.errors[f"connect: {type(error).__name__}"] += 1
            refused += 1
            await asyncio.sleep(0.05)
            continue
        await finished


async def _send(load: _Load) -> None:
    load.start = load.last = time.monotonic()
    cpu = time.process_time()
    async with asyncio.timeout(load.plan.seconds + load.plan.timeout + 5), asyncio.TaskGroup() as group:
        for _ in range(load.plan.connections):
            group.create_task(_worker(load))
    load.tally.wall = load.last - load.start
    load.tally.cpu = time.process_time() - cpu


def send(plan: Plan) -> Tally:
    """Send the load and return what came of it. Raises TimeoutError when the sessions do not end in time."""
    load = _Load(plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_send(load))
    return load.tally


async def _hold(load: _Load, count: int, at_hand: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    sessions: list[_Session] = []
    left = iter(range(count))

    async def opener() -> None:
        for _ in left:
            finished: asyncio.Future[None] = loop.create_future()
            hold = partial(_Session, load, finished, range(0), hold=True)
            _, session = await loop.create_connection(hold, HOST, load.plan.port)
            sessions.append(session)
            await finished

    try:
        async with asyncio.timeout(load.plan.seconds), asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(opener())
        await asyncio.sleep(1.0)  # what the server still does after the last EHLO
        await loop.run_in_executor(None, at_hand)  # the sessions stay served while it looks
    finally:
        for session in sessions:
            if not session.over:
                session.close()


def hold_idle(port: int, count: int, at_hand: Callable[[], None], seconds: float = 60.0) -> Tally:
    """Open `count` sessions, leave them idle after EHLO, call `at_hand` while they are open, then close them."""
    load = _Load(Plan(port, [(b"",)], count=1, seconds=seconds))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_hold(load, count, at_hand))
    load.tally.started = count
    return load.tally

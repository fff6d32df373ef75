"""One session as it is recorded: what the client said and what it was told, without what it said in confidence.

What a client sends is written once it is understood, line by line: only then is it known whether a line is part of an
AUTH exchange (RFC 4954), whose octets are replaced by `*` one for one. So a password never gets into the file, however
it is cut into pieces, and what was never understood (a line without an end, octets behind the end) is not written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from netinspect.capture import pcapng
from netinspect.smtp.events import (
    AuthLine,
    BacklogExceeded,
    Command,
    CommandReceived,
    Event,
    SessionEnded,
    TlsStarted,
)

if TYPE_CHECKING:
    from netinspect.capture.tcp import Wire
    from netinspect.smtp.session import Session

_NOT_END = re.compile(rb"[^\r\n]")
_LAST = (BacklogExceeded, SessionEnded, TlsStarted)
"""What the session held back by then it has thrown away, and nobody has read it."""


class Tape:
    """Turns one session into blocks of a pcapng file. `write` takes whole blocks; it never raises.

    What belongs to one event of the session leaves in one write with `flush`.
    """

    __slots__ = ("_at", "_blocks", "_comments", "_deaf", "_end", "_interface", "_line", "_pending", "_replies",
                 "_session", "_wire", "_write", "over")  # fmt: skip

    def __init__(
        self, session: Session, wire: Wire, interface: int, longest_line: int, write: Callable[[bytes], None]
    ) -> None:
        self._session = session
        self._wire = wire
        self._interface = interface
        self._line = longest_line
        self._write = write
        self._pending = b""
        self._at = 0
        """Offset of the first pending octet in the client's stream."""
        self._deaf = False
        self._end: tuple[bool, bool] | None = None
        self.over = False
        """All of it is written, or handed on to be."""
        self._replies: list[bytes] = []
        self._comments: list[str] = []
        self._blocks: list[bytes] = []
        self._frames(wire.open())

    # --- what the session tells -----------------------------------------------------------------------------------

    def heard(self, data: bytes, events: Sequence[Event]) -> None:
        """The session was fed this by the client, and understood it as these events."""
        if self._deaf:
            return
        self._pending = self._pending + data if self._pending else data
        self._take(events)

    def told(self, reply: bytes, events: Sequence[Event] = ()) -> None:
        """The client is told this; what it had said before may be understood only now."""
        self._replies.append(reply)
        if self._pending:
            self._take(events)

    def comment(self, text: str) -> None:
        """Stands at the reply that comes next, or where the session ends."""
        self._comments.append(text)

    def end(self, *, by_client: bool, reset: bool = False) -> None:
        """The session is over, as soon as what came together is written."""
        if self._end is None:
            self._end = (by_client, reset)
            self._deaf = True
            self._pending = b""

    def flush(self) -> None:
        """Write what has come together."""
        if self.over:
            return
        if self._replies:
            self._say()
        end = self._end
        if end is not None:
            self._finish(*end)
        if self._blocks:
            blocks = b"".join(self._blocks)
            self._blocks.clear()
            self._write(blocks)
        if end is not None:
            self._write = _drop  # it refers to this tape: freed now rather than by the collector

    # --- the client -----------------------------------------------------------------------------------------------

    def _take(self, events: Sequence[Event]) -> None:
        """Write what is understood by now."""
        session, pending = self._session, self._pending
        read = max(0, session.client_read - self._at)
        line = 0  # behind the last command
        for event in events:
            if isinstance(event, CommandReceived):
                command = event.command
                start = max(0, command.offset - self._at)
                line = end = pending.find(b"\n", start) + 1
                if command.secret:
                    openly = _said_openly(pending[start:end], command) if command.offset >= self._at else 0
                    pending = _without(pending, start + openly, end)
            elif isinstance(event, AuthLine):
                # Until it is answered nothing behind it is read.
                pending = _without(pending, max(0, read - event.size), read)
            elif isinstance(event, _LAST):
                self._deaf = True
                read = line
                pending = pending[:line]
        if len(pending) - read > self._line and not session.waiting:
            # A line too long for any command. Whatever it is, nobody will take it: only that it was there is kept.
            pending = _without(pending, read, len(pending))
            read = len(pending)
        if read <= 0:
            self._pending = pending
            return
        self._at += read
        self._pending = pending[read:]
        if self._replies:
            self._say()
        self._frames(self._wire.client(pending[:read] if len(pending) != read else pending))

    # --- blocks ---------------------------------------------------------------------------------------------------

    def _say(self) -> None:
        """What the client is told, as one utterance; comments are about its last reply."""
        frames = list(self._wire.server(b"".join(self._replies)))
        self._replies.clear()
        if frames:
            self._frames(frames[:-1])
            self._blocks.append(self._packet(frames[-1], self._taken()))

    def _frames(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self._blocks.append(self._packet(frame))

    def _finish(self, by_client: bool, reset: bool) -> None:
        self.over = True
        wire = self._wire
        last = [wire.reset(by_client=by_client)] if reset else list(wire.close(by_client=by_client))
        self._blocks.append(self._packet(last[0], self._taken()))
        self._frames(last[1:])

    def _packet(self, frame: bytes, comments: Sequence[str] = ()) -> bytes:
        return pcapng.packet(self._interface, time.time_ns(), frame, comments)

    def _taken(self) -> list[str]:
        taken, self._comments = self._comments, []
        return taken


def _drop(blocks: bytes) -> None:
    """Nothing is written any more."""


def _said_openly(line: bytes, command: Command) -> int:
    """How much of a line with a credential is none: the verb, the mechanism, and the blanks behind them."""
    if not command.verb:
        return 0
    words = re.escape(command.verb.encode())
    if command.argument:
        words += rb"[ \t]+" + re.escape(command.argument.encode())
    found = re.match(rb"[ \t]*" + words + rb"(?:[ \t]+|(?=[\r\n]|\Z))", line, re.IGNORECASE)
    return found.end() if found else 0


def _without(data: bytes, start: int, end: int) -> bytes:
    """The octets with `*` for all from `start` to `end`, line ends excepted."""
    if start >= end:
        return data
    return data[:start] + _NOT_END.sub(b"*", data[start:end]) + data[end:]

"""The server's side of a session: commands out, one answer back for each, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from netinspect.limits import Limits
from netinspect.smtp.events import Reply
from netinspect.smtp.reply import ReplyReader

Answer = Callable[[Reply], None]
"""Called with the server's reply."""


class ServerSide:
    """Keeps what was sent and not answered. Owns no socket: `send` takes the octets.

    A server that does not offer PIPELINING gets one command at a time (RFC 2920 §3.1).
    """

    __slots__ = ("_awaited", "_reader", "_send", "_unsent", "gone", "pipelining")

    def __init__(self, limits: Limits, send: Callable[[bytes], None]) -> None:
        self._reader = ReplyReader(limits)
        self._send = send
        self._awaited: deque[Answer] = deque()
        self._unsent: deque[tuple[bytes, Answer]] = deque()
        self.pipelining = False
        self.gone = False
        """Closed, never reached, or left by us in the middle of a message."""

    @property
    def idle(self) -> bool:
        """No answer is outstanding."""
        return not self._awaited

    def command(self, raw: bytes, answer: Answer) -> None:
        """Send one command; `answer` gets its reply."""
        if self._awaited and not self.pipelining:
            self._unsent.append((raw, answer))
        else:
            self._send(raw)
            self._awaited.append(answer)

    def expect(self, answer: Answer) -> None:
        """A further reply will come for what is being sent (a message's octets)."""
        self._awaited.append(answer)

    def feed(self, data: bytes) -> list[Reply]:
        """Octets of the server as replies, in order."""
        return self._reader.feed(data)

    def answered(self, reply: Reply) -> bool:
        """Hand a reply to whoever waits for it; False when nobody does."""
        if not self._awaited:
            return False
        self._awaited.popleft()(reply)
        while self._unsent and not self.gone and (self.pipelining or not self._awaited):
            raw, answer = self._unsent.popleft()
            self._send(raw)
            self._awaited.append(answer)
        return True

    def lost(self) -> None:
        """Nothing will be answered any more."""
        self.gone = True
        self._awaited.clear()
        self._unsent.clear()

"""The conversation of a client and a server: bytes (and replies) in, events out.

Strategy: the client's stream is read in one of three modes (command lines, the octets of a message, one AUTH line).
Commands queue up in `_pending` until their replies come, which they do in order (RFC 2920 §3.2). What the client
says behind a command whose reply decides the meaning of the next octets (DATA, STARTTLS, AUTH; RSET and its like
inside a transaction) is held back, bounded, until that reply was fed. So the mode never depends on a guess, nor on
how the bytes were cut.

Whether something was accepted is decided by the replies alone. A driver that answers by itself (the gateway) feeds
exactly the replies that it gives to the client; a capture feeds the server's bytes.
"""

from __future__ import annotations

import enum
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.smtp.answers import STARTTLS_VERBS, Answers
from netinspect.smtp.command import AUTH_VERBS, parse_command
from netinspect.smtp.events import (
    AuthLine,
    BacklogExceeded,
    Command,
    CommandReceived,
    Event,
    Greeted,
    Replied,
    Reply,
    Side,
)
from netinspect.smtp.transaction import Pending

_GREETINGS = frozenset({220, 421, 521, 554})
_ALWAYS_WAIT = frozenset({"DATA", "QUIT", "XCLIENT", *AUTH_VERBS, *STARTTLS_VERBS})
_WAIT_IN_TRANSACTION = frozenset({"RSET", "EHLO", "HELO", "LHLO", "MAIL"})
"""They end a transaction only if the server accepts them; what follows means something else in either case."""


class Phase(enum.Enum):
    """What the client's next octets are."""

    COMMAND = "command"
    DATA = "data"
    CHUNK = "chunk"
    AUTH = "auth"
    WAITING = "waiting"
    ENDED = "ended"


class Session(Answers):
    """One SMTP session as both sides see it. Nothing here raises on what a peer sends.

    `extensions` are the keywords that the last accepted EHLO reply offered; `greeted` and `ended` tell whether the
    server has said something and whether the session is over. `bare_newline` says what becomes of line ends that
    are not CRLF: commands and smuggled lone dots are marked for refusal, or read as if they were CRLF.

    A driver that stands between the two feeds the client's bytes, acts on the events in their order, and for each
    `CommandReceived` gives the client exactly one reply and calls `reply` with it (a chunk's when its `ChunkEnd` or
    `MessageEnd` came, 354 and the final reply for DATA, one more for each `AuthLine`). `Command.error` is advice: it
    refuses such a line itself. For a BDAT whose turn comes while `in_transaction` is false it answers 503.
    """

    def __init__(self, limits: Limits, *, bare_newline: Literal["reject", "normalize"] = "reject") -> None:
        super().__init__(limits, normalize=bare_newline == "normalize")
        self.greeted = False
        self._limits = limits
        self._normalize = bare_newline == "normalize"
        self._backlog_full = False
        self._client_gone = False
        self._server_octets = 0

    # --- what a driver may ask ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether the client's octets wait for a reply."""
        return self._wait is not None or self._draining

    @property
    def backlog(self) -> int:
        """Octets of the client that are held back."""
        return len(self._held)

    @property
    def client_read(self) -> int:
        """Octets of the client's stream that are understood: whole lines, and what there is of a message."""
        return self._client_octets - len(self._held) - self._lines.partial

    @property
    def unanswered(self) -> int:
        """Commands (and messages) without a reply so far."""
        return len(self._pending)

    @property
    def due(self) -> Command | None:
        """The command that is answered next; None while its octets are still to come."""
        return self._pending[0].command if self._pending and not self._pending[0].open else None

    @property
    def due_message(self) -> bool:
        """Whether the next reply is the final one to a message."""
        return bool(self._pending) and self._pending[0].final

    @property
    def recipients(self) -> int:
        """Recipients of the transaction the client is in: accepted, or not answered yet."""
        return self._transaction.recipients

    @property
    def phase(self) -> Phase:
        """What the client's next octets are."""
        if self.ended:
            return Phase.ENDED
        if self.waiting:
            return Phase.WAITING
        if self._message.reading:
            return Phase.CHUNK if self._message.chunk_left else Phase.DATA
        return Phase.AUTH if self._want_auth else Phase.COMMAND

    # --- what a driver tells --------------------------------------------------------------------------------------

    def feed(self, side: Side, data: bytes) -> list[Event]:
        """Octets that one side sent, in any pieces."""
        out: list[Event] = []
        if not data or self.ended:
            return out
        if side is Side.CLIENT:
            self._client_octets += len(data)
            self._client(data, out)
        else:
            self._server(data, out)
        return out

    def reply(self, reply: Reply) -> list[Event]:
        """One reply, as the client is told it."""
        out: list[Event] = []
        if not self.ended:
            self._answer(reply, out)
        return out

    def eof(self, side: Side) -> list[Event]:
        """One side sends no more. Replies to what a client said before it left may still come."""
        out: list[Event] = []
        if self.ended:
            return out
        if side is Side.SERVER:
            self._finish("server_eof", out)
        else:
            self._client_gone = True
            self._leave(out)
        return out

    # --- what only a capture knows --------------------------------------------------------------------------------

    def take_held(self) -> bytes:
        """Give back the octets of the client that wait for a reply, which the driver feeds again."""
        held = bytes(self._held)
        self._held.clear()
        self._client_octets -= len(held)
        return held

    def lost(self, size: int) -> list[Event]:
        """The client said `size` octets here that nobody has; nothing is held back (`take_held`).

        A message goes on behind the hole, a chunk counts it, a line that was begun is forgotten.
        """
        out: list[Event] = []
        if self.ended:
            return out
        if self._message.reading:
            self._message.lost(size, self._client_octets, out)
        self._client_octets += size
        self._lines.clear()
        self._want_auth = None
        return out

    # --- the client's stream --------------------------------------------------------------------------------------

    def _client(self, data: bytes, out: list[Event]) -> None:
        if self._backlog_full:
            return
        message = self._message
        pos = 0
        size = len(data)
        # Held octets are always the stream's last ones, so an offset can be counted from its end.
        start = self._client_octets - size
        while pos < size:
            if self._wait is not None or self._draining:
                self._hold(data[pos:] if pos else data, out)
                return
            if message.reading:
                pos = message.read(data, pos, start + pos, out)
                self._bound()
            else:
                pos = self._line(data, pos, start, out)

    def _hold(self, data: bytes, out: list[Event]) -> None:
        limit = self._limits.pipeline_backlog
        if len(self._held) + len(data) > limit:
            self._held.clear()
            self._backlog_full = True
            out.append(BacklogExceeded(limit))
        else:
            self._held += data

    def _line(self, data: bytes, pos: int, start: int, out: list[Event]) -> int:
        """Read one line of `data`, which begins at `start` of the stream. Gives the position behind it."""
        lines = self._lines
        end = lines.take(data, pos)
        if end < 0:
            return len(data)
        line = lines.line
        size = lines.size
        offset = start + end - size
        is_auth = self._want_auth is not None or line[:4].upper() == b"AUTH"
        limit = self._limits.auth_line if is_auth else self._limits.command_line
        error = ""
        if size > limit:
            error = "too_long"
            line = line[:limit]
            out.append(Anomaly("line_too_long", "smtp", offset))
        elif line[-2:] != b"\r\n":
            out.append(Anomaly("bare_lf_command", "smtp", offset + size - 1))
            if self._normalize:
                line = line[:-1] + b"\r\n"
            else:
                error = "bare_newline"
        if self._want_auth is not None:
            self._auth_line(line, size, error, out)
        else:
            self._command(parse_command(line, offset=offset, error=error, private=self._auth_seen), out)
        return end

    def _auth_line(self, line: bytes, size: int, error: str, out: list[Event]) -> None:
        out.append(AuthLine(size, b"" if error == "too_long" else line, error))
        entry = self._want_auth
        self._want_auth = None
        if entry is not None:
            self._pending.append(entry)
            self._wait = entry

    def _command(self, command: Command, out: list[Event]) -> None:
        verb = command.verb
        if command.error == "control_character":
            out.append(Anomaly("control_character", "smtp", command.offset))
        transaction = self._transaction
        entry = Pending(command, transaction.turn)
        pending = self._pending
        pending.append(entry)
        if verb in _ALWAYS_WAIT:
            self._wait = entry
        elif verb in _WAIT_IN_TRANSACTION and (transaction.possible or self._message.begun):
            self._wait = entry
            entry.ends = True
        if verb == "MAIL":
            transaction.mail_said(entry)
        elif verb == "RCPT":
            transaction.recipients += 1
        elif verb in AUTH_VERBS:
            self._auth_seen = True
        elif verb == "DATA" and self._message.begun:
            out.append(Anomaly("data_after_bdat", "smtp", command.offset))
        out.append(CommandReceived(command))
        if verb == "BDAT":
            self._message.chunk(entry, out)
        self._bound()

    def _bound(self) -> None:
        """Read on only when half of the replies are here, once there are too many unanswered commands."""
        # A message is read to its end in any case: its reply cannot come before.
        if len(self._pending) >= self._limits.pipeline_commands and not self._message.reading:
            self._draining = True

    # --- the server's stream --------------------------------------------------------------------------------------

    def _server(self, data: bytes, out: list[Event]) -> None:
        reader = self._reader
        replies = reader.feed(data)
        for index, reply in enumerate(replies, 1):
            self._tls_begins = False
            self._answer(reply, out)
            if self.ended:
                return
            if self._tls_begins:
                # RFC 3207 §4.2 the other way round: what came in the clear behind 220 was not said by the TLS peer.
                if index < len(replies) or reader.partial:
                    out.append(Anomaly("starttls_response_injection", "smtp", self._server_octets))
                reader.clear()
                return

    def _answer(self, reply: Reply, out: list[Event]) -> None:
        self._match(reply, out)
        # One may always be left: it can be the message whose octets are held.
        if self._draining and len(self._pending) <= max(1, self._limits.pipeline_commands // 2):
            self._draining = False
        if self._held and not self.waiting and not self.ended:
            held = bytes(self._held)
            self._held.clear()
            self._client(held, out)
        if self._client_gone and not self.ended:
            self._leave(out)

    def _match(self, reply: Reply, out: list[Event]) -> None:
        offset = self._server_octets
        self._server_octets += len(reply.raw)
        if reply.error:
            out.append(Anomaly("reply_" + reply.error, "smtp", offset))
        pending = self._pending
        if not self.greeted and reply.code:
            self.greeted = True
            if not pending or reply.code in _GREETINGS:
                out.append(Greeted(reply))
                return
            # A capture that began in the middle.
            out.append(Anomaly("no_greeting", "smtp", offset))
        if not reply.code or not pending or (reply.code == 421 and pending[0].open):
            if reply.code not in (0, 421):
                out.append(Anomaly("unsolicited_reply", "smtp", offset))
            out.append(Replied(reply, None))
            return
        entry = pending.popleft()
        if entry is self._wait:
            self._wait = None
        out.append(Replied(reply, entry.command))
        if entry.open:
            out.append(Anomaly("early_reply", "smtp", offset))
            if entry.final:
                self._message.answered_early(entry, reply, self._client_octets, out)
        elif entry.final:
            self._message.answered(entry, reply, out)
        else:
            self._answered(entry, reply, out)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _leave(self, out: list[Event]) -> None:
        """The client is gone: end at once inside a message, otherwise when the last reply is here."""
        if (self._message.reading and not self._held) or not self._pending:
            self._finish("client_eof", out)

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
from collections import deque
from collections.abc import Callable
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.smtp.command import AUTH_VERBS, parse_command
from netinspect.smtp.events import (
    AuthLine,
    BacklogExceeded,
    Command,
    CommandReceived,
    Envelope,
    Event,
    Greeted,
    Replied,
    Reply,
    SessionEnded,
    Side,
    TlsStarted,
    TransactionReset,
)
from netinspect.smtp.lines import LineBuffer
from netinspect.smtp.message import MessageReader
from netinspect.smtp.reply import ReplyReader
from netinspect.smtp.transaction import Pending, Transaction

_GREETINGS = frozenset({220, 421, 521, 554})
_STARTTLS_VERBS = frozenset({"STARTTLS", "X-ANONYMOUSTLS"})
_ALWAYS_WAIT = frozenset({"DATA", "QUIT", "XCLIENT", *AUTH_VERBS, *_STARTTLS_VERBS})
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


class Session:
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
        self.extensions: frozenset[str] = frozenset()
        self.greeted = False
        self.ended = False
        self._limits = limits
        self._normalize = bare_newline == "normalize"
        self._transaction = Transaction(limits.recipients)
        self._message = MessageReader(limits, self._transaction, normalize=self._normalize)

        # The client's stream.
        self._lines = LineBuffer(max(limits.command_line, limits.auth_line))
        self._client_octets = 0
        self._held = bytearray()
        self._backlog_full = False
        self._client_gone = False
        self._want_auth: Pending | None = None
        self._auth_seen = False

        # The server's stream.
        self._reader = ReplyReader(limits)
        self._server_octets = 0
        self._pending: deque[Pending] = deque()
        self._wait: Pending | None = None
        self._draining = False
        self._tls_begins = False

    # --- what a driver may ask ------------------------------------------------------------------------------------

    @property
    def envelope(self) -> Envelope:
        """The running transaction, as far as the server accepted it; between transactions what the session is."""
        return self._transaction.envelope

    @property
    def in_transaction(self) -> bool:
        """Whether the server accepted MAIL and the transaction is not over."""
        return self._transaction.running

    @property
    def waiting(self) -> bool:
        """Whether the client's octets wait for a reply."""
        return self._wait is not None or self._draining

    @property
    def backlog(self) -> int:
        """Octets of the client that are held back."""
        return len(self._held)

    @property
    def unanswered(self) -> int:
        """Commands (and messages) without a reply so far."""
        return len(self._pending)

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
            handler = _ON_REPLY.get(entry.command.verb)
            if handler is not None:
                handler(self, entry, reply, out)

    def _on_mail(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.positive:
            self._reset("mail", entry, out)
        self._transaction.mail_answered(entry, reply, out)

    def _on_rcpt(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        self._transaction.rcpt_answered(entry, reply, out)

    def _on_data(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.intermediate:
            self._pending.append(self._message.data(entry, out))

    def _on_bdat(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        self._message.chunk_answered(entry, reply, out)

    def _on_reset(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.positive:
            self._reset("rset", entry, out)

    def _on_hello(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if not reply.positive:
            return
        command = entry.command
        esmtp = command.verb != "HELO"
        self._reset("ehlo" if esmtp else "helo", entry, out)
        self.envelope.helo = command.argument
        self.envelope.esmtp = esmtp
        rows = reply.lines[1:] if esmtp else ()
        self.extensions = frozenset([row.split()[0].upper() for row in rows if row.strip()])

    def _on_auth(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.code == 334:
            self._want_auth = entry
        elif reply.code == 235:
            self._auth_seen = False
            self.envelope.authenticated = True
            self.envelope.auth_mechanism = entry.command.argument.upper()

    def _on_starttls(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.code != 220:
            return
        # RFC 3207 §4.2: forget everything said before TLS, and what was said behind STARTTLS in the clear.
        discarded = len(self._held)
        self._held.clear()
        if discarded:
            out.append(Anomaly("starttls_injection", "smtp", self._client_octets - discarded))
        self._forget("starttls", out)
        self.envelope.tls = True
        self._tls_begins = True
        out.append(TlsStarted(discarded))

    def _on_xclient(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        # Postfix XCLIENT README: 220 is a new greeting, the session begins again.
        if reply.code == 220:
            tls = self.envelope.tls
            self._forget("xclient", out)
            self.envelope.tls = tls

    def _on_quit(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        if reply.positive or reply.code == 421:
            self._finish("quit", out)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _reset(self, why: str, entry: Pending, out: list[Event]) -> None:
        """The server accepted what ends a transaction. If there was none, the client's octets did not wait for it
        and may already belong to the next one."""
        if entry.ends:
            self._abandon(why, out)

    def _abandon(self, why: str, out: list[Event]) -> None:
        message = self._message
        self._transaction.reset(why, out, message.entry.envelope if message.begun and message.entry else None)
        message.clear()

    def _forget(self, why: str, out: list[Event]) -> None:
        self._abandon(why, out)
        self._transaction.envelope = Envelope()
        self.extensions = frozenset()
        self._auth_seen = False

    def _leave(self, out: list[Event]) -> None:
        """The client is gone: end at once inside a message, otherwise when the last reply is here."""
        if (self._message.reading and not self._held) or not self._pending:
            self._finish("client_eof", out)

    def _finish(self, why: str, out: list[Event]) -> None:
        lost = [self.envelope] if self.in_transaction else []
        for entry in (self._message.entry, *self._pending):
            if entry and entry.message and entry.envelope and all(entry.envelope is not one for one in lost):
                lost.append(entry.envelope)
        out.extend([TransactionReset(envelope, why) for envelope in lost])
        out.append(SessionEnded(why))
        self.ended = True
        self._transaction.running = False
        self._pending.clear()
        self._held.clear()
        self._lines.clear()
        self._reader.clear()
        self._message.clear()
        self._wait = self._want_auth = None
        self._draining = False


_ON_REPLY: dict[str, Callable[[Session, Pending, Reply, list[Event]], None]] = {
    "MAIL": Session._on_mail,
    "RCPT": Session._on_rcpt,
    "DATA": Session._on_data,
    "BDAT": Session._on_bdat,
    "RSET": Session._on_reset,
    "EHLO": Session._on_hello,
    "LHLO": Session._on_hello,
    "HELO": Session._on_hello,
    **dict.fromkeys(AUTH_VERBS, Session._on_auth),
    **dict.fromkeys(_STARTTLS_VERBS, Session._on_starttls),
    "XCLIENT": Session._on_xclient,
    "QUIT": Session._on_quit,
}
"""What a reply to a verb does; for all other verbs it does nothing."""

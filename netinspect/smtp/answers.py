"""What the server's replies change: the transaction, the extensions, what the client's next octets are, the end.

`Answers` holds the state of a session that replies act on, one method a verb; `session.Session` reads the two streams
and asks here once a reply has found its command.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.smtp.command import AUTH_VERBS
from netinspect.smtp.ehlo import keywords
from netinspect.smtp.events import Envelope, Event, Reply, SessionEnded, TlsStarted, TransactionReset
from netinspect.smtp.lines import LineBuffer
from netinspect.smtp.message import MessageReader
from netinspect.smtp.reply import ReplyReader
from netinspect.smtp.transaction import Pending, Transaction

STARTTLS_VERBS = frozenset({"STARTTLS", "X-ANONYMOUSTLS"})


class Answers:
    """A session as its server's replies make it."""

    def __init__(self, limits: Limits, *, normalize: bool) -> None:
        self.extensions: frozenset[str] = frozenset()
        self.ended = False
        self._transaction = Transaction(limits.recipients)
        self._message = MessageReader(limits, self._transaction, normalize=normalize)

        # The client's stream.
        self._lines = LineBuffer(max(limits.command_line, limits.auth_line))
        self._client_octets = 0
        self._held = bytearray()
        self._want_auth: Pending | None = None
        self._auth_seen = False

        # The server's stream.
        self._reader = ReplyReader(limits)
        self._pending: deque[Pending] = deque()
        self._wait: Pending | None = None
        self._draining = False
        self._tls_begins = False

    @property
    def envelope(self) -> Envelope:
        """The running transaction, as far as the server accepted it; between transactions what the session is."""
        return self._transaction.envelope

    @property
    def in_transaction(self) -> bool:
        """Whether the server accepted MAIL and the transaction is not over."""
        return self._transaction.running

    def _answered(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        """The reply to a command that is no message's end. Most verbs change nothing."""
        handler = _ON_REPLY.get(entry.command.verb)
        if handler is not None:
            handler(self, entry, reply, out)

    # --- one verb each --------------------------------------------------------------------------------------------

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
        self.extensions = keywords(reply) if esmtp else frozenset()

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


_ON_REPLY: dict[str, Callable[[Answers, Pending, Reply, list[Event]], None]] = {
    "MAIL": Answers._on_mail,
    "RCPT": Answers._on_rcpt,
    "DATA": Answers._on_data,
    "BDAT": Answers._on_bdat,
    "RSET": Answers._on_reset,
    "EHLO": Answers._on_hello,
    "LHLO": Answers._on_hello,
    "HELO": Answers._on_hello,
    **dict.fromkeys(AUTH_VERBS, Answers._on_auth),
    **dict.fromkeys(STARTTLS_VERBS, Answers._on_starttls),
    "XCLIENT": Answers._on_xclient,
    "QUIT": Answers._on_quit,
}
"""What a reply to a verb does; for all other verbs it does nothing."""

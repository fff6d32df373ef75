"""The transaction in two views: what the server accepted, and what the client, ahead of the replies, is in.

With pipelining the client is ahead: it may be in its next message while the server's reply to the last one is still
to come. `turn` numbers the client's messages, so that a late reply touches the right view.
"""

from __future__ import annotations

from netinspect.anomaly import Anomaly
from netinspect.smtp.events import Command, Envelope, Event, Reply, TransactionReset, TransactionStarted


class Pending:
    """A command whose reply is still to come, and what hangs on that reply.

    `envelope` is the transaction it belongs to (MAIL, BDAT, DATA); `message`: message events were given for it;
    `final`: its reply ends the transaction; `open`: its octets are still coming; `early` is the reply that came
    before the last octet; `ends`: it ends a transaction if it is accepted.
    """

    __slots__ = ("command", "early", "ends", "envelope", "final", "message", "open", "turn")

    def __init__(self, command: Command, turn: int, envelope: Envelope | None = None) -> None:
        self.command = command
        self.turn = turn
        self.envelope = envelope
        self.message = False
        self.final = False
        self.open = False
        self.ends = False
        self.early: Reply | None = None


class Transaction:
    """Both views. `envelope` and `running` are the server's; `turn`, `possible` and `recipients` the client's."""

    __slots__ = ("_full", "_limit", "_mail", "envelope", "recipients", "running", "turn")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._full = False
        self._mail: Envelope | None = None
        self.envelope = Envelope()
        self.running = False
        self.turn = 0
        self.recipients = 0
        """RCPT commands of the client's transaction, accepted or not answered yet."""

    @property
    def possible(self) -> bool:
        """Whether the client may be in a transaction."""
        return self._mail is not None or self.recipients > 0

    @property
    def expected(self) -> Envelope:
        """The envelope of the client's transaction."""
        return self._mail or self.envelope

    # --- the client's commands ------------------------------------------------------------------------------------

    def mail_said(self, pending: Pending) -> None:
        """MAIL came; inside a transaction the old one stays until the server accepts the new."""
        command = pending.command
        pending.envelope = Envelope(mail_from=_address(command), params=command.params)
        if self._mail is None:
            self._mail = pending.envelope

    def message_said(self) -> None:
        """The client's message is complete: what it says next belongs to a new transaction, whatever the reply."""
        self.turn += 1
        self._mail = None
        self.recipients = 0

    # --- the server's replies -------------------------------------------------------------------------------------

    def mail_answered(self, pending: Pending, reply: Reply, out: list[Event]) -> None:
        """MAIL was accepted or refused."""
        envelope = pending.envelope or Envelope()
        if not reply.positive:
            if self._mail is envelope:
                self._mail = None
            return
        now = self.envelope
        envelope.helo, envelope.esmtp, envelope.tls = now.helo, now.esmtp, now.tls
        envelope.authenticated, envelope.auth_mechanism = now.authenticated, now.auth_mechanism
        self.envelope = envelope
        if pending.turn == self.turn:
            self._mail = envelope
        self.start(out)

    def rcpt_answered(self, pending: Pending, reply: Reply, out: list[Event]) -> None:
        """RCPT was accepted or refused."""
        accepted = reply.positive
        if accepted:
            self.start(out)
        elif pending.turn == self.turn and self.recipients:
            self.recipients -= 1
        names = self.envelope.recipients if accepted else self.envelope.refused
        if len(names) < self._limit:
            names.append(_address(pending.command))
        elif not self._full:
            self._full = True
            out.append(Anomaly("recipients_limit", "smtp", pending.command.offset))

    def start(self, out: list[Event]) -> None:
        """The server has a transaction. (It may have one that we saw no MAIL of: a capture from the middle.)"""
        if not self.running:
            self.running = True
            self._full = False
            out.append(TransactionStarted(self.envelope))

    def reset(self, why: str, out: list[Event], lost: Envelope | None = None) -> None:
        """The server forgot the transaction. No octet of the client behind the cause was read so far.

        `lost` is the envelope of a message the client had begun without having a transaction.
        """
        envelope = self.envelope if self.running else lost
        if envelope is not None:
            out.append(TransactionReset(envelope, why))
        self.done()
        self._mail = None
        self.recipients = 0

    def done(self) -> None:
        """The server's transaction is over; a new envelope keeps what belongs to the session."""
        last = self.envelope
        self.running = False
        self.envelope = Envelope(
            last.helo,
            last.esmtp,
            authenticated=last.authenticated,
            auth_mechanism=last.auth_mechanism,
            tls=last.tls,
        )


def _address(command: Command) -> str:
    """The address of MAIL or RCPT; of a path that could not be read, what stands there."""
    return command.argument.partition(":")[2].strip() if command.path is None else command.path

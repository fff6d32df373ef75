"""Where the client is inside a message: DATA up to CRLF.CRLF, or BDAT chunk by chunk (RFC 3030)."""

from __future__ import annotations

from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.smtp.data import BodyReader
from netinspect.smtp.events import ChunkEnd, Envelope, Event, MessageAccepted, MessageEnd, MessageStarted, Reply
from netinspect.smtp.transaction import Pending, Transaction


class MessageReader:
    """Reads the octets of messages and tells when each begins, ends and is answered.

    `reading` is set while the client's octets belong to a message or a chunk; `begun` from the first octet of a
    message until its last, so also between two chunks. `chunk_left` is what is missing of the running chunk.
    """

    __slots__ = ("_body", "_chunk_refused", "_limit", "_normalize", "_transaction", "chunk_left", "entry", "reading")

    def __init__(self, limits: Limits, transaction: Transaction, *, normalize: bool) -> None:
        self._limit = limits.message_size
        self._normalize = normalize
        self._transaction = transaction
        self._body: BodyReader | None = None
        self._chunk_refused = False
        self.entry: Pending | None = None
        """The DATA or the last BDAT of the message."""
        self.reading = False
        self.chunk_left = 0

    @property
    def begun(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._body is not None

    def clear(self) -> None:
        """Forget the message."""
        self._body = self.entry = None
        self.reading = False
        self.chunk_left = 0

    # --- beginnings -----------------------------------------------------------------------------------------------

    def data(self, command_entry: Pending, out: list[Event]) -> Pending:
        """DATA was answered with 354; gives the entry that waits for the final reply."""
        transaction = self._transaction
        transaction.start(out)
        entry = Pending(command_entry.command, transaction.turn, transaction.envelope)
        entry.message = entry.final = entry.open = True
        if self._body is None:
            self._start(transaction.envelope, "DATA", out)
        else:
            self._body.use_dots(entry.command.offset, out)
        self.entry = entry
        self.reading = True
        return entry

    def chunk(self, entry: Pending, out: list[Event]) -> None:
        """BDAT came; its octets follow at once. Without a transaction they are read and thrown away."""
        command = entry.command
        if command.chunk_size is None:
            # Nobody can tell the chunk from the commands behind it.
            out.append(Anomaly("bdat_count", "smtp", command.offset))
            return
        transaction = self._transaction
        entry.envelope = transaction.expected
        if self._body is None and transaction.recipients:
            self._start(entry.envelope, "BDAT", out)
        entry.message = self._body is not None
        entry.final = command.last and entry.message
        entry.open = True
        self.entry = entry
        self.reading = True
        self.chunk_left = command.chunk_size
        if not self.chunk_left:
            self._end_chunk(entry, command.offset + len(command.raw), out)

    def _start(self, envelope: Envelope, transfer: Literal["DATA", "BDAT"], out: list[Event]) -> None:
        envelope.transfer = transfer
        self._body = BodyReader(dots=transfer == "DATA", limit=self._limit, normalize=self._normalize)
        self._chunk_refused = False
        out.append(MessageStarted(envelope))

    # --- octets ---------------------------------------------------------------------------------------------------

    def read(self, data: bytes, pos: int, offset: int, out: list[Event]) -> int:
        """Read on in `data` from `pos`, which stands at `offset` of the stream. Gives the position behind."""
        entry = self.entry
        body = self._body
        if self.chunk_left and entry is not None:
            piece = data[pos : pos + self.chunk_left]
            self.chunk_left -= len(piece)
            if body is not None:
                body.feed(piece, offset, out)
            if not self.chunk_left:
                self._end_chunk(entry, offset + len(piece), out)
            return pos + len(piece)
        if entry is None or body is None:
            self.reading = False
            return pos
        pos += body.feed(data[pos:] if pos else data, offset, out)
        if body.ended:
            self._end(entry, body, out)
        return pos

    def lost(self, size: int, offset: int, out: list[Event]) -> None:
        """So many octets at `offset` of the stream are missing."""
        body, entry, left = self._body, self.entry, self.chunk_left
        taken = min(size, left) if left else size
        if body is not None:
            body.lost(taken, offset, out)
        if left:
            self.chunk_left -= taken
            if entry is not None and taken == left:
                self._end_chunk(entry, offset + taken, out)

    def _end_chunk(self, entry: Pending, offset: int, out: list[Event]) -> None:
        body = self._body
        self.reading = False
        if body is None:
            entry.open = False
        elif entry.command.last:
            body.finish(offset, out)
            self._end(entry, body, out)
        else:
            entry.open = False
            out.append(ChunkEnd(entry.command.chunk_size or 0))

    def _end(self, entry: Pending, body: BodyReader, out: list[Event]) -> None:
        out.append(MessageEnd(body.size, body.smuggling, body.truncated))
        self.clear()
        self._transaction.message_said()
        entry.open = False
        if entry.early is not None:
            self.answered(entry, entry.early, out)

    # --- replies --------------------------------------------------------------------------------------------------

    def answered(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        """The final reply to a message is here, and so are all its octets."""
        transaction = self._transaction
        if reply.positive and self._chunk_refused:
            # RFC 3030 §2: after a refused chunk the message is lost; we cannot know what this server took for it.
            out.append(Anomaly("bdat_after_refusal", "smtp", entry.command.offset))
        envelope = transaction.envelope if transaction.running or entry.envelope is None else entry.envelope
        out.append(MessageAccepted(envelope, reply))
        transaction.done()

    def answered_early(self, entry: Pending, reply: Reply, offset: int, out: list[Event]) -> None:
        """The final reply came before the client's last octet, which stands at `offset` so far.

        Behind a lone dot between wrong line ends this is what a server does that takes it for end-of-data: then the
        message ended there. Otherwise the message is read to its end.
        """
        entry.early = reply
        body = self._body
        if self.entry is entry and body is not None and body.smuggling and not self.chunk_left:
            body.finish(offset, out)
            self._end(entry, body, out)

    def chunk_answered(self, entry: Pending, reply: Reply, out: list[Event]) -> None:
        """The reply to a BDAT that does not end a message of ours."""
        if not entry.message:
            if reply.positive:
                # The server took octets for which it had, as far as we saw, no transaction: nobody looked at them.
                out.append(Anomaly("bdat_unseen", "smtp", entry.command.offset))
        elif not reply.positive:
            self._chunk_refused = True

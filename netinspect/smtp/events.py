"""What a `Session` tells: the vocabulary between the protocol core and whoever drives it.

The same events come out however the bytes were cut. Offsets count octets of the side's stream.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from netinspect.anomaly import Anomaly


class Side(enum.Enum):
    """Who sent the bytes."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Command:
    """One command line of the client.

    `verb` is upper case, `""` for a line that is no command at all. `raw` is the line with its end as it came.
    `path` is the decoded address of MAIL or RCPT without angle brackets (`""` is the null sender), a source
    route removed; `params` are the ESMTP parameters with upper-case keywords. `error` is empty or says why the
    line cannot be taken: `syntax`, `unknown`, `too_long`, `bad_path`, `bad_parameter`, `bad_chunk_size`,
    `bare_newline`, `control_character`. What could be read of such a line is filled in all the same: a server that
    takes the line (in a capture) decides, not we.

    For AUTH, `raw` and `argument` hold the mechanism only; the line as it came, initial response included, is in
    `secret` for the driver that has to forward it, and has no place in a repr, a log or a record. After an AUTH
    command a line that is no command at all may be a stray credential and is kept the same way (`raw` is empty).
    """

    verb: str
    raw: bytes
    argument: str = ""
    path: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    error: str = ""
    offset: int = 0
    chunk_size: int | None = None
    """BDAT: octets that follow; `None` when the count could not be read."""
    last: bool = False
    """BDAT: the chunk ends the message."""
    secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of the server, multi-line or not: `code` 200-599 (0: not a reply), `lines` without code and CRLF.

    `raw` is the reply as it came, cut to the limits. `error` is empty or says what was wrong with it: `syntax`,
    `too_long`, `too_many_lines`, `code_mismatch` (the lines disagree; the last one counts), `bare_newline`.
    """

    code: int
    lines: tuple[str, ...]
    raw: bytes
    error: str = ""

    @property
    def positive(self) -> bool:
        """2xx."""
        return 200 <= self.code < 300

    @property
    def intermediate(self) -> bool:
        """3xx."""
        return 300 <= self.code < 400


@dataclass(slots=True)
class Envelope:
    """The envelope of the running transaction, as far as the server accepted it."""

    helo: str = ""
    esmtp: bool = False
    mail_from: str = ""
    params: dict[str, str] = field(default_factory=dict)
    recipients: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Recipients the server refused."""
    authenticated: bool = False
    auth_mechanism: str = ""
    tls: bool = False
    transfer: Literal["", "DATA", "BDAT"] = ""


@dataclass(frozen=True, slots=True)
class Greeted:
    """The server's first reply."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """The client's command, not answered yet.

    After DATA, STARTTLS, AUTH and a refused-or-not-yet-known state the client's further bytes wait (bounded) until
    the reply was fed.
    """

    command: Command


@dataclass(frozen=True, slots=True)
class AuthLine:
    """The client answered a 334 challenge; what it said is not kept. `size` is the octets of the line.

    `secret` gives the driver the line to forward; it has no place in a repr, a log or a record. `error` is empty,
    `too_long` (then `secret` is empty) or `bare_newline`.
    """

    size: int
    secret: bytes = field(repr=False, default=b"")
    error: str = ""


@dataclass(frozen=True, slots=True)
class Replied:
    """A reply and the command that it answers (`None`: unsolicited, like a 421)."""

    reply: Reply
    command: Command | None


@dataclass(frozen=True, slots=True)
class TransactionStarted:
    """MAIL was accepted."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class TransactionReset:
    """A transaction ended without a message. `why` is `rset`, `ehlo`, `helo`, `mail`, `starttls`, `xclient`,
    `quit`, `client_eof` or `server_eof`."""

    envelope: Envelope
    why: str


@dataclass(frozen=True, slots=True)
class MessageStarted:
    """The message's octets follow: after 354, or with the first BDAT the server may have a transaction for.

    When MAIL, RCPT and BDAT were pipelined the envelope is filled while the replies come in; it is final with
    `MessageAccepted`.
    """

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class MessageData:
    """A piece of the message: dot-unstuffed, without the end-of-data line. Pieces joined are the message.

    An `Anomaly` in a piece is told before the piece, so that a driver which relays pieces can stop in time.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """One BDAT chunk that is not the last is complete and waits for its reply. `size` is its octets.

    A CR or a dot at its very end may come with the data of the next chunk.
    """

    size: int


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """All octets of the message are here: after CRLF.CRLF or the last chunk. `size` is the message's octets.

    The size counts content: without the stuffed dots and the end-of-data line, with what was thrown away.

    `smuggling` is true when a line end that is not CRLF stood around a lone dot (CVE-2023-51764 and its kin).
    """

    size: int
    smuggling: bool = False
    truncated: bool = False
    """The size limit was reached; what came after was counted and thrown away."""


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """The final reply to a message (any code), which ends the transaction."""

    envelope: Envelope
    reply: Reply


@dataclass(frozen=True, slots=True)
class TlsStarted:
    """The server said 220 to STARTTLS. `discarded` octets the client had pipelined behind it were thrown away."""

    discarded: int = 0


@dataclass(frozen=True, slots=True)
class BacklogExceeded:
    """The client sent more than it may while it has to wait; the driver ends the session."""

    size: int


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """One side is gone. `why` is `quit`, `client_eof`, `server_eof`."""

    why: str


Event = (
    Anomaly
    | AuthLine
    | BacklogExceeded
    | ChunkEnd
    | CommandReceived
    | Greeted
    | MessageAccepted
    | MessageData
    | MessageEnd
    | MessageStarted
    | Replied
    | SessionEnded
    | TlsStarted
    | TransactionReset
    | TransactionStarted
)

"""The octets of one connection, as far as a capture has them, through the `Session` of the gateway.

What a gateway never meets is settled here, so that no message gets lost over it:

- octets of the client are missing: a message goes on behind the hole; between commands the next line that can be a
  command is looked for, and what is none is a message whose beginning is missing.
- replies are missing: where the session cannot go on without one, the client is taken at its word that it got what it
  asked for. Where replies are left they belong to the last commands.
- the capture begins in the middle: what is no command is a message.
- TLS: the session goes on with what can be decrypted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal, Protocol

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.replay.tcp import Gap, Piece
from netinspect.smtp import events as smtp
from netinspect.smtp.command import AUTH_VERBS
from netinspect.smtp.events import Reply, Side
from netinspect.smtp.reply import ReplyReader
from netinspect.smtp.session import Phase, Session

BLOCK: Final = 65_536
"""Octets of the client fed at once, or fewer: a session holds no more while it waits for a reply."""
LOOK: Final = 4096
"""Octets behind a hole in which a command is looked for."""
LINE: Final = 512
"""A lone line up to this may be the rest of a command (RFC 5321 §4.5.3.1.4)."""

COMMAND: Final = re.compile(
    rb"^(?:MAIL[ \t]+FROM[ \t]*:|RCPT[ \t]+TO[ \t]*:|(?:EHLO|HELO|LHLO|VRFY|EXPN|ETRN)[ \t]\S|BDAT[ \t]+\d|"
    rb"AUTH[ \t]+(?:PLAIN|LOGIN|CRAM|DIGEST|NTLM|XOAUTH|OAUTH|SCRAM|GSSAPI|EXTERNAL)|XCLIENT[ \t]|XFORWARD[ \t]|"
    rb"(?:DATA|RSET|QUIT|NOOP|STARTTLS|HELP)[ \t]*\r?$)",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that begins as only commands do."""
_AFTER_REFUSAL: Final = re.compile(rb"(?:RSET|QUIT)[ \t]*\r?\n|MAIL[ \t]+FROM[ \t]*:", re.IGNORECASE)
_REPLY: Final = re.compile(rb"[2-5]\d\d[ -]")
_PROXY: Final = re.compile(rb"PROXY (?:TCP[46] [^\r\n]{7,94}|UNKNOWN[^\r\n]{0,92})\r\n")
_PROXY2: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""The PROXY protocol of HAProxy, versions 1 (107 octets at most) and 2: the first octets behind a load balancer."""
_PROXY2_SIZE: Final = 536
"""Octets of version 2 that a receiver must take; who says more may want to hide what follows."""
_RECORD: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
"""What every record of TLS begins with."""
_IN_MESSAGE: Final = (Phase.DATA, Phase.CHUNK)
_ASSUMED: Final = {"DATA": 354, "QUIT": 221, "XCLIENT": 220}
_AUTH_REPLIES: Final = (235, 334, 535)


class Decrypts(Protocol):
    """What `netinspect.replay.tls.Decryptor` does."""

    @property
    def failed(self) -> str:
        """Why the rest cannot be read, or nothing."""

    @property
    def hidden(self) -> bool:
        """Something was said that could not be read."""

    def feed(self, side: Side, octets: bytes) -> list[tuple[Side, bytes]]:
        """Octets of one side to what was said."""

    def gap(self, side: Side, size: int) -> None:
        """Octets of one side are missing."""


class Listener(Protocol):
    """Who is told what was said."""

    def handle(self, events: Sequence[smtp.Event]) -> None:
        """Take what the session tells."""

    def forget_message(self) -> None:
        """What was taken for a message is none."""


class Wire:
    """Both sides of a connection. `session` is the one that runs.

    `missing` counts the client's octets that nobody has and `hole` says that there are any (their number may not be
    known), both since `take_missing`. `doubt`: something may have been said that was not seen at all. `oddities` are
    malformations below SMTP.
    """

    def __init__(
        self,
        limits: Limits,
        listener: Listener,
        *,
        bare_newline: Literal["reject", "normalize"] = "reject",
        middle: bool = False,
        decryptor: Callable[[], Decrypts] | None = None,
    ) -> None:
        """`middle`: the beginning of the client's octets is missing."""
        self._limits = limits
        self._listener = listener
        self._bare_newline: Literal["reject", "normalize"] = bare_newline
        self._decryptor = decryptor
        self._reader = ReplyReader(limits)
        self._tls: Decrypts | None = None
        self._block = min(BLOCK, limits.pipeline_backlog)
        self._client_spoke = self._server_spoke = False
        self._lossy = False  # replies may be missing, or commands
        self._resync = middle  # what comes next from the client may be anything
        self._cut_reply = False  # the server's next octets begin in the middle of a line
        self._blind = False  # in a message whose beginning nobody saw
        self._blind_due = False
        self._holed = False  # the running message has a hole
        self.session = self._new_session()
        self.missing = 0
        self.hole = False
        self.doubt = False
        self.encrypted = False
        self.left = 0, 0
        """At the end: octets of the client that waited for a reply, commands without one."""
        self.oddities: list[Anomaly] = []

    def _new_session(self) -> Session:
        return Session(self._limits, bare_newline=self._bare_newline)

    def take_missing(self) -> tuple[int, bool]:
        """What is missing since this was asked last."""
        found = self.missing, self.hole
        self.missing, self.hole = 0, False
        return found

    @property
    def unreadable(self) -> bool:
        """Something was said behind TLS that could not be read."""
        return self.encrypted if self._tls is None else bool(self._tls.failed) and self._tls.hidden

    # --- turns ----------------------------------------------------------------------------------------------------

    def turn(self, side: Side, pieces: Sequence[Piece]) -> None:
        """One side said something."""
        try:
            said = b"".join(pieces)  # type: ignore[arg-type]  # a gap among them says so itself
        except TypeError:
            self._with_gaps(side, pieces)
        else:
            self._octets(side, said)

    def _with_gaps(self, side: Side, pieces: Sequence[Piece]) -> None:
        run: list[bytes] = []
        for piece in pieces:
            if isinstance(piece, Gap):
                self._octets(side, b"".join(run))
                run = []
                self._gap(side, piece.size)
            else:
                run.append(piece)
        self._octets(side, b"".join(run))

    def end(self, *, closed: bool) -> None:
        """Nothing more comes. Without `closed` the capture ended before the connection did."""
        if self._blind_due:
            self.hole = True
        session = self.session
        if not self.unreadable and (self._lossy or not self._server_spoke or not closed):
            while session.due is not None and self._assume(b""):
                pass
        self.left = self.session.backlog, self.session.unanswered
        self._tell(session.eof(Side.CLIENT))
        self._tell(session.eof(Side.SERVER))

    def _octets(self, side: Side, data: bytes) -> None:
        if not data:
            return
        if self._tls is None and not self.encrypted and self._may_begin_tls(side, data):
            self.session.envelope.tls = True
            self._begin_tls()
        tls = self._tls
        if tls is not None:
            for who, said in tls.feed(side, data):
                self._plain(who, said)
        elif not self.encrypted:
            self._plain(side, data)

    def _plain(self, side: Side, data: bytes) -> None:
        if side is Side.SERVER:
            self._server(data)
        else:
            block = self._block
            for at in range(0, len(data), block):
                self._client(data[at : at + block] if len(data) > block else data)

    def _may_begin_tls(self, side: Side, data: bytes) -> bool:
        """TLS from the first octet on, or a capture that begins in the middle of it."""
        if side is Side.CLIENT:
            if self._client_spoke and not self._resync:
                return False
        elif self._server_spoke or self._client_spoke:
            return False
        return _is_tls(data) or _RECORD.match(data) is not None

    def _gap(self, side: Side, size: int) -> None:
        if side is Side.CLIENT:
            self.missing += size
            self.hole = True
        if self._tls is not None:
            self._tls.gap(side, size)
        elif self.encrypted:
            return
        elif side is Side.SERVER:
            self._reader.clear()
            self._lossy = self._cut_reply = True
        else:
            self._client_gap(size)

    def _tell(self, events: list[smtp.Event]) -> None:
        if events:
            self._listener.handle(events)

    # --- the client -----------------------------------------------------------------------------------------------

    def _client(self, data: bytes) -> None:
        if not self._client_spoke:
            self._client_spoke = True
            if not self._server_spoke:
                data = self._without_proxy(data)
        if self._lossy:
            tls, self._lossy = self._tls or self.encrypted, False
            while self.session.due is not None and self._assume(data):
                pass
            if not tls and (self._tls is not None or self.encrypted):  # it was STARTTLS that had no reply
                self._octets(Side.CLIENT, data)
                return
        if self.session.ended:
            self.session = self._new_session()  # whoever goes on talking is listened to
            self._resync = False
        if self._resync or self._blind_due:
            data = self._find(data)
        if not data:
            return
        session = self.session
        if session.waiting and session.backlog + len(data) > self._limits.pipeline_backlog:
            while session.waiting and self._assume(data):
                pass
        self._tell(session.feed(Side.CLIENT, data))

    def _without_proxy(self, data: bytes) -> bytes:
        """The client's first octets without what a load balancer put in front of SMTP."""
        match = _PROXY.match(data)
        size, told = (match.end(), match[0][6:-2].decode("latin-1")) if match is not None else (0, "")
        if data.startswith(_PROXY2) and len(data) >= 16:
            size, told = min(len(data), 16 + int.from_bytes(data[14:16])), "version 2"
            if size > _PROXY2_SIZE or COMMAND.search(data, 16, size):
                size = 16  # no server takes that for one header
        if size:
            self._resync = size == len(_PROXY2) + 4
            self.oddities.append(Anomaly("proxy_protocol", "tcp", 0, told))
        return data[size:]

    def _find(self, data: bytes) -> bytes:
        """What of these octets can be understood; the beginning of it is missing."""
        due, self._blind_due = self._blind_due, False
        if not due and self.session.phase in _IN_MESSAGE:
            self._resync = False
            return data
        match = COMMAND.search(data, 0, LOOK)
        at = match.start() if match is not None else -1
        dot = data.find(b"\r\n.\r\n", 0, LOOK)
        ended = data.startswith(b".\r\n") or 0 <= dot < (at if at >= 0 else LOOK)
        if at == 0 or (at > 0 and not due and not ended and data.count(b"\n", 0, at) == 1):
            self._resync = False
            return data[at:]
        if not due and not ended and len(data) <= LINE and data.count(b"\n") <= 1:
            self.hole = True
            return b""  # the rest of a command, whichever
        self._resync = False
        self._begin_blind()
        return data

    def _begin_blind(self) -> None:
        """A message whose beginning is missing; of its envelope there is what was heard."""
        session = self.session
        while session.due is not None and self._assume(b""):
            pass
        session.greeted = True
        self._tell(session.feed(Side.CLIENT, b"DATA\r\n"))
        due = session.due
        if due is not None and due.verb == "DATA" and session.waiting:
            self._tell(session.reply(_assumed(354)))
        self.hole = self._holed = self._blind = True

    def _client_gap(self, size: int) -> None:
        session = self.session
        while session.waiting and self._assume(b""):
            pass
        session.take_held()
        self._tell(session.lost(size))
        if session.phase in _IN_MESSAGE:
            self._holed = True
        else:
            self._resync = self._lossy = True
        self._client_spoke = True

    # --- the server -----------------------------------------------------------------------------------------------

    def _server(self, data: bytes) -> None:
        self._server_spoke = True
        if self._cut_reply:
            self._cut_reply = False
            if not _REPLY.match(data):
                data = data[data.find(b"\n") + 1 or len(data) :]
        replies = self._reader.feed(data)
        if self._lossy and replies:
            replies = self._align(replies)
        clear = self._tls is None and not self.encrypted
        for number, reply in enumerate(replies, 1):
            self._reply(reply)
            if clear and (self._tls is not None or self.encrypted):
                # RFC 3207 §4.2: what came in the clear behind 220 was not said by the TLS peer.
                if number < len(replies) or self._reader.partial:
                    self._tell([Anomaly("starttls_response_injection", "smtp", 0)])
                self._reader.clear()
                return

    def _align(self, replies: list[Reply]) -> list[Reply]:
        """Some replies are missing, or some commands: those that are left belong to each other from the end."""
        session = self.session
        for _ in range(session.unanswered - len(replies)):
            if session.due is None or not self._assume(b""):
                break
        surplus = max(0, len(replies) - session.unanswered)
        for reply in replies[:surplus]:
            self._blind_due = self._blind_due or reply.code == 354
            if not session.greeted:
                self._tell(session.reply(reply))
        return replies[surplus:]

    def _reply(self, reply: Reply) -> None:
        session = self.session
        if self._blind and reply.code in _AUTH_REPLIES:
            # No message: the answer to a challenge. Nothing of it is kept.
            self._blind = self._holed = False
            self._listener.forget_message()
            self.session = session = self._new_session()
            session.greeted = True
            session.envelope.authenticated = reply.code == 235
            return
        if self._holed and session.phase in _IN_MESSAGE:
            # The server has had all of it: the end of the message is among what is missing.
            if session.phase is Phase.DATA:
                self._tell(session.feed(Side.CLIENT, b"\r\n.\r\n"))
            self._resync = True
        self._blind = self._holed = False
        if reply.code == 354 and not session.unanswered:
            self._blind_due = True
        events = session.reply(reply)
        self._tell(events)
        if any(type(event) is smtp.TlsStarted for event in events):
            self._begin_tls()

    # --- what is not there ----------------------------------------------------------------------------------------

    def _assume(self, ahead: bytes) -> bool:
        """Take it that the command whose turn it is got the reply that the client hoped for.

        `ahead` is what the client said next, as far as the session does not hold it. False: nobody can tell.
        """
        session = self.session
        due = session.due
        if due is None:
            return False
        session.greeted = True
        held = session.take_held()
        after = held or ahead
        verb = due.verb
        code = 250 if session.due_message else _ASSUMED.get(verb, 250)
        if code == 354 and _AFTER_REFUSAL.match(after):
            code = 554
            self.doubt = True  # a message may begin with any line
        elif verb in AUTH_VERBS:
            code = 235 if not after or COMMAND.match(after) else 334
        elif verb == "STARTTLS":
            code = 220 if _is_tls(after) else 454
        self._tell(session.reply(_assumed(code)))
        if code == 220 and verb == "STARTTLS":
            self._begin_tls()
        if held:
            self._octets(Side.CLIENT, held)
        return True

    def _begin_tls(self) -> None:
        if self._decryptor is None:
            self.encrypted = True
        else:
            self._tls = self._decryptor()


def _assumed(code: int) -> Reply:
    return Reply(code, ("",), b"")


def _is_tls(data: bytes) -> bool:
    """A handshake record, or the SSL 2 hello that old clients begin with."""
    return data.startswith(b"\x16\x03") or (data[:1] == b"\x80" and data[2:3] == b"\x01")

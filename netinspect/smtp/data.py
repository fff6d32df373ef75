"""The octets of one message, from DATA or BDAT → events.

Strategy: the reader keeps two octets of the past and at most two that cannot be decided yet (a CR at the end, a dot
at the start of a line), so each read is searched once and in one piece, whatever came before. The search for
end-of-data thereby resumes where it stopped. Nothing is done a line or an octet at a time.

End-of-data is CRLF.CRLF and nothing else (RFC 5321 §4.1.1.4, §2.3.8).
"""

from __future__ import annotations

from netinspect.smtp.events import Event, MessageData
from netinspect.smtp.newlines import LONE_DOT, Newlines, to_crlf

_CR = 13
_DOT = 46
_NEWLINE = (10, 13)
_END_OF_DATA = b"\r\n.\r\n"
_HOLE = bytes((0, 0))
"""Stands for the two octets of the past behind a hole."""


class BodyReader:
    """Reads one message.

    `size` counts the content's octets, `truncated` says that some of them, above `limit`, were not given out.
    With `dots` the stream is DATA's: stuffed, ended by CRLF.CRLF. Without, it is BDAT's, counted by the caller.
    """

    __slots__ = ("_dots", "_limit", "_newlines", "_normalize", "_tail", "ended", "size")

    def __init__(self, *, dots: bool, limit: int, normalize: bool) -> None:
        self._dots = dots
        self._limit = limit
        self._normalize = normalize
        self._newlines = Newlines(normalize=normalize)
        # The command's own line end: a message may begin with its end (RFC 5321 §4.1.1.4).
        self._tail = b"\r\n"
        self.ended = False
        self.size = 0

    @property
    def truncated(self) -> bool:
        """Whether content was thrown away for its size."""
        return self.size > self._limit

    @property
    def smuggling(self) -> bool:
        """Whether a line end that is not CRLF stood around a lone dot."""
        return self._newlines.smuggling

    def use_dots(self, offset: int, out: list[Event]) -> None:
        """Go on with DATA after BDAT: no server should let a client do that, but then it is one message."""
        self.finish(offset, out)
        self._dots = True
        self._tail = b"\r\n"
        self.ended = False

    def feed(self, data: bytes, offset: int, out: list[Event]) -> int:
        """Read `data`, which begins at `offset` of the stream. Gives how many octets belong to the message."""
        tail = len(self._tail)
        if self._tail is _HOLE:
            # A client may send the end-of-data apart from the rest: its line end is then the last one missing.
            self._tail = b"\r\n" if data.startswith(b".\r\n") else b" \r" if data.startswith(b"\n.\r\n") else b"  "
        buf = self._tail + data
        dot = end = -1
        if self._dots and b"." in buf:
            dot = buf.find(b"\r\n.")
            if dot >= 0:
                end = buf.find(_END_OF_DATA, dot)
        if end >= 0:
            self.ended = True
            self._give(buf, end + 2, dot, offset - tail, out)
            return end + 5 - tail
        stop = len(buf)
        if buf[stop - 1] == _CR:
            stop -= 1
        if stop > 2 and buf[stop - 1] == _DOT and buf[stop - 2] in _NEWLINE:
            stop -= 1
        self._give(buf, stop, dot, offset - tail, out)
        self._tail = buf[stop - 2 :]
        return len(data)

    def lost(self, size: int, offset: int, out: list[Event]) -> None:
        """So many octets at `offset` are missing: what stands before them and behind them makes no line end."""
        self._give(self._tail, len(self._tail), -1, offset - len(self._tail), out)
        self._tail = _HOLE
        self.size += size

    def finish(self, offset: int, out: list[Event]) -> None:
        """The last chunk is complete (`offset`: where it ended): nothing is left undecided."""
        self.ended = True
        self._give(self._tail, len(self._tail), -1, offset - len(self._tail), out)

    def _give(self, buf: bytes, stop: int, dot: int, offset: int, out: list[Event]) -> None:
        """Check `buf[2:stop]` and give it out as content; `dot` is the first CRLF-dot in `buf`, or -1."""
        if stop <= 2:
            return
        newlines = self._newlines
        piece = buf[2:stop]
        anomalies = newlines.check(buf[:2], piece, offset + 2)
        if anomalies:
            out.extend(anomalies)
        if self._normalize and newlines.dirty:
            piece = self._normalized(buf[:stop])
        elif 0 <= dot < stop - 2:
            # RFC 5321 §4.5.2: the first octet of a line is dropped when it is a dot.
            piece = buf[:stop].replace(b"\r\n.", b"\r\n")[2:]
        size = self.size
        self.size = size + len(piece)
        if self.size > self._limit:
            piece = piece[: max(0, self._limit - size)]
        if piece:
            out.append(MessageData(piece))

    def _normalized(self, buf: bytes) -> bytes:
        """Content of `buf[2:]` with every line end a CRLF. A lone dot that is no end-of-data stays a line `.`."""
        if not self._dots:
            return to_crlf(buf[2:])
        if b"." not in buf:
            return to_crlf(buf[2:])
        past = b"\r\n" if buf[1] in _NEWLINE else b""
        # Stuff the lone dots, so that they survive the unstuffing.
        lines = past + to_crlf(LONE_DOT.sub(rb"\g<0>.", buf)[2:])
        return lines.replace(b"\r\n.", b"\r\n")[len(past) :]

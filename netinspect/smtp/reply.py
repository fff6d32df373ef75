"""The server's stream → `Reply` values (RFC 5321 §4.2): single- and multi-line, bounded, however it was cut."""

from __future__ import annotations

import functools
import re

from netinspect.limits import Limits
from netinspect.smtp.events import Reply
from netinspect.smtp.lines import LineBuffer

_ONE_LINE = re.compile(rb"([2-5][0-9][0-9])(?: ([^\r\n]*))?\r\n")
"""The whole of what most replies are; whatever else a line can be is read step by step."""

_KEPT = 2048
"""Octets of a reply that may be remembered."""


class ReplyReader:
    """Feed octets, get complete replies. A line that is no reply is `Reply(code=0)`, never an exception.

    Memory: one line (`limits.reply_line`) and the lines of one reply (`limits.reply_lines`); what is above that is
    counted, left out and told in `Reply.error`. The last line of a reply is never left out.
    """

    __slots__ = ("_buffer", "_code", "_error", "_limit", "_lines", "_raw", "_rows")

    def __init__(self, limits: Limits) -> None:
        self._buffer = LineBuffer(limits.reply_line)
        self._rows = limits.reply_lines
        self._limit = limits.reply_line
        self._lines: list[str] = []
        self._raw: list[bytes] = []
        self._code = 0
        self._error = ""

    @property
    def partial(self) -> int:
        """Octets, at least, of a reply that is not complete yet."""
        return self._buffer.partial + sum(map(len, self._raw))

    def clear(self) -> None:
        """Forget an incomplete reply (at the TLS boundary, RFC 3207 §4.2)."""
        self._buffer.clear()
        self._lines.clear()
        self._raw.clear()
        self._code = 0
        self._error = ""

    def feed(self, data: bytes) -> list[Reply]:
        """Give the replies that `data` completes, in order."""
        if data[3:4] == b"-" and len(data) <= _KEPT and not self._code and not self._buffer.partial:
            reply = _whole(data, self._limit, self._rows)
            if reply is not None:
                return [reply]
        return self._read(data)

    def _read(self, data: bytes) -> list[Reply]:
        replies: list[Reply] = []
        buffer = self._buffer
        pos = 0
        size = len(data)
        while pos < size:
            pos = buffer.take(data, pos)
            if pos < 0:
                break
            reply = self._line(buffer.line, buffer.size)
            if reply is not None:
                replies.append(reply)
        return replies

    def _line(self, line: bytes, size: int) -> Reply | None:
        if size <= self._limit and not self._code and (match := _ONE_LINE.fullmatch(line)) is not None:
            return Reply(int(match[1]), ((match[2] or b"").decode("utf-8", "replace"),), line)
        error = ""
        if size > self._limit:
            error = "too_long"
            line = line[: self._limit - 2] + b"\r\n"
        elif not line.endswith(b"\r\n"):
            error = "bare_newline"
        body = line.rstrip(b"\r\n")
        head = body[:3]
        mark = body[3:4]
        if not (len(head) == 3 and head.isdigit() and b"200" <= head < b"600" and mark in (b"", b" ", b"-")):
            return self._noise(line, body)
        code = int(head)
        text = body[4:].decode("utf-8", "replace")
        if not self._code and mark != b"-":
            return Reply(code, (text,), line, error)

        if self._code and code != self._code:
            error = "code_mismatch"
        self._error = self._error or error
        if mark == b"-":
            self._code = code
            self._keep(line, text)
            return None
        self._raw.append(line)
        self._lines.append(text)
        return self._done(code)

    def _noise(self, line: bytes, body: bytes) -> Reply | None:
        text = body.decode("utf-8", "replace")
        if not self._code:
            return Reply(0, (text,), line, "syntax")
        # In the middle of a reply noise ends nothing: the line that says it is the last one does.
        self._error = self._error or "syntax"
        self._keep(line, text)
        return None

    def _keep(self, line: bytes, text: str) -> None:
        # One place stays free for the last line.
        if len(self._lines) < self._rows - 1:
            self._lines.append(text)
            self._raw.append(line)
        else:
            self._error = self._error or "too_many_lines"

    def _done(self, code: int) -> Reply:
        reply = Reply(code, tuple(self._lines), b"".join(self._raw), self._error)
        self._lines.clear()
        self._raw.clear()
        self._code = 0
        self._error = ""
        return reply


# A server greets every EHLO with the same dozen lines.
@functools.lru_cache(16)
def _whole(data: bytes, limit: int, rows: int) -> Reply | None:
    """The one reply that `data` is; None when it is less or more than that."""
    reader = ReplyReader(Limits(reply_line=limit, reply_lines=rows))
    replies = reader._read(data)
    return replies[0] if len(replies) == 1 and not reader.partial else None

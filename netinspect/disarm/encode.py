"""Octets written as the body of a part (RFC 2045 §6), in the part's own encoding where that can carry them.

    encoding, body = encoded(data, "quoted-printable", newline=b"\\r\\n", last=False)

What comes out decodes to exactly `data` and has no line that may be taken for a delimiter.
"""

from __future__ import annotations

import re
from typing import Final

import pybase64

_LINE: Final = 998
"""Octets of a line without its end (RFC 5322 §2.1.1)."""
_QP_LINE: Final = 76
"""RFC 2045 §6.7 (5), the `=` of a soft line break included."""

_HEX: Final = tuple(b"=%02X" % octet for octet in range(256))
_QP_SAFE: Final = frozenset(range(33, 127)) - {0x3D} | {0x20, 0x09}
_SPECIAL: Final = re.compile(rb"[^\x20-\x3c\x3e-\x7e\t]")
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})


def encoded(data: bytes, encoding: str, *, newline: bytes, last: bool) -> tuple[str, bytes]:
    """The encoding that is taken and the body.

    `encoding` is the part's own; base64 is taken where that one cannot carry `data`. `newline` is the line end of the
    message, CRLF or LF. `last` tells that no delimiter follows: the message ends with this body, and with a line end.
    """
    if encoding in _IDENTITY:
        if _fits(data, newline, seven=encoding == "7bit") and (not last or not data or data.endswith(newline)):
            return encoding, data
    elif encoding == "quoted-printable":
        return encoding, _quoted_printable(data, newline, last=last)
    return "base64", _base64(data, newline, last=last)


def _base64(data: bytes, newline: bytes, *, last: bool) -> bytes:
    body = pybase64.encodebytes(data)  # lines of 76 characters, each with LF
    if not last:
        body = body[:-1]  # the line end before a delimiter is the delimiter's
    return body if newline == b"\n" else body.replace(b"\n", newline)


def _fits(data: bytes, newline: bytes, *, seven: bool) -> bool:
    """Whether `data` may stand in the message as it is."""
    if b"\0" in data or (seven and not data.isascii()):
        return False
    if newline == b"\r\n":
        ends = data.count(newline)
        if data.count(b"\r") != ends or data.count(b"\n") != ends:
            return False
    elif b"\r" in data:
        return False
    # Two dashes may be a delimiter; "From " gets a `>` in front on its way through mailboxes (RFC 4155).
    lines = data.split(newline)
    return all(len(line) <= _LINE and not line.startswith((b"--", b"From ")) for line in lines)


def _quoted_printable(data: bytes, newline: bytes, *, last: bool) -> bytes:
    lines = [_qp_line(line, newline) for line in data.split(newline)]
    body = newline.join(lines)
    if last and not data.endswith(newline) and body:
        body += b"=" + newline  # a soft line break, which is nothing once decoded
    return body


def _qp_line(line: bytes, newline: bytes) -> bytes:
    """One line, broken softly where it is too long."""
    text = _SPECIAL.sub(lambda match: _HEX[match[0][0]], line)
    if text[-1:] in (b" ", b"\t"):  # RFC 2045 §6.7 (3)
        text = text[:-1] + _HEX[text[-1]]
    pieces: list[bytes] = []
    start = 0
    while True:
        rest = len(text) - start
        head = text[start : start + 5]
        # No line begins as a delimiter does or as mailboxes and SMTP clients change it.
        guard = _HEX[head[0]] if head[:2] == b"--" or head == b"From " or head[:1] == b"." else b""
        room = _QP_LINE - (len(guard) - 1 if guard else 0)
        if rest <= room:
            pieces.append(guard + text[start + 1 :] if guard else text[start:])
            return (b"=" + newline).join(pieces)
        stop = start + room - 1
        # Not in the middle of an octet's three characters.
        cut = text.rfind(b"=", stop - 2, stop)
        if cut >= 0:
            stop = cut
        pieces.append(guard + text[start + 1 : stop] if guard else text[start:stop])
        start = stop

"""Content-Transfer-Encoding, undone piece by piece (RFC 2045 §6).

A decoder takes the octets of one body in any cuts and gives back decoded octets; `finish` gives the rest. What was
wrong with the encoding is collected in `problems`, a set of short words. Neither the output joined nor the problems
depend on the cuts.

Nothing is thrown away quietly: a character that must not be there is skipped (base64, RFC 2045 §6.8 allows it) or
kept literally (quoted-printable, §6.7 note) and named in `problems`.
"""

from __future__ import annotations

import binascii
import re
from typing import Final, Protocol

import pybase64

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANK: Final = b" \t\r\n"
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET) - set(b"="))
_NOT_BLANK_NOR_BASE64: Final = bytes(set(_NOT_BASE64) - set(_BLANK))

# A stray "=" costs one step of Python each. After this many in one body the rest is read as if there were none.
_PADDINGS: Final = 4096

# A first line that ends within so many octets is no fold: programs fold at 60 and more.
_HEAD: Final = 52

# Blanks at a line's end are no content (RFC 2045 §6.7 rule 3), but a run that long is nothing a relay appended.
_RUN: Final = 4096
_TRAILING: Final = re.compile(rb"(?<![ \t])[ \t]{1,%d}+(?=\r?\n)" % _RUN)
_BLANK_END: Final = re.compile(rb"\n(?:(?<=[ \t]\n)|(?<=[ \t]\r\n))")
_BROKEN: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)")
_LONG_LINE: Final = 65_536


class Decoder(Protocol):
    """One body's decoder."""

    problems: set[str]

    def feed(self, data: bytes) -> bytes:
        """Take the next octets; return what can be decoded so far."""

    def finish(self) -> bytes:
        """End of the body: return the rest."""


class Base64Decoder:
    """RFC 2045 §6.8. Problems: `base64_rubbish`, `base64_padding` (missing or misplaced), `base64_after_padding`,
    `base64_lines` (short lines of no whole groups: some programs undo each for itself).

    Data that goes on after a complete padding is decoded on as a new sequence, because some mail programs do;
    a lone `=` where none can stand is skipped.
    """

    __slots__ = ("_carry", "_head", "_paddings", "_pads", "_pending", "_sealed", "problems")

    def __init__(self) -> None:
        self.problems: set[str] = set()
        self._carry = b""  # octets of an unfinished line, not looked at yet
        self._head = b""
        self._pending = b""  # 0-3 characters of an unfinished quad
        self._pads = 0  # "=" seen behind the pending characters
        self._paddings = 0
        self._sealed = False  # a padding ended the sequence

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        if len(self._head) < _HEAD:
            self._head += data[:_HEAD]
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if self._pending or self._pads or self._sealed or b"=" in data:
            return self._careful(data)
        # Whole lines hold whole quads in what mail programs make; then one call decodes them all.
        cut = data.rfind(b"\n") + 1
        if not cut:
            if len(data) < 1024:
                self._carry = data
                return b""
            return self._careful(data)
        try:
            out = pybase64.b64decode(memoryview(data)[:cut])
        except binascii.Error:
            return self._careful(data)
        # No "=" and no error: three octets for four characters. What else is there must be line ends.
        if cut - len(out) // 3 * 4 != _line_ends(data, cut):
            return self._careful(data)
        rest = data[cut:]
        if len(rest) < 1024:
            self._carry = rest
            return out
        return out + self._careful(rest)

    def finish(self) -> bytes:
        """See `Decoder`."""
        out = self._careful(self._carry) if self._carry else b""
        self._carry = b""
        line, _, rest = self._head[:_HEAD].lstrip().partition(b"\n")
        if len(line.strip()) & 3 and rest.strip(b"= \t\r\n"):
            self._problem("base64_lines")
        pending, self._pending = self._pending, b""
        if pending:
            self._problem("base64_padding")
            out += _flush(pending)
        return out

    def _problem(self, kind: str) -> None:
        self.problems.add(kind)

    def _careful(self, data: bytes) -> bytes:
        """Character by character in meaning, but only a step of Python for each run of `=`."""
        if len(data.translate(None, _NOT_BLANK_NOR_BASE64)) != len(data):
            self._problem("base64_rubbish")
        chars = data.translate(None, _NOT_BASE64)
        out: list[bytes] = []
        position, size = 0, len(chars)
        while position < size:
            if self._paddings >= _PADDINGS:
                self._problem("base64_after_padding")
                chars, position = chars[position:].replace(b"=", b""), 0
                size = end = len(chars)
            else:
                end = chars.find(b"=", position)
                if end < 0:
                    end = size
            if end > position:
                self._characters(chars[position:end], out)
            if end < size:
                self._padding(out)
            position = end + 1
        return b"".join(out)

    def _characters(self, chars: bytes, out: list[bytes]) -> None:
        if self._sealed:
            self._problem("base64_after_padding")
            self._sealed = False
        if self._pads:
            self._problem("base64_padding")
            self._pads = 0
        chars = self._pending + chars
        whole = len(chars) & ~3
        if whole:
            out.append(pybase64.b64decode(chars[:whole]))
        self._pending = chars[whole:]

    def _padding(self, out: list[bytes]) -> None:
        self._paddings += 1
        have = len(self._pending)
        if have < 2:
            self._problem("base64_padding")
            return
        self._pads += 1
        if have + self._pads == 4:
            out.append(_flush(self._pending))
            self._pending = b""
            self._pads = 0
            self._sealed = True


def _flush(pending: bytes) -> bytes:
    """The whole octets in two or three characters; one character holds none."""
    return pybase64.b64decode(pending + b"=" * (4 - len(pending))) if len(pending) > 1 else b""


def _line_ends(data: bytes, stop: int) -> int:
    """How many CR and LF are in `data` before `stop`, where an LF stands last.

    Counting costs more than decoding, so lines of one length are recognised by looking at every n-th octet.
    """
    stride = data.find(b"\n") + 1
    lines, odd = divmod(stop, stride)
    if stride > 1 and not odd and data[stride - 1 : stop : stride] == b"\n" * lines:
        before = data[stride - 2 : stop : stride]
        if before == b"\r" * lines:
            return 2 * lines
        if b"\r" not in before:
            # More of either inside the lines would be counted as rubbish: the careful way finds out.
            return lines
    return data.count(b"\n", 0, stop) + data.count(b"\r", 0, stop)


class QuotedPrintableDecoder:
    """RFC 2045 §6.7, lower-case hex taken as well. Problem: `qp_broken`, an `=` that starts no escape; it is kept."""

    __slots__ = ("_carry", "_in_run", "problems")

    def __init__(self) -> None:
        self.problems: set[str] = set()
        self._carry = b""
        self._in_run = False  # inside a run of blanks already known to be too long to be dropped

    def feed(self, data: bytes) -> bytes:
        """See `Decoder`."""
        if self._carry:
            data = self._carry + data
        cut = data.rfind(b"\n") + 1
        if cut:
            self._carry = data[cut:]
            out = self._decode(data[:cut])
        else:
            self._carry = data
            out = b""
        if len(self._carry) > _LONG_LINE:
            out += self._part_of_line()
        return out

    def finish(self) -> bytes:
        """See `Decoder`. The line end that the delimiter took away counts: blanks and `=` before it are no content."""
        line, self._carry = self._carry, b""
        return self._decode(line + b"\n").removesuffix(b"\n") if line else b""

    def _part_of_line(self) -> bytes:
        """Decode what of an overlong line cannot mean anything else, whatever follows."""
        line = self._carry
        end = len(line) - line.endswith(b"\r")
        cut = len(line[:end].rstrip(b" \t"))
        if end - cut > _RUN:
            # The run stays as it is; its later blanks must not look like a new, short run.
            out = self._decode(line[:cut] + b"\n").removesuffix(b"\n") if cut else b""
            if line[cut - 1 : cut] == b"=":
                out += b"="
                self._broken()
            self._carry = line[end:]
            self._in_run = end == len(line)
            return out + line[cut:end]
        start = line.find(b"=", max(0, cut - 2), cut)
        if start >= 0:
            cut = start
        self._carry = line[cut:]
        return self._decode(line[:cut])

    def _broken(self) -> None:
        self.problems.add("qp_broken")

    def _decode(self, data: bytes) -> bytes:
        literal = b""
        if self._in_run and data:
            rest = data.lstrip(b" \t")
            literal = data[: len(data) - len(rest)]
            data = rest
            self._in_run = not rest
        if _BLANK_END.search(data):
            data = _TRAILING.sub(b"", data)
        if b"=" not in data:
            return literal + data
        if _BROKEN.search(data):
            self._broken()
            data = _BROKEN.sub(b"=3D", data)
        return literal + binascii.a2b_qp(data)

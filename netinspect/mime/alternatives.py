"""Other ways to undo a transfer encoding: what mail programs make of a body that is encoded wrongly.

Each function takes the whole raw body and gives decoded octets; the caller drops what it knows already. The main
decoders (`netinspect.mime.encodings`) skip what must not be there and go on; the ways here stop, start again at each
line or each group, cut lines off, or throw more away.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

import pybase64

from netinspect.mime.embedded import embedded_files
from netinspect.mime.encodings import Base64Decoder, QuotedPrintableDecoder
from netinspect.mime.uu import UuEnd, UuScanner, bare_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = bytes(set(range(256)) - set(_ALPHABET))
_NOT_BASE64_NOR_PAD: Final = bytes(set(range(256)) - set(_ALPHABET) - set(b"="))
_NOT_LINES: Final = bytes(set(_NOT_BASE64_NOR_PAD) - set(b"\r\n"))
_CR: Final = bytes.maketrans(b"\r", b"\n")
_RUBBISH: Final = re.compile(rb"[^A-Za-z0-9+/=\r\n \t][^\r\n]*")
_BROKEN64: Final = frozenset({"base64_rubbish", "base64_after_padding", "base64_padding", "base64_lines"})
_URL: Final = bytes.maketrans(b"-_", b"+/")
# Lines and groups, each a step of Python; what is beyond is left to the other ways.
_STEPS: Final = 400_000
_LINES: Final = 2_000_000  # 50 MB in lines of 60 characters, with both line ends
# Programs fold at 60 to 76 characters, and not all at a multiple of four.
_FOLD: Final = 48

_QP_THREE: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)[^=\r\n]{0,2}")
_QP_TWO: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)[^=\r\n]?")
_QP_ONE: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n)")
_QP_DIGIT: Final = re.compile(rb"=[0-9A-Fa-f](?![0-9A-Fa-f])")
_QP_LOWER: Final = re.compile(rb"=[a-f]")
_QP_UPPER_ONLY: Final = re.compile(rb"=(?![0-9A-F]{2}|\r?\n)")


class _TooManyError(Exception):
    """More than `_STEPS`."""


def _drop(pattern: re.Pattern[bytes], raw: bytes, instead: bytes = b"") -> bytes:
    """`raw` without what the pattern finds."""
    text, count = pattern.subn(instead, raw, _STEPS)
    if count >= _STEPS:
        raise _TooManyError
    return text


def decodings(raw: bytes, encoding: str, problems: frozenset[str] | set[str]) -> Iterator[bytes | None]:
    """What `raw` is under `encoding` in other readings. `problems` are those of the main decoder, if it ran.

    None stands for a reading that was given up: it takes more steps than any message should cost.
    """
    ways: tuple[Callable[[bytes], bytes], ...] = ()
    if encoding == "base64":
        if not _BROKEN64.isdisjoint(problems):
            ways = _BASE64
    elif encoding == "quoted-printable" and "qp_broken" in problems:
        ways = _QP
    for way in ways:
        try:
            yield way(raw)
        except _TooManyError:
            yield None


def decoded(raw: bytes, encoding: str, limit: int) -> tuple[bytes, set[str]]:
    """`raw` under `encoding` as the main decoders read it, and what was wrong with it."""
    if encoding == "base64":
        base64 = Base64Decoder()
        return base64.feed(raw) + base64.finish(), base64.problems
    if encoding == "quoted-printable":
        printable = QuotedPrintableDecoder()
        return printable.feed(raw) + printable.finish(), printable.problems
    if encoding == "uuencode":
        return _uu(raw), set()
    if encoding in ("yenc", "binhex"):
        for file in embedded_files(raw, limit):
            return file.data, set()
        return b"", set()
    return raw, set()


def _uu(raw: bytes) -> bytes:
    """The first file in `raw`, or all its lines where there is no `begin`."""
    scanner = UuScanner()
    out: list[bytes] = []
    for event in (*scanner.feed(raw), *scanner.finish()):
        if isinstance(event, bytes):
            out.append(event)
        elif isinstance(event, UuEnd):
            return b"".join(out)
    return bare_lines(raw)


def _b64(chars: bytes) -> bytes:
    """Octets of characters of the alphabet; one character too many holds none."""
    usable = len(chars) - (len(chars) % 4 == 1)
    return pybase64.b64decode(chars[:usable] + b"=" * (-usable % 4))


def _until_padding(raw: bytes) -> bytes:
    """The padding ends the content, whatever follows."""
    chars = raw.translate(None, _NOT_BASE64_NOR_PAD)
    end = chars.find(b"=")
    return _b64(chars if end < 0 else chars[:end])


def _no_padding(raw: bytes) -> bytes:
    """An equals sign is as good as a blank."""
    return _b64(raw.translate(None, _NOT_BASE64))


def _by_groups(raw: bytes) -> bytes:
    """Four characters at a time, equals signs counted: those that stand in the middle are taken to the end."""
    chars = raw.translate(None, _NOT_BASE64_NOR_PAD)
    if chars.count(b"=") > _STEPS:
        raise _TooManyError
    out: list[bytes] = []
    position = 0
    while True:
        at = chars.find(b"=", position)
        if at < 0:
            out.append(_b64(chars[position:]))
            return b"".join(out)
        group = at - (at - position) % 4
        if group > position:
            out.append(pybase64.b64decode(chars[position:group]))
        out.append(_b64(chars[group : group + 4].replace(b"=", b"")))
        position = group + 4


def _lines(raw: bytes) -> list[bytes]:
    """Lines of characters of the alphabet; a CR alone ends one as well. Empty ones are left out."""
    text = raw.translate(_CR, _NOT_LINES)
    if text.count(b"\n") > _LINES:
        raise _TooManyError
    return [line for line in text.split(b"\n") if line]


def _by_lines(raw: bytes) -> bytes:
    """Each line for itself, as if it had its padding."""
    lines = _lines(raw)
    if _folded(lines):
        return b""
    return b"".join([_b64(line.replace(b"=", b"")) for line in lines])


def _by_whole_lines(raw: bytes) -> bytes:
    """Each line for itself, and what is no whole group at its end is dropped; that of a shorter last line counts."""
    lines = _lines(raw)
    if len(lines) < 2 or _folded(lines):
        return b""
    out = bytearray()
    for line in lines[:-1]:
        out += _b64(line[: len(line) & ~3].replace(b"=", b""))
    last = lines[-1]
    if len(last) == len(lines[0]):
        last = last[: len(last) & ~3]
    return bytes(out + _b64(last.replace(b"=", b"")))


def _folded(lines: list[bytes]) -> bool:
    """Whether lines are only where a stream was folded: whole groups in each, or one length and a long one."""
    full = lines[:-1]
    lengths = set(map(len, full))
    if not any(length & 3 for length in lengths):
        return True
    return len(full[0]) >= _FOLD and len(lengths) == 1


def _lines_cut(raw: bytes) -> bytes:
    """A character that must not be there ends its line."""
    return _no_padding(_drop(_RUBBISH, raw))


def _until_rubbish(raw: bytes) -> bytes:
    """A character that must not be there ends the content."""
    found = _RUBBISH.search(raw)
    return _until_padding(raw[: found.start()]) if found else b""


def _after_blank_line(raw: bytes) -> bytes:
    """What stands before the first blank line is a header that nobody asked for."""
    found = re.search(rb"\n[ \t]*\r?\n", raw)
    return _until_padding(raw[found.end() :]) if found else b""


def _url_alphabet(raw: bytes) -> bytes:
    """RFC 4648 §5, the alphabet for URLs."""
    return _until_padding(raw.translate(_URL)) if b"-" in raw or b"_" in raw else b""


_BASE64: Final = (
    _until_padding,
    _no_padding,
    _by_groups,
    _by_lines,
    _by_whole_lines,
    _lines_cut,
    _until_rubbish,
    _after_blank_line,
    _url_alphabet,
)


def _qp(data: bytes) -> bytes:
    decoder = QuotedPrintableDecoder()
    return decoder.feed(data) + decoder.finish()


def _qp_three(raw: bytes) -> bytes:
    """A broken escape is dropped whole."""
    return _qp(_drop(_QP_THREE, raw))


def _qp_two(raw: bytes) -> bytes:
    return _qp(_drop(_QP_TWO, raw))


def _qp_digit(raw: bytes) -> bytes:
    """A broken escape is dropped as far as it looks like one."""
    return _qp(_drop(_QP_DIGIT, raw))


def _qp_one(raw: bytes) -> bytes:
    """The sign alone is dropped."""
    return _qp(_drop(_QP_ONE, raw))


def _qp_upper(raw: bytes) -> bytes:
    """Small letters make no escape (RFC 2045 §6.7 rule 1) and are dropped."""
    return _qp(_drop(_QP_LOWER, raw))


def _qp_upper_kept(raw: bytes) -> bytes:
    """Small letters make no escape and stay."""
    return binascii.a2b_qp(_drop(_QP_UPPER_ONLY, raw, b"=3D"))


_QP: Final = (_qp_three, _qp_two, _qp_digit, _qp_one, _qp_upper, _qp_upper_kept)

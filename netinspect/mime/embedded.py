"""Files in a text that are neither parts nor uuencoded: yEnc, `begin-base64` (POSIX.1 uuencode -m), BinHex 4.0.

    for file in embedded_files(text, limit): ...

These are rare: a text is only handed in whole when "begin" or `BINHEX` stands in it.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pybase64

from netinspect.mime.encodings import Base64Decoder
from netinspect.mime.words import to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

BINHEX: Final = b"with BinHex 4"

_YBEGIN: Final = re.compile(rb"(?:\A|(?<=\n))=ybegin ([^\r\n]{1,2048})\r?\n(?:=ypart [^\r\n]{0,2048}\r?\n)?")
_YEND: Final = re.compile(rb"\r?\n=yend([^\r\n]{0,2048})")
_YSIZE: Final = re.compile(rb"(?:^| )size=(\d{1,12})")
_BEGIN64: Final = re.compile(rb"(?:\A|(?<=\n))begin-base64(?:-encoded)? [0-7]{3,6} ([^\r\n]{1,1024})\r?\n")
_END64: Final = re.compile(rb"(?:\A|\n)(?:====|end)[ \t]*(?:\r?\n|\Z)")
_BINHEX: Final = re.compile(rb"BinHex[ \t]{1,8}4[^\r\n]{0,200}[\r\n\s]{1,64}:")

_MINUS: Final = bytes((octet - 42) % 256 for octet in range(256))
_ESCAPED: Final = re.compile(rb"=(.)", re.DOTALL)
_HQX: Final = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_TO_BASE64: Final = bytes.maketrans(_HQX, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_NOT_HQX: Final = bytes(set(range(256)) - set(_HQX))
_RUNS: Final = 200_000  # runs in one BinHex file, each a step of Python
_FILES: Final = 1000


@dataclass(frozen=True, slots=True)
class File:
    """One file. `broken` when it is cut short or is not what its frame says; `over` when a limit stopped it."""

    name: str
    data: bytes
    broken: bool
    over: bool = False


def embedded_files(text: bytes, limit: int) -> Iterator[File]:
    """The files in `text`, yEnc first, each at most `limit` octets."""
    count = 0
    for finder in (_yenc, _begin_base64, _binhex):
        for file in finder(text, limit):
            yield file
            count += 1
            if count >= _FILES:
                yield File("", b"", broken=True, over=True)
                return


def _yenc(text: bytes, limit: int) -> Iterator[File]:
    position = 0
    while (begin := _YBEGIN.search(text, position)) is not None:
        # The line end before the end line is looked for from the beginning's own: the data may be empty.
        end = _YEND.search(text, begin.end() - 1)
        data = text[begin.end() : end.start() if end else None]
        position = end.end() if end else len(text)
        size = _YSIZE.search(end[1] if end else begin[1])
        data = data.replace(b"\r", b"").replace(b"\n", b"")
        if b"=" in data:
            data = _ESCAPED.sub(_unescape, data)
        data = data.translate(_MINUS)
        name = begin[1].rpartition(b"name=")[2]
        broken = end is None or size is None or int(size[1]) != len(data)
        yield File(to_text(name.strip(b' \t"')), data[:limit], broken, over=len(data) > limit)


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes(((match[1][0] - 64) % 256,))


def _begin_base64(text: bytes, limit: int) -> Iterator[File]:
    position = 0
    while (begin := _BEGIN64.search(text, position)) is not None:
        end = _END64.search(text, begin.end() - 1)
        decoder = Base64Decoder()
        data = decoder.feed(text[begin.end() : end.start() if end else None]) + decoder.finish()
        position = end.end() if end else len(text)
        yield File(to_text(begin[1].strip(b' \t"')), data[:limit], end is None or bool(decoder.problems))


def _binhex(text: bytes, limit: int) -> Iterator[File]:
    """RFC 1741 appendix A. The resource fork is a file of its own: some programs take it for the content."""
    position = 0
    while (begin := _BINHEX.search(text, position)) is not None:
        end = text.find(b":", begin.end())
        chars = text[begin.end() : end if end >= 0 else None].translate(_TO_BASE64, _NOT_HQX)
        position = end + 1 if end >= 0 else len(text)
        usable = len(chars) - (len(chars) % 4 == 1)
        packed = pybase64.b64decode(chars[:usable] + b"=" * (-usable % 4))
        data, over = _unrun(packed, limit)
        if not data or len(data) < data[0] + 22:
            continue
        size = data[0]
        head = data[size + 2 : size + 20]
        fork = int.from_bytes(head[10:14], "big")
        resource = int.from_bytes(head[14:18], "big")
        start = size + 22
        name = to_text(data[1 : 1 + size])
        broken = end < 0 or len(data) < start + fork + 2
        crc = data[start + fork : start + fork + 2]
        if not broken:
            broken = binascii.crc_hqx(data[start : start + fork], 0) != int.from_bytes(crc, "big")
        yield File(name, data[start : start + fork], broken, over)
        if resource:
            at = start + fork + 2
            yield File(f"{name}.rsrc", data[at : at + resource], len(data) < at + resource, over)


def _unrun(packed: bytes, limit: int) -> tuple[bytes, bool]:
    """Undo run-length: 0x90 n repeats the octet before it n times in all, 0x90 0 is 0x90 itself."""
    pieces = packed.split(b"\x90", _RUNS)
    over = len(pieces) > _RUNS
    out = bytearray(pieces[0])
    literal = False  # the piece before was empty: its 0x90 was a count, and this piece starts with no count
    for number, piece in enumerate(pieces[1:], 2):
        if literal:
            literal = False
            out += piece
            continue
        literal = not piece and number < len(pieces)
        count, rest = (piece[0], piece[1:]) if piece else (0x90 if literal else 1, b"")
        if count == 0:
            out.append(0x90)
        elif out:
            out += out[-1:] * (count - 1)
        out += rest
        if len(out) > limit:
            return bytes(out[:limit]), True
    return bytes(out), over

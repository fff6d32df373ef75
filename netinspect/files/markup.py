"""Files that a page or a script brings along as text and makes into a file on the reader's machine (HTML smuggling).

Base64, hexadecimal and lists of numbers are decoded where they are long enough to be a file; what comes out is given
when it is something that can do harm. Pictures and fonts, which honest pages bring along so, are not.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, Member, Report

MOST: Final = 64
"""Stretches that are decoded in one content."""

LONGEST: Final = 16_777_216
"""Octets; the work makes copies."""

# Ends of one string and the start of the next: joined in an expression, or appended to a variable line by line.
# Possessive all through: the work is that of the length, whatever a sender writes.
_JOINT = re.compile(
    rb"[\"'`][\s;]{0,30}+(?:[+,.&]\s{0,20}+(?:_[ \t]{0,8}+\r?\n\s{0,40}+)?"
    rb"|(?:set )?\$?\w{1,40}+\s{0,4}+(?:[+.&]=|=\s{0,4}+\$?\w{1,40}+\s{0,4}+[&+.])\s{0,4}+)[\"'`]"
    rb"|\\\r?\n"
)
# A batch file writes its base64 line by line.
_ECHO = re.compile(
    rb"(?<=[A-Za-z0-9+/=]{16})[ \t]{0,8}+(?:>>?[^\r\n>]{0,200}+)?\r?\n@?(?:>>?[ \t]{0,4}+[^\s>]{1,200}+[ \t]{1,4}+)?"
    rb"echo[ .\t]{1,4}", re.IGNORECASE
)  # fmt: skip
# Lines of base64 become one: without that no pattern for it is free of backtracking.
_LINE_END = re.compile(rb"(?<=[A-Za-z0-9+/])(?:[ \t]{0,8}\r?\n[ \t]{0,40}|%0[aAdD]|\\[nr])(?=[A-Za-z0-9+/=])")
# Each begins where a run begins: tried from every octet of it, many runs that are too short would cost their square.
_BASE64 = re.compile(rb"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{128,}={0,2}")
_HEX = re.compile(rb"(?<![0-9A-Fa-f])(?:\\x|%|0x|&H)?[0-9A-Fa-f]{2}(?:(?:\\x|%|,?\s?0x|,\s?&H)?[0-9A-Fa-f]{2}){127,}")
_NUMBERS = re.compile(rb"(?:\d{1,3}\s{0,3},\s{0,3}){127,}\d{1,3}")
_NOT_HEX = re.compile(rb"\\x|%|,?\s?0x|,\s?&H|&H")
# How base64 of programs, archives, shortcuts and documents begins, backwards.
_ENDS: Final = frozenset(start[::-1] for start in (
    b"TVqQ", b"TVpQ", b"TVoA", b"TVro", b"TVrv", b"UEsD", b"N3q8", b"UmFy", b"TAAA", b"0M8R", b"JVBE", b"H4sI", b"TVNG",
))  # fmt: skip
_TURNED: Final = kinds.ZIPS | kinds.OLES | kinds.ARCHIVES | {"exe", "lnk", "pdf"}
SCRIPTS: Final = frozenset({
    "js", "jse", "vbs", "vbe", "wsf", "wsh", "wsc", "sct", "hta", "ps1", "psm1", "psd1", "bat", "cmd", "py", "sh",
    "command", "php", "pl", "rb", "ahk", "au3", "scpt", "xsl",
})  # fmt: skip
"""Ends of the names of scripts."""
_SHORTEST: Final = 128
"""Octets of text; less is no file that does anything."""

HARMFUL: Final = kinds.ZIPS | kinds.OLES | kinds.ARCHIVES | {"exe", "elf", "macho", "lnk", "onenote", "rtf", "script",
                                                             "class", "html", "svg", "activemime", "pdf"}  # fmt: skip


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the files in a page or script. Raises OverBudget."""
    if not kinds.has_code(data):
        return
    if len(data) > LONGEST:
        report.could_not("document too long")
        return
    budget.check_time()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.replace(b"\0", b"")
    joined = _JOINT.sub(b"", data)
    if b"echo" in data or b"ECHO" in data:
        joined = _ECHO.sub(b"", joined)
    joined = _LINE_END.sub(b"", joined)
    number = 0
    for content in _contents(joined):
        found = kinds.identify(content)
        if found not in HARMFUL:
            continue
        number += 1
        # In a plain text that is no script by name it is likelier a quoted mail with its attachments.
        if (kind != "text" or _is_script(name)) and found not in ("html", "svg", "pdf"):
            report.saw("smuggled", found)
        yield Member(f"smuggled{number}", budget.take(content))


def _contents(data: bytes) -> Iterator[bytes]:
    left = MOST
    for pattern, decode in ((_BASE64, _from_base64), (_HEX, _from_hex), (_NUMBERS, _from_numbers)):
        for match in pattern.finditer(data):
            if match.end() - match.start() < _SHORTEST:
                continue
            content = decode(match[0])
            if content:
                yield content
            if pattern is _BASE64 and match[0][-4:] in _ENDS:
                content = _reversed(match[0].rstrip(b"="))
                if content:
                    yield content
            left -= 1
            if not left:
                return


def _is_script(name: str) -> bool:
    return name.rpartition(".")[2].strip(" .\t").lower() in SCRIPTS


def forms(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the PDF that is in an XML data package (XDP: base64 in `chunk`), then what any page may hold."""
    for match in _CHUNK.finditer(data):
        content = _from_base64(re.sub(rb"[^A-Za-z0-9+/]", b"", match[1]))
        if content:
            yield Member("form.pdf", budget.take(content))
    yield from members(data, kind, name, budget, report)


_CHUNK = re.compile(rb"<(?:\w+:)?chunk\b[^>]{0,200}>([^<]+)<")


def _reversed(text: bytes) -> bytes:
    """Base64 that stands there backwards; `b""` when it is none of a file that does harm."""
    text = text[::-1]
    head = binascii.a2b_base64(text[:64])
    return _from_base64(text) if kinds.identify(head) in _TURNED else b""


def _from_base64(text: bytes) -> bytes:
    text = text.rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
    if len(text) % 4 == 1:
        text = text[:-1]
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def _from_hex(text: bytes) -> bytes:
    text = _NOT_HEX.sub(b"", text)
    return binascii.a2b_hex(text[: len(text) // 2 * 2])


def _from_numbers(text: bytes) -> bytes:
    numbers = [int(number) for number in text.split(b",")]
    return bytes(numbers) if max(numbers) < 256 else b""

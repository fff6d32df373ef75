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

_JOINT = re.compile(rb"[\"'`]\s{0,20}[+,.]\s{0,20}[\"'`]|\\\r?\n")
# Lines of base64 become one: without that no pattern for it is free of backtracking.
_LINE_END = re.compile(rb"(?<=[A-Za-z0-9+/])(?:[ \t]{0,8}\r?\n[ \t]{0,40}|%0[aAdD]|\\[nr])(?=[A-Za-z0-9+/=])")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{128,}={0,2}")
_HEX = re.compile(rb"(?:\\x|%|0x)?[0-9A-Fa-f]{2}(?:(?:\\x|%|,?0x)?[0-9A-Fa-f]{2}){127,}")
_NUMBERS = re.compile(rb"(?:\d{1,3}\s{0,3},\s{0,3}){127,}\d{1,3}")
_NOT_HEX = re.compile(rb"\\x|%|,?0x")
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
    joined = _LINE_END.sub(b"", _JOINT.sub(b"", data))
    number = 0
    for content in _contents(joined):
        found = kinds.identify(content)
        if found not in HARMFUL:
            continue
        number += 1
        # In a plain text it is likelier a quoted mail with its attachments.
        if kind != "text" and found not in ("html", "svg", "pdf"):
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
            left -= 1
            if not left:
                return


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

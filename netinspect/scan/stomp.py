"""Stomped VBA: the compiled p-code of a module and its source tell different stories.

Office runs the p-code when it was compiled by the same version, and shows the source. In an honest module every string
of the p-code stands in the source, because the one was made from the other. The p-code is not disassembled: only the
strings in it are looked for, which costs one search over the module.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

import olefile
from oletools import olevba

from netinspect.scan.contract import Finding

ENGINE: Final = "office"

PCODE_LIMIT: Final = 2_000_000
"""Octets of compiled code that are looked into, all modules of a project together."""

# The opcode that pushes a string (0x00B9, in older versions 0x00B6): length in octets, the string.
_LITERAL = re.compile(rb"[\xb6\xb9]\x00(..)", re.DOTALL)
_PLAIN: Final = re.compile(rb"[\x20-\x7e]{4,}\Z")
_ATTRIBUTE = re.compile(r"^[ \t]*attribute [^\n]*$", re.MULTILINE | re.IGNORECASE)

_STREAM_NAME, _STREAM_NAME_WIDE, _OFFSET, _VERSION, _MODULE_END = 0x001A, 0x0032, 0x0031, 0x0009, 0x002B
_EMPTY_MODULE: Final = 4096
"""Octets of compiled code that a module without a procedure may have; honest empty ones have up to about 1,000."""


def _modules(directory: bytes) -> Iterator[tuple[str, int]]:
    """Names of streams and the offsets of the source in them, from the `dir` stream ([MS-OVBA] 2.3.4.2)."""
    at, name, offset = 0, "", 0
    while at + 6 <= len(directory):
        kind, size = struct.unpack_from("<HI", directory, at)
        data = directory[at + 6 : at + 6 + size]
        at += 6 + size
        if kind == _VERSION:
            at += 2  # its size does not count the minor version
        elif kind == _STREAM_NAME and not name:
            name = data.decode("latin-1")
        elif kind == _STREAM_NAME_WIDE:
            name = data.decode("utf-16-le", "replace")
        elif kind == _OFFSET and len(data) == 4:
            offset = struct.unpack("<I", data)[0]
        elif kind == _MODULE_END:
            if name:
                yield name, offset
            name, offset = "", 0


def _source(stream: bytes, offset: int) -> str:
    try:
        return str(olevba.decompress_stream(bytearray(stream[offset:])).decode("latin-1"))
    except (ValueError, IndexError, struct.error):
        return ""


def _literals(pcode: bytes) -> Iterator[str]:
    for match in _LITERAL.finditer(pcode):
        size = int.from_bytes(match[1], "little")
        if 4 <= size <= 2048:
            text = pcode[match.end() : match.end() + size]
            if len(text) == size and _PLAIN.match(text):
                yield text.decode("latin-1")


def look(ole: olefile.OleFileIO, sha256: str) -> list[Finding]:
    """Compare p-code and source of the VBA projects in `ole`; OSError and ValueError where it is damaged."""
    left = PCODE_LIMIT
    for path in ole.listdir():
        if path[-1].upper() != "DIR" or len(path) < 2:
            continue
        try:
            directory = bytes(olevba.decompress_stream(bytearray(ole.openstream(path).read())))
        except (ValueError, IndexError, struct.error):
            continue
        for name, offset in _modules(directory):
            try:
                stream = ole.openstream([*path[:-1], name]).read()
            except OSError:
                continue
            pcode = stream[:offset]
            left -= len(pcode)
            if left < 0:
                return []
            hidden = _hidden(pcode, _source(stream, offset))
            if hidden:
                return [Finding(ENGINE, "VBA.Stomped", "macro-suspicious", 2, sha256, f"{name}: {hidden}"[:200])]
    return []


def _hidden(pcode: bytes, source: str) -> str:
    """A string that only the compiled code has; or that there is compiled code and no source at all."""
    if not pcode:
        return ""
    if not _ATTRIBUTE.sub("", source).strip("\0\r\n\t "):
        for literal in _literals(pcode):
            return literal
        return "no source" if len(pcode) > _EMPTY_MODULE else ""
    plain = source.replace('""', '"')
    for literal in _literals(pcode):
        if literal not in plain and literal not in source:
            return literal
    return ""

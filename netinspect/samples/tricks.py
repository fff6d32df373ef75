"""Inert documents and files for the less common tricks: each shows one, and none can do anything."""

from __future__ import annotations

import struct

from netinspect.samples import cfb, office


def literal(text: str) -> bytes:
    """A string as compiled VBA pushes it."""
    return struct.pack("<HH", 0x00B9, len(text)) + text.encode("ascii") + bytes(len(text) % 2)


def stomped_doc(hidden: str = "no-such-program.invalid") -> bytes:
    """A VBA project whose compiled code has a string that its source has not."""
    pcode = bytes(64) + literal(hidden) + bytes(32)
    return cfb.write(office.vba_streams(office.HARMLESS_SOURCE, pcode=pcode))


def biff(kind: int, data: bytes) -> bytes:
    """One record of a workbook ([MS-XLS] 2.1.4)."""
    return struct.pack("<HH", kind, len(data)) + data


_BOF = struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0)
_EOF = biff(0x000A, b"")


def xlm_xls(function: int = 54, *, start: bool = False, hidden: bool = False) -> bytes:
    """An Excel 97 file whose macro sheet calls one function by its number: 54 is HALT, 110 EXEC, 150 CALL."""
    name = b""
    if start:
        # 2.4.150: fBuiltin, a name of one character, which is the code of Auto_Open
        name = biff(0x0018, struct.pack("<HBBHHHBBBB", 0x0020, 0, 1, 0, 0, 0, 0, 0, 0, 0) + b"\x00\x01")
    before = biff(0x0809, _BOF)
    sheet_at = len(before) + 4 + 6 + 2 + 6 + len(name) + len(_EOF)
    sheet = biff(0x0085, struct.pack("<IBB", sheet_at, 2 if hidden else 0, 1) + b"\x06\x00Macro1")
    tokens = b"\x17\x01\x00x" + struct.pack("<BBH", 0x42, 1, function)
    formula = biff(0x0006, struct.pack("<HHH8sHIH", 0, 0, 0, b"", 0, 0, len(tokens)) + tokens)
    macros = biff(0x0809, struct.pack("<HHHHII", 0x0600, 0x0040, 0, 0, 0, 0)) + formula + _EOF
    return cfb.write({"Workbook": (before + sheet + name + _EOF + macros).ljust(4096, b"\0")})


def dde_xls(topic: str = "no-such-server\x03topic", *, ole: bool = False) -> bytes:
    """An Excel 97 file with a link to a DDE server that does not exist; `ole`: a link to an object instead."""
    link = biff(0x01AE, struct.pack("<HHB", 0, len(topic), 0) + topic.encode("latin-1"))
    name = biff(0x0023, struct.pack("<HI", 0x0010 if ole else 0x0008, 0) + b"\x01\x00x")
    return cfb.write({"Workbook": (biff(0x0809, _BOF) + link + name + _EOF).ljust(4096, b"\0")})


def equation_doc(font: bytes = b"Times New Roman") -> bytes:
    """A Word 97 file with an equation whose font has this name."""
    header = struct.pack("<HIHIIIII", 28, 0x00020000, 0xC0C4, 100, 0, 0, 0, 0)
    native = header + b"\x03\x01\x01\x03\x0a" + b"\x08\x5a\x5a" + font + b"\0" + bytes(100)
    return cfb.write({"WordDocument": bytes(4096), "ObjectPool/_1/Equation Native": native})


def template_doc(target: str = "http://template.invalid/report.dotm") -> bytes:
    """A Word 97 file whose associated strings name a template elsewhere ([MS-DOC] 2.9.274)."""
    strings = struct.pack("<HHHH", 0xFFFF, 18, 0, 0) + struct.pack("<H", len(target)) + target.encode("utf-16-le")
    strings += bytes(2 * 16)
    fib = bytearray(struct.pack("<HHHHHH", 0xA5EC, 0x00C1, 0, 0x0409, 0, 0x0200).ljust(4096, b"\0"))
    struct.pack_into("<II", fib, 0x19A, 16, len(strings))
    return cfb.write({"WordDocument": bytes(fib), "1Table": (bytes(16) + strings).ljust(4096, b"\0")})


def url_link_doc(target: str = "http://link.invalid/a.hta") -> bytes:
    """A Word 97 file with an object that is a link to an address ([MS-OLEDS] 2.3.3)."""
    moniker = bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b") + struct.pack("<I", 2 * len(target) + 2)
    stream = bytes.fromhex("0100000201000000") + bytes(12) + moniker + target.encode("utf-16-le") + b"\0\0"
    return cfb.write({"WordDocument": bytes(4096), "ObjectPool/_1/\x01Ole": stream})


def package_rtf(name: str = "report.exe", *, update: bool = False) -> bytes:
    """An RTF document with a package: a file of this name, which is a word of text."""
    content = b"harmless"
    native = b"\x02\0" + name.encode() + b"\0C:\\" + name.encode() + b"\0\0\0\x03\0"
    native += struct.pack("<I", len(name) + 4) + b"C:\\" + name.encode() + b"\0"
    native += struct.pack("<I", len(content)) + content
    label = b"Package\0"
    data = struct.pack("<III", 0x0501, 2, len(label)) + label + struct.pack("<III", 0, 0, len(native)) + native
    word = b"\\objupdate" if update else b""
    return b"{\\rtf1{\\object\\objemb" + word + b"{\\*\\objdata " + data.hex().encode() + b"}}}"


def shortcut(command: str = "cmd.exe /c exit") -> bytes:
    """A shortcut ([MS-SHLLINK]) with this command in its arguments."""
    header = bytes.fromhex("4c0000000114020000000000c000000000000046") + struct.pack("<I", 0xA0)
    return header.ljust(76, b"\0") + struct.pack("<H", len(command)) + command.encode("utf-16-le")

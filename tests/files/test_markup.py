"""Files that scripts bring along as text."""

from __future__ import annotations

import base64
import time

import pytest

from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits

PROGRAM = b"MZ\x90\x00" + bytes(60) + b"This program is none" + bytes(range(256)) * 2
TEXT = base64.b64encode(PROGRAM).decode()
LINES = [TEXT[at : at + 60] for at in range(0, len(TEXT), 60)]

SCRIPTS = {
    "a.vbs": 'x = "' + '" & _\r\n    "'.join(LINES) + '"\r\nnode.dataType = "bin.base64"',
    "b.vbs": 'x = ""\r\n' + "".join(f'x = x & "{line}"\r\n' for line in LINES) + "'base64",
    "c.vbs": "b = Array(" + ", ".join(f"&H{octet:02X}" for octet in PROGRAM) + ") 'base64",
    "a.js": 'var x="";' + "".join(f"x += '{line}';\n" for line in LINES) + "atob(x)",
    "a.ps1": '$x=""\n' + "".join(f"$x += '{line}'\n" for line in LINES) + "[Convert]::FromBase64String($x)",
    "b.ps1": "$b = " + ", ".join(f"0x{octet:02x}" for octet in PROGRAM) + "; FromBase64String",
    "c.ps1": f'$x = "{TEXT[::-1]}"; FromBase64String',
    "a.bat": "@echo off\r\n" + "".join(f"echo {line}>>%temp%\\x\r\n" for line in LINES) + "rem base64",
    "b.cmd": "@echo off\r\n" + "".join(f">>x echo {line}\r\n" for line in LINES) + "rem base64",
}


def opened(text: str | bytes, name: str) -> tuple[list[bytes], Report]:
    data = text if isinstance(text, bytes) else text.encode()
    report = Report()
    return [one.data for one in unpack(data, identify(data), name, Budget(Limits()), report)], report


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_program_in_a_script_comes_out(name: str) -> None:
    members, report = opened(SCRIPTS[name], name)
    assert any(PROGRAM in member for member in members)
    assert [one.trait for one in report.sights] == ["smuggled"]


def test_a_plain_text_is_not_called_a_script() -> None:
    members, report = opened(SCRIPTS["a.js"], "letter.txt")
    assert members == [PROGRAM]
    assert report.sights == []


def test_a_form_in_xml_gives_its_pdf() -> None:
    chunk = base64.encodebytes(b"%PDF-1.7\n" + bytes(100)).decode()
    form = f'<?xml version="1.0"?><x:xdp xmlns:x="http://ns.adobe.com/xdp/"><pdf><chunk>{chunk}</chunk></pdf>'
    assert opened(form, "a.xdp")[0] == [b"%PDF-1.7\n" + bytes(100)]


HOSTILE = [b'" ; \n\n\n', b'"' + b"a" * 50, b'"\nset aaaa = bbbb ', b"0x41, ", b"A" * 127 + b" ", b"A" * 16 + b" >>"]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_costs_its_length(piece: bytes) -> None:
    data = b"<html><script>atob( echo" + piece * (500_000 // len(piece))
    start = time.process_time()
    opened(data, "a.html")
    assert time.process_time() - start < 2

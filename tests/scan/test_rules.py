"""Rules: the package's own, the administrator's, and the errors that name their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from netinspect.errors import EngineError
from netinspect.samples import archives
from netinspect.scan.contract import Finding
from netinspect.scan.rulefiles import RuleSource, digest, load_sources
from netinspect.scan.rules import RuleEngine

SHA = "a" * 64


def engine(*texts: str) -> RuleEngine:
    return RuleEngine([RuleSource(f"file{number}.yar", text) for number, text in enumerate(texts)])


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
    assert [finding.signature for finding in shipped.scan(script, SHA) if isinstance(finding, Finding)] == [
        "Script_Dropper"
    ]


def test_an_administrators_folder_adds_rules(tmp_path: Path) -> None:
    (tmp_path / "ours.yar").write_text(
        'rule Ours { meta: category = "banned-type" severity = 3 strings: $a = "forbidden" condition: $a }'
    )
    (tmp_path / "more.yara").write_text('rule More { strings: $a = "forbidden" condition: $a }')
    (tmp_path / "notes.txt").write_text("no rule")
    sources = load_sources(str(tmp_path))
    assert [Path(source.origin).name for source in sources] == ["builtin.yar", "more.yara", "ours.yar"]
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

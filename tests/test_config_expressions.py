"""Expressions of rules: every mistake is found before mail comes, with file, line and column."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.config import PolicySettings, RuleSettings, Settings, When, library, read_text, render
from netinspect.config.expression import FACTS, FIELDS, FUNCTIONS, check, shown
from netinspect.config.grammar import DEPTH, LENGTH, ExpressionError, Op, parse, text_value
from netinspect.config.lines import locate_character

HERE = Path("/etc/netinspect.toml")
RULE = '[[policy.rule]]\nname = "x"\naction = "reject"\n'


@pytest.mark.parametrize(
    "source",
    [
        "true",
        'zone == "external" && !session.tls',
        'zone in ["external", "internal"]',
        'artifacts.exists(a, a.name.glob("*.iso") || glob(a.name, "*.img"))',
        "findings.filter(f, f.severity <= 2).size() > 1",
        'findings.map(f, f.category).exists(c, c == "macro")',
        "artifacts.exists_one(a, a.magic == 'exe') ? envelope.size > 1000 : coverage.complete",
        'header("subject").matches(r"(?i)rechnung\\d+") || headers("received").size() > 30',
        'session.client.within("192.0.2.0/24") || within(session.client, "2001:db8::/32")',
        'lower(mail.from).contains("boss") && mail.from.lower().endsWith(">")',
        'size(mail.attachments) * 2 - 1 >= -3 % 7 / 2',
        'coverage.skipped.exists(s, s.reason.startsWith("clamd"))',
        "has(mail.subject) && [] == unscanned && anomalies.all(x, x.offset < 0x10)",
        '"a.txt" in mail.attachments // and no more',
        'mail.subject == "\\u00fc\\t\\"" + \'\'\'x\'\'\' + """y"""',
        "true" + " && true" * 500,
    ],
)
def test_what_is_right_is_taken(source: str) -> None:
    assert check(source).source == source


@pytest.mark.parametrize(
    ("source", "at", "message"),
    [
        ("", 0, "expected a value, found the end"),
        ('zone = "x"', 5, '"=" has no meaning here; write "=="'),
        ("session.tls & true", 12, '"&" has no meaning here; write "&&"'),
        ('zon == "x"', 0, 'there is no fact "zon"; did you mean "zone"?'),
        ("findings.exists(f, f.sevrity <= 2)", 21, 'finding has no field "sevrity"; did you mean "severity"?'),
        ('findings.exists(f, f.severity <= "2")', 30, '"<=" compares a number with a text'),
        ("zone", 0, "gives a text, but a rule asks for true or false"),
        ("findings", 0, "gives a list of finding, but"),
        ('findings.category == "x"', 9, "a list of finding has no fields; write .exists(x, x.category …)"),
        ("findings[0].severity == 1", 8, "a place in a list may not be there"),
        ("zone.x == 1", 5, "a text has no fields"),
        ("size(session) == 1", 0, "size() is of one text or list"),
        ('header("a", "b") == ""', 0, "header takes 1 argument"),
        ('zone.glob() && true', 5, "glob takes 1 argument"),
        ('zone.header("x") == ""', 5, "header stands alone; write header(…)"),
        ('contains(zone, "x")', 0, "contains stands behind a dot"),
        ("header == zone", 0, "header is a function; write header(…)"),
        ("foo(1)", 0, 'there is no function "foo"'),
        ('zone.startWith("e")', 5, 'there is no function "startWith"; did you mean "startsWith"?'),
        ("header(1) == zone", 7, "must be a text, not a number"),
        ("zone.glob(zone)", 10, "glob asks for a pattern in quotes"),
        ('session.client.within("192.0.2.1/24")', 22, "is no network: 192.0.2.1/24 has host bits set"),
        ('zone.matches("a(b")', 13, "is no regular expression: unclosed group"),
        ('"x" in zone', 4, '"in" looks for a text in a text; write x.contains("x")'),
        ('zone in ["a", 1]', 14, "is a number, the first of the list is a text"),
        ("!zone", 1, "must be true or false, not a text"),
        ("true + true == true", 5, "true or false cannot be added"),
        ("true < false", 5, "true or false has no order"),
        ("1 / coverage.parts > 0", 13, "can be divided by a number above 0 only"),
        ("1 % 0 == 1", 4, "can be divided by a number above 0 only"),
        ("1.5 > 1", 0, "numbers are whole here"),
        ("1u > 1", 0, "numbers are whole here"),
        ("99999999999999999999 > 1", 0, "the number is too large"),
        ("zone.exists(x, true)", 5, "exists walks a list, not a text"),
        ("findings.exists(f)", 9, "exists takes a name and an expression; write .exists(x, …)"),
        ("findings.exists(zone, true)", 16, '"zone" is the name of a fact'),
        ("findings.exists(loop, true)", 16, "reserved"),
        ("has(mail)", 0, "has() asks for a field"),
        ('"abc == zone', 0, 'this text has no end; close it with "'),
        ('"\\d" == zone', 1, '"\\d" is no escape'),
        ('b"x" == zone', 0, "octet strings have no use here"),
        ("{} == {}", 0, "expected a value"),
        ("true ? true", 11, 'expected ":", found the end'),
        ("(true", 5, 'expected ")", found the end'),
        ("zone.1 == 1", 4, "numbers are whole here"),
        ("zone x", 5, 'expected an operator or the end, found "x"'),
        ('zone == "x"\n&& foo', 15, 'there is no fact "foo"'),
        ("(" * 60 + "true" + ")" * 60, DEPTH, f"more than {DEPTH} in each other"),
        ("1" + " + 1" * 60 + " == 3", 198, f"more than {DEPTH} in each other"),
        ("!" * 60 + "true", DEPTH, f"more than {DEPTH} in each other"),
        ("true" + " " * LENGTH, LENGTH, f"is longer than {LENGTH}"),
    ],
)
def test_a_mistake_is_found_with_its_place(source: str, at: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(source)
    error = caught.value
    assert f"{error.message}; {error.remedy}".startswith(message)
    assert error.at == at


@given(
    st.lists(
        st.sampled_from(
            ["zone", "==", '"x"', "(", ")", "&&", "!", "findings", ".exists(", "f", ",", ".", "1", "?", ":", "[", "]",
             "in", "mail.subject", "'", "\\", "-", "header(", "//", "\n", "size", "true", "||", "<", "ü", "\x00", "{"]
        ),
        max_size=14,
    )
)  # fmt: skip
def test_whatever_is_written_is_right_or_has_a_place(words: list[str]) -> None:
    source = " ".join(words)
    place = 0
    try:
        check(source)
    except ExpressionError as error:
        place = error.at
    assert 0 <= place <= len(source)


def test_the_check_tells_what_has_to_be_made_ready() -> None:
    source = 'artifacts.exists(a, findings.exists(f, f.sha256 == a.sha256 && f.category == "macro")) || mail.from == ""'
    checked = check(source)
    assert checked.facts == {"artifacts": {"sha256"}, "findings": {"sha256", "category"}, "mail": {"from"}}
    assert checked.nesting == 2
    assert check("[1, 2].exists(x, [3].exists(y, x == y))").nesting == 0


def test_every_type_has_a_name_for_people() -> None:
    for kind in (*FACTS.values(), *(kind for fields in FIELDS.values() for kind in fields.values())):
        assert shown(kind)
    assert all(result in ("text", "truth", "[text]") for _, result in FUNCTIONS.values())
    assert parse("true").op in get_args(Op)


@pytest.mark.parametrize(
    ("literal", "value"),
    [('"a\\n\\x41\\101\\u00fc\\U0001F600\\`"', "a\nAAü😀`"), ("r'\\d'", "\\d"), ("'''x'y'''", "x'y"), ('""', "")],
)
def test_a_text_says_what_cel_says_it_does(literal: str, value: str) -> None:
    assert text_value(literal) == value
    assert library.load().evaluate(literal) == value


@pytest.mark.parametrize("eol", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("when", "place"),
    [
        ('when = "zon == 1"', "4:9"),
        ("when   =   'zone = 1'", "4:18"),
        ('when = "zone == \\"\\u00e4\\" && x"', "4:31"),
        ('when = "\\"ä\\" == zone && (true"', "4:31"),
        ('when = """\n  zone == \\"a\\" &&\n  foo"""', "6:3"),
        ("when = '''zone == \"a\" &&\n  foo'''", "5:3"),
        ("when = '''\nzone == \"a\" &&\nfoo'''", "6:1"),
        ('when = """\\\n   zone == \'a\' \\\n   && foo"""', "6:7"),
        ('when = { zone = "external", cel = "tru" }', "4:36"),
        ("[policy.rule.when]\nzone = 'external'\ncel = '''\ntrue &&\nfalse && bar'''", "8:10"),
        ("# one\n[policy.rule.when]\ncel = 'zone.glob(1)'", "6:18"),
    ],
)
def test_a_mistake_in_a_file_names_line_and_column(when: str, place: str, eol: str) -> None:
    text = (RULE + when).replace("\n", eol)
    mistakes = [str(mistake) for mistake in read_text(text, HERE)[1]]
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"{HERE}:{place}: [")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(0, 19))
def test_every_character_of_a_string_is_found_again(text: str, offset: int) -> None:
    rule = RuleSettings("x", "tag", When(helo=(text,)))
    lines = render(Settings(policy=PolicySettings("accept", (rule,)))).split("\n")
    toml = "\n".join(lines)
    place = locate_character(toml, ("policy", "rule", 0, "when", "helo", 0), offset)
    assert place is not None
    line, column = place
    if offset < len(text) and text[offset] not in '"\\' and text[offset].isprintable():
        assert lines[line - 1][column - 1] == text[offset]


def test_a_value_that_is_no_text_has_no_characters() -> None:
    assert locate_character("a = 1", ("a",), 0) is None
    assert locate_character("a = 'x'", ("b",), 0) is None


def test_an_empty_expression_is_not_always_true() -> None:
    for when in ("''", "'  '", "{ cel = '' }"):
        mistakes = read_text(f"{RULE}when = {when}", HERE)[1]
        assert len(mistakes) == 1
        assert "empty" in str(mistakes[0])


def test_an_expression_is_written_out_as_it_is_read() -> None:
    for when in ("when = 'zone == \"external\"'", "when = { zone = 'internal', cel = '''true\n&& true''' }"):
        settings, mistakes = read_text(RULE + when, HERE)
        assert mistakes == []
        assert read_text(render(settings), HERE) == (settings, [])


def test_the_library_is_not_loaded_without_an_expression_and_its_command_line_never() -> None:
    program = (
        "import sys\n"
        "from netinspect.config import When, default_settings\n"
        "from netinspect.policy import Policy\n"
        "Policy.from_settings(default_settings().policy)\n"
        "assert 'cel' not in sys.modules\n"
        "When(cel='true')\n"
        "assert 'cel' in sys.modules\n"
        "assert not {'cel.cli', 'typer', 'pydantic', 'prompt_toolkit'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

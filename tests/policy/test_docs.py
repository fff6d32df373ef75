"""docs/policy.md says what there is."""

from __future__ import annotations

import re
from pathlib import Path

from netinspect.config import DEFAULT_RULES, read_text
from netinspect.config.expression import FACTS, FIELDS, FUNCTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, str]:
    """The rows of a table: the first column's words in backquotes, each with the row."""
    rows = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name: row for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


def test_every_built_in_rule_stands_there_in_its_order() -> None:
    assert list(table("built-in rule")) == [rule.name for rule in DEFAULT_RULES]
    for rule in DEFAULT_RULES:
        assert f"| {rule.action}" in table("built-in rule")[rule.name]


def test_every_fact_and_field_stands_there_and_nothing_else() -> None:
    facts = table("fact")
    assert list(facts) == list(FACTS)
    for name, kind in FACTS.items():
        fields = FIELDS.get(kind.strip("[]"), {})
        told = set(re.findall(r"`([a-z_0-9]+)`", facts[name])) - {name, "external", "internal"}
        inner = set(FIELDS["skipped"]) if name == "coverage" else set()
        assert told == set(fields) | inner, name


def test_every_function_stands_there() -> None:
    told = " ".join(table("function"))
    assert set(FUNCTIONS) | {"size", "exists", "all", "exists_one", "filter", "map"} == set(
        re.findall(r"([A-Za-z_]+)\(", told)
    )


def test_the_examples_are_right() -> None:
    for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        text = '[quarantine]\ndirectory = "/var/lib/netinspect"\n' + block
        assert read_text(text, Path("/etc/netinspect.toml"))[1] == []

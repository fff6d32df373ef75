"""README and docs say what is so: settings load, commands parse, rule and field names are the real ones."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from netinspect import cli
from netinspect.config import DEFAULT_RULES, read_text
from netinspect.config.rules import CATEGORIES, RuleAction
from netinspect.config.schema import GatewaySettings
from netinspect.limits import Limits

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[\s/`(])netinspect((?: +(?:[\w./*@-]+|'[^']*'))*)")


def fences(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
            if found[1] == language:
                yield f"{page.name}:{page.read_text(encoding='utf-8')[: found.start()].count(chr(10)) + 1}", found[2]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each `netinspect ...` that stands indented, in a fence, or in back-quotes, where it may be only half said."""
    known = ("demo", "gateway", "record", "scan", "policy", "firewall", "config", "doctor", "replay", "-c")
    rest = {"record": ["x"], "replay": ["x"], "scan": ["x"], "firewall": ["show"], "config": ["show"]}
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            quoted = re.findall(r"`([^`]+)`", line)
            whole = [line] if line.startswith("    ") or re.match(r"Exec\w+=", line) else []
            for piece in quoted + whole:
                for found in _COMMAND.finditer(piece.split("#")[0]):
                    words = shlex.split(found[1])
                    if piece in quoted and not any(re.match(r"[\w.]", word) for word in words[1:]):
                        words += rest.get(words[0], []) if words else []
                    if words and words[0] in known:
                        yield f"{page.name}:{number}", words


def _place(value: object) -> str:
    """The parameter that names page and line; the other one is long."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.]+:\d+", value) else "-"


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins with `heading`."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize(("where", "text"), list(fences("toml")), ids=_place)
def test_every_example_of_settings_loads(where: str, text: str, tmp_path: Path) -> None:
    quarantine = ("quarantine" in text or "disarm" in text) and "[quarantine]" not in text
    extra = '\n[quarantine]\ndirectory = "q"\n' if quarantine else ""
    tomllib.loads(text)
    _, mistakes = read_text(text + extra, tmp_path / "netinspect.toml")
    assert [str(mistake) for mistake in mistakes] == []


def test_there_are_examples_to_look_at() -> None:
    assert len(list(fences("toml"))) >= 4
    assert len(list(commands())) >= 10


@pytest.mark.parametrize(("where", "words"), list(commands()), ids=_place)
def test_every_command_shown_is_one(where: str, words: list[str]) -> None:
    cli._parser().parse_args(["x.toml" if word == "FILE" else word for word in words])


@pytest.mark.parametrize(("where", "text"), list(fences("json")), ids=_place)
def test_every_example_of_a_record_is_json(where: str, text: str) -> None:
    json.loads(text)


def test_the_built_in_rules_are_described_in_their_order() -> None:
    rows = table("policy.md", "built-in rule")
    described = [(name, row) for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
    assert [name for name, _ in described] == [rule.name for rule in DEFAULT_RULES]
    for (_, row), rule in zip(described, DEFAULT_RULES, strict=True):
        assert row[2].startswith(rule.action), rule.name
        assert not rule.code or str(rule.code) in row[2], rule.name


def test_every_action_is_described() -> None:
    described = [row[0].strip("`") for row in table("policy.md", "action")]
    assert sorted(described) == sorted(get_args(RuleAction))


def test_every_category_is_described() -> None:
    page = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
    listed = page[page.index("`category` is one of") : page.index("- `action` is one of")]
    assert set(CATEGORIES) <= set(re.findall(r"[\w-]+", listed))


def test_every_limit_that_is_named_exists() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    known = {field.name for part in (Limits, GatewaySettings) for field in fields(part)}
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", page)) <= known
    assert "max_sessions" in page

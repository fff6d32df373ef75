"""YARA-X rules, compiled once and matched against one content after the other. Runs in a worker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, cast, get_args

import yara_x

from netinspect.errors import EngineError
from netinspect.scan.contract import Category, Finding, Unscanned
from netinspect.scan.rulefiles import RuleSource, digest

ENGINE: Final = "rules"
_CATEGORIES: Final = frozenset(get_args(Category))
_PLACE = re.compile(r"^ *--> (?P<place>.+:\d+):\d+$", re.MULTILINE)


class _Meaning(NamedTuple):
    category: Category
    severity: Literal[1, 2, 3]


class RuleEngine:
    """Compiled rules and one scanner, which is used by one thread.

    Raises EngineError with `FILE:LINE` when a rule is wrong, its `category` is unknown or its `severity` is not 1 to 3.
    """

    def __init__(self, sources: Sequence[RuleSource], *, timeout: int = 20) -> None:
        self.fingerprint = f"yara-x {digest(sources)}"
        self._meanings: dict[tuple[str, str], _Meaning] = {}
        compiler = yara_x.Compiler(includes_enabled=False)
        for number, source in enumerate(sources):
            compiler.new_namespace(f"file{number}")  # two files may use the same name
            try:
                compiler.add_source(source.text, origin=source.origin)
            except yara_x.CompileError as error:
                raise _readable(str(error), source) from error
        rules = compiler.build()
        for rule in rules:
            source = sources[int(rule.namespace.removeprefix("file"))]
            self._meanings[rule.namespace, rule.identifier] = _meaning(rule, source)
        self._scanner = yara_x.Scanner(rules)
        self._scanner.set_timeout(timeout)
        self._scanner.fast_scan(True)
        self._scanner.scan(b"warm")  # the first scan makes the thread that watches the time

    def scan(self, data: bytes, sha256: str) -> tuple[Finding | Unscanned, ...]:
        """Match `data`; `()` when no rule does."""
        try:
            matching = self._scanner.scan(data).matching_rules
        except yara_x.TimeoutError:
            return (Unscanned(ENGINE, "timeout", sha256),)
        except yara_x.ScanError as error:
            return (Unscanned(ENGINE, f"error: {error}"[:200], sha256),)
        if not matching:
            return ()
        return tuple(
            Finding(ENGINE, rule.identifier, *self._meanings[rule.namespace, rule.identifier], sha256=sha256)
            for rule in matching
        )


def _readable(message: str, source: RuleSource) -> EngineError:
    place = _PLACE.search(message)
    return EngineError(
        message.partition("\n")[0],
        place=place["place"] if place else source.origin,
        remedy="mend the rule or take the file away",
    )


def _meaning(rule: yara_x.Rule, source: RuleSource) -> _Meaning:
    told = dict(rule.metadata)
    category, severity = told.get("category", "malware"), told.get("severity", 1)
    if category not in _CATEGORIES:
        raise _wrong(rule.identifier, source, f'category "{category}" of rule {rule.identifier} is unknown', "category")
    if severity not in (1, 2, 3) or isinstance(severity, bool):
        raise _wrong(rule.identifier, source, f"severity of rule {rule.identifier} must be 1, 2 or 3", "severity")
    return _Meaning(cast("Category", category), cast("Literal[1, 2, 3]", severity))


def _wrong(identifier: str, source: RuleSource, message: str, key: str) -> EngineError:
    start = re.search(rf"\brule\s+{re.escape(identifier)}\b", source.text)
    at = source.text.find(key, start.start()) if start else -1
    line = source.text.count("\n", 0, max(at, 0)) + 1
    return EngineError(message, place=f"{source.origin}:{line}", remedy="mend the rule or take the file away")

"""Which engines are on, as it goes on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netinspect.assembly import panel_of
from netinspect.config import Settings
from netinspect.config.schema import ScanSettings
from netinspect.limits import Limits
from netinspect.scan.clamd import ClamdEngine
from netinspect.scan.clamd_wire import Version
from netinspect.scan.contract import EngineState
from netinspect.scan.hashes import HashLists
from netinspect.scan.panel import Panel


def panel(fingerprint: str = "one", clamd: ClamdEngine | None = None, hashes: HashLists | None = None) -> Panel:
    workers: Any = SimpleNamespace(fingerprint=fingerprint)
    return Panel(Limits(), workers, clamd, hashes, worker_engines=(("office", "0.60"), ("rules", "1.0")))


def test_the_engines_are_named_with_version_and_the_age_of_their_signatures(tmp_path: Path) -> None:
    clamd = ClamdEngine("unix:/run/nowhere.sock", Limits())
    block = tmp_path / "block"
    block.write_text("ab" * 32 + "\n")
    made = panel(clamd=clamd, hashes=HashLists.load([block]))
    before = made.engines
    office, rules, down, hashes = before
    assert (office, down, hashes) == (
        EngineState("office", "0.60"), EngineState("clamd"), EngineState("hashes", "", "1 entries"),
    )  # fmt: skip
    assert rules.signatures
    clamd.version = Version("ClamAV 1.4.6", 27000, datetime.now(UTC) - timedelta(days=3, hours=1))
    assert made.engines[2] == EngineState("clamd", "ClamAV 1.4.6", "27000", 3)
    assert made.engines[0] is not None
    assert made.engines is made.engines


def test_other_rules_are_other_signatures() -> None:
    first, second = (panel(word).engines[1].signatures for word in ("one", "two"))
    assert first != second


@pytest.mark.parametrize(("office", "rules", "names"), [(True, True, ["office", "rules"]), (False, False, [])])
def test_an_engine_that_is_off_is_not_named(office: bool, rules: bool, names: list[str]) -> None:
    engines = panel_of(Settings(scan=ScanSettings(office=office, rules=rules))).engines
    assert [engine.name for engine in engines] == names
    assert all(engine.version for engine in engines)

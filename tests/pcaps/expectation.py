"""What replay has to say about each capture: its records, without what changes from day to day."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pcaps"
CONFIG = FOLDER / "netinspect.toml"
GATEWAY = ROOT / ".pcaps"
"""What the gateway wrote on record while the captures were made; not part of the project."""
Record = dict[str, Any]


def captures() -> list[Path]:
    """All captures, in the order of their folders."""
    return sorted(path for path in FOLDER.glob("*/capture.*"))


def stable(record: Record) -> Record:
    """The record without time, place and versions."""
    kept = {key: value for key, value in record.items() if key not in ("timestamp", "pcap_filename")}
    if "engines" in kept.get("verdict", {}):
        engines = sorted(engine["name"] for engine in kept["verdict"]["engines"])
        kept["verdict"] = {**kept["verdict"], "engines": engines}
    return kept


def run(*arguments: str) -> tuple[int, list[Record]]:
    """`netinspect replay` with the settings of the captures; exit status and records."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("NETINSPECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "netinspect", "-c", str(CONFIG), "replay", "--events", "-", *arguments],
        capture_output=True, text=True, cwd=ROOT, env=env, timeout=240, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode not in (0, 1, 2) or "Traceback" in done.stderr:
        raise AssertionError(done.stderr)
    return done.returncode, [json.loads(line) for line in lines]


def replayed() -> dict[str, list[Record]]:
    """Folder and records of all captures, each judged by itself."""
    _, records = run(*map(str, captures()))
    found: dict[str, list[Record]] = {path.parent.name: [] for path in captures()}
    for record in records:
        found[Path(record["pcap_filename"]).parent.name].append(stable(record))
    return found


def text(records: list[Record]) -> str:
    """As it stands in expected.json: one record after the other, keys in order, so that a change is easy to see."""
    return json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def compare_all() -> int:
    """In how many captures the replay has another opinion than the gateway had when they were recorded."""
    told = replayed()
    found = [(path.stem, json.loads(path.read_text())) for path in sorted(GATEWAY.glob("*.json"))]
    return sum(compare(name, records, told.get(name, [])) for name, records in found)


def compare(name: str, wanted: list[Record], told: list[Record]) -> bool:
    """Whether they differ; prints how."""
    one, other = text(wanted).splitlines(), text(told).splitlines()
    lines = list(difflib.unified_diff(one, other, "gateway", "replay", "", "", 2))
    if lines:
        print(f"--- {name}: the gateway and the replay differ")
        print("\n".join(lines))
    return bool(lines)


def write() -> None:
    """Make what replay says now the expectation."""
    for name, records in replayed().items():
        (FOLDER / name / "expected.json").write_text(text(records), encoding="utf-8")

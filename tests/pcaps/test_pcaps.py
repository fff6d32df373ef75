"""Every capture of pcaps/ is judged as it should be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.pcaps import expectation
from tests.pcaps.derived import DERIVED, SAME
from tests.pcaps.expectation import FOLDER, Record
from tests.pcaps.scenes import SCENES

NAMES = sorted({*SCENES, *DERIVED})


@pytest.fixture(scope="module")
def told() -> dict[str, list[Record]]:
    return expectation.replayed()


def expected(name: str) -> list[Record]:
    records: list[Record] = json.loads((FOLDER / name / "expected.json").read_text(encoding="utf-8"))
    return records


@pytest.mark.parametrize("name", NAMES)
def test_replay_says_what_is_expected(told: dict[str, list[Record]], name: str) -> None:
    assert expectation.text(told[name]) == expectation.text(expected(name))


def test_every_folder_is_of_a_scene_and_every_scene_has_one() -> None:
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_dir()) == NAMES
    listed = re.findall(r"^- `(.+?)`", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert listed == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_one_small_capture_and_says_what_it_shows(name: str) -> None:
    (capture,) = (FOLDER / name).glob("capture.*")
    assert capture.stat().st_size < 100_000
    readme = (FOLDER / name / "README.md").read_text()
    assert readme.startswith(f"# {name}\n")
    assert "How it was made:" in readme


def test_all_of_them_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize(("name", "source"), SAME.items(), ids=SAME)
def test_order_and_wrapping_change_nothing(name: str, source: str) -> None:
    assert expected(name) == expected(source)


def verdicts(name: str) -> list[Record]:
    return [record["verdict"] for record in expected(name) if record["event_type"] == "verdict"]


def actions(name: str) -> list[str]:
    return [verdict["action"] for verdict in verdicts(name)]


@pytest.mark.parametrize(("name", "wanted"), [
    ("clean", ["accept"]), ("infected", ["reject"]), ("infected-plain", ["reject"]), ("macro", ["reject"]),
    ("spoofed-outside", ["drop"]),
    ("spoofed-inside", ["accept"]), ("bdat", ["accept", "reject"]), ("pipelining", ["accept", "reject"]),
    ("postfix", ["accept"]), ("starttls-refused", ["reject"]), ("ipv6", ["reject"]),
    ("several-mails", ["accept", "reject", "accept", "accept"]), ("auth", ["accept"]),
    ("several-interfaces", ["drop", "accept"]), ("starttls-keys", ["reject"]),
    ("starttls-keys-1.2", ["reject"]),
    *((name, ["reject"]) for name in SCENES if name.startswith("smuggling-") and name != "smuggling-taken"),
])  # fmt: skip
def test_the_expectation_itself_is_right(name: str, wanted: list[str]) -> None:
    assert actions(name) == wanted


@pytest.mark.parametrize("name", ["gap", "starttls-taken", "starttls-taken-1.2", "left"])
def test_what_could_not_be_seen_is_said(name: str) -> None:
    assert any(verdict["unscanned"] for verdict in verdicts(name))


def test_a_file_that_ends_too_early_is_said() -> None:
    anomalies = [record["anomaly"]["event"] for record in expected("truncated-file") if "anomaly" in record]
    assert "truncated" in anomalies
    assert actions("truncated-file")[0] == "accept"


@pytest.mark.parametrize("name", ["overlapping-conflict", "overlapping-conflict-last", "middle", "one-direction"])
def test_what_the_capture_looks_like_is_no_way_past(name: str) -> None:
    signatures = [record["alert"]["signature"] for record in expected(name) if "alert" in record]
    assert "EICAR_Test_File" in signatures
    assert "reject" in actions(name)


def test_an_address_of_ours_outside_is_none_of_ours() -> None:
    assert set(actions("spoofed-address")) == {"drop"}


def test_a_server_that_was_fooled_is_no_excuse() -> None:
    assert "reject" in actions("smuggling-taken")


def test_no_expectation_holds_what_a_client_logs_in_with() -> None:
    assert "AHRlc3QA" not in Path(FOLDER / "auth" / "expected.json").read_text()

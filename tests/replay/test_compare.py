"""`--policy`: what another configuration would have decided about the same mails."""

from __future__ import annotations

from pathlib import Path

import pytest

from netinspect.config import Settings, load
from tests.replay.captures import OURS, SETTINGS, Ran, cli, joined, mail, run, sessions, talk, write
from tests.replay.make import Talk, pcapng

NOBODY = SETTINGS.replace(f'domains = ["{OURS}"]', "")


def other(folder: Path, text: str) -> Settings:
    path = folder / "other.toml"
    path.write_text(text)
    return load(path, {})


def compared(folder: Path, talks: list[Talk], text: str, *, first: str = SETTINGS, **options: object) -> Ran:
    name = write(folder / "a.pcap", talks)
    return run(folder, name, text=first, events="-", other=other(folder, text), **options)


def changes(ran: Ran) -> list[tuple[str, str]]:
    verdicts = [one["verdict"] for one in ran.of("verdict")]
    assert all(one["changed"] == (one["action"] != one["other"]["action"]) for one in verdicts)
    return [(one["action"], one["other"]["action"]) for one in verdicts]


def test_the_same_policy_changes_nothing(tmp_path: Path) -> None:
    ran = compared(tmp_path, sessions(12), SETTINGS)
    assert len(changes(ran)) > 12
    assert all(mine == theirs for mine, theirs in changes(ran))


def test_names_that_only_the_other_protects_are_refused(tmp_path: Path) -> None:
    talks = [talk(1, mail(1), sender=f"boss@{OURS}"), talk(2, mail(2))]
    ran = compared(tmp_path, talks, SETTINGS, first=NOBODY)
    assert changes(ran) == [("accept", "drop"), ("accept", "accept")]
    rules = [one["verdict"]["other"]["rules"] for one in ran.of("verdict")]
    assert rules[0] != rules[1]


def test_a_session_that_only_we_refuse_is_let_go(tmp_path: Path) -> None:
    ran = compared(tmp_path, [talk(1, mail(1), sender=f"boss@{OURS}")], NOBODY)
    assert changes(ran)[0] == ("drop", "accept")


def test_networks_of_the_other_say_who_stands_inside(tmp_path: Path) -> None:
    talks = [talk(1, mail(1), sender=f"boss@{OURS}")]
    inside = SETTINGS + 'addresses = ["192.0.2.0/24"]\n'
    assert ("drop", "accept") in changes(compared(tmp_path, talks, inside))
    # The interface or the command line says where they stand: the networks have no say.
    assert ("drop", "accept") not in changes(compared(tmp_path, talks, inside, zone="external"))


def test_exit_code_and_records_are_those_of_the_first(tmp_path: Path) -> None:
    talks = [talk(1, mail(1)), talk(2, mail(2), sender=f"boss@{OURS}")]
    name = write(tmp_path / "a.pcap", talks)
    plain, both = run(tmp_path, name, events="-"), compared(tmp_path, talks, NOBODY)
    assert both.status == plain.status
    made = []
    for record in both.records:
        if record["event_type"] == "verdict":
            verdict = {key: value for key, value in record["verdict"].items() if key not in ("changed", "other")}
            record = {**record, "verdict": verdict}
        made.append(record)
    assert made == plain.records


def test_the_table_tells_what_would_change(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", [talk(1, mail(1), sender=f"boss@{OURS}")])
    ran = run(tmp_path, name, other=other(tmp_path, NOBODY))
    assert "drop → accept" in ran.out
    assert f"with {tmp_path}/other.toml: 2 would change: drop → accept 2" in ran.out


def test_processes_compare_alike(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", sessions(10))
    other(tmp_path, NOBODY)
    options = (name, "--events", "-", "--policy", str(tmp_path / "other.toml"))
    assert cli(tmp_path, *options) == cli(tmp_path, *options, "--workers", "2")


def test_limits_are_the_same_for_both(tmp_path: Path) -> None:
    small = SETTINGS + "[limits]\nmessage_size = 1000\n"
    ran = compared(tmp_path, [talk(1, mail(1, size=4000))], NOBODY, first=small)
    assert changes(ran) == [("reject", "reject")]


@pytest.mark.parametrize("zone", ["external", "internal", ""])
def test_an_interface_that_says_where_clients_stand_says_it_for_both(tmp_path: Path, zone: str) -> None:
    inside = SETTINGS + 'addresses = ["192.0.2.0/24"]\n'
    name = tmp_path / "a.pcapng"
    name.write_bytes(pcapng(joined([talk(1, mail(1), sender=f"boss@{OURS}")]), name="eth0"))
    options = {"zones": {"eth0": zone}} if zone else {}
    ran = run(tmp_path, str(name), events="-", other=other(tmp_path, inside), **options)
    assert (("drop", "accept") in changes(ran)) is (not zone)

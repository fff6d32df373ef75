"""Several processes give what one gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netinspect.replay import workers
from netinspect.replay.drive import Item, mine_of
from netinspect.replay.flows import reverse
from tests.replay.captures import SETTINGS, cli, sessions, settings, write


def test_the_same_records_however_many_read(tmp_path: Path) -> None:
    names = [write(tmp_path / "a.pcap", sessions(50)), write(tmp_path / "b.pcap", sessions(12, seed=2))]
    one, *others = (cli(tmp_path, *names, "--events", "-", "--workers", str(count)) for count in (1, 2, 3))
    assert one.status == 1
    assert one.err == ""
    assert len(one.of("verdict")) > 100
    for other in others:
        assert other == one


def test_table_index_and_page_are_the_same_too(tmp_path: Path) -> None:
    name = write(tmp_path / "a.pcap", sessions(20))
    made = []
    for count in ("1", "2"):
        out = tmp_path / f"out{count}"
        ran = cli(tmp_path, name, "--extract", str(out), "--workers", count)
        files = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
        made.append(((out / "index.json").read_text(), files, ran.out.splitlines()[:-1]))
    assert made[0] == made[1]


def test_standard_input_is_read_once_for_all(tmp_path: Path) -> None:
    capture = Path(write(tmp_path / "a.pcap", sessions(10)))
    one = cli(tmp_path, "-", "--events", "-", given=capture.read_bytes())
    two = cli(tmp_path, "-", "--events", "-", "--workers", "2", given=capture.read_bytes())
    assert len(one.of("verdict")) > 10
    assert {record["pcap_filename"] for record in one.records} == {"-"}
    assert one == two


def test_a_capture_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    good = write(tmp_path / "a.pcap", sessions(5))
    ran = cli(tmp_path, str(tmp_path / "none.pcap"), good, "--events", "-", "--workers", "3")
    assert ran.status == 2
    assert ran.err == f"netinspect: {tmp_path}/none.pcap: No such file or directory\n"
    assert {record["pcap_filename"] for record in ran.records} == {good}


def test_both_directions_fall_to_the_same_share_and_each_connection_to_one() -> None:
    keys = [os.urandom(8) + bytes((200, n, 0, 25)) for n in range(200)]
    shares = [mine_of(number, 3) for number in range(3)]
    taken = [sum(mine is not None and mine(key, reverse(key)) for key in keys) for mine in shares]
    assert sum(taken) == 200
    assert min(taken) > 30
    for mine in shares:
        assert mine is not None
        assert all(mine(key, reverse(key)) == mine(reverse(key), key) for key in keys)
    assert mine_of(0, 1) is None


def test_children_and_memory_are_shared_out(tmp_path: Path) -> None:
    several = settings(tmp_path, "[scan]\nworkers = 5\n")
    assert [workers.divided(several, shares).scan.workers for shares in (2, 3, 8)] == [2, 1, 1]
    none = settings(tmp_path)
    assert workers.divided(none, 4).scan.workers == 0
    assert workers.divided(none, 2).limits.spool_memory_total == none.limits.spool_memory_total // 2


def item(*order: int, lines: bytes = b"") -> Item:
    return Item((order[0], order[1], order[2]), True, lines)


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.places: list[tuple[tuple[int, int, int], int]] = []
        self.faults: list[str] = []

    def item(self, item: Item) -> None:
        self.items.append(item)

    def at(self, order: tuple[int, int, int], octets: int) -> None:
        self.places.append((order, octets))

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        self.faults.append(reason)


def test_nothing_is_given_on_before_what_another_process_may_still_bring() -> None:
    here, there = workers._Share(None), workers._Share(None)  # type: ignore[arg-type]
    here.add([item(0, 5, 1), item(0, 9, 1)])
    assert list(workers._ready([here, there])) == []
    there.floor = (0, 7, 0)
    assert list(workers._ready([here, there])) == [item(0, 5, 1)]
    there.add([item(0, 7, 2), item(1, 1, 1)])
    assert list(workers._ready([here, there])) == [item(0, 7, 2), item(0, 9, 1)]
    here.floor = workers._END
    assert list(workers._ready([here, there])) == [item(1, 1, 1)]


def test_control_c_ends_all_of_them(tmp_path: Path) -> None:
    settings(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    capture = write(tmp_path / "a.pcap", sessions(5))
    line = [sys.executable, "-m", "netinspect", "-c", str(tmp_path / "netinspect.toml"), "replay"]
    line += [capture, str(pipe), "--workers", "2", "--events", str(tmp_path / "events")]
    with subprocess.Popen(line, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            writer = os.open(pipe, os.O_WRONLY)
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(30) == 130
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        os.close(writer)
        assert process.stderr is not None
        assert process.stderr.read() == b""
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_captures_of_the_project_too(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "pcaps"
    text = SETTINGS + 'addresses = ["192.0.2.0/24"]\n'
    one, two, three = (cli(tmp_path, str(folder), "--events", "-", "--workers", str(n), text=text) for n in (1, 2, 3))
    assert len(one.of("verdict")) > 20
    assert one.out == two.out == three.out
    assert sorted(one.err.splitlines()) == sorted(two.err.splitlines()) == sorted(three.err.splitlines())

"""The order of what comes out is that of the capture, memory is bounded, and each client stands on its side."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from netinspect.assembly import inspector_of
from netinspect.config.schema import NetworkSettings
from netinspect.inspector import Inspection, Judgement
from netinspect.policy.facts import Zone
from netinspect.replay.engine import IN_WORK, Outcome, Replay, zone_of, zones_of
from netinspect.replay.flows import FlowTable
from netinspect.replay.frame import ETHERNET, Interface
from netinspect.replay.tcp import Flow
from tests.replay.captures import mail, settings, talk
from tests.replay.make import Segment, batch, frames


def capture() -> list[Segment]:
    """Ten sessions at the same time with three mails each."""
    segments: list[Segment] = []
    for number in range(10):
        segments += talk(number, *[mail(10 * number + one) for one in range(3)], start=number).segments
    return sorted(segments, key=lambda one: one.time)


async def run(folder: Path, give: Any, *, size: int = 40) -> int:
    """Replay the capture in batches of `size` frames; the most messages that were in work."""
    inspector = inspector_of(settings(folder))
    await inspector.panel.start()
    replay = Replay(inspector, lambda flow: "external", give, "it.pcap")
    table = FlowTable(lambda frame: None)
    timed = frames(capture())
    most = 0
    try:
        for at in range(0, len(timed), size):
            table.feed(batch(timed[at : at + size]))
            replay.take(table)
            floor = replay.floor
            await replay.drain()
            most = max(most, len(replay._queue))
            assert replay.floor >= floor
            await asyncio.sleep(0)
        table.finish()
        replay.take(table)
        await replay.drain(0)
    finally:
        await inspector.panel.close()
    return most


def test_outcomes_come_in_the_order_of_the_capture(tmp_path: Path) -> None:
    given: list[Outcome] = []
    asyncio.run(run(tmp_path, given.append))
    assert len(given) == 30
    orders = [one.order for one in given]
    assert orders == sorted(orders)
    assert len({one.records[0]["flow_id"] for one in given[:10]}) > 1


def test_order_does_not_depend_on_how_fast_the_engines_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[Outcome] = []
    asyncio.run(run(tmp_path, plain.append))
    judge = Inspection.judge
    chance = random.Random(5)

    async def slow(self: Inspection) -> Judgement:
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        return await judge(self)

    monkeypatch.setattr(Inspection, "judge", slow)
    again: list[Outcome] = []
    asyncio.run(run(tmp_path, again.append))
    assert [one.records for one in again] == [one.records for one in plain]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_records_do_not_depend_on_how_the_capture_is_cut(tmp_path: Path, size: int) -> None:
    plain: list[Outcome] = []
    asyncio.run(run(tmp_path, plain.append))
    other: list[Outcome] = []
    asyncio.run(run(tmp_path, other.append, size=size))
    key = [(str(one.records[0]["flow_id"]), one.verdict.tx_id, str(one.records)) for one in plain]
    assert sorted((str(one.records[0]["flow_id"]), one.verdict.tx_id, str(one.records)) for one in other) == sorted(key)


def test_messages_in_work_are_bounded_and_each_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Inspection.judge

    async def slow(self: Inspection) -> Judgement:
        await asyncio.sleep(0.001)
        return await judge(self)

    monkeypatch.setattr(Inspection, "judge", slow)
    given: list[Outcome] = []
    most = asyncio.run(run(tmp_path, given.append, size=10_000))
    assert most <= IN_WORK
    assert all(one.verdict.inspection is None or one.verdict.inspection._closed for one in given)


def flow(client: str, name: str = "", description: str = "") -> Flow:
    one = Flow(1, [])
    one.addresses = (client, 40000, "198.51.100.25", 25)
    one.interface = Interface(ETHERNET, 0, name, description)
    return one


@pytest.mark.parametrize(
    ("client", "name", "description", "wanted"),
    [
        ("192.0.2.7", "", "", "internal"),
        ("203.0.113.7", "", "", "external"),
        ("192.0.2.7", "ext0", "", "external"),
        ("203.0.113.7", "int0", "", "internal"),
        ("192.0.2.7", "eth9", "netinspect zone external", "external"),
        ("203.0.113.7", "eth9", "netinspect zone internal", "internal"),
        ("203.0.113.7", "eth9", "a fine card", "external"),
    ],
)
def test_zone_is_told_by_the_interface_or_else_by_our_networks(
    client: str, name: str, description: str, wanted: Zone
) -> None:
    named: dict[str, Zone] = {"ext0": "external", "int0": "internal"}
    zone = zone_of(NetworkSettings(addresses=("192.0.2.0/24",)), None, named)
    assert zone(flow(client, name, description)) == wanted


def test_zone_that_was_asked_for_goes_before_all_else() -> None:
    zone = zone_of(NetworkSettings(addresses=("192.0.2.0/24",)), "external", {"int0": "internal"})
    assert zone(flow("192.0.2.7", "int0")) == "external"


def test_interfaces_of_the_listeners_have_their_zones(tmp_path: Path) -> None:
    text = """\
[[listener]]
name = "outside"
zone = "external"
listen = ":10025"
mode = "transparent"
interface = "ext0"
[[listener]]
name = "inside"
zone = "internal"
listen = ":10026"
mode = "transparent"
interface = "int0"
"""
    assert zones_of(settings(tmp_path, text)) == {"ext0": "external", "int0": "internal"}

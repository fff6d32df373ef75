"""What the end-to-end tests share. The namespaces, both Postfix and clamd start once; all of it ends with the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clamd as clamd_
from tests.e2e import gateway as gateway_
from tests.e2e import postfix as postfix_
from tests.e2e import server as server_
from tests.e2e import tap as tap_
from tests.e2e import world as world_
from tests.e2e.mails import token as new_token
from tests.e2e.world import INSIDE, OUTSIDE, PROGRAMS, World, require

SINK_PORT = 2525
"""Where the recording server inside listens, next to Postfix on 25."""
SUBMISSION_PORT = 10587


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def base() -> Iterator[Path]:
    """A folder that other users may enter (Postfix gives up root), with a short name (unix sockets: 108 octets)."""
    folder = Path(tempfile.mkdtemp(prefix="netinspect-e2e-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def net() -> Iterator[World]:
    require(*PROGRAMS)
    with world_.world() as built:
        yield built


@pytest.fixture(scope="session")
def clamd(base: Path) -> Iterator[clamd_.Clamd]:
    require("clamd", root=False)
    with clamd_.clamd(base / "clamd") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def mx(net: World, base: Path) -> Iterator[postfix_.Postfix]:
    """The server for corp.example, inside."""
    with postfix_.postfix(base / "mx", net.inside, "corp.example") as server:
        yield server


@pytest.fixture(scope="session")
def relay(net: World, base: Path) -> Iterator[postfix_.Postfix]:
    """A Postfix outside that sends to the inside; over IPv6 what comes from six@."""
    relays = {f"{who}@outside.example": f"[{INSIDE[family]}]:25" for who, family in (("four", 4), ("six", 6))}
    with postfix_.postfix(
        base / "relay", net.outside, "outside.example", port=SUBMISSION_PORT, relays=relays
    ) as server:
        yield server


@pytest.fixture(scope="session")
def inside_sinks(net: World) -> Iterator[dict[int, server_.Server]]:
    with (
        server_.server(net.inside, INSIDE[4], SINK_PORT) as four,
        server_.server(net.inside, INSIDE[6], SINK_PORT) as six,
    ):
        yield {4: four, 6: six}


@pytest.fixture(scope="session")
def outside_sinks(net: World) -> Iterator[dict[int, server_.Server]]:
    with server_.server(net.outside, OUTSIDE[4], 25) as four, server_.server(net.outside, OUTSIDE[6], 25) as six:
        yield {4: four, 6: six}


@pytest.fixture
def sink(inside_sinks: dict[int, server_.Server]) -> server_.Server:
    """A recording server inside (IPv4, port 2525), fresh."""
    inside_sinks[4].reset()
    return inside_sinks[4]


@pytest.fixture
def token() -> str:
    return new_token()


@pytest.fixture(scope="session")
def edge(net: World, base: Path, clamd: clamd_.Clamd) -> Iterator[gateway_.Gateway]:
    """The gateway in its namespace, transparent on both interfaces, with the rules that it prints itself."""
    tables: dict[str, gateway_.Table | list[gateway_.Table]] = {
        "listener": [
            {"name": "outside", "zone": "external", "listen": ":10025", "mode": "transparent", "interface": "ext0"},
            {"name": "inside", "zone": "internal", "listen": ":10026", "mode": "transparent", "interface": "int0"},
        ],
        "gateway": {"keep_client_address": True, "hostname": "edge.corp.example", "connect_timeout": 2},
        "networks": {"domains": ["corp.example"], "addresses": ["10.55.1.0/24", "fd55:1::/64"]},
        "scan": {"clamd": clamd.address},
        "firewall": {"ports": [25, SINK_PORT]},
    }
    with gateway_.gateway(base / "edge", tables, net.gateway) as running:
        netinspect = world_.python("-m", "netinspect", "-c", str(running.config), "firewall", "show")
        net.gateway.run(["nft", "-f", "-"], input=world_.HERE.run(netinspect).stdout)
        for command in world_.HERE.run([*netinspect, "--commands"]).stdout.splitlines():
            net.gateway.run(command.split())
        with (
            tap_.tap(net.gateway, "ext0", base / "ext0.pcap") as outside,
            tap_.tap(net.gateway, "int0", base / "int0.pcap") as inside,
        ):
            running.taps = {"external": outside, "internal": inside}
            yield running


@pytest.fixture
def gate(edge: gateway_.Gateway) -> gateway_.Gateway:
    """The gateway at the edge; `events` gives this test's records only."""
    edge.mark()
    return edge

"""The rules in a real kernel: network namespaces, real connections, both families."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from netinspect.errors import EnvironmentFault
from netinspect.firewall import kernel
from netinspect.firewall.nft import Redirect, Ruleset
from tests.e2e.world import GATEWAY_EXT, GATEWAY_INT, INSIDE, OUTSIDE, World, require, world

pytestmark = pytest.mark.e2e

RULES = Ruleset((Redirect("ext0", "external", 10025), Redirect("int0", "internal", 10026)))
KEPT = Ruleset(RULES.redirects, keep_client_address=True)
# linux/in.h, linux/in6.h: the destination a redirected connection had; Python has no name for it.
SO_ORIGINAL_DST = 80
# IP_TRANSPARENT and IPV6_TRANSPARENT, nameless as well.
TRANSPARENT = {4: (socket.IPPROTO_IP, 19), 6: (socket.IPPROTO_IPV6, 75)}
ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104  # inside a namespace of the test
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module")
def places() -> Iterator[World]:
    require("ip", "nsenter", "sysctl", "nft")
    with world() as built:
        yield built


@pytest.fixture(autouse=True)
def _clean(places: World) -> Iterator[None]:
    yield
    places.gateway.inside(lambda: kernel.remove(KEPT))


def original_port(connection: socket.socket, family: int) -> int:
    level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
    return int.from_bytes(connection.getsockopt(level, SO_ORIGINAL_DST, 28)[2:4])


@FAMILIES
def test_a_connection_through_the_gateway_reaches_the_listener_of_its_interface(places: World, family: int) -> None:
    places.gateway.inside(lambda: kernel.apply(RULES))
    for place, port, target in ((places.outside, 10025, INSIDE), (places.inside, 10026, OUTSIDE)):
        with (
            places.gateway.listen(ANY[family], port) as listener,
            place.connect(target[family], 25, timeout=5) as client,
        ):
            listener.settimeout(5)
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == client.getsockname()[0]
                assert original_port(accepted, family) == 25


@FAMILIES
def test_other_ports_pass_by(places: World, family: int) -> None:
    places.gateway.inside(lambda: kernel.apply(RULES))
    with places.inside.listen(ANY[family], 8025), places.outside.connect(INSIDE[family], 8025, timeout=5):
        pass


@FAMILIES
def test_nobody_reaches_a_listener_past_the_redirect(places: World, family: int) -> None:
    places.gateway.inside(lambda: kernel.apply(RULES))
    with places.gateway.listen(ANY[family], 10025), places.gateway.listen(ANY[family], 10026):
        for address in (GATEWAY_EXT[family], GATEWAY_INT[family]):
            for port in (10025, 10026):
                with pytest.raises(ConnectionRefusedError):
                    places.outside.connect(address, port, timeout=5)


def test_applying_twice_leaves_one_rule_and_one_route(places: World) -> None:
    for _ in range(2):
        places.gateway.inside(lambda: kernel.apply(KEPT))
    assert places.gateway.run(["nft", "list", "tables"]).stdout == "table inet netinspect\n"
    for family in ("-4", "-6"):
        rules = places.gateway.run(["ip", family, "rule", "list"]).stdout
        assert rules.count("fwmark 0x1 lookup 100") == 1
        assert places.gateway.run(["ip", family, "route", "list", "table", "100"]).stdout.count("local") == 1


def test_turning_keep_client_address_off_takes_the_routes_away(places: World) -> None:
    places.gateway.inside(lambda: kernel.apply(KEPT))
    places.gateway.inside(lambda: kernel.apply(RULES))
    assert "fwmark" not in places.gateway.run(["ip", "rule", "list"]).stdout
    assert "divert" not in places.gateway.run(["nft", "list", "table", "inet", "netinspect"]).stdout


def test_removing_leaves_the_tables_of_others_alone(places: World) -> None:
    places.gateway.run(["nft", "add", "table", "inet", "somebody"])
    places.gateway.inside(lambda: kernel.apply(KEPT))
    places.gateway.inside(lambda: kernel.remove(KEPT))
    assert places.gateway.run(["nft", "list", "tables"]).stdout == "table inet somebody\n"
    places.gateway.run(["nft", "delete", "table", "inet", "somebody"])
    assert "fwmark" not in places.gateway.run(["ip", "rule", "list"]).stdout


@FAMILIES
def test_a_server_that_sees_the_clients_address_answers_through_the_gateway(places: World, family: int) -> None:
    places.gateway.inside(lambda: kernel.apply(KEPT))

    def connect_as_client() -> socket.socket:
        upstream = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET)
        try:
            upstream.setsockopt(*TRANSPARENT[family], 1)
            upstream.settimeout(5)
            upstream.bind((OUTSIDE[family], 0))
            upstream.connect((INSIDE[family], 25))
        except OSError:
            upstream.close()
            raise
        return upstream

    with places.inside.listen(ANY[family], 25) as server, places.gateway.inside(connect_as_client) as upstream:
        server.settimeout(5)
        accepted, peer = server.accept()
        with accepted:
            assert peer[0] == OUTSIDE[family]
            accepted.sendall(b"220 ready\r\n")
            assert upstream.recv(64) == b"220 ready\r\n"


def test_rules_that_the_kernel_refuses_are_one_line_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    require("nft")
    monkeypatch.setattr(kernel, "render", lambda _: "table inet netinspect { nonsense }\n")
    with pytest.raises(EnvironmentFault) as fault:
        kernel.check(RULES)
    assert "syntax error" in str(fault.value)
    assert "\n" not in str(fault.value)

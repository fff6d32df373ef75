"""The rules as text."""

from __future__ import annotations

import pytest

from netinspect.errors import ConfigError
from netinspect.firewall.nft import Redirect, Ruleset, render, routes, routes_removal

OUTSIDE = Redirect("ext0", "external", 10025)
INSIDE = Redirect("int0", "internal", 10026)


def test_each_interface_goes_to_the_port_of_its_listener() -> None:
    text = render(Ruleset((OUTSIDE, INSIDE)))
    assert 'iifname "ext0" tcp dport 25 redirect to :10025 comment "external"' in text
    assert 'iifname "int0" tcp dport 25 redirect to :10026 comment "internal"' in text


def test_the_text_replaces_its_own_table_and_names_no_other() -> None:
    lines = render(Ruleset((OUTSIDE,), keep_client_address=True)).splitlines()
    tables = [line for line in lines if "table" in line and not line.startswith("#")]
    assert tables == ["table inet netinspect", "delete table inet netinspect", "table inet netinspect {"]
    assert "flush" not in " ".join(lines)


def test_listener_ports_refuse_what_was_not_redirected_from_their_own_interface() -> None:
    text = render(Ruleset((OUTSIDE, INSIDE)))
    guard = text[text.index("chain guard") :]
    assert 'iifname "ext0" tcp dport 10025 ct status dnat accept' in guard
    assert 'iifname "ext0" tcp dport 10026' not in guard
    assert "tcp dport { 10025, 10026 } ct state new reject with tcp reset" in guard


def test_several_ports_stand_in_one_set() -> None:
    text = render(Ruleset((Redirect("ext0", "external", 10025, (587, 25)),), keep_client_address=True))
    assert "tcp dport { 25, 587 } redirect to :10025" in text
    assert "tcp sport { 25, 587 } socket transparent 1" in text


def test_answers_are_diverted_only_with_keep_client_address() -> None:
    plain, kept = Ruleset((OUTSIDE,)), Ruleset((OUTSIDE,), keep_client_address=True)
    assert "divert" not in render(plain)
    assert routes(plain) == ()
    assert "priority mangle" in render(kept)
    assert [" ".join(command) for command in routes(kept)] == [
        "ip -4 rule add fwmark 1 lookup 100",
        "ip -4 route replace local 0.0.0.0/0 dev lo table 100",
        "ip -6 rule add fwmark 1 lookup 100",
        "ip -6 route replace local ::/0 dev lo table 100",
    ]
    assert all(f"# run as well: {' '.join(command)}" in render(kept) for command in routes(kept))


def test_each_route_has_its_removal() -> None:
    kept = Ruleset((OUTSIDE,), keep_client_address=True, mark=7, routing_table=107)
    assert len(routes_removal(kept)) == len(routes(kept))
    assert all("107" in command for command in routes_removal(kept))


@pytest.mark.parametrize(
    ("redirects", "complaint"),
    [
        ((), "names its interface"),
        ((Redirect('ext0" drop; #', "external", 10025),), "no name of an interface"),
        ((Redirect("ext*", "external", 10025),), "no name of an interface"),
        ((Redirect("", "external", 10025),), "no name of an interface"),
        ((Redirect("a" * 16, "external", 10025),), "no name of an interface"),
        ((Redirect("ext0", "external", 0),), "1 to 65535"),
        ((Redirect("ext0", "external", 10025, (70_000,)),), "1 to 65535"),
        ((Redirect("ext0", "external", 10025, ()),), "1 to 65535"),
        ((Redirect("ext0", "external", 25),), "redirected to itself"),
        ((OUTSIDE, Redirect("ext0", "internal", 10026)), "two listeners want port 25"),
        ((OUTSIDE, Redirect("int0", "internal", 10025)), "two zones"),
    ],
)
def test_a_contradiction_is_a_configuration_error(redirects: tuple[Redirect, ...], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Ruleset(redirects)


def test_one_listener_may_serve_two_interfaces_of_its_zone() -> None:
    text = render(Ruleset((OUTSIDE, Redirect("ext1", "external", 10025))))
    assert text.count("redirect to :10025") == 2

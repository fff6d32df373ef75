"""Our names, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.identity.domains import OurDomains, OurNetworks, domain_of, normalise

NETWORKS = OurNetworks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
OURS = OurDomains(["example.org", "bücher.example", "corp.lan1"], NETWORKS)


@pytest.mark.parametrize(
    "domain",
    [
        "example.org", "EXAMPLE.Org", "example.org.", "mail.example.org", "a.b.example.org.", " example.org ",
        "bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE",
        "www.bu\u0308cher.example",
        "\uff45xample.org", "example\u3002org", "exam\u00adple.org", "corp.lan1", "xn--ls8h.example.org",
        "xn--\u00fc.example.org",
        "[10.1.2.3]", "10.1.2.3", "[192.0.2.7]", "[IPv6:2001:db8::1]", "[ipv6:2001:DB8::1]", "[IPv6:::ffff:10.0.0.1]",
    ],
)  # fmt: skip
def test_every_way_to_write_our_names_is_ours(domain: str) -> None:
    assert OURS.is_ours(domain)


@pytest.mark.parametrize(
    "domain",
    [
        "", ".", "org", "notexample.org", "example.org.evil.test", "example.com", "bucher.example", "xn--bcher.example",
        "xn--.example", "xn--bcher-kva\udc80.example", "exa mple.org", "[11.0.0.1]", "[10.1.2]", "192.0.2.70",
        "[IPv6:2001:db9::1]", "[IPv6:x]", "[]", "10.1.2.3.4", "\x00", "example.org\x00", "xn--" + "9" * 500,
        "[10.0.0.1²]",
    ],
)  # fmt: skip
def test_what_only_looks_like_our_names_or_is_broken_is_not_ours(domain: str) -> None:
    assert not OURS.is_ours(domain)


@given(st.text())
def test_no_text_is_an_error(domain: str) -> None:
    OURS.is_ours(domain)
    domain_of(domain)
    assert "10.0.0.1" in NETWORKS


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_normalising_twice_changes_nothing_for_ascii(domain: str) -> None:
    once = normalise(domain.encode("ascii", "ignore").decode())
    assert once.isascii() is False or normalise(once) == once


def test_without_domains_nothing_is_ours() -> None:
    nothing = OurDomains(["", "."])
    assert not nothing
    assert not nothing.is_ours("")
    assert not nothing.is_ours("example.org")


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("user@example.org", "example.org"),
        ('"a@b"@example.org', "example.org"),
        ('"a\\"@b"@example.org', "example.org"),
        ("user@[10.0.0.1]", "[10.0.0.1]"),
        ("a%ours@theirs", "theirs"),
        ("user", ""),
        ('"user@example.org"', ""),
        ("user@", ""),
        ("", ""),
    ],
)
def test_the_domain_is_what_stands_behind_the_last_at(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize("address", ["10.255.0.1", "192.0.2.7", "2001:db8:1::5", "::ffff:10.0.0.1", "2001:db8::1%eth0"])
def test_addresses_of_our_networks(address: str) -> None:
    assert address in NETWORKS


@pytest.mark.parametrize(
    "address", ["11.0.0.1", "192.0.2.8", "2001:db9::1", "", "x", "010.0.0.1", "::ffff:11.0.0.1", "1\x00"]
)
def test_other_addresses(address: str) -> None:
    assert address not in NETWORKS

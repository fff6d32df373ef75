"""Internal-looking senders on an external listener, and what must pass."""

from __future__ import annotations

import dataclasses
import time

import pytest

from netinspect.config import NetworkSettings
from netinspect.identity import Identity
from netinspect.policy.facts import SessionFacts
from netinspect.scan.contract import Finding

SETTINGS = NetworkSettings(domains=("example.org",), addresses=("10.0.0.0/8", "fd00::/8"), relays=("203.0.113.7",))
IDENTITY = Identity(SETTINGS)
OUTSIDE = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25)
INSIDE = dataclasses.replace(OUTSIDE, zone="internal", src_ip="10.0.0.9")
RELAY = dataclasses.replace(OUTSIDE, src_ip="203.0.113.7")
LOGGED_IN = dataclasses.replace(OUTSIDE, authenticated=True)


def signature(finding: Finding | None) -> str:
    if finding is None:
        return ""
    assert (finding.engine, finding.category, finding.severity) == ("identity", "spoof", 1)
    return finding.signature


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("boss@example.org", "spoof.envelope-from"),
        ("boss@mail.EXAMPLE.org.", "spoof.envelope-from"),
        ('"a@b"@example.org', "spoof.envelope-from"),
        ("root@[10.0.0.1]", "spoof.envelope-from"),
        ("root@[IPv6:fd00::1]", "spoof.envelope-from"),
        ("boss", "spoof.unqualified-sender"),
        ('"boss@example.org"', "spoof.unqualified-sender"),
        ("", ""),
        ("someone@example.net", ""),
        ("example.org@example.net", ""),
        ('"x@example.org"@example.net', ""),
    ],
)
def test_an_envelope_sender_of_ours_from_outside_is_found(sender: str, expected: str) -> None:
    assert signature(IDENTITY.check_mail_from(OUTSIDE, sender)) == expected


@pytest.mark.parametrize("helo", ["example.org", "mx.Example.ORG.", "[10.1.1.1]", "10.1.1.1", "[IPv6:fd00::1]"])
def test_helo_of_ours_from_outside_is_found(helo: str) -> None:
    assert signature(IDENTITY.check_helo(OUTSIDE, helo)) == "spoof.helo"


@pytest.mark.parametrize("helo", ["mx.example.net", "[198.51.100.9]", "localhost", "", "-"])
def test_other_helo_passes(helo: str) -> None:
    assert IDENTITY.check_helo(OUTSIDE, helo) is None


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::5"])
def test_a_client_with_our_address_outside_is_found(address: str) -> None:
    assert signature(IDENTITY.check_client(dataclasses.replace(OUTSIDE, src_ip=address))) == "spoof.client-address"


@pytest.mark.parametrize("session", [INSIDE, RELAY, LOGGED_IN], ids=["internal", "relay", "authenticated"])
def test_internal_listener_relays_and_authenticated_sessions_pass(session: SessionFacts) -> None:
    assert IDENTITY.check_client(session) is None
    assert IDENTITY.check_helo(session, "mx.example.org") is None
    assert IDENTITY.check_mail_from(session, "boss@example.org") is None
    assert IDENTITY.check_mail_from(session, "boss") is None


def test_a_relay_may_stand_in_our_networks() -> None:
    identity = Identity(dataclasses.replace(SETTINGS, relays=("10.9.0.0/16",)))
    assert identity.check_client(dataclasses.replace(OUTSIDE, src_ip="10.9.1.1")) is None
    assert identity.check_client(dataclasses.replace(OUTSIDE, src_ip="10.8.1.1")) is not None


def test_the_null_sender_can_be_refused_from_outside() -> None:
    identity = Identity(dataclasses.replace(SETTINGS, null_sender="refuse"))
    assert signature(identity.check_mail_from(OUTSIDE, "")) == "spoof.null-sender"
    assert identity.check_mail_from(INSIDE, "") is None
    assert identity.check_mail_from(RELAY, "") is None


def test_helo_can_be_left_alone() -> None:
    identity = Identity(dataclasses.replace(SETTINGS, helo="accept"))
    assert identity.check_helo(OUTSIDE, "example.org") is None
    assert identity.check_mail_from(OUTSIDE, "boss@example.org") is not None


def test_without_names_and_networks_everything_passes() -> None:
    identity = Identity(NetworkSettings())
    assert identity.check_client(OUTSIDE) is None
    assert identity.check_helo(OUTSIDE, "[10.0.0.1]") is None
    assert identity.check_mail_from(OUTSIDE, "boss") is None


def test_the_ordinary_session_costs_microseconds() -> None:
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(1000):
            IDENTITY.check_client(OUTSIDE)
            IDENTITY.check_helo(OUTSIDE, "mx.example.net")
            IDENTITY.check_mail_from(OUTSIDE, "someone@example.net")
        best = min(best, (time.process_time() - start) / 1000)
    assert best < 50e-6  # about 4 µs; the bound leaves room for a slow machine

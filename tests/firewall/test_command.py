"""From the settings to the rules."""

from __future__ import annotations

import dataclasses
import io

import pytest

from netinspect.config import HostPort, ListenerSettings, Settings, default_settings
from netinspect.errors import ConfigError
from netinspect.firewall import command


def with_listeners(*listeners: ListenerSettings, keep_client_address: bool = False) -> Settings:
    settings = default_settings()
    gateway = dataclasses.replace(settings.gateway, keep_client_address=keep_client_address)
    return dataclasses.replace(settings, listeners=listeners, gateway=gateway)


def listener(interface: str = "ext0", host: str = "") -> ListenerSettings:
    return ListenerSettings(name="outside", listen=HostPort(host, 10025), interface=interface)


def test_show_prints_the_rules_of_the_listeners_that_name_an_interface() -> None:
    out = io.StringIO()
    assert command.run(with_listeners(listener()), "show", out) == 0
    assert 'iifname "ext0" tcp dport 25 redirect to :10025' in out.getvalue()


def test_show_commands_prints_only_the_routing_commands() -> None:
    out = io.StringIO()
    settings = with_listeners(listener(), keep_client_address=True)
    assert command.run(settings, "show", out, commands=True) == 0
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["ip"] * 4


def test_a_configuration_without_interfaces_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match="interface = "):
        command.ruleset(default_settings())


def test_a_listener_of_mode_reverse_is_not_redirected_to() -> None:
    front = ListenerSettings(
        name="front", listen=HostPort("", 2525), mode="reverse", upstream=HostPort("mail", 25), interface="ext9"
    )
    rules = command.ruleset(with_listeners(listener(), front))
    assert [redirect.interface for redirect in rules.redirects] == ["ext0"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_redirected_listener_on_loopback_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match='listen = ":10025"'):
        command.ruleset(with_listeners(listener(host=host)))

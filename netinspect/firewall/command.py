"""`netinspect firewall show|apply|remove` for one configuration."""

from __future__ import annotations

import ipaddress
from typing import Literal, TextIO

from netinspect.config import Settings
from netinspect.errors import ConfigError
from netinspect.firewall import kernel
from netinspect.firewall.nft import Redirect, Ruleset, render, routes


def ruleset(settings: Settings) -> Ruleset:
    """Give the rules for the transparent listeners that name an interface.

    Raises:
        ConfigError: there is none, or they contradict each other.
    """
    redirects = []
    for listener in settings.listeners:
        if listener.mode != "transparent" or not listener.interface:
            continue
        if _is_loopback(listener.listen.host):
            raise ConfigError(
                f"listener {listener.name}: redirected connections arrive at the address of {listener.interface}, "
                f"not at {listener.listen.host}",
                place=settings.source,
                remedy=f'write listen = ":{listener.listen.port}"',
            )
        redirects.append(
            Redirect(listener.interface, listener.zone, listener.listen.port, tuple(settings.firewall.ports))
        )
    return Ruleset(tuple(redirects), keep_client_address=settings.gateway.keep_client_address)


def run(
    settings: Settings, action: Literal["show", "apply", "remove"], out: TextIO, *, commands: bool = False
) -> int:
    """Do the action; the exit status is 0, all else is an exception.

    `show` writes the nftables text, or with `commands` the routing commands, one a line.

    Raises:
        NetinspectError: the configuration or the machine cannot do it.
    """
    rules = ruleset(settings)
    if action == "apply":
        kernel.apply(rules)
        out.write(f"applied: {_summary(rules)}\n")
    elif action == "remove":
        kernel.remove(rules)
        out.write("removed\n")
    elif commands:
        out.writelines(f"{' '.join(command)}\n" for command in routes(rules))
    else:
        out.write(render(rules))
    return 0


def _summary(rules: Ruleset) -> str:
    return ", ".join(f"{r.interface} ({r.zone}) to port {r.port}" for r in rules.redirects)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

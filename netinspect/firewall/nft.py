"""The rules as text; pure. Everything stands in a table of our own, so that nobody else's rules are touched.

    to_listeners  nat:    what arrives on an interface for a mail port goes to the listener of that interface. The zone
                          is the listener, so nothing in a packet can choose it.
    guard         filter: the listeners' ports take redirected connections only. Without it a client outside could
                          connect to the internal listener's port and be taken for internal.
    divert        mangle: with keep_client_address the server answers to the client's address. Those packets belong to
                          a socket of ours; the mark sends them to the routing table that delivers them here.

One text serves IPv4 and IPv6. `table` before `delete table` lets the first load succeed as every later one does, and
nft loads a file as one transaction: there is no moment without rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from netinspect.errors import ConfigError

TABLE = "inet netinspect"
MARK = 1
ROUTING_TABLE = 100

Command = tuple[str, ...]

# IFNAMSIZ is 16 with its NUL. A trailing * is a wildcard for nft, a quote would end the string.
_INTERFACE = re.compile(r'[^\s/"\\*]{1,15}')
_FAMILIES = (("-4", "0.0.0.0/0"), ("-6", "::/0"))


@dataclass(frozen=True, slots=True)
class Redirect:
    """What comes in on `interface` for the TCP ports `dports` goes to the listener on `port`, whose zone is `zone`."""

    interface: str
    zone: Literal["external", "internal"]
    port: int
    dports: tuple[int, ...] = (25,)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of one configuration.

    Raises:
        ConfigError: no redirect at all, an impossible interface name or port, one interface with two listeners for the
            same port, or one listener with two zones.
    """

    redirects: tuple[Redirect, ...]
    keep_client_address: bool = False
    mark: int = MARK
    routing_table: int = ROUTING_TABLE

    def __post_init__(self) -> None:
        if not self.redirects:
            raise ConfigError(
                "no transparent listener names its interface", remedy='write interface = "eth0" under its [[listener]]'
            )
        listeners: dict[tuple[str, int], int] = {}
        zones: dict[int, str] = {}
        for redirect in self.redirects:
            if not _INTERFACE.fullmatch(redirect.interface):
                raise ConfigError(f"{redirect.interface!r} is no name of an interface", remedy="see `ip link`")
            if not redirect.dports or not all(0 < port < 65536 for port in (redirect.port, *redirect.dports)):
                raise ConfigError(f"{redirect.interface}: ports are 1 to 65535")
            if redirect.port in redirect.dports:
                raise ConfigError(
                    f"{redirect.interface}: port {redirect.port} is redirected to itself",
                    remedy="let the listener listen on another port, 10025 for example",
                )
            if zones.setdefault(redirect.port, redirect.zone) != redirect.zone:
                raise ConfigError(f"the listener on port {redirect.port} cannot stand for two zones")
            for dport in redirect.dports:
                if listeners.setdefault((redirect.interface, dport), redirect.port) != redirect.port:
                    raise ConfigError(
                        f"{redirect.interface}: two listeners want port {dport}",
                        remedy="an interface belongs to one listener",
                    )


def render(ruleset: Ruleset) -> str:
    """Give the nftables text, ready for `nft -f -`. Loading it again changes nothing."""
    lines = [
        "# SMTP to netinspect's transparent listeners, written by `netinspect firewall show`; load it with `nft -f -`.",
        *(f"# run as well: {' '.join(command)}" for command in routes(ruleset)),
        f"table {TABLE}",
        f"delete table {TABLE}",
        f"table {TABLE} {{",
        *_redirect(ruleset),
        "",
        *_guard(ruleset),
        *(["", *_divert(ruleset)] if ruleset.keep_client_address else []),
        "}",
    ]
    return "\n".join(lines) + "\n"


def render_removal() -> str:
    """Give the text that takes the rules away, whether they are there or not."""
    return f"table {TABLE}\ndelete table {TABLE}\n"


def routes(ruleset: Ruleset) -> tuple[Command, ...]:
    """Give the `ip` commands that deliver marked packets here, for both families; none without keep_client_address."""
    if not ruleset.keep_client_address:
        return ()
    return tuple(
        command
        for family, everything in _FAMILIES
        for command in (
            ("ip", family, "rule", "add", *_rule(ruleset)),
            ("ip", family, "route", "replace", "local", everything, "dev", "lo", "table", str(ruleset.routing_table)),
        )
    )


def routes_removal(ruleset: Ruleset) -> tuple[Command, ...]:
    """Give the commands that undo `routes`; each fails where there is nothing to undo."""
    return tuple(
        command
        for family, everything in _FAMILIES
        for command in (
            ("ip", family, "rule", "del", *_rule(ruleset)),
            ("ip", family, "route", "del", "local", everything, "dev", "lo", "table", str(ruleset.routing_table)),
        )
    )


def _rule(ruleset: Ruleset) -> Command:
    return ("fwmark", str(ruleset.mark), "lookup", str(ruleset.routing_table))


def _redirect(ruleset: Ruleset) -> list[str]:
    rules = [
        f'iifname "{r.interface}" tcp dport {_ports(r.dports)} redirect to :{r.port} comment "{r.zone}"'
        for r in ruleset.redirects
    ]
    return _chain("to_listeners", "type nat hook prerouting priority dstnat; policy accept;", rules)


def _guard(ruleset: Ruleset) -> list[str]:
    ports = _ports(r.port for r in ruleset.redirects)
    rules = [
        *(f'iifname "{r.interface}" tcp dport {r.port} ct status dnat accept' for r in ruleset.redirects),
        # What a closed port answers: the listeners cannot be found from outside.
        f"tcp dport {ports} ct state new reject with tcp reset",
    ]
    return _chain("guard", "type filter hook input priority filter; policy accept;", rules)


def _divert(ruleset: Ruleset) -> list[str]:
    servers = _ports(port for r in ruleset.redirects for port in r.dports)
    rule = f"tcp sport {servers} socket transparent 1 meta mark set {ruleset.mark} accept"
    return _chain("divert", "type filter hook prerouting priority mangle; policy accept;", [rule])


def _chain(name: str, hook: str, rules: Sequence[str]) -> list[str]:
    return [f"    chain {name} {{", f"        {hook}", *(f"        {rule}" for rule in rules), "    }"]


def _ports(ports: Iterable[int]) -> str:
    numbers = sorted(set(ports))
    return str(numbers[0]) if len(numbers) == 1 else "{ " + ", ".join(map(str, numbers)) + " }"

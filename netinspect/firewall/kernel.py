"""The rules in the running kernel, through `nft` and `ip`. Needs root (CAP_NET_ADMIN)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from netinspect.errors import EnvironmentFault
from netinspect.firewall.nft import Command, Ruleset, render, render_removal, routes, routes_removal

_SECONDS = 20.0


def check(ruleset: Ruleset) -> None:
    """Let nft judge the text without loading it.

    Raises:
        EnvironmentFault: nft is missing or does not like it.
    """
    _run(("nft", "-c", "-f", "-"), render(ruleset))


def apply(ruleset: Ruleset) -> None:
    """Load the rules and the routes in place of what an earlier call brought.

    Routes come first: a redirect without them would lose the server's answers.

    Raises:
        EnvironmentFault: a program or the privilege is missing, or the kernel refused.
    """
    check(ruleset)
    _remove_routes(ruleset)
    for command in routes(ruleset):
        if _family_is_here(command):
            _run(command)
    _run(("nft", "-f", "-"), render(ruleset))


def remove(ruleset: Ruleset) -> None:
    """Take away what `apply` brought and nothing else; nothing there is fine.

    Raises:
        EnvironmentFault: as for `apply`.
    """
    _run(("nft", "-f", "-"), render_removal())
    _remove_routes(ruleset)


def _remove_routes(ruleset: Ruleset) -> None:
    for command in routes_removal(ruleset):
        if _family_is_here(command):
            # Fails where there is nothing to undo, and that is what is wanted.
            _execute(command)


def _family_is_here(command: Command) -> bool:
    return "-6" not in command or Path("/proc/sys/net/ipv6").is_dir()


def _run(command: Command, text: str = "") -> None:
    done = _execute(command, text)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.strip()), "no reason given")
        raise EnvironmentFault(f"{said.strip()} ({' '.join(command)})", remedy="run it as root" if os.geteuid() else "")


def _execute(command: Command, text: str = "") -> subprocess.CompletedProcess[str]:
    # A service's PATH often lacks the folders of the system's programs.
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        package = {"nft": "nftables", "ip": "iproute2"}[command[0]]
        raise EnvironmentFault(f"{command[0]} is not installed", remedy=f"apt-get install {package}")
    try:
        return subprocess.run(  # noqa: S603  # a fixed program, its arguments are checked names and numbers
            (program, *command[1:]), input=text, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"{command[0]} gave no answer in {_SECONDS:.0f} s") from error

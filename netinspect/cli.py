"""The command line. Scripts depend on its words and its exit codes: 0 nothing found, 1 something found, 2 could not."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from netinspect import __version__, config
from netinspect.errors import NetinspectError

DESCRIPTION = """\
Inspects mail at the edge of a network: every message is held, judged, and then let go or refused.

  netinspect demo                     see it work, on this machine, in seconds
  netinspect config init              write a commented netinspect.toml
  netinspect doctor                   what works here and what does not
  netinspect firewall show            the packet-filter rules for this configuration
  netinspect gateway                  run the gateway
  netinspect scan mail.eml            judge a mail or a file
"""

EPILOG = """\
exit status: 0 fine or nothing found, 1 something found, 2 could not do it.
The configuration is -c FILE, else the file that NETINSPECT_CONFIG names, else built-in defaults.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A `NetinspectError` becomes one line on stderr."""
    parser = _parser()
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING, format="netinspect: %(message)s", stream=sys.stderr
    )
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except NetinspectError as error:
        print(f"netinspect: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # SUPPRESS: a -c behind the command must not be undone by the default of one that could have stood in front of it.
    common.add_argument("-c", "--config", metavar="FILE", default=argparse.SUPPRESS, help="settings (netinspect.toml)")
    common.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more on stderr")

    parser = argparse.ArgumentParser(
        prog="netinspect",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(verbose=False)
    parser.add_argument("--version", action="version", version=f"netinspect {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n{more}".strip(),
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    add("demo", _demo, "show the whole thing on loopback", DEMO_HELP)
    add("gateway", _gateway, "run the gateway until it is told to stop", GATEWAY_HELP)
    scan = add("scan", _scan, "judge mails (.eml) or files", SCAN_HELP)
    scan.add_argument("files", nargs="+", metavar="FILE", help="a mail, or any other file; - reads standard input")
    scan.add_argument("--json", action="store_true", help="event records, one JSON object a line")
    firewall = add("firewall", _firewall, "packet-filter rules for this configuration", FIREWALL_HELP)
    firewall.add_argument("action", choices=("show", "apply", "remove"))
    firewall.add_argument("--commands", action="store_true", help="show: the routing commands instead of the rules")
    settings = add("config", _config, "check, show or make the settings")
    settings.add_argument("action", choices=("check", "show", "init"))
    settings.add_argument("file", nargs="?", metavar="FILE", help="check, show: the file; init: where to write")
    add("doctor", _doctor, "what works here and what does not, each with its remedy")
    return parser


DEMO_HELP = """\
Starts a gateway with an external and an internal listener and a small mail server on free ports of loopback, sends good
and bad mails through it and prints a table. Needs no privileges and nothing installed besides. Exit status 0 if all
came out as they should.
"""

GATEWAY_HELP = """\
SIGTERM and SIGINT stop it once running messages are finished (at most shutdown_grace seconds). SIGHUP reopens the
record file. When it listens it says "netinspect gateway: ready" on stderr.
"""

SCAN_HELP = """\
A file that looks like a mail is judged as one that came in from outside; any other file is judged as an attachment.
Exit status: 0 nothing found, 1 something found or not all of it could be looked at, 2 a file could not be read.
"""

FIREWALL_HELP = """\
show prints nftables rules (load them with `netinspect firewall show | nft -f -`); apply loads them and sets the routes
that keep_client_address needs; remove takes away what apply brought, and nothing else.
"""


def _settings(options: argparse.Namespace) -> config.Settings:
    name = getattr(options, "config", None)
    return config.load(Path(name) if name else None, os.environ)


def _demo(options: argparse.Namespace) -> int:
    from netinspect.demo import run

    return run(sys.stdout)


def _gateway(options: argparse.Namespace) -> int:
    from netinspect.gateway.run import serve

    serve(_settings(options))
    return 0


def _scan(options: argparse.Namespace) -> int:
    from netinspect.scanfiles import run

    return run(_settings(options), options.files, as_json=options.json, out=sys.stdout)


def _firewall(options: argparse.Namespace) -> int:
    from netinspect.firewall import command

    return command.run(_settings(options), options.action, sys.stdout, commands=options.commands)


def _config(options: argparse.Namespace) -> int:
    if options.action == "init":
        return _config_init(options.file)
    if options.file:
        options.config = options.file
    settings = _settings(options)
    if options.action == "show":
        sys.stdout.write(config.render(settings))
    else:
        print(f"{settings.source or 'built-in defaults'}: ok, {len(settings.listeners)} listeners")
    return 0


def _config_init(name: str | None) -> int:
    if name is None or name == "-":
        sys.stdout.write(config.template())
        return 0
    try:
        with open(name, "x", encoding="utf-8") as file:
            file.write(config.template())
    except FileExistsError:
        raise NetinspectError("exists already", place=name, remedy="name another file or remove it") from None
    except OSError as error:
        raise NetinspectError(f"cannot write: {error.strerror}", place=name) from error
    print(f"{name}: written; look through it, then `netinspect -c {name} config check`")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from netinspect.doctor import checks

    ok = True
    for check in checks(_settings(options)):
        mark = "ok  " if check.ok else "FAIL"
        ok = ok and check.ok
        print(f"{mark} {check.name}: {check.detail}")
        if not check.ok and check.remedy:
            print(f"     → {check.remedy}")
    return 0 if ok else 1

"""The command line. Scripts depend on its words and its exit codes: 0 nothing found, 1 something found, 2 could not."""

from __future__ import annotations

import argparse
import errno
import io
import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from netinspect import __version__, config
from netinspect.errors import ConfigError, EnvironmentFault, NetinspectError

DESCRIPTION = """\
Inspects mail at the edge of a network: every message is held, judged, and then let go or refused.

  netinspect demo                     see it work, on this machine, in seconds
  netinspect config init              write a commented netinspect.toml
  netinspect doctor                   what works here and what does not
  netinspect firewall show            the packet-filter rules for this configuration
  netinspect gateway                  run the gateway
  netinspect scan mail.eml            judge a mail or a file
  netinspect policy test mail.eml     which rule decides about it, and why
"""

EPILOG = """\
exit status: 0 fine or nothing found, 1 something found, 2 could not do it; 130 after Ctrl-C.
The configuration is -c FILE, else the file that NETINSPECT_CONFIG names, else built-in defaults.
`netinspect COMMAND --help` says more about each.
"""

INTERRUPTED = 130
"""What shells say of a program that Ctrl-C ended: 128 and the signal's number."""
OUTPUT_ERRORS = {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC}
"""What writing says, as opposed to opening, connecting or starting something."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever goes wrong is one line on stderr."""
    _mend_streams()
    try:
        options = _parser().parse_args(argv)
        logging.basicConfig(
            level=logging.DEBUG if options.verbose else logging.WARNING,
            format="netinspect: %(message)s",
            stream=sys.stderr,
        )
        run: Callable[[argparse.Namespace], int] = options.run
        status = run(options)
        sys.stdout.flush()
        return status
    except NetinspectError as error:
        return _failed(str(error))
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _discard_output()
        return 2
    except OSError as error:
        place = str(error.filename or "")
        if not place and error.errno in OUTPUT_ERRORS:
            place = "standard output"
            _discard_output()
        reason = error.strerror or str(error)
        return _failed(f"{place}: {reason}" if place else reason)
    except ImportError as error:
        return _failed(f"{error}; `netinspect doctor` names what is missing")
    except KeyboardInterrupt:
        return INTERRUPTED


def _failed(line: str) -> int:
    print(f"netinspect: {line}", file=sys.stderr)
    return 2


def _mend_streams() -> None:
    """Make standard streams safe to use, whatever the caller left of them.

    The number of one that is closed would be given to some file or socket of ours, and records would go there. So the
    null device takes its place, opened so that using it is an error that is told.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest number that is free: this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need be no UTF-8, and a terminal need not know every character of ours.
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Python flushes at exit and would complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, like every other error."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    # SUPPRESS: a -c behind the command must not be undone by the default of one that could have stood in front of it.
    common.add_argument("-c", "--config", metavar="FILE", default=argparse.SUPPRESS, help="settings (netinspect.toml)")
    common.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more on stderr")

    parser = _Parser(
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
    scan.add_argument(
        "files", nargs="+", metavar="FILE", help="a mail, any other file, or a folder; - reads standard input"
    )
    scan.add_argument("--json", action="store_true", help="event records, one JSON object a line")
    policy = add("policy", _policy, "show which rule decides about mails or files, and why", POLICY_HELP)
    policy.add_argument("action", choices=("test",))
    policy.add_argument("files", nargs="+", metavar="FILE", help="a mail, a file, a folder; - reads standard input")
    policy.add_argument("--policy", metavar="OTHER.toml", help="show what this configuration would change")
    policy.add_argument("--json", action="store_true", help="one JSON object a file")
    policy.add_argument("--zone", choices=("external", "internal"), default="external", help="suppose this zone")
    policy.add_argument("--client", metavar="ADDRESS", type=_address, default="0.0.0.0", help="suppose this client")  # noqa: S104
    policy.add_argument("--helo", metavar="NAME", default="", help="suppose this HELO")
    policy.add_argument("--mail-from", metavar="ADDRESS", default="", help="suppose this envelope sender")
    policy.add_argument("--rcpt", metavar="ADDRESS", action="append", default=[], help="and a recipient; repeatable")
    policy.add_argument("--authenticated", action="store_true", help="suppose that the client logged in")
    policy.add_argument("--tls", action="store_true", help="suppose that the session is encrypted")
    firewall = add("firewall", _firewall, "packet-filter rules for this configuration", FIREWALL_HELP)
    firewall.add_argument("action", choices=("show", "apply", "remove"))
    firewall.add_argument("--commands", action="store_true", help="show: the routing commands instead of the rules")
    settings = add("config", _config, "check, show or make the settings", CONFIG_HELP)
    settings.add_argument("action", choices=("check", "show", "init"))
    settings.add_argument("file", nargs="?", metavar="FILE", help="check, show: the file; init: where to write")
    add("doctor", _doctor, "what works here and what does not, each with its remedy", DOCTOR_HELP)
    return parser


DEMO_HELP = """\
Starts a gateway with an external and an internal listener and a small mail server on free ports of loopback, sends good
and bad mails through it and prints a table. Needs no privileges, nothing installed besides and no settings: -c is not
looked at. Exit status 0 if all came out as they should, 1 if not, 2 if it could not be done.
"""

GATEWAY_HELP = """\
SIGTERM and SIGINT stop it once running messages are finished (at most shutdown_grace seconds). SIGHUP reopens the
record file. When it listens it says "netinspect gateway: ready" on stderr.
"""

SCAN_HELP = """\
A file that looks like a mail is judged as one that came in from outside; any other file is judged as an attachment. Of
a folder all files are judged. The lines below a file: its parts, "!" what was found, "?" what could not be looked at,
"~" what is malformed.

Exit status: 0 all accepted, all looked at, and nothing found but for information (severity 3); 1 something found, or
not all of it could be looked at; 2 a file could not be read.
"""

POLICY_HELP = """\
The engines look at each file once, then the rules are asked in their order; the first that holds decides. A file has no
connection: zone, client and envelope are what the options say. With --policy the rules of a second configuration judge
the same findings. Of the rules that do not hold, those of the file are shown; with -v the built-in ones too.
Exit status: 0 done, 1 the second configuration would change something, 2 a file could not be read.
"""

FIREWALL_HELP = """\
show prints nftables rules (load them with `netinspect firewall show | nft -f -`); apply loads them and sets the routes
that keep_client_address needs; remove takes away what apply brought, and nothing else. apply and remove need root.
"""

CONFIG_HELP = """\
check names every mistake with file, line and remedy; show prints what is in force; init writes a commented file in
which every key stands with its default (to standard output without FILE; a file that exists is left alone).
"""

DOCTOR_HELP = """\
Looks at libraries, clamd, folders, ports, servers, packet filter, privileges and limits, as far as these settings need
them. Run it as the user that the gateway runs as. Exit status: 0 all is well, 1 something is not.
"""


def _settings(options: argparse.Namespace) -> config.Settings:
    file = _config_file(options)
    try:
        return config.load(file, {})
    except ConfigError as error:
        raise _with_origin(error, options) from error


def _config_file(options: argparse.Namespace) -> Path | None:
    name = getattr(options, "config", None)
    if name == "":
        # An empty variable of a script: the defaults would be in force without a word.
        raise ConfigError("names no file", place="-c", remedy="leave it out for the built-in defaults")
    return config.find(Path(name) if name else None, os.environ)


def _with_origin(error: ConfigError, options: argparse.Namespace) -> ConfigError:
    """A file that nobody named on this command line: say who did."""
    if getattr(options, "config", None):
        return error
    return ConfigError(f"{error.message} (named by {config.VARIABLE})", place=error.place, remedy=error.remedy)


def _demo(options: argparse.Namespace) -> int:
    from netinspect.demo import run

    return run(sys.stdout)


def _gateway(options: argparse.Namespace) -> int:
    from netinspect.gateway.run import serve

    serve(_settings(options))
    return 0


def _scan(options: argparse.Namespace) -> int:
    from netinspect.scanfiles import run

    return run(_settings(options), options.files, as_json=options.json, out=sys.stdout, err=sys.stderr)


def _policy(options: argparse.Namespace) -> int:
    from netinspect import policytest

    supposed = policytest.Supposed(
        options.zone, options.client, options.helo, options.mail_from, tuple(options.rcpt), options.authenticated,
        options.tls,
    )  # fmt: skip
    other = config.load(Path(options.policy), {}) if options.policy else None
    return policytest.run(
        _settings(options), options.files, other=other, supposed=supposed, as_json=options.json,
        all_rules=options.verbose, out=sys.stdout, err=sys.stderr,
    )  # fmt: skip


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _firewall(options: argparse.Namespace) -> int:
    from netinspect.firewall import command

    return command.run(_settings(options), options.action, sys.stdout, commands=options.commands)


def _config(options: argparse.Namespace) -> int:
    if options.action == "init":
        return _config_init(options.file)
    if options.file:
        options.config = options.file
    if options.action == "check":
        return _config_check(options)
    sys.stdout.write(config.render(_settings(options)))
    return 0


def _config_check(options: argparse.Namespace) -> int:
    file = _config_file(options)
    mistakes = config.problems(file, {})
    for mistake in mistakes:
        _failed(str(_with_origin(mistake, options)))
    if mistakes:
        return 2
    count = len(config.load(file, {}).listeners)
    print(f"{file or 'built-in defaults'}: ok, {count} listener{'' if count == 1 else 's'}")
    return 0


def _config_init(name: str | None) -> int:
    if name is None or name == "-":
        sys.stdout.write(config.template())
        return 0
    try:
        with open(name, "x", encoding="utf-8") as file:
            file.write(config.template())
    except FileExistsError:
        raise EnvironmentFault("exists already", place=name, remedy="name another file or remove it") from None
    except OSError as error:
        raise EnvironmentFault(f"cannot write: {error.strerror}", place=name) from error
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

"""The command line. Scripts depend on its words and its exit codes: 0 nothing found, 1 something found, 2 could not."""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import errno
import gc
import io
import ipaddress
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from netinspect import __version__, config, usage
from netinspect.errors import ConfigError, EnvironmentFault, NetinspectError

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
        description=usage.DESCRIPTION,
        epilog=usage.EPILOG,
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

    add("demo", _demo, "show the whole thing on loopback", usage.DEMO_HELP)
    add("gateway", _gateway, "run the gateway until it is told to stop", usage.GATEWAY_HELP)
    record = add("record", _record, "run the gateway and record its sessions as captures", usage.RECORD_HELP)
    record.add_argument("directory", metavar="DIR", help="folder for the captures")
    record.add_argument("--size", type=int, metavar="OCTETS", help="a file of this size takes no new sessions")
    record.add_argument("--age", type=float, metavar="SECONDS", help="a file of this age takes no new sessions")
    record.add_argument("--keep", type=int, metavar="OCTETS", help="all files together; the oldest are deleted")
    scan = add("scan", _scan, "judge mails (.eml) or files", usage.SCAN_HELP)
    scan.add_argument(
        "files", nargs="+", metavar="FILE", help="a mail, any other file, or a folder; - reads standard input"
    )
    scan.add_argument("--json", action="store_true", help="event records, one JSON object a line")
    replay = add("replay", _replay, "judge every session of mail in captures", usage.REPLAY_HELP)
    replay.add_argument("captures", nargs="+", metavar="CAPTURE", help="a capture, a folder; - reads standard input")
    replay.add_argument("--events", metavar="FILE", default="", help="event records, JSON lines; - is stdout")
    replay.add_argument("--report", metavar="FILE.html", default="", help="one page for people")
    replay.add_argument("--extract", metavar="DIR", default="", help="store mails and files, named by their SHA-256")
    replay.add_argument("--workers", metavar="N", type=_processes, default=1, help="read with so many processes")
    replay.add_argument("--policy", metavar="OTHER.toml", help="show what this configuration would change")
    replay.add_argument("--zone", choices=("external", "internal"), help="all clients stand there")
    replay.add_argument(
        "--zone-of", metavar="NAME=ZONE", type=_zone_of, action="append", default=[],
        help="clients seen on this interface of a pcapng stand there; repeatable",
    )  # fmt: skip
    replay.add_argument("--keylog", metavar="FILE", default="", help="TLS secrets (SSLKEYLOGFILE) to decrypt with")
    replay.add_argument("--scheduler", metavar="ADDRESS", default="", help="share captures out over Dask workers")
    replay.add_argument("--no-engines", action="store_true", help="read and decode only: nothing is scanned")
    replay.add_argument("--no-progress", action="store_true", help="no line about progress on the terminal")
    policy = add("policy", _policy, "show which rule decides about mails or files, and why", usage.POLICY_HELP)
    policy.add_argument("action", choices=("test",))
    policy.add_argument(
        "files", nargs="+", metavar="FILE", help="a mail, a file, a capture, a folder; - reads standard input"
    )
    policy.add_argument("--policy", metavar="OTHER.toml", help="show what this configuration would change")
    policy.add_argument("--json", action="store_true", help="one JSON object a file")
    policy.add_argument("--zone", choices=("external", "internal"), default="external", help="suppose this zone")
    policy.add_argument("--client", metavar="ADDRESS", type=_address, default="0.0.0.0", help="suppose this client")  # noqa: S104
    policy.add_argument("--helo", metavar="NAME", default="", help="suppose this HELO")
    policy.add_argument("--mail-from", metavar="ADDRESS", default="", help="suppose this envelope sender")
    policy.add_argument("--rcpt", metavar="ADDRESS", action="append", default=[], help="and a recipient; repeatable")
    policy.add_argument("--authenticated", action="store_true", help="suppose that the client logged in")
    policy.add_argument("--tls", action="store_true", help="suppose that the session is encrypted")
    firewall = add("firewall", _firewall, "packet-filter rules for this configuration", usage.FIREWALL_HELP)
    firewall.add_argument("action", choices=("show", "apply", "remove"))
    firewall.add_argument("--commands", action="store_true", help="show: the routing commands instead of the rules")
    settings = add("config", _config, "check, show or make the settings", usage.CONFIG_HELP)
    settings.add_argument("action", choices=("check", "show", "init"))
    settings.add_argument("file", nargs="?", metavar="FILE", help="check, show: the file; init: where to write")
    add("doctor", _doctor, "what works here and what does not, each with its remedy", usage.DOCTOR_HELP)
    return parser


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


def _record(options: argparse.Namespace) -> int:
    settings = _settings(options)
    given = {"rotate_size": options.size, "rotate_age": options.age, "keep_size": options.keep}
    changes = {key: value for key, value in given.items() if value is not None}
    words = {"rotate_size": "--size", "rotate_age": "--age", "keep_size": "--keep"}
    try:
        wanted = dataclasses.replace(settings.record, directory=options.directory, **changes)
    except config.FieldError as error:
        raise ConfigError(error.message, place=words.get(error.key, error.key), remedy=error.remedy) from error
    Path(options.directory).mkdir(mode=0o700, exist_ok=True)
    from netinspect.gateway.run import serve

    serve(dataclasses.replace(settings, record=wanted))
    return 0


def _scan(options: argparse.Namespace) -> int:
    from netinspect.scanfiles import run

    return run(_settings(options), options.files, as_json=options.json, out=sys.stdout, err=sys.stderr)


def _replay(options: argparse.Namespace) -> int:
    from netinspect.replay import command

    # What is loaded stays until the end: no collection needs to look at it, nor at what is left then.
    gc.freeze()
    atexit.register(gc.freeze)
    wanted = command.Options(
        tuple(options.captures),
        events=options.events,
        report=options.report,
        extract=options.extract,
        workers=options.workers,
        other=config.load(Path(options.policy), {}) if options.policy else None,
        zone=options.zone,
        zones=dict(options.zone_of),
        keylog=options.keylog,
        scheduler=options.scheduler,
        engines=not options.no_engines,
        progress=not options.no_progress,
    )
    return command.run(_settings(options), wanted, out=sys.stdout, err=sys.stderr)


def _processes(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 4 else 0
    if not 1 <= number <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return number


def _zone_of(text: str) -> tuple[str, Literal["external", "internal"]]:
    name, equals, zone = text.rpartition("=")
    if not name or not equals or zone not in ("external", "internal"):
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=external or NAME=internal')
    return name, "external" if zone == "external" else "internal"


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

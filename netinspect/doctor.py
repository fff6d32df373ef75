"""What works here and what does not, each with its remedy.

It only looks: files and sockets that it opens on trial are its own and are gone at the end.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from netinspect.config import HostPort, Settings
from netinspect.errors import ConfigError, EngineError
from netinspect.files import sevenzip

OLD_SIGNATURES = 7
"""Days. ClamAV publishes daily; freshclam's own warning comes at 7."""
_SECONDS = 3.0
"""For each connection that is tried."""
_SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"

# Distribution, module, and what becomes of us without it ("" : nothing works).
_LIBRARIES = (
    ("mitmproxy", "mitmproxy.proxy.layer", ""),
    ("scapy", "scapy", ""),
    ("pyclamd", "pyclamd", ""),
    ("oletools", "oletools", ""),
    ("yara-x", "yara_x", ""),
    ("pikepdf", "pikepdf", ""),
    ("pybase64", "pybase64", ""),
    ("uvloop", "uvloop", "asyncio's own loop is used, which costs about a third more CPU a session"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `remedy` is a command or a setting, empty when all is well."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def checks(settings: Settings) -> list[Check]:
    """Look at everything that these settings need; takes a few seconds when something does not answer."""
    return [
        _python(),
        *_libraries(),
        _archives(),
        _clamd(settings),
        _rules(settings),
        *_hash_lists(settings),
        *_scripts(settings),
        *_directories(settings),
        *_listeners(settings),
        *_upstreams(settings),
        *_packet_filter(settings),
        *_client_address(settings),
        _descriptors(settings),
        _workers(settings),
        _names(settings),
    ]


def _python() -> Check:
    return Check("python", True, f"{platform.python_version()} ({sys.executable})")


def _libraries() -> Iterator[Check]:
    for distribution, module, without in _LIBRARIES:
        try:
            importlib.import_module(module)
            yield Check(distribution, True, importlib.metadata.version(distribution))
        except ImportError as error:
            # A distribution can be there and its native part not load.
            if without:
                yield Check(distribution, True, f"not here: {without}")
            else:
                yield Check(distribution, False, str(error), f"pip install {distribution}, or `make demo` once")


def _archives() -> Check:
    library = sevenzip.library()
    if library is None:
        return Check(
            "archives", False, "7-Zip's library is not here: mail with 7z, rar, cab, iso and the like gets a 451",
            "pip install pybit7z",
        )  # fmt: skip
    return Check("archives", True, f"7-Zip {library.version}")


def _clamd(settings: Settings) -> Check:
    setting = settings.scan.clamd
    if not setting:
        return Check("clamd", True, "not used; the other engines need no daemon")
    try:
        # Here and not above: the doctor has to be able to say that a library is missing.
        from netinspect.scan.clamd_wire import Address, query_version
    except ImportError as error:
        return Check("clamd", False, f"cannot be asked: {error}", "install what is missing above")
    try:
        version = query_version(Address.parse(setting), _SECONDS)
    except (OSError, ConfigError) as error:
        return Check(
            "clamd",
            False,
            f"{setting}: {_reason(error)}; until it answers, messages get a 451",
            'apt-get install clamav-daemon && systemctl start clamav-daemon, or [scan] clamd = ""',
        )
    if version.built is None:
        return Check("clamd", True, f"{version.engine} with local signatures, no date")
    age = (datetime.now(UTC) - version.built).days
    detail = f"{version.engine}, signatures {version.database}, {age} days old"
    if age > OLD_SIGNATURES:
        return Check("clamd", False, detail, "run freshclam: systemctl enable --now clamav-freshclam")
    return Check("clamd", True, detail)


def _rules(settings: Settings) -> Check:
    """Compiles them as a worker does: a gateway that runs keeps its last good ones, and a new one would not start."""
    if not settings.scan.rules:
        return Check("rules", True, "not used; [scan] rules is off")
    folder = settings.scan.rules_dir
    try:
        from netinspect.scan.rulefiles import load_sources
        from netinspect.scan.rules import RuleEngine

        sources = load_sources(folder)
        RuleEngine(sources)
    except ImportError as error:
        return Check("rules", False, f"cannot be compiled: {error}", "install what is missing above")
    except EngineError as error:
        detail = f"{error.place}: {error.message}" if error.place else error.message
        return Check("rules", False, detail, error.remedy or "make the file readable, or take it away")
    return Check("rules", True, f"{len(sources)} files compile" + (f", those of {folder} among them" if folder else ""))


def _hash_lists(settings: Settings) -> Iterator[Check]:
    from netinspect.scan.hashes import HashLists

    for name, files in (("hash_block", settings.scan.hash_block), ("hash_allow", settings.scan.hash_allow)):
        for file in files:
            try:
                count = len(HashLists.load([file]))
            except EngineError as error:
                remedy = error.remedy or f"make the file readable by {_user()}, or take it out of [scan] {name}"
                yield Check(name, False, f"{error.place or file}: {error.message}", remedy)
            else:
                yield Check(name, True, f"{file}: {count} digests")


def _scripts(settings: Settings) -> Iterator[Check]:
    """Reads and compiles the addons of the gateway; what they do is not tried."""
    for file in settings.gateway.scripts:
        try:
            compile(Path(file).read_bytes(), str(file), "exec")
        except OSError as error:
            yield Check(
                "script", False, f"{file}: {_reason(error)}",
                f"make it readable by {_user()}, or take it out of [gateway] scripts",
            )  # fmt: skip
        except (SyntaxError, ValueError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            message = error.msg if isinstance(error, SyntaxError) else str(error)
            remedy = "mend the script: the gateway does not start with it"
            yield Check("script", False, f"{file}{line}: {message}", remedy)
        else:
            yield Check("script", True, f"{file}: compiles")


def _directories(settings: Settings) -> Iterator[Check]:
    # What is on its way has to fit: ten of the largest messages is little for a busy hour.
    room = 10 * settings.limits.message_size
    yield _directory("spool", Path(settings.spool.directory or tempfile.gettempdir()), room)
    if settings.quarantine.directory:
        yield _directory("quarantine", Path(settings.quarantine.directory), room)
    if settings.record.directory:
        yield _recordings(Path(settings.record.directory), settings.record.keep_size)
    if settings.records.file not in ("", "-"):
        yield _directory("records", Path(settings.records.file).absolute().parent, 0)


def _directory(name: str, path: Path, room: int) -> Check:
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
        free = shutil.disk_usage(path).free
    except OSError as error:
        return Check(name, False, f"{path}: {_reason(error)}", f"make it, writable by {_user()}: mkdir -p {path}")
    detail = f"{path}: writable, {free // 1_000_000} MB free"
    if free < room:
        return Check(name, False, detail, f"make room for ten of the largest messages: {room // 1_000_000} MB")
    return Check(name, True, detail)


def _recordings(path: Path, most: int) -> Check:
    check = _directory("record", path, 0)
    if not check.ok:
        return check
    free = shutil.disk_usage(path).free
    for file in path.glob("netinspect-*.pcapng"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            free += file.stat().st_size
    if free < most:
        remedy = f"make room, or set [record] keep_size to less than {free // 1_000_000} MB"
        return Check("record", False, f"{check.detail}, keep_size is {most // 1_000_000} MB", remedy)
    return check


def _listeners(settings: Settings) -> Iterator[Check]:
    for listener in settings.listeners:
        yield _port(f"listener {listener.name}", listener.listen)


def _port(name: str, listen: HostPort) -> Check:
    where = f"{listen.host or '*'} port {listen.port}"
    try:
        found = socket.getaddrinfo(
            listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, proto, _, address in found:
            if family == socket.AF_INET6 and len(found) > 1 and not Path("/proc/net/if_inet6").exists():
                continue
            with socket.socket(family, kind, proto) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(1)
    except OSError as error:
        remedy = {
            errno.EADDRINUSE: "if that is not the gateway itself, see `ss -ltnp` and take another port",
            errno.EACCES: "run as root or with AmbientCapabilities=CAP_NET_BIND_SERVICE, or take a port above 1023",
            errno.EADDRNOTAVAIL: "this machine has no such address; see `ip address`",
        }.get(error.errno or 0, "see [[listener]] listen")
        return Check(name, False, f"{where}: {_reason(error)}", remedy)
    return Check(name, True, f"{where}: free")


def _upstreams(settings: Settings) -> Iterator[Check]:
    for listener in settings.listeners:
        if listener.upstream is None:
            continue
        name = f"server of {listener.name}"
        try:
            socket.create_connection(listener.upstream, _SECONDS).close()
        except OSError as error:
            yield Check(
                name, False, f"{listener.upstream}: {_reason(error)}", "start the server, or mend [[listener]] upstream"
            )
        else:
            yield Check(name, True, f"{listener.upstream}: takes connections")


def _packet_filter(settings: Settings) -> Iterator[Check]:
    redirected = [item for item in settings.listeners if item.mode == "transparent" and item.interface]
    if not redirected:
        yield Check("packet filter", True, "not used; no listener names an interface")
        return
    here = {name for _, name in socket.if_nameindex()}
    for item in redirected:
        if item.interface not in here:
            yield Check(
                f"interface {item.interface}", False, f"not here; here are {', '.join(sorted(here))}",
                f"mend interface of the listener {item.name}",
            )  # fmt: skip
    for program, package in (("nft", "nftables"), ("ip", "iproute2")):
        if _program(program) is None:
            yield Check("packet filter", False, f"{program} is not installed", f"apt-get install {package}")
            return
    if os.geteuid() != 0:
        yield Check("packet filter", True, "nft and ip are here; whether the rules are loaded only root can see")
        return
    listed = subprocess.run(  # noqa: S603  # a fixed command
        [_program("nft") or "nft", "list", "table", "inet", "netinspect"],
        capture_output=True, check=False, timeout=20,
    )  # fmt: skip
    if listed.returncode:
        yield Check("packet filter", False, "the rules are not loaded: no mail comes here", "netinspect firewall apply")
    else:
        yield Check("packet filter", True, "the rules are loaded")


def _client_address(settings: Settings) -> Iterator[Check]:
    if not settings.gateway.keep_client_address:
        return
    try:
        from netinspect.gateway.sockets import IP_TRANSPARENT
    except ImportError as error:
        yield Check("keep_client_address", False, f"cannot be tried: {error}", "install what is missing above")
        return
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    except OSError as error:
        yield Check(
            "keep_client_address", False, f"IP_TRANSPARENT: {_reason(error)}",
            "run as root or with AmbientCapabilities=CAP_NET_ADMIN, or turn the setting off",
        )  # fmt: skip
    else:
        yield Check("keep_client_address", True, "IP_TRANSPARENT is allowed")


def _descriptors(settings: Settings) -> Check:
    # Two connections and a spool file a session, and some for the rest.
    wanted = 3 * settings.gateway.max_sessions + 200
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        return Check(
            "open files",
            False,
            f"{soft} allowed, {settings.gateway.max_sessions} sessions may need {wanted}",
            f"ulimit -n {wanted}, or LimitNOFILE={wanted} in the service, or a lower max_sessions",
        )
    return Check("open files", True, f"{'unlimited' if soft == resource.RLIM_INFINITY else soft} allowed")


# Takes the limits and then a piece of memory beyond them: 3 says that the limit held.
_LIMITED = """
import resource, sys
megabyte = 1 << 20
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_AS, (256 * megabyte, 256 * megabyte))
try:
    bytearray(512 * megabyte)
except MemoryError:
    sys.exit(3)
"""


def _workers(settings: Settings) -> Check:
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter, a fixed program
            [sys.executable, "-I", "-S", "-c", _LIMITED], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("workers", False, f"no child process: {error}", "see ulimit -u and the memory of this machine")
    if done.returncode != 3:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return Check(
            "workers", False, f"the memory limit of a child process does not hold: {said[0]}",
            "run on Linux outside a sandbox that forbids setrlimit",
        )  # fmt: skip
    return Check("workers", True, f"{settings.scan.workers}, memory and CPU limits hold; {_namespaces()}")


def _namespaces() -> str:
    """For information: whether a worker could be put into a user namespace."""
    try:
        allowed = int(Path("/proc/sys/user/max_user_namespaces").read_text("ascii")) > 0
    except (OSError, ValueError):
        allowed = False
    return "user namespaces are allowed" if allowed else "user namespaces are not allowed"


def _names(settings: Settings) -> Check:
    networks = settings.networks
    if networks.domains:
        counts = f"{len(networks.domains)} domains and {len(networks.addresses)} networks are ours"
        return Check("networks", True, counts)
    return Check(
        "networks", True, 'no domain is named as ours, so a forged sender is not noticed; [networks] domains = ["…"]'
    )


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _user() -> str:
    return f"uid {os.geteuid()}"

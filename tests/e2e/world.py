"""Three network namespaces: an outside host, the gateway, an inside host.

    outside  eth0 ───────────── ext0  gateway  int0 ───────────── eth0  inside
    10.55.9.2, fd55:9::2                                10.55.1.2, fd55:1::2
    10.55.1.77 (claims to be ours)

Each host routes to the other through the gateway. Names carry the process number, so that two runs do not meet.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

CLONE_NEWNET = 0x40000000
REPOSITORY = Path(__file__).resolve().parents[2]
T = TypeVar("T")
_count = itertools.count(1)

PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "nft": "nftables",
    "postfix": "postfix",
    "clamd": "clamav-daemon",
    "swaks": "swaks",
    "tcpdump": "tcpdump",
}
"""Program and the Debian package that has it."""

OUTSIDE = {4: "10.55.9.2", 6: "fd55:9::2"}
INSIDE = {4: "10.55.1.2", 6: "fd55:1::2"}
GATEWAY_EXT = {4: "10.55.9.1", 6: "fd55:9::1"}
GATEWAY_INT = {4: "10.55.1.1", 6: "fd55:1::1"}
IMPOSTOR = "10.55.1.77"
"""An address of the inside network that the outside host uses."""

PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def require(*programs: str, root: bool = True) -> None:
    """Fail (never skip) with a one-line remedy when this machine cannot run the test."""
    if root and os.geteuid() != 0:
        pytest.fail("end-to-end tests need root: run `sudo make test`", pytrace=False)
    missing = sorted({PROGRAMS[p] for p in programs if shutil.which(p, path=PATH) is None})
    if "swaks" in programs and subprocess.run(["perl", "-MIO::Socket::INET6", "-e1"], capture_output=True).returncode:
        missing.append("libio-socket-inet6-perl")  # swaks over IPv6
    if missing:
        pytest.fail(f"packages are missing: run `apt-get install {' '.join(missing)}`", pytrace=False)


@dataclass(eq=False)
class Place:
    """Where a process or a socket lives: a network namespace, or this one when `netns` is empty."""

    netns: str = ""
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)

    def argv(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.netns}", "--", *argv] if self.netns else list(argv)

    def run(self, argv: Sequence[str], *, check: bool = True, timeout: float = 30, **more: Any) -> Any:
        """Run a program to its end; its output is text. RuntimeError shows what it said when `check` fails."""
        done = subprocess.run(
            self.argv(argv), capture_output=True, text=True, timeout=timeout, env=environment(), check=False, **more
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def popen(self, argv: Sequence[str], **more: Any) -> subprocess.Popen[Any]:
        """Start a program (a process group of its own); `close` ends it."""
        process = subprocess.Popen(self.argv(argv), env=environment(), start_new_session=True, **more)
        self.processes.append(process)
        return process

    def inside(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread that has entered the namespace: sockets made there belong to it for good."""
        if not self.netns:
            return work()
        result: list[T] = []
        fault: list[BaseException] = []

        def enter() -> None:
            try:
                _enter(self.netns)
                result.append(work())
            except BaseException as error:  # noqa: BLE001 -- handed to the caller below
                fault.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if fault:
            raise fault[0]
        return result[0]

    def connect(self, host: str, port: int, *, source: str = "", timeout: float = 15) -> socket.socket:
        """A TCP connection from here; `source` is the address to come from."""
        return self.inside(
            lambda: socket.create_connection((host, port), timeout, (source, 0) if source else None)
        )

    def listen(self, host: str, port: int = 0) -> socket.socket:
        """A listening TCP socket here."""

        def make() -> socket.socket:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(128)
            return sock

        return self.inside(make)

    def close(self) -> None:
        """End the processes started here, and only those."""
        for process in self.processes:
            end(process)
        self.processes.clear()


HERE = Place()
"""The namespace the tests run in: loopback."""


@dataclass(eq=False)
class World:
    outside: Place
    gateway: Place
    inside: Place


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Build the three namespaces; take them and all that runs in them away at the end, whatever happened."""
    number = next(_count)
    with contextlib.ExitStack() as stack:
        places = []
        for word in ("out", "gw", "in"):
            place = Place(f"netinspect-{os.getpid()}-{number}-{word}")
            HERE.run(["ip", "netns", "add", place.netns])
            stack.callback(HERE.run, ["ip", "netns", "del", place.netns], check=False)
            stack.callback(place.close)
            place.run(["ip", "link", "set", "lo", "up"])
            places.append(place)
        outside, gateway, inside = places
        _link(gateway, "ext0", GATEWAY_EXT, outside, OUTSIDE)
        _link(gateway, "int0", GATEWAY_INT, inside, INSIDE)
        gateway.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        outside.run(["ip", "addr", "add", f"{IMPOSTOR}/32", "dev", "eth0"])
        gateway.run(["ip", "route", "add", f"{IMPOSTOR}/32", "dev", "ext0"])
        yield World(outside, gateway, inside)


def _link(gateway: Place, name: str, near: dict[int, str], host: Place, far: dict[int, str]) -> None:
    HERE.run(["ip", "link", "add", name, "netns", gateway.netns, "type", "veth",
              "peer", "name", "eth0", "netns", host.netns])  # fmt: skip
    for place, device, addresses in ((gateway, name, near), (host, "eth0", far)):
        place.run(["ip", "addr", "add", f"{addresses[4]}/24", "dev", device])
        # No duplicate address detection: the address would be tentative for the first second.
        place.run(["ip", "addr", "add", f"{addresses[6]}/64", "dev", device, "nodad"])
        place.run(["ip", "link", "set", device, "up"])
    host.run(["ip", "route", "add", "default", "via", near[4]])
    host.run(["ip", "-6", "route", "add", "default", "via", near[6]])


def _enter(netns: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(f"/run/netns/{netns}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {netns}")
    finally:
        os.close(handle)


def environment() -> dict[str, str]:
    """The environment for programs: ours, with the system folders and without settings of the caller."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NETINSPECT_")}
    env.update(PATH=PATH, LC_ALL="C.UTF-8", PYTHONUNBUFFERED="1")
    env["PYTHONPATH"] = str(REPOSITORY)
    return env


def end(process: subprocess.Popen[Any], *, grace: float = 5) -> int:
    """Terminate one process of ours, kill it after `grace` seconds, and give its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return process.returncode


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]

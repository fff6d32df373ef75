"""What /proc says about a process and all its descendants: CPU time and memory. See proc(5).

CPU is utime + stime of every live process of the tree, plus cutime + cstime, which is where the time of children that
have ended and were waited for goes. So the sum of a tree never gets smaller when a worker ends.

Memory is the sum of Pss (each shared page is divided by the number of those who map it: workers made by fork are not
counted twice, as they would be with Rss), plus what the tree's open files hold in memory without mapping it (memfd and
files on a tmpfs): a spool there is memory all the same.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")
_TCP_ESTABLISHED = "01"


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that are needed here."""

    pid: int
    parent: int
    ticks: int
    """utime + stime + cutime + cstime, in clock ticks."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Octets of a process tree."""

    pss: int
    rss: int
    """Sum of Rss: counts shared pages once for each process; for information."""
    files: int
    """In memory behind open descriptors (memfd, tmpfs)."""
    processes: int

    @property
    def total(self) -> int:
        """What is compared with targets: Pss and files."""
        return self.pss + self.files


def parse_stat(text: str) -> Stat:
    """Parse one /proc/PID/stat. The name stands in parentheses and may itself hold blanks and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(
        pid=int(head.split(" ", 1)[0]),
        parent=int(fields[1]),
        ticks=sum(int(value) for value in fields[11:15]),
    )


def _all_stats() -> dict[int, Stat]:
    stats: dict[int, Stat] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            text = Path("/proc", name, "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
        stats[int(name)] = parse_stat(text)
    return stats


def tree(root: int) -> list[Stat]:
    """The process and its descendants, the root first. Empty when the root is not there."""
    stats = _all_stats()
    if root not in stats:
        return []
    children: dict[int, list[Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found = [stats[root]]
    for stat in found:  # grows while it is walked: breadth first
        found += children.get(stat.pid, [])
    return found


def cpu_ms(root: int) -> float:
    """CPU milliseconds that the tree has used so far. Raises ProcessLookupError when the root is gone."""
    members = tree(root)
    if not members:
        raise ProcessLookupError(root)
    return sum(stat.ticks for stat in members) * _MS_PER_TICK


def _tmpfs_devices() -> frozenset[int]:
    devices = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if kind.split()[0] in ("tmpfs", "ramfs"):
            major, minor = mount.split()[2].split(":")
            devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)


def _file_octets(pid: int, tmpfs: frozenset[int]) -> dict[tuple[int, int], int]:
    """Octets in memory by (device, inode) of the process's open memfd and tmpfs files."""
    held: dict[tuple[int, int], int] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        try:
            target = os.readlink(path)
            if not target.startswith("/"):  # socket:[…], pipe:[…], anon_inode:…
                continue
            status = os.stat(path)
        except FileNotFoundError:  # closed while we looked
            continue
        if target.startswith("/memfd:") or status.st_dev in tmpfs:
            held[status.st_dev, status.st_ino] = status.st_blocks * 512
    return held


def memory(root: int) -> Memory:
    """Memory of the tree now. Raises ProcessLookupError when the root is gone."""
    tmpfs = _tmpfs_devices()
    pss = rss = processes = 0
    files: dict[tuple[int, int], int] = {}
    for stat in tree(root):
        try:
            rollup = Path("/proc", str(stat.pid), "smaps_rollup").read_text()
            files |= _file_octets(stat.pid, tmpfs)
        except (FileNotFoundError, ProcessLookupError):
            continue
        processes += 1
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
    if not processes:
        raise ProcessLookupError(root)
    return Memory(pss, rss, sum(files.values()), processes)


def resident_peak(root: int) -> int:
    """Octets: the sum of what each process of the tree had resident at most, shared pages counted in each; 0: gone."""
    peak = 0
    for stat in tree(root):
        try:
            text = Path("/proc", str(stat.pid), "status").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        peak += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:"))
    return peak


def machine_ticks() -> tuple[int, int]:
    """Clock ticks of all cores since boot: all of them, and those that the host gave to other machines (steal)."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[7]


def established(port: int) -> int:
    """Established TCP connections of this machine whose local end is 127.0.0.1:port (the server's side)."""
    local = f"0100007F:{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if (fields := line.split())[1] == local and fields[3] == _TCP_ESTABLISHED)


class PeakMemory:
    """Samples `memory(root)` from a thread while the `with` block runs; `peak` and `samples` afterwards."""

    def __init__(self, root: int, every: float = 0.1) -> None:
        self.root = root
        self.every = every
        self.peak = memory(root)
        self.samples = 1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            try:
                now = memory(self.root)
            except ProcessLookupError:  # the server died; the load's own tally says so
                return
            self.samples += 1
            if now.total > self.peak.total:
                self.peak = now

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

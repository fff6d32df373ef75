"""Captures as they lie about: files, folders, pipes; compressed or not; whole or not.

What a file is, its first octets say and not its name. Damage is an anomaly of the capture, and what stands before it is
read; only a file that is no capture at all is an error.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final

from netinspect.errors import CaptureError
from netinspect.replay import pcap, pcapng
from netinspect.replay.compression import MAGICS as COMPRESSED
from netinspect.replay.compression import Expanded
from netinspect.replay.frame import Batch, Frame, Interface, Taker, Unknown

__all__ = ["Capture", "CaptureError", "expand", "is_capture", "open_capture"]

BLOCK: Final = 131_072
"""Octets read at a time: what stays in the cache of a processor. Twice the speed of 2 MB."""
ANOMALIES: Final = 100
"""Kept of one capture."""

_FOREIGN: Final = {
    b"snoop\0\0\0": "a snoop file",
    b"RTSS": "a Network Monitor file",
    b"GMBU": "a Network Monitor file",
    b"TRSNIFF data    \x1a": "a Sniffer file",
    b"PK\x03\x04": "a ZIP archive",
}


def expand(arguments: Iterable[str]) -> Iterator[str]:
    """Give the captures that the arguments name, in their order.

    A folder is searched with all below it, in the order of names, for files that begin like a capture; what it holds
    else is left out. A name that is no file but has `*`, `?` or `[` in it is a pattern (`**`: any folders between).
    What names nothing is given as it is: opening it says so.
    """
    for argument in arguments:
        if argument == "-" or os.path.isfile(argument):
            yield argument
            continue
        names = [argument] if os.path.lexists(argument) else sorted(glob.glob(argument, recursive=True))
        found = False
        for name in names:
            for path in _below(name) if os.path.isdir(name) else [name]:
                found = True
                yield path
        if not found:
            yield argument


def _below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            if os.path.isfile(path) and is_capture(path):
                yield path


def is_capture(path: str) -> bool:
    """Whether a file begins like a capture, compressed or not. One that cannot be read may be one."""
    try:
        with open_capture(path):
            return True
    except CaptureError:
        return False
    except OSError:
        return True


def open_capture(path: str) -> Capture:
    """Open one capture; `-` is standard input.

    Raises:
        CaptureError: it is none.
        OSError: it cannot be read.
    """
    descriptor = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return Capture(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


class Capture:
    """An open capture, to be read once, in one of two ways.

    Wholly: `for _ in capture.walk(taker): …`, each time a block of frames was given to the taker. Or in two halves, for
    a pipe that is to be waited for elsewhere: `for octets in capture.chunks(): …` (may be another thread), and
    `capture.parse(octets, taker)`, at the end with `b""`. The same octets give the same frames either way.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.name = path
        """As it was named; `-` is standard input."""
        self.anomalies: list[tuple[str, str]] = []
        """What is wrong with it: kind and detail. `truncated`, `bad_header`, `bad_record`, `bad_block`,
        `bad_interface`, `bad_compression`."""
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise CaptureError("is a folder without captures", place=path)
        self.regular = stat.S_ISREG(status.st_mode)
        """It is a file, so that reading never waits."""
        self._origin = os.lseek(descriptor, 0, os.SEEK_CUR) if self.regular else 0
        self.size: int | None = status.st_size - self._origin if self.regular else None
        """Octets of the file; None: nobody knows."""
        self.position = 0
        """Octets of the file that were read."""
        head = b""
        while len(head) < 16 and (octets := self._read(16 - len(head))):
            head += octets
        self._expanded: Expanded | None = None
        method = next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), "")
        if method:
            self._expanded = Expanded(method, self._read, head, self._damaged)
            head = self._expanded.read(BLOCK)
            while 0 < len(head) < 16 and (octets := self._expanded.read(BLOCK)):
                head += octets
        self.head = head
        """Its first octets, expanded: read already, so not among the `chunks`."""
        self._pieces = [head]
        self._have = len(head)
        reader = _reader(head, self._damaged)
        if reader is None:
            if method and not head:
                reason = self.anomalies[0][1] if self.anomalies else f"{method} data of nothing"
                raise CaptureError(f"cannot be read: {reason}", place=path)
            reason, remedy = _why_not(head)
            raise CaptureError(reason, place=path, remedy=remedy)
        self._reader = reader
        self.plain = self.regular and not method
        """Its octets can be read again where they stand."""

    @property
    def time(self) -> int:
        """Of the last frame that was read, ns since 1970; 0: none yet."""
        return self._reader.time

    @property
    def keys(self) -> list[bytes]:
        """Key logs of TLS in it, each the octets of one block; grows while it is read."""
        return self._reader.keys if isinstance(self._reader, pcapng.Pcapng) else []

    @property
    def comments(self) -> list[tuple[int, str]]:
        """Frame number (0: the file, or an interface) and text; grows while it is read."""
        return self._reader.comments if isinstance(self._reader, pcapng.Pcapng) else []

    def walk(self, taker: Taker) -> Iterator[None]:
        """Read it all; stops after each block."""
        if not self.plain:
            for octets in self.chunks():
                self.parse(octets, taker)
                yield
            self.parse(b"", taker)
            return
        at = 0
        while True:
            # What was left of a block is read again: that is cheaper than to copy the next one to it.
            size = max(BLOCK, self._reader.wanted)
            octets = os.pread(self._descriptor, size, self._origin + at)
            last = len(octets) < size
            at += self._reader.feed(octets, taker, last=last)
            self.position = at
            yield
            if last:
                return

    def chunks(self) -> Iterator[bytes]:
        """Give its octets, expanded; from a pipe what is there at once. Raises OSError."""
        if self._expanded is not None:
            yield from self._expanded.chunks(BLOCK)
            return
        while octets := self._read(BLOCK):
            yield octets

    def parse(self, octets: bytes, taker: Taker) -> None:
        """Take the next octets; none: it is over."""
        self._pieces.append(octets)
        self._have += len(octets)
        if octets and self._have < self._reader.wanted:
            return
        block = b"".join(self._pieces)
        rest = block[self._reader.feed(block, taker, last=not octets) :]
        self._pieces = [rest] if rest and octets else []
        self._have = len(rest)

    def batches(self) -> Iterator[Batch]:
        """Give all frames as lists, one a block: what is in one, and how many, depends on the file alone."""
        self._reader.every = True
        collector = Collector()
        for _ in self.walk(collector):
            yield collector.take()
        if collector.batch:
            yield collector.take()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, most: int) -> bytes:
        octets = os.read(self._descriptor, most)
        self.position += len(octets)
        return octets

    def _damaged(self, kind: str, detail: str) -> None:
        if len(self.anomalies) < ANOMALIES:
            self.anomalies.append((kind, detail))


class Collector:
    """Collects frames of a reader that gives it every one."""

    def __init__(self) -> None:
        self.batch: Batch = []

    def known(self, key: bytes, unknown: Unknown) -> Unknown:
        return unknown

    def ordinary(
        self,
        number: int,
        time: int,
        interface: Interface,
        block: bytes,
        ip: int,
        stop: int,
        key: bytes,
        flags: int,
        half: Any,
    ) -> None:
        raise AssertionError("a reader with `every` set gives frames only")

    def frame(self, number: int, frame: Frame) -> None:
        self.batch.append(frame)

    def block(self, number: int, first: int, last: int, octets: int) -> None:
        pass

    def take(self) -> Batch:
        """What was collected since the last time."""
        batch, self.batch = self.batch, []
        return batch


def _reader(head: bytes, damaged: pcap.Damaged) -> pcap.Pcap | pcapng.Pcapng | None:
    if head[:4] in pcap.MAGICS:
        return pcap.Pcap(damaged)
    return pcapng.Pcapng(damaged) if head.startswith(pcapng.MAGIC) else None


def _why_not(head: bytes) -> tuple[str, str]:
    """What a file is that is no capture, and what to do about it."""
    if not head:
        return "is empty", ""
    for magic, name in _FOREIGN.items():
        if head.startswith(magic):
            return f"is {name}", "unpack it" if name.endswith("archive") else "convert it with editcap -F pcapng"
    return "is no capture (pcap or pcapng)", "editcap -F pcapng converts other kinds"

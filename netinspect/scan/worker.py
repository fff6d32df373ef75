"""The child process that examines and cleans: `python -m netinspect.scan.worker DESCRIPTOR PARENT`.

It starts slowly (oletools and the rules, once), gives up what it does not need (`confine`), and then answers one job
after the other over a socket until that is closed. A job that goes wrong in an unforeseen way ends the process, and the
pool answers for it.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from netinspect.disarm import clean
from netinspect.disarm.contract import CannotClean
from netinspect.errors import NetinspectError
from netinspect.files import passwords
from netinspect.limits import Limits
from netinspect.scan import confine, wire
from netinspect.scan.examine import Examiner
from netinspect.scan.rulefiles import RuleSource
from netinspect.scan.rules import RuleEngine

GROWTH: Final = 100_663_296
"""Resident octets above those at start with which a worker is replaced (oletools keeps some of what it reads)."""

_READ: Final = 262_144


class _Gone(Exception):
    """The pool closed the socket."""


class _Channel:
    """Frames in, frames out; blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray(_READ)
        self._view = memoryview(self._buffer)
        self._space = socket.CMSG_SPACE(4 * wire.MAX_DESCRIPTORS)

    def receive(self) -> tuple[Any, memoryview, list[int]]:
        """The next frame: JSON, octets (valid until the next call) and descriptors."""
        descriptors: list[int] = []
        have = self._more(0, descriptors)
        while have < wire.HEADER.size:
            have += self._more(have, descriptors)
        text, octets = wire.HEADER.unpack_from(self._buffer)
        start = wire.HEADER.size + text
        need = start + octets
        if need > len(self._buffer):
            larger = bytearray(need)
            larger[:have] = self._view[:have]
            self._buffer, self._view = larger, memoryview(larger)
        while have < need:
            have += self._more(have, descriptors)
        value = wire.load(self._view[wire.HEADER.size : start])
        view = self._view[start:need]
        if need > _READ:
            self._buffer = bytearray(_READ)
            self._view = memoryview(self._buffer)
        return value, view, descriptors

    def _more(self, at: int, descriptors: list[int]) -> int:
        size, ancillary, _, _ = self._sock.recvmsg_into([self._view[at:]], self._space)
        if not size:
            raise _Gone
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += memoryview(data[: len(data) // 4 * 4]).cast("i")
        return size

    def send(self, value: Any, *octets: bytes) -> None:
        for piece in wire.frame(value, *octets):
            self._sock.sendall(piece)

    def send_raw(self, octets: bytes) -> None:
        """Anything at all, for the tests."""
        self._sock.sendall(octets)

    def send_half(self, octets: bytes) -> None:
        """Only the beginning, and then nothing ever again; for the tests."""
        self._sock.sendall(octets)
        os._exit(3)


def _content(descriptor: int, size: int) -> bytes:
    """All of a file that was passed; its position belongs to somebody else."""
    try:
        data = os.pread(descriptor, size, 0)
        while len(data) < size:
            piece = os.pread(descriptor, size - len(data), len(data))
            if not piece:
                raise OSError("the content is shorter than it was said to be")
            data += piece
        return data
    finally:
        os.close(descriptor)


def _texts(job: list[Any], octets: memoryview) -> list[bytes]:
    """The beginnings of the short texts of a job: a password for something else in the mail may stand there."""
    found: list[bytes] = []
    if all(row[6] for row in job):
        return found
    at = 0
    for row in job:
        if row[1] < 0:
            if row[6] and len(found) < 16:
                found.append(bytes(octets[at : at + min(row[0], passwords.TEXT)]))
            at += row[0]
    return found


def _hoard() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def _spin() -> None:
    while True:
        pass


def _denied(attempt: Callable[[], Any]) -> None:
    try:
        attempt()
    except PermissionError:
        return
    os._exit(4)


_NOBODY = [["0" * 64, "0" * 40, "0" * 32, 1, "text", "", "", "", "", "CLOSED", True]]

# What goes wrong on demand, where the pool's tests have asked for it.
_FAULTS: Final[dict[bytes, Callable[[_Channel], Any]]] = {
    b"netinspect-fault:hang": lambda channel: time.sleep(3600),
    b"netinspect-fault:spin": lambda channel: _spin(),
    b"netinspect-fault:memory": lambda channel: _hoard(),
    b"netinspect-fault:exit": lambda channel: os._exit(3),
    b"netinspect-fault:garbage": lambda channel: channel.send_raw(wire.HEADER.pack(7, 0) + b"garbage"),
    b"netinspect-fault:flood": lambda channel: channel.send_raw(wire.HEADER.pack(0xFFFFFFF0, 0) + bytes(1000)),
    b"netinspect-fault:lie": lambda channel: channel.send([False, [[_NOBODY, [], [], []]]]),
    b"netinspect-fault:much": lambda channel: channel.send_raw(wire.HEADER.pack(10, 0xFFFFFFF0) + b"[false,[]]"),
    b"netinspect-fault:unasked": lambda channel: channel.send([False, []], b"octets that nobody asked for"),
    b"netinspect-fault:removal": lambda channel: channel.send([False, [["vba", 1]]], b"cleaned"),
    b"netinspect-fault:half": lambda channel: channel.send_half(wire.HEADER.pack(700, 0) + b"[fa"),
    b"netinspect-fault:socket": lambda channel: _denied(socket.socket),
    b"netinspect-fault:write": lambda channel: _denied(lambda: os.open("written", os.O_WRONLY | os.O_CREAT)),
    b"netinspect-fault:fork": lambda channel: _denied(os.fork),
    b"netinspect-fault:execute": lambda channel: _denied(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606
    b"netinspect-fault:kill": lambda channel: _denied(lambda: os.kill(os.getppid(), 0)),
}


class _Worker:
    def __init__(self, channel: _Channel) -> None:
        settings, _, _ = channel.receive()
        self._channel = channel
        self._limits = Limits(**settings["limits"])
        self._faults = settings["faults"] is True
        self._jobs_left = int(settings["jobs"])
        self._opened = int(settings["opened"])
        rules = None
        if settings["rules"]:
            rules = RuleEngine([RuleSource(*pair) for pair in settings["rules"]], timeout=self._limits.worker_cpu)
        self._examiner = Examiner(self._limits, rules, office=settings["office"])
        if settings["disarm"]:
            clean.load()

    def confine(self, confined: list[str]) -> None:
        """Everything is loaded: give up the rest and say that we are ready."""
        sys.dont_write_bytecode = True
        if confine.filter_calls():
            confined.append("seccomp")
        gc.collect()
        gc.freeze()
        confine.limit(self._limits.worker_memory)
        self._resident_at_start = confine.resident()
        self._channel.send({"fingerprint": self._examiner.fingerprint, "confined": confined})

    def serve(self) -> None:
        """Answer jobs until one was the last."""
        while True:
            job, octets, descriptors = self._channel.receive()
            confine.limit_cpu(self._limits.worker_cpu)
            behind: list[bytes] = []
            answer: Any
            if isinstance(job, dict):
                answer, cleaned = self._clean(job["clean"], octets, descriptors)
                behind = [cleaned] if cleaned else []
            else:
                answer, behind = self._examine(job, octets, descriptors)
            self._jobs_left -= 1
            retire = self._jobs_left <= 0 or self._has_grown()
            self._channel.send([retire, answer], *behind)
            if retire:
                return

    def _examine(
        self, job: list[Any], octets: memoryview, descriptors: list[int]
    ) -> tuple[list[Any], list[bytes]]:
        """The examinations, and the octets of what passwords opened."""
        answers = []
        opened: list[bytes] = []
        room = self._opened
        texts = _texts(job, octets)
        at = 0
        for size, where, name, declared, path, sha256, text in job:
            if where < 0:
                data = bytes(octets[at : at + size])
                at += size
            else:
                data = _content(descriptors[where], size)
            if self._faults and data in _FAULTS:
                _FAULTS[data](self._channel)
            examination = self._examiner.examine(
                data, name=name, declared=declared, path=path, sha256=sha256, text=text, texts=texts,
                opened=room,
            )
            for one in examination.opened:
                if one.data is not None:
                    opened.append(one.data)
                    # One octet stays: with none the next leaf would say nothing of what it opened.
                    room = max(1, room - len(one.data))
            answers.append(wire.pack(examination))
            del data
        return answers, opened

    def _clean(self, row: list[Any], octets: memoryview, descriptors: list[int]) -> tuple[Any, bytes]:
        """The removals and the cleaned file, or why it cannot be cleaned."""
        size, where, name, declared = row
        data = bytes(octets) if where < 0 else _content(descriptors[where], size)
        if self._faults and data in _FAULTS:
            _FAULTS[data](self._channel)
        try:
            cleaned = clean.clean(data, name=name, limits=self._limits, declared=declared)
        except CannotClean as reason:
            return wire.pack_reason(str(reason)), b""
        if len(cleaned.data) > self._limits.message_size:
            return "larger than a message may be", b""
        return wire.pack_cleaned(cleaned), cleaned.data

    def _has_grown(self) -> bool:
        # The peak never falls and is cheap to ask for; only when it is high is the present size worth a look.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return peak > self._resident_at_start + GROWTH and confine.resident() > self._resident_at_start + GROWTH


def main(arguments: list[str]) -> int:
    """Serve on the descriptor that the pool passed."""
    descriptor, parent = map(int, arguments)
    if not confine.leave_parent(parent):
        return 1
    # Control-C and a service manager's SIGTERM reach all processes: the parent finishes its mails, then closes ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    confined = ["network"] if confine.leave_network() else []
    channel = _Channel(socket.socket(fileno=descriptor))
    try:
        try:
            worker = _Worker(channel)
        except (NetinspectError, ImportError) as error:
            place = error.place if isinstance(error, NetinspectError) else ""
            remedy = error.remedy if isinstance(error, NetinspectError) else "install the missing package"
            message = error.message if isinstance(error, NetinspectError) else str(error)
            channel.send({"error": [message, place, remedy]})
            return 1
        worker.confine(confined)
        worker.serve()
    except (_Gone, BrokenPipeError, ConnectionResetError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

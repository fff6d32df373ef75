"""Sessions on disk: every one as a whole, as pcapng, for `netinspect replay` and for people with a packet analyser.

A session is in one file from its first packet to its last, whatever else is in it, and each verdict is a comment on the
reply that told it. A file that is large or old enough takes no new sessions; the oldest files go when all of them
together are too large. A disk that is full or broken costs recordings, never mail: what is lost is counted, and logged
once until it works again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import time
from collections import deque
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from netinspect import __version__
from netinspect.capture import pcapng
from netinspect.capture.tcp import CLOCK, Wire
from netinspect.config import RecorderSettings
from netinspect.errors import EnvironmentFault
from netinspect.gateway.tape import Tape
from netinspect.limits import Limits
from netinspect.policy.decision import Decision
from netinspect.policy.facts import SessionFacts
from netinspect.smtp.session import Session

logger = logging.getLogger(__name__)

SETTLED = 10.0
"""Seconds without a fault after which the log says that all is well again: on a disk that is nearly full small pieces
can be written and large ones cannot."""

_OURS = re.compile(r"netinspect-\d{8}T\d{6}Z-\d+-\d{4,}\.pcapng")


class _File:
    """One file; open as long as sessions are in it or new ones come."""

    __slots__ = ("descriptor", "interfaces", "opened", "path", "sessions", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.opened = time.monotonic()
        self.sessions = 0
        self.size = 0
        self.interfaces: dict[tuple[str, str], int] = {}


class Recorder:
    """The files of one process. Nothing here raises once it is made."""

    def __init__(self, settings: RecorderSettings, limits: Limits) -> None:
        """Look at the folder.

        Raises:
            EnvironmentFault: it is not there, or no file can be made in it.
        """
        self._settings = settings
        self._folder = Path(settings.directory)
        self._line = max(limits.command_line, limits.auth_line)
        self._tapes: dict[int, Tape] = {}
        self._count = 0
        self._closed = False
        self._failing = False
        self._failed_at = 0.0
        self.lost = 0
        """Pieces of sessions, and whole sessions, that could not be written."""
        try:
            found = sorted(path for path in self._folder.iterdir() if _OURS.fullmatch(path.name))
            self._done: deque[tuple[Path, int]] = deque((path, path.stat().st_size) for path in found)
            self._total = sum(size for _, size in self._done)
            self._file: _File | None = self._new_file()
        except OSError as error:
            message = f"sessions cannot be recorded: {error.strerror}"
            remedy = "make the folder, writable for the user that the gateway runs as, or change [record] directory"
            raise EnvironmentFault(message, place=str(self._folder), remedy=remedy) from error

    # --- sessions -------------------------------------------------------------------------------------------------

    def begin(self, session: Session, facts: SessionFacts, listener: str, local: tuple[str, int]) -> Tape | None:
        """Record this session. `local` is where the client reached us: it stands for a server without an address of
        the client's kind. None: it cannot be written now."""
        file = None if self._closed else self._current()
        if file is None:
            return None
        client = (facts.src_ip, facts.src_port)
        start = time.time_ns() // CLOCK
        server = (facts.dest_ip, facts.dest_port)
        try:
            wire = Wire(client, server if _same_kind(client[0], server[0]) else local[:2], start)
        except ValueError:
            return None  # no addresses of the Internet
        known = file.interfaces.get((listener, facts.zone))
        if known is None:
            known = len(file.interfaces)
            if not self._write(file, pcapng.interface(pcapng.RAW, listener, pcapng.describe_zone(facts.zone))):
                return None
            file.interfaces[listener, facts.zone] = known
        tape = Tape(session, wire, known, self._line, lambda blocks: self._blocks(tape, file, facts.flow_id, blocks))
        file.sessions += 1
        self._tapes[facts.flow_id] = tape
        return tape

    def verdict(self, flow_id: int, decision: Decision, incident_id: str) -> None:
        """This was decided in the session; the reply that says so is the next."""
        tape = self._tapes.get(flow_id)
        if tape is not None:
            said = {
                "action": decision.action,
                "rules": list(decision.rules),
                "incident_id": incident_id,
                "reason": decision.reason,
            }
            tape.comment(json.dumps(said))

    def close(self) -> None:
        """Close all files; what comes later is dropped."""
        self._closed = True
        for tape in list(self._tapes.values()):
            tape.end(by_client=False)
            tape.flush()
        if self._file is not None:
            self._retire(self._file)
            self._file = None

    # --- files ----------------------------------------------------------------------------------------------------

    def _blocks(self, tape: Tape, file: _File, flow_id: int, blocks: bytes) -> None:
        self._write(file, blocks)
        if tape.over:
            if self._tapes.get(flow_id) is tape:
                del self._tapes[flow_id]
            file.sessions -= 1
            if not file.sessions and file is not self._file:
                self._retire(file)

    def _current(self) -> _File | None:
        """The file for a session that begins now."""
        file, settings = self._file, self._settings
        if file is not None and not (
            file.size >= settings.rotate_size or time.monotonic() - file.opened >= settings.rotate_age
        ):
            return file
        if file is not None and not file.interfaces:
            return file  # nothing is in it
        try:
            fresh = self._new_file()
        except OSError as error:
            self._failed(error.strerror or str(error))
            fresh = None
        if fresh is None:
            return file  # better too large than not at all
        self._file = fresh
        if file is not None and not file.sessions:
            self._retire(file)
        return fresh

    def _new_file(self) -> _File | None:
        while True:
            self._count += 1
            name = f"netinspect-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}-{self._count:04}.pcapng"
            # In a container a process has the number of the one before it.
            with contextlib.suppress(FileExistsError):
                file = _File(self._folder / name)
                break
        if not self._write(file, pcapng.section(f"netinspect {__version__}")):
            self._discard(file)
            return None
        return file

    def _write(self, file: _File, blocks: bytes) -> bool:
        """Append whole blocks, or nothing; whether they are there."""
        size = len(blocks)
        if not self._room(size):
            self._failed(f"keep_size is reached ({self._settings.keep_size} octets)")
            return False
        try:
            done = os.pwrite(file.descriptor, blocks, file.size)
            while done < size:  # a disk that just ran full takes a part; the next try names the reason
                more = os.pwrite(file.descriptor, blocks[done:], file.size + done)
                if not more:
                    raise OSError(None, "short write")
                done += more
        except OSError as error:
            self._failed(error.strerror or str(error))
            self._cut(file)
            return False
        file.size += size
        self._total += size
        if self._failing and time.monotonic() - self._failed_at > SETTLED:
            self._failing = False
            logger.warning("record: %s: writing again, %d pieces were lost so far", self._folder, self.lost)
        return True

    def _cut(self, file: _File) -> None:
        """Take half a block away again, so that what comes later can be read."""
        try:
            os.ftruncate(file.descriptor, file.size)
        except OSError as error:
            logger.debug("record: %s: %s", file.path, error)

    def _room(self, size: int) -> bool:
        """Whether so much more may be kept; the oldest files go for it, those in use never do."""
        most = self._settings.keep_size
        while self._total + size > most and self._done:
            path, gone = self._done.popleft()
            self._total -= gone
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.error("record: %s cannot be deleted: %s", path, error.strerror)
        return self._total + size <= most

    def _retire(self, file: _File) -> None:
        """Nothing more comes into this file."""
        if not file.interfaces:
            self._discard(file)
            return
        try:
            os.close(file.descriptor)
        except OSError as error:
            self._failed(error.strerror or str(error))
        file.descriptor = -1  # the number may be somebody else's by now
        self._done.append((file.path, file.size))

    def _discard(self, file: _File) -> None:
        """A file without a session in it is of no use."""
        self._total -= file.size
        with contextlib.suppress(OSError):
            file.path.unlink()
        with contextlib.suppress(OSError):
            os.close(file.descriptor)

    def _failed(self, why: str) -> None:
        self.lost += 1
        self._failed_at = time.monotonic()
        if not self._failing:
            self._failing = True
            logger.error("record: %s: %s; mail goes on, sessions are not recorded until this is mended",
                         self._folder, why)  # fmt: skip


def _same_kind(one: str, other: str) -> bool:
    """Both are addresses of the same IP version."""
    try:
        return ip_address(one.partition("%")[0]).version == ip_address(other.partition("%")[0]).version
    except ValueError:
        return False

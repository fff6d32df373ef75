"""Quarantine as files: `YYYY/MM/DD/<incident id>/{message.eml, envelope.json}` under one folder.

What `put` returned survives a crash of the machine: both files, their folder and its parents are synced before. Until
then everything stands under `tmp/`; what is found there after a crash was never acknowledged to anybody.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from netinspect.policy.decision import Decision
from netinspect.policy.facts import Facts

MESSAGE = "message.eml"
ENVELOPE = "envelope.json"

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_SAME_INCIDENT = 1000
"""Folders of one incident; a client that sends more of the same has to wait."""
_INCIDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class Quarantine:
    """The folder. Nothing is touched before the first `put`; a call blocks on the disk and belongs in a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def put(
        self,
        message: Iterable[bytes],
        facts: Facts,
        decision: Decision,
        incident_id: str,
        records: Sequence[Mapping[str, Any]] = (),
        *,
        now: datetime | None = None,
    ) -> Path:
        """Keep a message with all that is known of it; give its folder.

        Raises:
            OSError: it could not be kept (disk full, no permission). Nothing is left behind, and the sender must be
                told to try again (451).
            ValueError: the incident's id cannot be the name of a folder.
        """
        if not _INCIDENT.fullmatch(incident_id):
            raise ValueError(f"no incident id: {incident_id!r}")
        now = now or datetime.now(UTC)
        waiting = self.directory / "tmp"
        self._make(waiting)
        # The name differs at each try, so that a left-over of a crash is in nobody's way.
        fresh = Path(tempfile.mkdtemp(prefix=f"{incident_id}.", dir=waiting))
        try:
            _write(fresh / MESSAGE, message)
            _write(fresh / ENVELOPE, (_envelope(facts, decision, incident_id, records, now),))
            _sync(fresh)
            parent = self.directory / now.strftime("%Y/%m/%d")
            self._make(parent)
            final = _settle(fresh, parent / incident_id)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _sync(parent)
        return final

    def _make(self, folder: Path) -> None:
        """Make a folder and its parents; a new name is synced into the folder above it."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            _sync(path.parent)


def _settle(fresh: Path, wanted: Path) -> Path:
    """Give the folder its name; the same mail sent again in the same session gets `-2`, `-3`, ... behind it."""
    for count in range(1, _SAME_INCIDENT + 1):
        final = wanted if count == 1 else wanted.with_name(f"{wanted.name}-{count}")
        try:
            # POSIX: a folder is never renamed onto one that is not empty, so nothing is overwritten.
            os.rename(fresh, final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        else:
            return final
    raise OSError(errno.EEXIST, "too many messages of one incident", str(wanted))


def _envelope(
    facts: Facts, decision: Decision, incident_id: str, records: Sequence[Mapping[str, Any]], now: datetime
) -> bytes:
    content = {
        "incident_id": incident_id,
        "time": now.isoformat(),
        "session": asdict(facts.session),
        "envelope": asdict(facts.envelope),
        "decision": asdict(decision),
        "findings": [asdict(finding) for finding in facts.findings],
        "unscanned": [asdict(entry) for entry in facts.unscanned],
        "records": list(records),
    }
    return json.dumps(content, indent=2).encode("ascii") + b"\n"


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with open(descriptor, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""`--extract DIR`: mails and what was attached to them as files, named by the SHA-256 of their octets.

    DIR/mails/9f/9f86d0…0f00a08.eml      the message as it came (dot-unstuffed)
    DIR/files/e3/e3b0c4…2b855            each part of it, transfer-decoded
    DIR/index.json, DIR/index.csv        what each is: names, mail, verdict, where it stood

Nothing a mail says gets into a path. A content is stored once, whoever else sent it, and nothing that is there is
written over: the folder can be used again, and by several processes at once. All of it may be what attackers sent:
files are readable by their owner only, and none is executable.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from netinspect.errors import EnvironmentFault
from netinspect.records import Record
from netinspect.replay.engine import Outcome

Row: TypeAlias = dict[str, Any]
"""One line of the index; all values are plain."""

MAILS, FILES = "mails", "files"
_FOLDER: Final = 0o700
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems say that have no hard links, or not one more."""


class Store:
    """Puts contents into the folder. Several processes may share one."""

    def __init__(self, folder: str) -> None:
        """Make the folder. Raises EnvironmentFault."""
        self._folder = Path(folder)
        self._made: set[Path] = set()
        with writing(folder):
            self._folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)

    def take(self, outcome: Outcome) -> tuple[Row, ...]:
        """Store a mail and its parts; give the lines of the index.

        Raises EnvironmentFault: the folder cannot be written.
        """
        inspection = outcome.verdict.inspection
        if inspection is None:
            return ()
        with writing(str(self._folder)):
            places: dict[str, str] = {}
            for leaf in inspection.leaves:
                if leaf.sha256 not in places:
                    places[leaf.sha256] = self._file(leaf.sha256, leaf.content.chunks())
            mail = inspection.spool
            sha256, place = self._mail(mail.chunks())
        return tuple(_rows(outcome.records, sha256, place, mail.size, places))

    def _file(self, sha256: str, pieces: Iterable[bytes]) -> str:
        place = f"{FILES}/{sha256[:2]}/{sha256}"
        if not (self._folder / place).exists():
            with self._fresh(FILES) as (file, name):
                for piece in pieces:
                    write(file, piece)
                self._settle(name, place)
        return place

    def _mail(self, pieces: Iterable[bytes]) -> tuple[str, str]:
        digest = hashlib.sha256()
        with self._fresh(MAILS) as (file, name):
            for piece in pieces:
                digest.update(piece)
                write(file, piece)
            sha256 = digest.hexdigest()
            place = f"{MAILS}/{sha256[:2]}/{sha256}.eml"
            self._settle(name, place)
        return sha256, place

    @contextlib.contextmanager
    def _fresh(self, kind: str) -> Iterator[tuple[int, str]]:
        """A file without its final name (0600); it is gone afterwards."""
        folder = self._folder / kind
        self._make(folder)
        file, name = tempfile.mkstemp(prefix=".new-", dir=folder)
        try:
            yield file, name
        finally:
            os.close(file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def _settle(self, name: str, place: str) -> None:
        """Give the file its name, unless somebody has it already: then it is the same content."""
        final = self._folder / place
        self._make(final.parent)
        try:
            os.link(name, final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not final.exists():
                os.rename(name, final)

    def _make(self, folder: Path) -> None:
        if folder not in self._made:
            folder.mkdir(mode=_FOLDER, exist_ok=True)
            self._made.add(folder)


@contextlib.contextmanager
def writing(folder: str) -> Iterator[None]:
    """Make of what the disk says one line that names the folder."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(f"cannot write: {error.strerror or error}", place=folder) from error


def write(file: int, data: bytes) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _rows(records: list[Record], mail_sha256: str, place: str, size: int, places: dict[str, str]) -> Iterator[Row]:
    smtp: Record = next((one for one in records if one["event_type"] == "smtp"), {})
    verdict: Record = next((one for one in records if one["event_type"] == "verdict"), {})
    envelope, email = smtp.get("smtp", {}), smtp.get("email", {})
    found: dict[str, list[str]] = {}
    for record in records:
        if record["event_type"] == "alert":
            alert = record["alert"]
            found.setdefault(record.get("sha256", ""), []).append(f"{alert['category']}: {alert['signature']}")
    said = verdict.get("verdict", {})
    mail: Row = {
        "stored": place,
        "kind": "mail",
        "sha256": mail_sha256,
        "size": size,
        "name": "",
        "magic": "",
        "path": "",
        "mail_sha256": mail_sha256,
        "parent_sha256": "",
        "verdict": said.get("action", ""),
        "rules": said.get("rules", []),
        "unscanned": said.get("unscanned", []),
        "findings": found.get("", []),
        "mail_from": envelope.get("mail_from", ""),
        "rcpt_to": envelope.get("rcpt_to", []),
        "subject": email.get("subject", ""),
        "incident_id": said.get("incident_id", ""),
    }
    mail |= {
        key: verdict.get(key, "") for key in ("timestamp", "src_ip", "dest_ip", "flow_id", "tx_id", "pcap_filename")
    }
    yield mail
    for record in records:
        if record["event_type"] != "fileinfo":
            continue
        info = record["fileinfo"]
        sha256, parent = info["sha256"], info.get("parent_sha256", "")
        yield mail | {
            # What stands inside another file is not stored by itself; the same content may stand elsewhere, though.
            "stored": places.get(sha256, ""),
            "kind": "file",
            "sha256": sha256,
            "size": info["size"],
            "name": info["filename"],
            "magic": info["magic"],
            "path": info["path"],
            "parent_sha256": parent,
            "findings": found.get(sha256, []),
        }

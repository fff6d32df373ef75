"""Block and allow lists: contents known by their digest.

A list is a text file with one digest a line: SHA-256, SHA-1 or MD5 in hex, then nothing, `,NAME`, or a blank and a
comment (the output of `sha256sum` will do). `#` begins a comment line.

An *allowed* leaf is not scanned at all, so allow lists take SHA-256 only: two contents with the same MD5 or SHA-1
can be made to measure. It holds for what the mail carries itself; the same content inside an archive is scanned with
the archive. What stands on both lists is blocked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from netinspect.errors import EngineError
from netinspect.files.artifact import Artifact
from netinspect.scan.contract import Finding

log = logging.getLogger(__name__)

ENTRIES = 2_000_000
"""Digests in all lists of one kind; about 150 octets of memory each."""
_DIGEST = {64: "SHA-256", 40: "SHA-1", 32: "MD5"}

_State = tuple[int, int, int]


class HashLists:
    """The lists, in memory. `refresh` reads them again when a file changed; lookups never touch the disk."""

    name = "hashes"

    def __init__(self, block: Iterable[str | Path], allow: Iterable[str | Path] = ()) -> None:
        self._block_paths = tuple(map(Path, block))
        self._allow_paths = tuple(map(Path, allow))
        self._seen: tuple[_State | None, ...] = self._state()
        self._block = _read_all(self._block_paths, allow=False)
        self._allow = _read_all(self._allow_paths, allow=True)
        self.fault = ""
        """Why the last change of a file was not taken over; empty when all is well."""

    @classmethod
    def load(cls, block: Iterable[str | Path], allow: Iterable[str | Path] = ()) -> Self:
        """Read the lists.

        Raises:
            EngineError: a file cannot be read, or a line is no digest; names file and line.
        """
        return cls(block, allow)

    def __len__(self) -> int:
        return len(self._block) + len(self._allow)

    def allowed(self, sha256: str) -> bool:
        """Whether a content with this digest need not be scanned."""
        return sha256 in self._allow and sha256 not in self._block

    def check(self, artifact: Artifact) -> Finding | None:
        """The finding for a blocked content."""
        block, hashes = self._block, artifact.hashes
        for digest in (hashes.sha256, hashes.sha1, hashes.md5):
            name = block.get(digest)
            if name is not None:
                return Finding("hashes", name or f"Blocked.{digest[:16]}", "malware", 1, hashes.sha256, digest)
        return None

    def refresh(self) -> bool:
        """Read the lists again if a file changed; True when they did. For a thread: a long list takes its time.

        A file that cannot be read, or has a wrong line, leaves the lists as they were: an editor's half-written
        file must not unblock anything.
        """
        seen = self._state()
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            block = _read_all(self._block_paths, allow=False)
            allow = _read_all(self._allow_paths, allow=True)
        except EngineError as fault:
            self.fault = str(fault)
            log.error("hash lists stay as they were: %s", fault)
            return False
        self._block, self._allow = block, allow
        self.fault = ""
        log.info("hash lists read again: %d digests", len(self))
        return True

    def _state(self) -> tuple[_State | None, ...]:
        return tuple(map(_state_of, (*self._block_paths, *self._allow_paths)))


def _state_of(path: Path) -> _State | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read_all(paths: Iterable[Path], *, allow: bool) -> dict[str, str]:
    digests: dict[str, str] = {}
    for path in paths:
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, 1):
                    _read_line(line, f"{path}:{number}", digests, allow=allow)
        except OSError as fault:
            raise EngineError(
                f"the hash list cannot be read: {fault.strerror or fault}", place=str(path)
            ) from fault
    return digests


def _read_line(line: str, place: str, digests: dict[str, str], *, allow: bool) -> None:
    line = line.strip()
    if not line or line.startswith("#"):
        return
    digest, comma, name = line.partition(",")
    if not comma:
        digest, _, _ = line.partition(" ")
        digest, _, _ = digest.partition("\t")
    digest = digest.strip().lower()
    kind = _DIGEST.get(len(digest))
    if kind is None or not digest.isascii() or digest.strip("0123456789abcdef"):
        raise EngineError(
            "this line has no digest", place=place, remedy="write a SHA-256, SHA-1 or MD5 in hex, one a line"
        )
    if allow and kind != "SHA-256":
        raise EngineError(
            f"an allow list takes no {kind}: other contents can be made to have the same",
            place=place,
            remedy="write the SHA-256",
        )
    if len(digests) >= ENTRIES:
        raise EngineError(f"more than {ENTRIES} digests", place=place, remedy="use a signature file of clamd (.hsb)")
    digests[digest] = "".join(filter(str.isprintable, name.strip()))[:200]

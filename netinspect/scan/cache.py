"""Contents judged before: bounded, and empty again as soon as an engine or its signatures change.

What engines say can depend on the name and the declared type (a double extension, a disguised type) and on whether the
leaf is a body text, so all of that is part of the key; only the place in the message is not.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from netinspect.files.artifact import Artifact
from netinspect.scan.contract import Examination

Key = tuple[str, str, str, bool]
"""SHA-256, name, declared type, text."""

MAX_AGE = 3600.0
"""Seconds an answer stands. Local signature files of clamd have no number in its version, so their change is not seen;
clamd itself looks for it once in SelfCheck (3600 s as Debian sets it)."""
WEIGHT = 4
"""Artifacts, findings and anomalies for each entry on the average; an archive of thousands must not eat the memory."""

DURABLE = frozenset({"files"})
"""Engines whose `Unscanned` is a property of the content (a limit, an encrypted member) and not of the moment."""
DURABLE_REASONS = frozenset({"encrypted", "damaged document"})
"""The same for engines that also fail for the moment."""


class ExaminationCache:
    """Least recently used first out. `clock` gives seconds."""

    def __init__(
        self, entries: int, max_age: float = MAX_AGE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries = entries
        self._room = entries * WEIGHT
        self._max_age = max_age
        self._clock = clock
        self._fingerprint = ""
        self._known: OrderedDict[Key, tuple[Examination, float, int]] = OrderedDict()
        self._weight = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key, fingerprint: str) -> Examination | None:
        """What is known of this content; `fingerprint` is the engines' present one."""
        if fingerprint != self._fingerprint:
            self._known.clear()
            self._weight = 0
            self._fingerprint = fingerprint
        entry = self._known.get(key)
        if entry is not None:
            if self._clock() < entry[1]:
                self._known.move_to_end(key)
                self.hits += 1
                return entry[0]
            self._forget(key)
        self.misses += 1
        return None

    def put(self, key: Key, fingerprint: str, examination: Examination) -> bool:
        """Remember a complete answer; False where it is not kept.

        `fingerprint` is the one that held when the examination began: an answer of signatures that are gone by now
        is of no use.
        """
        if fingerprint != self._fingerprint or not complete(examination):
            return False
        weight = 1 + len(examination.artifacts) + len(examination.findings) + len(examination.anomalies)
        if weight > max(self._room // 8, WEIGHT):
            return False
        if key in self._known:
            self._forget(key)
        self._known[key] = (examination, self._clock() + self._max_age, weight)
        self._weight += weight
        while self._weight > self._room or len(self._known) > self._entries:
            self._forget(next(iter(self._known)))
        return key in self._known

    def _forget(self, key: Key) -> None:
        self._weight -= self._known.pop(key)[2]


def complete(examination: Examination) -> bool:
    """Whether asking again would give the same: nothing is missing for a reason that passes."""
    return all(one.engine in DURABLE or one.reason in DURABLE_REASONS for one in examination.unscanned)


def rebase(examination: Examination, path: str) -> Examination:
    """The same examination for the same content at another place in another message."""
    artifacts = examination.artifacts
    if not artifacts or artifacts[0].path == path:
        return examination
    root = len(artifacts[0].path)
    moved = tuple(
        Artifact(one.hashes, one.size, one.magic, path + one.path[root:], one.name, one.declared, one.parent_sha256,
                 one.state, one.text)
        for one in artifacts
    )  # fmt: skip
    return Examination(moved, examination.findings, examination.unscanned, examination.anomalies)

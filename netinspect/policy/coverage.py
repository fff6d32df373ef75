"""How much of a message was looked at. "Clean" may be said only of one that was wholly covered.

A part is a leaf of the message, or something found inside one; parts inside are counted with their container. Octets
are those after the transfer decoding and unpacking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from netinspect.files.artifact import Artifact
from netinspect.scan.contract import Unscanned

SKIPPED = 100
"""Reasons that are listed; what is not listed is counted all the same."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not decoded or not looked at, and why. `path` is the part's; `""`: the message as a whole."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """Parts and octets seen, decoded with certainty, and looked at by every engine that is on."""

    parts: int = 0
    bytes: int = 0
    decoded: int = 0
    decoded_bytes: int = 0
    scanned: int = 0
    scanned_bytes: int = 0
    skipped: tuple[Skipped, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all of the message was decoded and looked at."""
        return not self.skipped and self.parts == self.decoded == self.scanned


def uncovered(parts: int, octets: int, reason: str) -> Coverage:
    """Nothing of a message was looked at, for one reason."""
    return Coverage(parts, octets, skipped=(Skipped("", reason),))


def cover(
    artifacts: Sequence[Artifact],
    unscanned: Sequence[Unscanned] = (),
    *,
    undecoded: Iterable[tuple[str, str]] = (),
    passed: Iterable[tuple[str, str]] = (),
    scanned: bool = True,
) -> Coverage:
    """Count what was covered.

    `undecoded` are path and reason of leaves that another mail program may read in another way, `passed` those of
    contents that were let through unlooked (SHA-256 and reason). Without an engine (`scanned` false) nothing was
    looked at.
    """
    parts = len(artifacts)
    octets = 0
    whole = True
    for artifact in artifacts:
        octets += artifact.size
        if artifact.state != "CLOSED":
            whole = False
    doubts = dict(undecoded)
    let_through = dict(passed)
    if whole and scanned and not unscanned and not doubts and not let_through:
        return Coverage(parts, octets, parts, octets, parts, octets)

    reasons: dict[str, str] = {}
    skipped: dict[Skipped, None] = {}
    for entry in unscanned:
        reason = entry.reason if entry.reason.startswith(entry.engine) else f"{entry.engine}: {entry.reason}"
        reasons.setdefault(entry.sha256, reason)
    if "" in reasons:
        skipped[Skipped("", reasons.pop(""))] = None
    if not scanned:
        skipped[Skipped("", "no engine is on")] = None
    found: set[str] = set()
    missing: list[str] = []
    decoded = decoded_bytes = looked = looked_bytes = 0
    for artifact in artifacts:
        path, sha256 = artifact.path, artifact.hashes.sha256
        found.add(sha256)
        doubt = doubts.get(path) or ("truncated" if artifact.state != "CLOSED" else "")
        if doubt:
            skipped[Skipped(path, f"not decoded: {doubt}")] = None
        else:
            decoded += 1
            decoded_bytes += artifact.size
        reason = reasons.get(sha256) or let_through.get(sha256) or ""
        if reason:
            skipped[Skipped(path, reason)] = None
            missing.append(f"{path}/")
        elif scanned and not (missing and path.startswith(tuple(missing))):
            looked += 1
            looked_bytes += artifact.size
    # Reasons about contents that are not on the list of parts: a list that was cut, or nothing came back at all.
    for sha256 in reasons.keys() - found:
        skipped[Skipped("", reasons[sha256])] = None
    return Coverage(
        parts, octets, decoded, decoded_bytes, looked, looked_bytes, tuple(skipped)[:SKIPPED]
    )

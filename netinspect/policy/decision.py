"""What is done with a mail or a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["accept", "reject", "tempfail", "drop", "quarantine", "disarm", "tag"]


@dataclass(frozen=True, slots=True)
class Disarmed:
    """What disarming did to one part of a mail.

    `removed` are the things taken out (`vba: word/vbaProject.bin`); where the part was replaced as a whole by a text
    (`replaced`), why. The digests are of the content before and after.
    """

    path: str
    filename: str
    sha256: str
    disarmed_sha256: str
    removed: tuple[str, ...]
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision and its reason.

    `code`, `enhanced` and `text` are what the peer is told (short, generic: `550 5.7.1 Message refused`); `reason` goes
    into the record. `reset` asks for a TCP reset instead of a reply when the action is drop. `headers` are added by
    tag and disarm. `rules` are the names of the rules that decided, in order. `disarmed` is what was done to the parts
    when the action is disarm; the inspector adds it.
    """

    action: Action
    reason: str = ""
    code: int = 250
    enhanced: str = "2.0.0"
    text: str = ""
    rules: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    reset: bool = False
    disarmed: tuple[Disarmed, ...] = ()

    @property
    def delivers(self) -> bool:
        """Whether the message goes on to the server."""
        return self.action in ("accept", "tag", "disarm")

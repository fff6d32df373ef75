"""What is done with a mail or a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["accept", "reject", "tempfail", "drop", "quarantine", "disarm", "tag"]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision and its reason.

    `code`, `enhanced` and `text` are what the peer is told (short, generic: `550 5.7.1 Message refused`); `reason` goes
    into the record. `reset` asks for a TCP reset instead of a reply when the action is drop. `headers` are added by
    tag. `rules` are the names of the rules that decided, in order.
    """

    action: Action
    reason: str = ""
    code: int = 250
    enhanced: str = "2.0.0"
    text: str = ""
    rules: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    reset: bool = False

    @property
    def delivers(self) -> bool:
        """Whether the message goes on to the server."""
        return self.action in ("accept", "tag")

"""What unpacking may cost, what comes out of it, and what is said of what did not come out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits


@dataclass(frozen=True, slots=True)
class Member:
    """One unpacked member; `part` is true when it is XML of a document, given for a look and not as an artifact."""

    name: str
    data: bytes
    part: bool = False


Trait = Literal[
    "password",
    "package", "link", "attachment", "javascript", "autorun", "launch", "remote", "smuggled",
]  # fmt: skip
"""What an unpacker saw and only it can see: `password` a member that a password opened, `package` a file wrapped in
an OLE object or a notebook, `link` one that stands somewhere else, `attachment` a file in a PDF, `javascript`,
`autorun` (an action when it is opened), `launch` (an action that starts a program), `remote` (an action that asks
another machine's share), `smuggled` a file made by a script.
"""


@dataclass(frozen=True, slots=True)
class Sight:
    """One trait and what it was: a name, a target."""

    trait: Trait
    detail: str


@dataclass(slots=True)
class Report:
    """What could not be opened. `unscanned` holds short stable reasons, `encrypted` the names of closed members."""

    unscanned: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)

    def could_not(self, reason: str) -> None:
        """Note `reason` once."""
        if reason not in self.unscanned:
            self.unscanned.append(reason)

    def saw(self, trait: Trait, detail: str = "") -> None:
        """Note a sight once, a hundred at most."""
        sight = Sight(trait, detail[:200])
        if len(self.sights) < 100 and sight not in self.sights:
            self.sights.append(sight)


class OverBudget(Exception):
    """A budget is used up; `reason` is the limit's name. It ends an archive and never leaves `files`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def final(self) -> bool:
        """Nothing is left for what comes behind either."""
        return self.reason in ("archive_bytes", "archive_members", "unpack_time")


class Damaged(Exception):
    """A member cannot be read as what it says it is. It never leaves `files`."""


class Budget:
    """What all archives in one leaf may cost together. `passwords` gives what is tried on the encrypted, in order."""

    __slots__ = ("_end", "_passwords", "_words", "held", "limits", "members", "octets", "openings", "tries")

    def __init__(self, limits: Limits, passwords: Callable[[], Sequence[str]] = tuple) -> None:
        self.limits = limits
        self.members = limits.archive_members
        self.octets = limits.archive_bytes
        self.held = 0  # octets of the contents in which whatever is read now lies; kept by whoever walks the tree
        self.tries = limits.password_tries
        self.openings = 0
        """How often a password has fitted; it grows before what that opened is given."""
        self._passwords = passwords
        self._words: list[str] | None = None
        self._end = time.process_time() + limits.unpack_time

    @property
    def passwords(self) -> list[str]:
        """To try; found only when somebody asks, for most mails have nothing encrypted."""
        if self._words is None:
            self._words = list(dict.fromkeys(self._passwords()))
        return self._words

    def check_time(self) -> None:
        """Raise OverBudget when the CPU time is used up."""
        if time.process_time() > self._end:
            raise OverBudget("unpack_time")

    def take_member(self) -> None:
        """Pay for one more member."""
        if self.members <= 0:
            raise OverBudget("archive_members")
        self.check_time()
        self.members -= 1

    def take_try(self) -> bool:
        """Pay for one more password; False when there are no more to be had."""
        self.check_time()
        self.tries -= 1
        return self.tries >= 0

    def check_declared(self, size: int, packed: int) -> None:
        """Refuse what already by its own account is too big, or too small packed."""
        limits = self.limits
        if size > limits.member_bytes:
            raise OverBudget("member_bytes")
        if size > self.octets:
            raise OverBudget("archive_bytes")
        if size > limits.archive_ratio_floor and size > limits.archive_ratio * max(packed, 1):
            raise OverBudget("archive_ratio")
        if size > self.spare:
            raise OverBudget("archive_held")

    def room(self, packed: int) -> tuple[int, str]:
        """Octets that a member of `packed` octets may unpack to, and the name of the limit that says so."""
        limits = self.limits
        ratio = max(limits.archive_ratio * packed, limits.archive_ratio_floor)
        return min(
            (limits.member_bytes, "member_bytes"), (self.octets, "archive_bytes"), (ratio, "archive_ratio"),
            (self.spare, "archive_held"),
        )  # fmt: skip

    @property
    def spare(self) -> int:
        """Octets that may still be held beside `held`."""
        return max(0, self.limits.archive_held - self.held)

    def spend(self, octets: int) -> None:
        """Pay for unpacked octets."""
        self.octets -= octets

    def take(self, data: bytes) -> bytes:
        """Pay for a member that lay there as it is: its number, its octets."""
        self.take_member()
        if len(data) > self.octets:
            raise OverBudget("archive_bytes")
        if len(data) > self.spare:
            raise OverBudget("archive_held")
        self.octets -= len(data)
        return data

    def opened_with(self, password: str) -> None:
        """A password fitted: try it first from now on."""
        self.openings += 1
        if password in self.passwords:
            self.passwords.remove(password)
        self.passwords.insert(0, password)

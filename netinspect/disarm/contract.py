"""What cleaning gives: the file without what runs, and what was taken out of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing taken out. `what` is a short stable word (`vba`, `dde`, `javascript`); `where` a member or object."""

    what: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The file as it may be delivered. No removals: it had nothing in it, and `data` is what came."""

    data: bytes
    removed: tuple[Removal, ...] = ()


class CannotClean(Exception):
    """This file is not one that can be cleaned; the text says why. Whoever asked replaces it as a whole."""

"""Fields of Word, whatever the container: which of them fetch, start or cannot be told beforehand.

A field is code, then the result that was shown last (ECMA-376 part 1, 17.16; [MS-DOC] 2.8.25). Taken out, only its
result stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

Piece = tuple[Literal["code", "text", "deleted", "odd"], str]
"""A stretch of a field's code. `text` stands in an element for text, `deleted` in a tracked deletion, `odd` is
something whose meaning in a code is not known: a nested field, another branch of alternative content."""

DEEPEST: Final = 64
"""Fields in fields; Word nests 20."""
LONGEST: Final = 65_536
"""Characters of a code; an address in one has some hundred."""

_NAMES: Final = frozenset({
    "DDE", "DDEAUTO", "LINK", "IMPORT", "INCLUDE", "INCLUDETEXT", "INCLUDEPICTURE", "DATABASE", "RD", "HTMLACTIVEX",
})  # fmt: skip
"""What starts programs or fetches files. The shown text or picture of it stays."""

# Word takes quotes and blanks before the name.
_NAME = re.compile(r"[\s\"\u201c\u201d\x00-\x20]*(=|[^\s\"\\=\u201c\u201d]*)")
_TARGET = re.compile(
    r"[\s\"]*HYPERLINK\b"
    r"(?:\s+\\[lost](?![a-z])\s+(?:\"[^\"]*\"|[^\s\"\\]+)|\s+\\[a-z](?![a-z]))*\s*\"?([^\"\s]*)",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"[\x00-\x20]*(?:https?://|mailto:|#)", re.IGNORECASE)


def may_link(target: str) -> bool:
    """Whether a hyperlink to `target` may stay: pages, addresses of mail, places in the document."""
    return _SCHEME.match(target) is not None


@dataclass(slots=True)
class Code:
    """The code of one field while it is read."""

    pieces: list[Piece] = field(default_factory=list)
    size: int = 0

    def add(self, kind: Literal["code", "text", "deleted", "odd"], text: str = "") -> None:
        """Add a stretch."""
        self.size += len(text) + 1
        if self.size <= LONGEST:
            self.pieces.append((kind, text))

    def active(self) -> str:
        """`dde`, `link`, `hyperlink`, `dynamic` or `long` when the field must go, else `""`.

        What counts as code differs between programs, so each reading of it must be harmless.
        """
        if self.size > LONGEST:
            return "long"
        kinds = {kind for kind, _ in self.pieces}
        readings: list[set[str]] = [{"code"}]
        for other in ("text", "deleted"):
            if other in kinds:
                readings += [reading | {other} for reading in readings]
        for reading in readings:
            text = ""
            for kind, stretch in self.pieces:
                if kind == "odd":
                    if _open_name(text):
                        return "dynamic"  # its name is made by another field
                    text += " "
                elif kind in reading:
                    text += stretch
            found = verdict(text)
            if found:
                return found
        return ""


def _open_name(text: str) -> bool:
    """Whether what comes next would still belong to the name of the field."""
    name = _NAME.match(text)
    assert name is not None  # noqa: S101 - it matches the empty string too
    return name[1] != "=" and name.end() == len(text)


def verdict(code: str) -> str:
    """What the code of a field does: `dde`, `link`, `hyperlink` with a target that may not stay, or `""`."""
    name = _NAME.match(code)
    word = name[1].upper() if name else ""
    if word.startswith("DDE"):
        return "dde"
    if word in _NAMES:
        return "link"
    if word == "HYPERLINK":
        target = _TARGET.match(code)
        if target and target[1] and not target[1].startswith("\\") and not may_link(target[1]):
            return "hyperlink"
        if target and target[1].startswith("\\\\"):
            return "hyperlink"
    return ""

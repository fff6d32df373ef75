"""Short plain texts, looked at where they are: most mails are nothing else, and a round trip to a worker costs more.

What is done here to a sender's octets is: a look at the first ones, two digests, and the package's own few rules
(YARA-X, which is Rust; 12 µs for 10 KB). The only answer given is "a text, and nothing in it". Whatever is remarkable,
or larger, or anything but text, gets no answer here and goes to a worker, like everything where an administrator has
rules of his own.
"""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from netinspect.files import kind as kinds
from netinspect.files.artifact import Artifact, Hashes
from netinspect.scan.contract import Examination
from netinspect.scan.rules import RuleEngine

MOST: Final = 65_536
"""Octets of a text that is looked at here."""


class Content(Protocol):
    """What is used of a spool."""

    @property
    def size(self) -> int: ...

    def getvalue(self) -> bytes: ...


class TextLeaf(Protocol):
    """What is used of a leaf."""

    @property
    def sha256(self) -> str: ...

    @property
    def content(self) -> Content: ...

    @property
    def name(self) -> str: ...

    @property
    def declared(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def text(self) -> bool: ...


class PlainText:
    """Answers for plain texts; `rules` are the package's own, None where rules are off."""

    def __init__(self, rules: RuleEngine | None) -> None:
        self._rules = rules

    def examine(self, leaf: TextLeaf) -> Examination | None:
        """The examination of a text with nothing in it, the same as a worker's; None: ask a worker."""
        if not leaf.text or leaf.name or leaf.declared != "text/plain" or leaf.content.size > MOST:
            return None
        data = leaf.content.getvalue()
        if kinds.identify(data) != "text" or kinds.carries(data):
            return None
        if any(mark in data for mark in kinds.MACRO_MARKS):
            return None
        if self._rules is not None and self._rules.scan(data, leaf.sha256):
            return None
        hashes = Hashes(
            leaf.sha256,
            hashlib.sha1(data, usedforsecurity=False).hexdigest(),
            hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )
        itself = Artifact(hashes, len(data), "text", leaf.path, declared=leaf.declared, text=True)
        return Examination((itself,))

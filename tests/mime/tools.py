"""Parsing in one line, and results as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser, Part
from netinspect.mime.readings import other_readings
from netinspect.spool import Spool, SpoolBudget


@dataclass(frozen=True)
class Seen:
    """A leaf with its content."""

    path: str
    data: bytes
    name: str
    declared: str
    text: bool
    why: tuple[str, ...]


@dataclass(frozen=True)
class Parsed:
    leaves: list[Seen]
    anomalies: list[tuple[str, int, str]]
    tree: object
    parser: MimeParser

    @property
    def data(self) -> dict[str, bytes]:
        return {leaf.path: leaf.data for leaf in self.leaves}

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _, _ in self.anomalies}

    def same(self, other: Parsed) -> None:
        assert self.leaves == other.leaves
        assert self.anomalies == other.anomalies
        assert self.tree == other.tree
        assert self.parser.mail == other.parser.mail


def see(leaf: Leaf) -> Seen:
    data = leaf.content.getvalue()
    assert hashlib.sha256(data).hexdigest() == leaf.sha256
    assert leaf.undecoded == bool(leaf.why)
    assert leaf.size == len(data)
    return Seen(leaf.path, data, leaf.name, leaf.declared, leaf.text, leaf.why)


def see_all(leaves: list[Leaf]) -> list[Seen]:
    """A leaf under another name shares its content: all are read before any is closed."""
    seen = [see(leaf) for leaf in leaves]
    for leaf in leaves:
        leaf.content.close()
    return seen


def tree(part: Part) -> object:
    return (
        part.path, part.content_type, part.filename, part.encoding, part.disposition, part.offset, part.doubts,
        part.headers.fields, [tree(child) for child in part.children],
    )  # fmt: skip


def parse_pieces(pieces: Iterable[bytes], limits: Limits | None = None) -> Parsed:
    """Parse and check that every spool's memory came back."""
    limits = limits or Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    leaves: list[Leaf] = []
    for piece in pieces:
        leaves += parser.feed(piece)
    leaves += parser.close()
    assert parser.close() == []
    seen = see_all(leaves)
    assert budget.used == 0
    return Parsed(seen, [(a.kind, a.offset, a.detail) for a in parser.anomalies], tree(parser.root), parser)


def cut(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def parse(raw: bytes | str, limits: Limits | None = None, *, bytewise: bool = True) -> Parsed:
    """Parse whole, byte by byte and in sevens; all three have to say the same."""
    if isinstance(raw, str):
        raw = raw.replace("\n", "\r\n").encode()
    whole = parse_pieces([raw], limits)
    if bytewise:
        for size in (1, 7):
            whole.same(parse_pieces(cut(raw, size), limits))
    return whole


def read_all(raw: bytes | str, limits: Limits | None = None) -> Parsed:
    """The first reading and all others, checked like `parse_pieces`."""
    if isinstance(raw, str):
        raw = raw.replace("\n", "\r\n").encode()
    limits = limits or Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    message = Spool(limits, budget)
    message.write(raw)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    leaves = [*parser.feed(raw), *parser.close()]
    leaves += other_readings(parser, leaves, message)
    paths = [leaf.path for leaf in leaves]
    assert len(set(paths)) == len(paths)
    seen = see_all(leaves)
    message.close()
    assert budget.used == 0
    return Parsed(seen, [(a.kind, a.offset, a.detail) for a in parser.anomalies], tree(parser.root), parser)

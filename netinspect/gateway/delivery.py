"""How an accepted message is written to the server: dot-stuffed, with our headers, in pieces for a slow server.

With the action disarm it is the rewritten message, and never the one that came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from netinspect.gateway.replies import one_line
from netinspect.policy.decision import Decision
from netinspect.smtp.outgoing import Stuffer

if TYPE_CHECKING:
    from netinspect.inspector import Inspection
    from netinspect.spool import Spool

BURST = 262_144
"""Octets sent before we wait for the write buffer to drain."""

OWN_PREFIX = b"x-netinspect-"
"""Headers of this name are ours: inbound copies are removed, or anybody could write a verdict."""


def as_data(inspection: Inspection, decision: Decision) -> Iterator[bytes]:
    """The message as it follows a 354, with the end-of-data line in its last piece."""
    stuffer = Stuffer()
    last = b""
    for piece in content(inspection, decision):
        if last:
            yield last
        last = stuffer.feed(piece)
    yield last + stuffer.end()


def as_chunk(inspection: Inspection, decision: Decision) -> tuple[int, Iterator[bytes]]:
    """The message's size and octets for one `BDAT n LAST` (RFC 3030 §2)."""
    head, skip = _head(inspection, decision)
    return _source(inspection, decision).size - skip + len(head), content(inspection, decision)


def content(inspection: Inspection, decision: Decision) -> Iterator[bytes]:
    """The message that is delivered: byte for byte what came or what was rewritten, but for headers of ours."""
    head, skip = _head(inspection, decision)
    if head:
        yield head
    for piece in _source(inspection, decision).chunks(BURST):
        if skip >= len(piece):
            skip -= len(piece)
        elif skip:
            yield piece[skip:]
            skip = 0
        else:
            yield piece


def _source(inspection: Inspection, decision: Decision) -> Spool:
    """The message as it came, or as it was disarmed."""
    if decision.action != "disarm":
        return inspection.spool
    if inspection.rewritten is None:
        raise AssertionError("a message that was not disarmed is not delivered as one")
    return inspection.rewritten


def _head(inspection: Inspection, decision: Decision) -> tuple[bytes, int]:
    """A new header block and how many octets of the message it stands for; empty when nothing changes."""
    block = _header_block(_source(inspection, decision), inspection.limits.header_bytes)
    dirty = OWN_PREFIX in block.lower()
    if not dirty and not decision.headers:
        return b"", 0
    lines = [one_line(f"{name}: {value}") for name, value in decision.headers]
    added = b"".join(line.encode("ascii", "replace") + b"\r\n" for line in lines)
    if not dirty:
        return added, 0
    return added + _without_ours(block), len(block)


def _header_block(spool: Spool, limit: int) -> bytes:
    """The message's header with the empty line behind it; of one that does not end, its whole lines up to `limit`."""
    block = bytearray(b"\n")  # a message may begin with the empty line: then it has no header
    looked = 0
    for piece in spool.chunks(BURST):
        block += piece
        ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := block.find(mark, looked)) >= 0]
        if ends:
            return bytes(block[1 : min(ends)])
        if len(block) >= limit:
            return bytes(block[1 : block.rfind(b"\n", 1, limit) + 1])
        looked = max(0, len(block) - 2)
    return bytes(block[1:])


def _without_ours(block: bytes) -> bytes:
    kept: list[bytes] = []
    ours = False
    for line in block.splitlines(keepends=True):
        if line[:1] not in (b" ", b"\t"):
            ours = line.lower().startswith(OWN_PREFIX)
        if not ours:
            kept.append(line)
    return b"".join(kept)


class CutThrough:
    """Content flows on to the server as it comes; only the end-of-data line is held back."""

    def __init__(self) -> None:
        self._stuffer = Stuffer()

    def feed(self, data: bytes) -> bytes:
        """What may be sent now."""
        return self._stuffer.feed(data)

    def end(self) -> bytes:
        """The end-of-data line."""
        return self._stuffer.end()

"""Compressed streams, unpacked in pieces under a budget: deflate, gzip, bzip2, xz, LZMA, lzip."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from netinspect.anomaly import Anomaly
from netinspect.files.budget import Budget, Damaged, Member, OverBudget, Report

_PIECE: Final = 262_144
_INPUT: Final = 65_536


class Decompressor(Protocol):
    """What bz2 and lzma have."""

    def decompress(self, data: bytes, /, max_length: int = ...) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class Deflate:
    """zlib with the interface that bz2 and lzma have: it keeps what it has not taken yet."""

    __slots__ = ("_engine", "_rest")

    def __init__(self, window: int) -> None:
        self._engine = zlib.decompressobj(window)
        self._rest = b""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        out = self._engine.decompress(self._rest + data if self._rest else data, max_length)
        self._rest = self._engine.unconsumed_tail
        return out

    @property
    def eof(self) -> bool:
        return self._engine.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        return self._engine.unused_data


class Lzip:
    """One member of an lzip file (manual, "File format": header 6, LZMA with an end mark, trailer 20)."""

    __slots__ = ("_engine", "_head", "_tail")

    def __init__(self) -> None:
        self._engine: lzma.LZMADecompressor | None = None
        self._head = b""
        self._tail = b""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        if self._engine is None:
            self._head += data
            if len(self._head) < 6:
                return b""
            coded = self._head[5]
            size = 1 << (coded & 0x1F)
            size -= (size >> 4) * (coded >> 5)
            if not 4096 <= size <= 1 << 29:
                raise lzma.LZMAError("dictionary size")
            filters = [{"id": lzma.FILTER_LZMA1, "dict_size": min(size, 128 << 20), "lc": 3, "lp": 0, "pb": 2}]
            self._engine = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
            data = self._head[6:]
        if self._engine.eof:
            self._tail += data
            return b""
        return self._engine.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._engine is not None and self._engine.eof and len(self._rest) >= 20

    @property
    def needs_input(self) -> bool:
        return self._engine is None or self._engine.eof or self._engine.needs_input

    @property
    def _rest(self) -> bytes:
        return (self._engine.unused_data if self._engine is not None else b"") + self._tail

    @property
    def unused_data(self) -> bytes:
        return self._rest[20:]


ERRORS: Final = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)
"""What decompressors raise on damage."""


def inflate(
    packed: memoryview, start: Callable[[], Decompressor], budget: Budget, *, magic: bytes = b"", partial: bool = False
) -> tuple[bytes, int]:
    """Unpack one stream and, if each begins with `magic`, those behind it; give content and octets left over.

    With `partial` the content up to a damage is given, if there is any, and -1 as what is left.

    Raises:
        OverBudget: more comes out than there is room for.
        Damaged: it ends too early. So do `ERRORS`.
    """
    room, limit = budget.room(len(packed))
    out = io.BytesIO()  # grows in place and gives its content without a copy
    engine, at, total = start(), 0, 0
    rest = b""
    try:
        while True:
            given = rest
            if not given and engine.needs_input:  # else it has enough to fill the next piece
                given = bytes(packed[at : at + _INPUT])
                at += len(given)
            piece = engine.decompress(given, min(_PIECE, room - total + 1))
            rest = b""
            total += len(piece)
            if total > room:
                raise OverBudget(limit)
            out.write(piece)
            if engine.eof:
                left = len(engine.unused_data) + len(packed) - at
                follow = bytes(packed[at : at + _INPUT])
                rest = (engine.unused_data + follow).lstrip(b"\0")
                if not magic or not rest.startswith(magic):
                    break
                at += len(follow)
                engine = start()
            elif not piece and not given:
                raise Damaged("ends too early")
    except (Damaged, *ERRORS):
        if not partial or not total:
            raise
        left = -1
    budget.spend(total)
    return out.getvalue(), left


STREAMS: Final[dict[str, tuple[str, bytes, Callable[[], Decompressor]]]] = {
    "gzip": (".gz", b"\x1f\x8b", lambda: Deflate(31)),
    "bzip2": (".bz2", b"BZh", bz2.BZ2Decompressor),
    "xz": (".xz", b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(memlimit=128 << 20)),
    "lzip": (".lz", b"LZIP\x01", Lzip),
}


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """The one content of a compressed file, and what stands behind it if it is more than padding."""
    suffix, magic, start = STREAMS[kind]
    budget.take_member()
    content, left = inflate(memoryview(data), start, budget, magic=magic, partial=True)
    if left < 0:
        report.could_not("damaged archive")
    elif left:
        report.anomalies.append(Anomaly("trailing_data", "file", len(data) - left, kind))
    yield Member(name.removesuffix(suffix) if name.endswith(suffix) else f"{name or kind}.out", content)
    if left > 0:
        del content
        # Programs that look for an archive by its end, or by trying, find what is there.
        trailing = data[len(data) - left :].lstrip(b"\0")
        if trailing:
            yield Member("trailing", budget.take(trailing))

"""Members of archives, each read under a budget that is spent before the octets are.

    report = Report()
    for member in unpack(data, kind, name, budget, report): ...

One member is in memory at a time. Sizes that an archive declares are used to refuse, never to trust: what comes out is
counted as it comes out, in pieces, and reading stops at the first piece too many. Whatever could not be opened is in
the report: nobody shall take it for clean.

Of OOXML documents (`docx`, `xlsm`, ...) only the members are given that can do something: whatever is neither XML
nor a picture by content (`vbaProject.bin` under whatever name, embedded files, ActiveX, fonts), and, marked as `part`,
the XML that the office engine wants to see (relationships, fields, macro sheets).
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from netinspect.anomaly import Anomaly
from netinspect.files import kind as kinds
from netinspect.limits import Limits

_PIECE: Final = 262_144
_INPUT: Final = 65_536
_PEEK: Final = 16


@dataclass(frozen=True, slots=True)
class Member:
    """One unpacked member; `part` is true when it is XML of a document, given for a look and not as an artifact."""

    name: str
    data: bytes
    part: bool = False


@dataclass(slots=True)
class Report:
    """What could not be opened. `unscanned` holds short stable reasons, `encrypted` the names of closed members."""

    unscanned: list[str] = field(default_factory=list)
    encrypted: list[str] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)

    def could_not(self, reason: str) -> None:
        """Note `reason` once."""
        if reason not in self.unscanned:
            self.unscanned.append(reason)


class OverBudget(Exception):
    """A budget is used up; `reason` is the limit's name. It ends an archive and never leaves this module."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Damaged(Exception):
    """A member cannot be read as what it says it is. It never leaves this module."""


class Budget:
    """What all archives in one leaf may cost together."""

    __slots__ = ("limits", "members", "octets")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.members = limits.archive_members
        self.octets = limits.archive_bytes

    def take_member(self) -> None:
        """Pay for one more member."""
        if self.members <= 0:
            raise OverBudget("archive_members")
        self.members -= 1

    def check_declared(self, size: int, packed: int) -> None:
        """Refuse what already by its own account is too big, or too small packed."""
        limits = self.limits
        if size > limits.member_bytes:
            raise OverBudget("member_bytes")
        if size > self.octets:
            raise OverBudget("archive_bytes")
        if size > limits.archive_ratio_floor and size > limits.archive_ratio * max(packed, 1):
            raise OverBudget("archive_ratio")

    def room(self, packed: int) -> tuple[int, str]:
        """Octets that a member of `packed` octets may unpack to, and the name of the limit that says so."""
        limits = self.limits
        ratio = max(limits.archive_ratio * packed, limits.archive_ratio_floor)
        return min((limits.member_bytes, "member_bytes"), (self.octets, "archive_bytes"), (ratio, "archive_ratio"))

    def spend(self, octets: int) -> None:
        """Pay for unpacked octets."""
        self.octets -= octets


class _Decompressor(Protocol):
    def decompress(self, data: bytes, /, max_length: int = ...) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Deflate:
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


_ERRORS = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)


def _inflate(
    packed: memoryview, start: Callable[[], _Decompressor], budget: Budget, *, magic: bytes = b""
) -> tuple[bytes, int]:
    """Unpack one stream and, if each begins with `magic`, those behind it; give content and octets left over."""
    room, limit = budget.room(len(packed))
    out = io.BytesIO()  # grows in place and gives its content without a copy
    engine, at, total = start(), 0, 0
    rest = b""
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
    budget.spend(total)
    return out.getvalue(), left


def unpack(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the members of `data`, which is of `kind`; nothing when it is no archive that can be opened here.

    What stops the reading is in `report`; nothing is raised for hostile content.
    """
    try:
        if kind in kinds.ZIPS:
            yield from _zip_members(data, kind, budget, report)
        elif kind in _STREAMS:
            suffix, magic, start = _STREAMS[kind]
            budget.take_member()
            content, left = _inflate(memoryview(data), start, budget, magic=magic)
            if left:
                report.anomalies.append(Anomaly("trailing_data", "file", len(data) - left, kind))
            yield Member(name.removesuffix(suffix) if name.endswith(suffix) else f"{name or kind}.out", content)
        elif kind == "tar":
            yield from _tar_members(data, budget, report)
        elif kind in kinds.NOT_UNPACKED:
            report.anomalies.append(Anomaly("not_unpacked", "file", 0, kind))
        elif kinds.zip_end(data) >= 0:
            yield from _appended_zip(data, budget, report)
    except OverBudget as over:
        report.could_not(over.reason)
    except (Damaged, *_ERRORS):
        report.could_not("damaged archive")


_STREAMS: Final[dict[str, tuple[str, bytes, Callable[[], _Decompressor]]]] = {
    "gzip": (".gz", b"\x1f\x8b", lambda: _Deflate(31)),
    "bzip2": (".bz2", b"BZh", bz2.BZ2Decompressor),
    "xz": (".xz", b"\xfd7zXZ", lambda: lzma.LZMADecompressor(memlimit=128 << 20)),
}


def _appended_zip(data: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    """A zip behind something else: a self-extractor or a polyglot. What only looks like one is no damage."""
    probe = Report()
    members = _zip_members(data, "zip", budget, probe)
    try:
        first = next(members, None)
    except (Damaged, *_ERRORS):
        return
    if first is None and not probe.encrypted and not probe.unscanned:
        return
    report.anomalies.append(Anomaly("appended_archive", "file", data.find(b"PK\x03\x04"), "zip"))
    if first is not None:
        yield first
    yield from members
    report.encrypted += probe.encrypted
    report.anomalies += probe.anomalies
    for reason in probe.unscanned:
        report.could_not(reason)


def _zip_members(data: bytes, kind: str, budget: Budget, report: Report) -> Iterator[Member]:
    if data.count(b"PK\x01\x02") > budget.members:  # before a list of them is made
        raise OverBudget("archive_members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, OverflowError) as error:
        raise Damaged(str(error)) from error
    ooxml = kind in kinds.OOXML
    view = memoryview(data)
    for info in infos:
        budget.take_member()
        if info.is_dir() and not info.file_size:
            continue
        if info.flag_bits & 0x1:
            report.encrypted.append(info.filename)
            continue
        try:
            packed = _packed(view, info)
            if ooxml:
                wanted = _wanted(info, packed)
                if wanted is None:
                    continue
            else:
                wanted = False
            yield Member(info.filename, _unpacked(packed, info, budget, report), wanted)
        except OverBudget as over:
            if over.reason.startswith("archive_") and over.reason != "archive_ratio":
                raise  # nothing is left for the members behind it
            report.could_not(over.reason)
        except (Damaged, NotImplementedError, *_ERRORS) as error:
            unknown = isinstance(error, NotImplementedError)
            report.could_not("unknown compression method" if unknown else "damaged archive")


def _packed(view: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """The packed octets of a member (APPNOTE 4.3.7: the local header's own lengths say where they start)."""
    at = info.header_offset
    header = view[at : at + 30]
    if at < 0 or len(header) < 30 or bytes(header[:4]) != b"PK\x03\x04":
        raise Damaged("no local header")
    start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    packed = view[start : start + info.compress_size]
    if len(packed) != info.compress_size:
        raise Damaged("cut off")
    return packed


def _method(info: zipfile.ZipInfo, packed: memoryview) -> tuple[Callable[[], _Decompressor], memoryview]:
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return lambda: _Deflate(-15), packed
    if info.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor, packed
    if info.compress_type == zipfile.ZIP_LZMA:
        # APPNOTE 5.8.8: version (2), length of the properties (2), the properties, the stream.
        if len(packed) < 9 or bytes(packed[2:4]) != b"\x05\x00":
            raise Damaged("LZMA properties")
        model = packed[4]
        filters = [{
            "id": lzma.FILTER_LZMA1, "dict_size": min(int.from_bytes(packed[5:9], "little"), 128 << 20),
            "lc": model % 9, "lp": model // 9 % 5, "pb": model // 45,
        }]  # fmt: skip
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), packed[9:]
    raise NotImplementedError(info.compress_type)


def _unpacked(packed: memoryview, info: zipfile.ZipInfo, budget: Budget, report: Report) -> bytes:
    budget.check_declared(info.file_size, len(packed))
    if info.compress_type == zipfile.ZIP_STORED:
        room, limit = budget.room(len(packed))
        if len(packed) > room:
            raise OverBudget(limit)
        budget.spend(len(packed))
        content = bytes(packed)
    else:
        start, stream = _method(info, packed)
        if info.compress_type == zipfile.ZIP_LZMA and not info.flag_bits & 0x2:
            # Without an end mark the size is the end: no more than that is asked for.
            engine = start()
            content = engine.decompress(bytes(stream), info.file_size)
            if len(content) != info.file_size:
                raise Damaged("ends too early")
            budget.spend(len(content))
        else:
            content, left = _inflate(stream, start, budget)
            if left:
                report.anomalies.append(Anomaly("trailing_data", "file", info.header_offset, info.filename))
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        # Unpackers differ in what they do then, so the content counts and the mismatch is on record.
        report.anomalies.append(Anomaly("archive_checksum", "file", info.header_offset, info.filename))
    return content


_PARTS: Final = ("word/", "xl/externallinks/", "xl/macrosheets/", "xl/workbook.xml")
_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")
_XML_STARTS: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<", b"\xfe\xff\0<")


def _wanted(info: zipfile.ZipInfo, packed: memoryview) -> bool | None:
    """Whether a member of a document is an artifact (False), an XML part to look at (True), or neither (None)."""
    if info.compress_type == zipfile.ZIP_STORED:
        head = bytes(packed[:_PEEK])
    elif info.compress_type == zipfile.ZIP_DEFLATED:
        head = zlib.decompressobj(-15).decompress(packed[:512], _PEEK)
    else:
        return False
    if head.lstrip(b" \t\r\n").startswith(_XML_STARTS):
        low = info.filename.replace("\\", "/").lstrip("/").lower()
        return True if low.endswith(".rels") or low.startswith(_PARTS) else None
    if head.startswith(_PICTURES):
        return None
    return None if not head else False


def _tar_members(data: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for info in archive:
                budget.take_member()
                if not info.isreg():
                    continue
                budget.check_declared(info.size, info.size)
                source = archive.extractfile(info)
                content = source.read(info.size) if source is not None else b""
                budget.spend(len(content))
                if len(content) != info.size:
                    report.could_not("damaged archive")
                yield Member(info.name, content)
    except (tarfile.TarError, OverflowError, struct.error) as error:
        raise Damaged(str(error)) from error

"""Zip, in every reading: what the central directory lists, what stands between, and what has no directory at all.

Programs differ: some go by the central directory at the end, some by the local header before each member. Where the
two disagree both readings are given. Methods that Python has not (Deflate64, PPMd, xz, zstd, ...) and encrypted members
go to 7-Zip's library.
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.files import archives, odf
from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, Damaged, Member, OverBudget, Report
from netinspect.files.sevenzip import Item
from netinspect.files.streams import ERRORS, Decompressor, Deflate, inflate

_PEEK: Final = 16
_LOCAL: Final = b"PK\x03\x04"
_ENCRYPTED, _DESCRIPTOR = 0x1, 0x8
# APPNOTE 4.4.5: what is unpacked here; all else is left to 7-Zip.
_OURS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_OURS_BY_NAME: Final = frozenset({"store", "deflate", "bzip2", "lzma", "lzma:eos"})


def members(data: bytes, kind: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the members of a zip.

    Raises:
        OverBudget: the archive as a whole is over a limit.
        Damaged: nothing could be read of it.
    """
    if data.count(b"PK\x01\x02") > budget.members:  # before a list of them is made
        raise OverBudget("archive_members")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, OverflowError, ValueError):
        report.could_not("damaged archive")
        yield from _gap(memoryview(data), data, 0, len(data), budget, report, "zip_without_directory")
        return
    yield from _Reader(data, kind, budget, report).read(infos)


class _Reader:
    def __init__(self, data: bytes, kind: str, budget: Budget, report: Report) -> None:
        self._data = data
        self._view = memoryview(data)
        self._ooxml = kind in kinds.OOXML
        self._budget = budget
        self._report = report
        self._ranges: list[tuple[int, int]] = []
        self._odf: odf.Opener | None = None

    def read(self, infos: list[zipfile.ZipInfo]) -> Iterator[Member]:
        report, budget = self._report, self._budget
        left: set[int] = set()
        if not self._ooxml:
            self._odf = self._opener(infos)
        for index, info in enumerate(infos):
            budget.take_member()
            local = _Local.at(self._view, info.header_offset)
            if local is not None:
                start = local.start
                self._ranges.append((info.header_offset, start + info.compress_size))
            if info.filename.endswith("/") and not info.file_size:
                continue
            if info.flag_bits & _ENCRYPTED or info.compress_type not in _OURS:
                left.add(index)
                continue
            try:
                if local is None:
                    raise Damaged("no local header")
                packed = self._view[local.start : local.start + info.compress_size]
                if len(packed) != info.compress_size:
                    raise Damaged("cut off")
                wanted: bool | None = _wanted(info, packed) if self._ooxml else False
                if wanted is None:
                    continue
                content = _unpacked(packed, info, budget, report)
                if self._odf is not None:
                    plain = self._odf.plain(info.filename, content)
                    if plain is None:
                        continue
                    content = plain
                yield Member(info.filename, content, wanted)
                yield from self._other_reading(info, local, content, wanted)
                del content
            except OverBudget as over:
                if over.final:
                    raise  # nothing is left for the members behind it
                report.could_not(over.reason)
            except (Damaged, NotImplementedError, *ERRORS):
                report.could_not("damaged archive")
        if left:
            yield from self._leftovers(left, len(infos))
        yield from self._gaps()

    def _opener(self, infos: list[zipfile.ZipInfo]) -> odf.Opener | None:
        """OpenDocument encrypts within the zip: its manifest says what, and the zip itself nothing."""
        for info in infos:
            if info.filename == odf.MANIFEST and info.compress_type in _OURS and not info.flag_bits & _ENCRYPTED:
                local = _Local.at(self._view, info.header_offset)
                if local is None:
                    return None
                packed = self._view[local.start : local.start + info.compress_size]
                try:
                    manifest = _unpacked(packed, info, self._budget, Report())
                except (OverBudget, Damaged, NotImplementedError, *ERRORS):
                    return None  # said where it is read as a member
                return odf.Opener(manifest, self._budget, self._report) if b"encryption-data" in manifest else None
        return None

    def _leftovers(self, left: set[int], total: int) -> Iterator[Member]:
        asked = 0

        def wanted(item: Item, count: int) -> bool:
            nonlocal asked
            # The library keeps the directory's order. Where it sees another number of entries its own word must do.
            take = item.index in left if count == total else _is_left(item)
            asked += take
            return take

        yield from archives.leftovers(self._data, wanted, self._budget, self._report)
        if asked < len(left):
            self._report.could_not("damaged archive")

    def _other_reading(
        self, info: zipfile.ZipInfo, local: _Local, content: bytes, part: bool
    ) -> Iterator[Member]:
        """What a program sees that goes by the local header."""
        report = self._report
        if local.name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace"):
            name = local.text()
            if _plain(name) != _plain(info.filename):
                report.anomalies.append(Anomaly("zip_names_differ", "file", info.header_offset, name[:200]))
                if not part:
                    yield Member(name, content)
        if local.method == info.compress_type and (local.size in (0, info.compress_size) or local.described):
            return
        if local.flags & _ENCRYPTED or local.size == 0xFFFFFFFF:  # zip64 has its sizes elsewhere
            return
        report.anomalies.append(Anomaly("zip_headers_differ", "file", info.header_offset, info.filename[:200]))
        try:
            other = local.content(self._view, len(self._data), self._budget)
        except (OverBudget, Damaged, NotImplementedError, *ERRORS):
            return  # one of the two readings is no file
        if other != content:
            yield Member(f"{info.filename}~local", other)

    def _gaps(self) -> Iterator[Member]:
        """Members that the directory does not list."""
        at = 0
        for start, end in [*sorted(self._ranges), (len(self._data), 0)]:
            if start > at and start - at > 30 and self._data.find(_LOCAL, at, start) >= 0:
                yield from _gap(self._view, self._data, at, start, self._budget, self._report, "zip_unlisted_member")
            at = max(at, end)


def _plain(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()


def _is_left(item: Item) -> bool:
    return item.encrypted or item.method.split(" ")[0].lower() not in _OURS_BY_NAME


def _gap(
    view: memoryview, data: bytes, at: int, end: int, budget: Budget, report: Report, anomaly: str
) -> Iterator[Member]:
    """Walk from one local header to the next between `at` and `end`."""
    while (at := data.find(_LOCAL, at, end)) >= 0:
        local = _Local.at(view, at)
        if local is None or not local.plausible(end):
            at += 4
            continue
        budget.take_member()
        at = local.start
        if local.flags & _ENCRYPTED:
            report.encrypted.append(local.text())
            continue
        if not local.name or local.name.endswith(b"/"):
            continue
        try:
            content = local.content(view, end, budget)
        except OverBudget as over:
            if over.final:
                raise
            report.could_not(over.reason)
            continue
        except NotImplementedError:
            report.could_not("unknown compression method")
            continue
        except (Damaged, *ERRORS):
            report.could_not("damaged archive")
            continue
        report.anomalies.append(Anomaly(anomaly, "file", at, local.text()[:200]))
        if not local.described:
            at += local.size
        yield Member(local.text(), content)


class _Local:
    """A local file header (APPNOTE 4.3.7)."""

    __slots__ = ("crc", "flags", "method", "name", "size", "start", "unpacked")

    def __init__(self, view: memoryview, at: int) -> None:
        self.flags, self.method, _, self.crc, self.size, self.unpacked, name, extra = struct.unpack_from(
            "<HHIIIIHH", view, at + 6
        )
        self.name = bytes(view[at + 30 : at + 30 + name])
        self.start = at + 30 + name + extra

    @classmethod
    def at(cls, view: memoryview, at: int) -> _Local | None:
        """The header at `at`, None when there is none."""
        if at < 0 or at + 30 > len(view) or bytes(view[at : at + 4]) != _LOCAL:
            return None
        return cls(view, at)

    @property
    def described(self) -> bool:
        """Its sizes stand behind the content."""
        return bool(self.flags & _DESCRIPTOR) and not self.size

    def plausible(self, end: int) -> bool:
        """Four octets alone are no header."""
        return self.start <= end and self.method < 100 and 0 < len(self.name) <= 4096 and b"\0" not in self.name

    def text(self) -> str:
        """The name; the flag says UTF-8, the default is the IBM PC's."""
        try:
            return self.name.decode("utf-8")
        except UnicodeDecodeError:
            return self.name.decode("cp437")

    def content(self, view: memoryview, end: int, budget: Budget) -> bytes:
        """What this header alone makes of the octets behind it."""
        size = self.size
        if self.described or self.start + size > end:
            # Up to the next header or the directory; a compressed one says itself where it ends.
            octets = bytes(view[self.start : end])
            stops = [found for mark in (b"PK\x07\x08", _LOCAL, b"PK\x01\x02") if (found := octets.find(mark)) >= 0]
            size = end - self.start if self.method else min(stops, default=len(octets))
        packed = view[self.start : self.start + size]
        if self.method == zipfile.ZIP_STORED:
            room, limit = budget.room(len(packed))
            if len(packed) > room:
                raise OverBudget(limit)
            budget.spend(len(packed))
            return bytes(packed)
        start, stream = _method(self.method, packed)
        content, _ = inflate(stream, start, budget, partial=True)
        return content


def _method(method: int, packed: memoryview) -> tuple[Callable[[], Decompressor], memoryview]:
    if method == zipfile.ZIP_DEFLATED:
        return lambda: Deflate(-15), packed
    if method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor, packed
    if method == zipfile.ZIP_LZMA:
        # APPNOTE 5.8.8: version (2), length of the properties (2), the properties, the stream.
        if len(packed) < 9 or bytes(packed[2:4]) != b"\x05\x00":
            raise Damaged("LZMA properties")
        model = packed[4]
        filters = [{
            "id": lzma.FILTER_LZMA1, "dict_size": min(int.from_bytes(packed[5:9], "little"), 128 << 20),
            "lc": model % 9, "lp": model // 9 % 5, "pb": model // 45,
        }]  # fmt: skip
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), packed[9:]
    raise NotImplementedError(method)


def _unpacked(packed: memoryview, info: zipfile.ZipInfo, budget: Budget, report: Report) -> bytes:
    budget.check_declared(info.file_size, len(packed))
    if info.compress_type == zipfile.ZIP_STORED:
        room, limit = budget.room(len(packed))
        if len(packed) > room:
            raise OverBudget(limit)
        budget.spend(len(packed))
        content = bytes(packed)
    else:
        start, stream = _method(info.compress_type, packed)
        if info.compress_type == zipfile.ZIP_LZMA and not info.flag_bits & 0x2:
            # Without an end mark the size is the end: no more than that is asked for.
            engine = start()
            content = engine.decompress(bytes(stream), info.file_size)
            if len(content) != info.file_size:
                raise Damaged("ends too early")
            budget.spend(len(content))
        else:
            content, left = inflate(stream, start, budget, partial=True)
            if left < 0:
                report.could_not("damaged archive")
            elif left:
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


def appended(data: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    """A zip behind something else: a self-extractor or a polyglot. What only looks like one is no damage."""
    probe = Report()
    read = members(data, "zip", budget, probe)
    try:
        first = next(read, None)
    except (Damaged, *ERRORS):
        return
    if first is None and not probe.encrypted and probe.unscanned in ([], ["damaged archive"]):
        return
    report.anomalies.append(Anomaly("appended_archive", "file", max(0, data.find(_LOCAL)), "zip"))
    if first is not None:
        yield first
    yield from read
    report.encrypted += probe.encrypted
    report.anomalies += probe.anomalies
    report.sights += probe.sights
    for reason in probe.unscanned:
        report.could_not(reason)

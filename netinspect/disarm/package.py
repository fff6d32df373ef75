"""The zip around an OOXML document: read in the one way that all programs share, written anew member by member.

A package whose members have two readings (names twice, local headers that disagree with the directory, encryption) is
`CannotClean`. What stands between the members or around them is not carried over.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Final

from netinspect.disarm.contract import CannotClean
from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, OverBudget

_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<4sHHHHIIH")
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
_UNREADABLE: Final = (
    zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, OverflowError, ValueError, LookupError,
    OSError, EOFError,
)  # fmt: skip


def plain(name: str) -> str:
    """The name of a part as it is compared: no leading slash, letters of one case (ECMA-376 part 2, 6.2.2)."""
    return name.replace("\\", "/").lstrip("/").lower()


@dataclass(slots=True)
class Member:
    """One member. `packed` is what the zip holds of it, unpacked by `Package.content`."""

    name: str
    raw_name: bytes
    method: int
    flags: int
    stamp: tuple[int, int]
    attributes: tuple[int, int, int]
    crc: int
    size: int
    packed: memoryview

    @property
    def is_folder(self) -> bool:
        """An entry that only names a folder."""
        return not self.size and self.raw_name.endswith(b"/")


class Package:
    """The members by plain name, in order. `loose`: something stood outside of them."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        """Raises CannotClean."""
        self._budget = budget
        self.members: dict[str, Member] = {}
        if b"PK\x05\x06" not in data[-kinds.ZIP_TAIL :]:
            raise CannotClean("no office document")
        try:
            if data.count(b"PK\x01\x02") > budget.limits.archive_members:  # before a list of them is made
                raise CannotClean("archive_members")
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                infos = archive.infolist()
            self._read(data, infos)
        except _UNREADABLE as error:
            raise CannotClean("damaged archive") from error

    def _read(self, data: bytes, infos: list[zipfile.ZipInfo]) -> None:
        view = memoryview(data)
        ranges: list[tuple[int, int]] = []
        for info in infos:
            try:
                self._budget.take_member()
            except OverBudget as over:
                raise CannotClean(over.reason) from over
            at = info.header_offset
            mark, _, flags, method, time, date, crc, packed, size, name, extra = _LOCAL.unpack_from(view, at)
            start = at + 30 + name + extra
            raw_name = bytes(view[at + 30 : at + 30 + name])
            expected = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
            if mark != b"PK\x03\x04" or raw_name != expected or b"\0" in raw_name or not raw_name:
                raise CannotClean("members with two readings")
            if flags & _ENCRYPTED or info.flag_bits & _ENCRYPTED:
                raise CannotClean("encrypted")
            if method != info.compress_type or method not in (_STORED, _DEFLATED):
                raise CannotClean("members with two readings")
            described = flags & _DESCRIPTOR and not packed
            if not described and (crc, packed, size) != (info.CRC, info.compress_size, info.file_size):
                raise CannotClean("members with two readings")
            end = start + info.compress_size
            if end > len(data):
                raise CannotClean("damaged archive")
            key = plain(info.orig_filename)
            if key in self.members:
                raise CannotClean("members with two readings")
            ranges.append((at, end))
            self.members[key] = Member(
                info.orig_filename.replace("\\", "/").lstrip("/"), raw_name, method,
                info.flag_bits & _UTF8, (time, date),
                (info.create_version | info.create_system << 8, info.internal_attr, info.external_attr),
                info.CRC, info.file_size, view[start:end],
            )  # fmt: skip
        ranges.sort()
        # Nothing of a document stands in front of its members or behind the end record: no stub, no comment.
        self.loose = kinds.zip_end(data) + 22 != len(data) or bool(ranges and ranges[0][0])
        at = 0
        for start, end in [*ranges, (len(data), 0)]:
            if start < at and end:
                raise CannotClean("members with two readings")  # one lies in another
            self.loose = self.loose or data.find(b"PK\x03\x04", at, start) >= 0
            at = max(at, end)

    def content(self, member: Member) -> bytes:
        """Unpack one member.

        Raises:
            CannotClean: over a limit, or it is not what the directory says.
        """
        try:
            self._budget.check_declared(member.size, len(member.packed))
            room, limit = self._budget.room(len(member.packed))
            self._budget.check_time()
        except OverBudget as over:
            raise CannotClean(over.reason) from over
        if member.size > room:
            raise CannotClean(limit)
        if member.method == _STORED:
            content = bytes(member.packed)
        else:
            engine = zlib.decompressobj(-15)
            try:
                content = engine.decompress(member.packed, member.size + 1)
            except zlib.error as error:
                raise CannotClean("damaged archive") from error
            if not engine.eof and len(content) <= member.size:
                try:
                    content += engine.decompress(engine.unconsumed_tail, 1)
                except zlib.error as error:
                    raise CannotClean("damaged archive") from error
            if not engine.eof or engine.unused_data:
                raise CannotClean("damaged archive")
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise CannotClean("damaged archive")
        self._budget.spend(len(content))
        return content

    def put(self, name: str, content: bytes) -> None:
        """Replace the content of a member, or add one behind the others."""
        key = plain(name)
        engine = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = memoryview(engine.compress(content) + engine.flush())
        old = self.members.get(key)
        if old is None:
            # Time stamps are those of the document; what is new has the oldest there is.
            self.members[key] = Member(
                name, name.encode(), _DEFLATED, 0, (0, 0x21), (20, 0, 0), zlib.crc32(content), len(content), packed
            )
            return
        method = old.method
        self.members[key] = Member(
            old.name, old.raw_name, method, old.flags, old.stamp, old.attributes, zlib.crc32(content), len(content),
            memoryview(content) if method == _STORED else packed,
        )  # fmt: skip

    def drop(self, key: str) -> None:
        """Take a member out; nothing when it is not there."""
        self.members.pop(key, None)

    def write(self) -> bytes:
        """The zip; the same members give the same octets."""
        out = bytearray()
        directory = bytearray()
        for member in self.members.values():
            at, packed = len(out), len(member.packed)
            common = (
                member.flags, member.method, *member.stamp, member.crc, packed, member.size, len(member.raw_name), 0,
            )  # fmt: skip
            out += _LOCAL.pack(b"PK\x03\x04", 20, *common) + member.raw_name
            out += member.packed
            made, internal, external = member.attributes
            directory += _CENTRAL.pack(b"PK\x01\x02", made, 20, *common, 0, 0, internal, external, at) + member.raw_name
        count = len(self.members)
        end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), len(out), 0)
        return bytes(out + directory + end)

"""What is embedded in a compound file: packages (Ole10Native), documents, attachments of Outlook messages.

Streams of Office itself are not given: the office engine reads them where they are.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import olefile

from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, Damaged, Member, OverBudget, Report
from netinspect.files.streams import Deflate, inflate

_PACKAGES: Final = frozenset({"package", "contents", "embeddedodf", "odf"})
_DATA: Final = "__substg1.0_37010102"
_NAMES: Final = ("__substg1.0_3707001f", "__substg1.0_3707001e", "__substg1.0_3704001f", "__substg1.0_3704001e")
_BODIES: Final = {
    "__substg1.0_1000001f": "body.txt", "__substg1.0_1000001e": "body.txt", "__substg1.0_10130102": "body.html",
    "__substg1.0_1013001e": "body.html", "__substg1.0_1013001f": "body.html",
}  # fmt: skip
# Contents that make an unnamed stream worth a look of its own.
_TELLING: Final = (
    kinds.ZIPS | kinds.OLES | kinds.ARCHIVES | {"pdf", "exe", "elf", "macho", "lnk", "rtf", "onenote", "html", "svg"}
)
_ERRORS: Final = (OSError, ValueError, LookupError, struct.error, ArithmeticError)


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield what is embedded. Raises Damaged where the file's own structure is broken, and OverBudget."""
    try:
        ole = olefile.OleFileIO(io.BytesIO(data))
    except _ERRORS as error:
        raise Damaged(str(error)) from error
    with ole:
        try:
            paths = ole.listdir()
        except RecursionError as error:  # a storage that is its own child
            raise Damaged("storages in a circle") from error
        for path in paths:
            try:
                if ole.get_size(path) > len(data):
                    # olefile would follow a chain in a circle until it had as much as the directory says.
                    raise ValueError("a stream longer than its file")
                yield from _stream(ole, path, kind, budget, report)
            except _ERRORS:
                report.could_not("damaged document")


def _stream(
    ole: olefile.OleFileIO, path: list[str], kind: str, budget: Budget, report: Report
) -> Iterator[Member]:
    low = path[-1].lower()
    size = ole.get_size(path)
    if not size:
        return
    if low == "\x01ole10native":
        native = _read(ole, path, budget)
        yield from native_member(native, budget, report)
    elif low == _DATA:
        yield Member(_attachment_name(ole, path), _read(ole, path, budget))
    elif low in _BODIES and kind == "msg":
        content = _read(ole, path, budget)
        if low.endswith("001f"):
            content = content.decode("utf-16-le", "replace").encode("utf-8")
        yield Member(_BODIES[low], content)
    elif low == "powerpoint document":
        yield from _powerpoint(_read(ole, path, budget), budget, report)
    elif low in _PACKAGES and len(path) > 1:
        yield Member(_printable(path[-2]), _read(ole, path, budget))
    elif len(path) > 0 and low not in _OFFICE:
        head = ole.openstream(path).read(kinds.HEAD)
        if kinds.identify(head) in _TELLING:
            yield Member(_printable(path[-1]), _read(ole, path, budget))


_OFFICE: Final = frozenset({
    "worddocument", "1table", "0table", "data", "workbook", "book", "\x05summaryinformation",
    "\x05documentsummaryinformation", "\x01compobj", "\x01ole", "\x03objinfo", "current user", "pictures", "dir",
    "_vba_project", "project", "projectwm", "encryptedpackage", "encryptioninfo", "ctls", "\x03ocxname",
})  # fmt: skip


def _read(ole: olefile.OleFileIO, path: list[str], budget: Budget) -> bytes:
    size = ole.get_size(path)
    if size > budget.octets:
        raise OverBudget("archive_bytes")
    data: bytes = ole.openstream(path).read()
    return budget.take(data)


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "_" for character in name)


def _attachment_name(ole: olefile.OleFileIO, path: list[str]) -> str:
    """[MS-OXMSG] 2.2.2: the properties of an attachment stand beside its data; long name before short name."""
    for stream in _NAMES:
        place = [*path[:-1], stream]
        if ole.exists(place):
            octets: bytes = ole.openstream(place).read(4096)
            name = octets.decode("utf-16-le" if stream.endswith("f") else "cp1252", "replace").rstrip("\0")
            if name:
                return name
    return path[-2] if len(path) > 1 else "attachment"


def native_member(native: bytes, budget: Budget, report: Report, *, sized: bool = True) -> Iterator[Member]:
    """Yield the file in an OLENativeStream ([MS-OLEDS] 2.3.6; what Packager writes into it is nowhere specified).

    size (4), flags (2), label, path, 8 octets with the length of the next, temporary path, size (4), content.
    """
    found = _package(native, 4 if sized else 0)
    if found is None:
        if sized and len(native) > 4:
            yield Member("object", budget.take(native[4:]))
        return
    name, source, content = found
    if content is None:
        report.saw("link", source)
        return
    report.saw("package", name)
    yield Member(name or "object", budget.take(content))


def _package(native: bytes, at: int) -> tuple[str, str, bytes | None] | None:
    if native[at : at + 2] not in (b"\x02\0", b"\x03\0"):
        return None
    at += 2
    strings = []
    for _ in range(2):
        end = native.find(b"\0", at, at + 4096)
        if end < 0:
            return None
        strings.append(native[at:end])
        at = end + 1
    name, source = (octets.decode("utf-8", "replace") for octets in strings)
    name = name or source
    kind = native[at + 2 : at + 4]
    at += 8
    end = native.find(b"\0", at, at + 4096)
    if end < 0 or len(native) < end + 5:
        return (_base(name), source, None) if kind == b"\x01\0" else None
    size = int.from_bytes(native[end + 1 : end + 5], "little")
    content = native[end + 5 : end + 5 + size]
    if not content and kind == b"\x01\0":
        return _base(name), source, None
    return _base(name), source, content


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


# [MS-PPT] 2.10.34: ExOleObjStg, recVer 0, recInstance 0 (as it is) or 1 (behind the unpacked size, zlib).
_OBJECTS: Final = ((b"\x10\x00\x11\x10", True), (b"\x00\x00\x11\x10", False))


def _powerpoint(stream: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    number = 0
    for mark, packed in _OBJECTS:
        at = stream.find(mark)
        while at >= 0:
            length = int.from_bytes(stream[at + 4 : at + 8], "little")
            content = stream[at + 8 : at + 8 + length]
            if 12 < length <= len(content):
                found = _object(content, budget, packed=packed)
                if found:
                    number += 1
                    yield Member(f"object{number}", found)
                    at += length
            at = stream.find(mark, at + 4)


def _object(content: bytes, budget: Budget, *, packed: bool) -> bytes:
    if not packed:
        return budget.take(content) if content.startswith(b"\xd0\xcf\x11\xe0") else b""
    if content[4:5] != b"\x78":  # a zlib stream with a 32 KB window
        return b""
    budget.take_member()
    try:
        unpacked, _ = inflate(memoryview(content)[4:], lambda: Deflate(15), budget, partial=True)
    except (Damaged, zlib.error):
        return b""
    return unpacked

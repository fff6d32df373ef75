"""Members of archives and documents, each read under a budget that is spent before the octets are.

    report = Report()
    for member in unpack(data, kind, name, budget, report): ...

Little is in memory at a time. Sizes that an archive declares are used to refuse, never to trust: what comes out is
counted as it comes out, in pieces, and reading stops at the first piece too many. Whatever could not be opened is in
the report: nobody shall take it for clean.

Of OOXML documents (`docx`, `xlsm`, ...) only the members are given that can do something: whatever is neither XML
nor a picture by content (`vbaProject.bin` under whatever name, embedded files, ActiveX, fonts), and, marked as `part`,
the XML that the office engine wants to see (relationships, fields, macro sheets).

Everything in this room but `kind` parses hostile octets with C or slow code, so it runs in a worker.
"""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from netinspect.anomaly import Anomaly
from netinspect.files import archives, markup, messages, notebook, ole, pdf, rtf, streams, tnef, zips
from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, Damaged, Member, OverBudget, Report, Sight

__all__ = ["Budget", "Member", "Report", "Sight", "load", "unpack"]

Unpacker: TypeAlias = Callable[[bytes, str, str, Budget, Report], Iterator[Member]]
"""octets, kind, name, budget, report: yields members; may raise OverBudget, Damaged, `streams.ERRORS`."""


def _tar(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """One archive after the other: what stands behind the end of the first is read by `tar -i` and by others."""
    start = 0
    while start >= 0:
        end = start + tarfile.BLOCKSIZE
        source = io.BytesIO(data)
        source.seek(start)
        try:
            with tarfile.open(fileobj=source, mode="r:") as archive:
                for info in archive:
                    yield from _tar_member(archive, info, budget, report)
                    # Not what is behind a member that ends behind the file.
                    end = max(end, min(archive.offset, len(data)))
                if data[archive.offset : archive.offset + tarfile.BLOCKSIZE].strip(b"\0"):
                    report.could_not("damaged archive")  # a header that is none, and not the end
        except (tarfile.TarError, OverflowError, struct.error) as error:
            if not start:
                raise Damaged(str(error)) from error
            report.could_not("damaged archive")
        following = data.find(b"ustar", end + 257 - 8)
        start = following - 257 if following >= 0 else -1
        if start >= 0:
            budget.take_member()
            report.anomalies.append(Anomaly("appended_archive", "file", start, "tar"))


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, budget: Budget, report: Report
) -> Iterator[Member]:
    budget.take_member()
    if not info.isreg():
        return
    budget.check_declared(info.size, info.size)
    if info.issparse() or archive.fileobj is None:
        source = archive.extractfile(info)
        content = source.read(info.size) if source is not None else b""
        del source
    else:  # without the copies that a buffered reader makes
        archive.fileobj.seek(info.offset_data)
        content = archive.fileobj.read(info.size)
    budget.spend(len(content))
    if len(content) != info.size:
        report.could_not("damaged archive")
    yield Member(info.name, content)


def _zip(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    return zips.members(data, kind, budget, report)


def _tnef(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    try:
        for member, content in tnef.members(data):
            budget.take_member()
            budget.check_declared(len(content), len(content))
            budget.spend(len(content))
            yield Member(member, content)
    except tnef.TnefError as error:
        raise Damaged(str(error)) from error


_UNPACKERS: Final[dict[str, Unpacker]] = {
    **dict.fromkeys(archives.KINDS, archives.members),
    **dict.fromkeys(kinds.ZIPS, _zip),
    **dict.fromkeys(streams.STREAMS, streams.members),
    **dict.fromkeys(kinds.OLES - {"msi"}, ole.members),
    "tar": _tar,
    "tnef": _tnef,
    "rtf": rtf.members,
    "pdf": pdf.members,
    "onenote": notebook.members,
    "eml": messages.members,
    "mht": messages.members,
    "html": markup.members,
    "svg": markup.members,
    "script": markup.members,
    "xml": markup.members,
    "xdp": markup.forms,
}


def load() -> None:
    """Load the libraries, before the worker gives up what loading needs."""
    archives.load()
    pdf.load()


# What is an archive from its first octet on is not searched for a second one: its members would be found again.
_WHOLE: Final = archives.KINDS | frozenset(streams.STREAMS) | kinds.ZIPS | {"tar"}


def unpack(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the members of `data`, which is of `kind`; nothing when there is nothing in it.

    What stops the reading is in `report`; nothing is raised for hostile content but MemoryError.
    """
    try:
        unpacker = _UNPACKERS.get(kind)
        if unpacker is not None:
            yield from unpacker(data, kind, name, budget, report)
        elif kind == "text":
            yield from markup.members(data, kind, name, budget, report)
        elif kind in kinds.NOT_UNPACKED:
            report.anomalies.append(Anomaly("not_unpacked", "file", 0, kind))
            report.could_not(f"cannot open: {kind}")
    except OverBudget as over:
        report.could_not(over.reason)
    except (Damaged, *streams.ERRORS):
        report.could_not("damaged document" if kind in _DOCUMENTS else "damaged archive")
    if kind in _WHOLE:
        return
    try:
        end = kinds.zip_end(data)
        # What a container embeds is found by its own structure; a zip that ends with the file is one to a zip program.
        comment = int.from_bytes(data[end + 20 : end + 22], "little")
        if end >= 0 and (kind not in _CONTAINERS or end + 22 + comment == len(data)):
            yield from zips.appended(data, budget, report)
        if kind not in _CONTAINERS and kinds.carries_archive(data):
            yield from archives.appended(data, budget, report)
    except OverBudget as over:
        report.could_not(over.reason)
    except (Damaged, *streams.ERRORS):
        report.could_not("damaged archive")


_CONTAINERS: Final = kinds.OLES | {"onenote"}
_DOCUMENTS: Final = frozenset({"rtf", "pdf", "onenote", "eml", "mht"}) | kinds.OLES

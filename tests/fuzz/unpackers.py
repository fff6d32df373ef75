"""Fuzz targets of the unpackers: any octets under any kind give members within the budget and a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netinspect.files.kind import identify
from netinspect.files.passwords import MOST, candidates
from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives, office
from tests.files import made

LIMITS: Final = Limits(
    archive_members=50, archive_bytes=2_000_000, member_bytes=1_000_000, password_tries=2, unpack_time=600.0
)
MEMBERS: Final = {"a.txt": b"content " * 20, "b.exe": b"MZ" + bytes(200)}


def opened(data: bytes, kind: str) -> None:
    """Unpack `data` as `kind`, and check what has to hold."""
    report = Report()
    size = count = 0
    for member in unpack(data, kind, "x", Budget(LIMITS, lambda: ["a"]), report):
        member.name.encode("utf-8", "surrogatepass")
        size += len(member.data)
        count += 1
    # One content may be given under two names.
    assert size <= 2 * LIMITS.archive_bytes
    assert count <= 3 * LIMITS.archive_members


def identified(data: bytes) -> None:
    """Whatever the octets look like."""
    opened(data, identify(data))


def passwords(data: bytes) -> None:
    """Words of a text."""
    assert len(candidates([b"password " + data])) <= MOST


def _as(kind: str) -> Callable[[bytes], None]:
    return lambda data: opened(data, kind)


SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "zip": (*(archives.make_zip(MEMBERS, method) for method in (0, 8, 12, 14)), archives.encrypted_zip()),
    "7z": (made.packed(MEMBERS, "SevenZip"),),
    "rar": (made.rar5(MEMBERS),),
    "cab": (made.cab(MEMBERS),),
    "lzh": (made.lzh(MEMBERS),),
    "arj": (made.arj(MEMBERS),),
    "ar": (made.ar(MEMBERS),),
    "cpio": (made.cpio(MEMBERS),),
    "tar": (archives.make_tar(MEMBERS),),
    "gzip": (archives.make_gzip(b"content"),),
    "wim": (made.packed(MEMBERS, "Wim"),),
    "doc": (office.plain_doc(), office.melissa_doc(),),
    "rtf": (b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105000002000000080000005061636b61676500}}}",),
    "pdf": (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(a)>>>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    ),
    "html": (b"<html><script>atob('" + b"TVqQAAMAAAAEAAAA" * 20 + b"')</script>",),
    "identified": (b"GIF89a" + archives.make_zip(MEMBERS), b"MZ" + bytes(70) + made.rar5(MEMBERS),),
    "passwords": (b"Password: <b>a</b> \"b\"", "Passwort: „x“".encode(),),
}

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    **{kind: _as(kind) for kind in SEEDS}, "identified": identified, "passwords": passwords,
}  # fmt: skip

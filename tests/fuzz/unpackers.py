"""Fuzz targets of the unpackers: any octets under any kind give members within the budget and a report."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from netinspect.files import archives as libraries
from netinspect.files.kind import identify
from netinspect.files.passwords import MOST, candidates
from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives, tricks
from netinspect.scan.examine import Examiner
from tests.files import made
from tests.fuzz import seeds

LIMITS: Final = Limits(
    archive_members=50, archive_bytes=2_000_000, member_bytes=1_000_000, password_tries=2, unpack_time=600.0
)
KINDS: Final = tuple(sorted(libraries.KINDS))
"""What `library` chooses from by its first octet."""


def opened(data: bytes, kind: str) -> None:
    """Unpack `data` as `kind`, and check what has to hold."""
    report = Report()
    size = count = 0
    for member in unpack(data, kind, "x", Budget(LIMITS, lambda: [seeds.WORD]), report):
        member.name.encode("utf-8", "surrogatepass")
        size += len(member.data)
        count += 1
    # One content may be given under two names.
    assert size <= 2 * LIMITS.archive_bytes
    assert count <= 3 * LIMITS.archive_members


def identified(data: bytes) -> None:
    """Whatever the octets look like."""
    opened(data, identify(data))


def library(data: bytes) -> None:
    """Any format of 7-Zip's library: the first octet chooses it, so that those are tried that nothing here writes."""
    if data:
        opened(data[1:], KINDS[data[0] % len(KINDS)])


def image(data: bytes) -> None:
    """A disc image from its first descriptor on."""
    opened(bytes(seeds.ISO_SYSTEM) + data, "iso")


def passwords(data: bytes) -> None:
    """Words of a text."""
    assert len(candidates([b"password " + data])) <= MOST


@cache
def _examiner() -> Examiner:
    return Examiner(LIMITS)


def examine(data: bytes) -> None:
    """All of it as a worker does it, with the office engine."""
    answer = _examiner().examine(data, name="x", path="1")
    assert answer.artifacts
    assert answer.artifacts[0].size == len(data)


def _as(kind: str) -> Callable[[bytes], None]:
    return lambda data: opened(data, kind)


_MARKS: Final = {
    "vhd": b"conectix", "vhdx": b"vhdxfile", "vmdk": b"KDMV", "qcow": b"QFI\xfb", "squashfs": b"hsqs",
    "xar": b"xar!\0\x1c\0\1", "rpm": b"\xed\xab\xee\xdb\3\0", "chm": b"ITSF\3\0\0\0", "gpt": bytes(512) + b"EFI PART",
    "nsis": b"MZ" + bytes(510) + b"\0\0\0\0\xef\xbe\xad\xdeNullsoftInst",
    "msi": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "dmg": b"koly\0\0\0\4",
    "hfs": bytes(1024) + b"H+\0\4", "ntfs": b"\xebR\x90NTFS    ", "fat": b"\xeb<\x90MSDOS5.0", "vdi": b"<<< Oracle VM",
    "mbr": bytes(446) + b"\x80\1\1\0\x06\xfe\x3f\1\1\0\0\0\4\0\0\0" + bytes(48) + b"\x55\xaa",
}  # fmt: skip
_LIBRARY: Final = seeds.library()
_BEHIND: Final = (*_LIBRARY["rar"][:1], *_LIBRARY["7z"][:1], *_LIBRARY["cab"])

SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "zip": seeds.zips(),
    "docx": seeds.packages(),
    **seeds.streams(),
    "tar": (archives.make_tar(seeds.MEMBERS), archives.make_tar({"a/" * 60 + "b": b"long name"})),
    **_LIBRARY,
    **seeds.compounds(),
    "rtf": seeds.rtfs(),
    "pdf": seeds.pdfs(),
    "onenote": seeds.notebooks(),
    **seeds.texts(),
    "library": tuple(
        bytes([KINDS.index(kind)]) + seed
        for kind, seed in (*((kind, some[0]) for kind, some in _LIBRARY.items()), *_MARKS.items())
        if kind in KINDS
    ),
    "image": seeds.images(),
    "identified": (
        b"GIF89a" + archives.make_zip(seeds.MEMBERS), _MARKS["nsis"],
        *(b"MZ" + bytes(70) + behind for behind in _BEHIND),
        b"\x1a",
    ),
    "passwords": (b"Password: <b>a</b> \"b\"", "Passwort: „x“".encode()),
    "examine": (
        *(some[0] for some in seeds.compounds().values()), *seeds.packages(), seeds.rtfs()[0], seeds.pdfs()[0],
        seeds.encrypted(), tricks.stomped_doc(), tricks.equation_doc(), tricks.shortcut(), made.rar5(seeds.MEMBERS),
    ),
}  # fmt: skip

_OTHER: Final[dict[str, Callable[[bytes], None]]] = {
    "library": library, "image": image, "identified": identified, "passwords": passwords, "examine": examine,
    "words": _as("text"),
}  # fmt: skip
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {kind: _OTHER.get(kind, _as(kind)) for kind in SEEDS}

"""Archives that 7-Zip's library opens: 7z, rar, cab, arj, lzh, ar, cpio, iso, chm, msi, disk images, and of zip what
Python has no method for.

Members are taken out in batches: one call of the library for as many as fit into `BATCH` octets by their own account,
so that a solid archive is not unpacked from its start for each member, and not all of it is in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.files import sevenzip
from netinspect.files.budget import Budget, Damaged, Member, OverBudget, Report
from netinspect.files.sevenzip import Archive, CannotOpen, Item

BATCH: Final = 48_000_000
"""Octets of members that are in memory together."""

# What a kind may be to 7-Zip, tried in this order.
_FORMS: Final[dict[str, tuple[str, ...]]] = {
    "7z": ("7z",), "rar": ("rar5", "rar4"), "cab": ("cab",), "arj": ("arj",), "lzh": ("lzh",), "ar": ("ar",),
    "cpio": ("cpio",), "chm": ("chm",), "msi": ("compound",), "zstd": ("zstd",), "z": ("z",), "lzma": ("lzma",),
    "wim": ("wim",), "xar": ("xar",), "rpm": ("rpm",), "dmg": ("dmg",), "squashfs": ("squashfs",), "vhd": ("vhd",),
    "vhdx": ("vhdx",), "vmdk": ("vmdk",), "vdi": ("vdi",), "qcow": ("qcow",), "gpt": ("gpt",), "mbr": ("mbr",),
    "apm": ("apm",), "fat": ("fat",), "ntfs": ("ntfs",), "ext": ("ext",), "hfs": ("hfs",), "apfs": ("apfs",),
    "cramfs": ("cramfs",),
    "mslz": ("mslz",), "swf": ("swf",), "nsis": ("nsis",),
}  # fmt: skip
KINDS: Final = frozenset(_FORMS) | {"iso"}
"""Kinds that `members` opens."""

_STREAM_LIKE: Final = frozenset({"zstd", "z", "lzma", "mslz", "swf", "vhd", "vhdx", "vmdk", "vdi", "qcow"})
_SUFFIXES: Final = {"zstd": ".zst", "z": ".Z", "lzma": ".lzma"}


def load() -> None:
    """Load the library."""
    sevenzip.library()


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield what is in `data`.

    Raises:
        OverBudget: the archive as a whole is over a limit.
        Damaged: it cannot be opened as what it is.
    """
    library = sevenzip.library()
    if library is None:
        report.could_not(f"cannot open: {kind}")
        return
    if kind == "iso":
        yield from _image(library, data, budget, report)
        return
    for form in _FORMS[kind]:
        try:
            if kind in _STREAM_LIKE:
                stem = name.removesuffix(_SUFFIXES.get(kind, "")) or kind
                for member in _opened(library, data, form, budget, report, None):
                    yield Member(member.name or (stem if stem != name else f"{stem}.out"), member.data)
            else:
                yield from _opened(library, data, form, budget, report, None)
        except CannotOpen as error:
            if error.encrypted:
                report.encrypted.append(name)
                return
            continue
        return
    raise Damaged("not opened")


def leftovers(data: bytes, wanted: Callable[[Item, int], bool], budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the members of a zip that are `wanted`: encrypted, or of a method that Python has not.

    `wanted` is asked with each entry and the number of all.
    """
    library = sevenzip.library()
    if library is None:
        report.could_not("unknown compression method")
        return
    try:
        yield from _opened(library, data, "zip", budget, report, wanted)
    except CannotOpen as error:
        raise Damaged("not opened") from error


def appended(data: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield the members of archives that stand behind other content: self-extractors and polyglots."""
    library = sevenzip.library()
    for form, magic in (("7z", b"7z\xbc\xaf\x27\x1c"), ("rar", b"Rar!\x1a\x07"), ("cab", b"MSCF\0\0\0\0")):
        at, tries = data.find(magic, 1), 8
        while at >= 0 and tries:
            tries -= 1
            if library is None:
                report.could_not(f"cannot open: {form}")
                break
            found = Report()
            try:
                yield from members(data[at:], form, form, budget, found)
            except Damaged:
                at = data.find(magic, at + 1)
                continue
            # A wrong trail has no members but damage.
            report.anomalies.append(Anomaly("appended_archive", "file", at, form))
            report.encrypted += found.encrypted
            report.sights += found.sights
            for reason in found.unscanned:
                report.could_not(reason)
            break
    at = data.find(b"\xef\xbe\xad\xdeNullsoftInst")
    if at >= 0 and library is not None:
        try:
            yield from _opened(library, data, "nsis", budget, report, None)
        except CannotOpen:
            report.could_not("damaged archive")


def _image(library: sevenzip.Library, data: bytes, budget: Budget, report: Report) -> Iterator[Member]:
    """A disc image may hold three directories of its files: ISO 9660's, Joliet's, UDF's. Programs differ in which
    they show, so all are read, and what is in more than one of them is given once."""
    readings = [("iso", data)]
    others = [at for at in range(0x8000, 0x10000, 2048) if data[at : at + 6] == b"\x02CD001"]
    if others and len(data) > budget.spare:
        report.could_not("archive_held")
    elif others:
        # 7-Zip prefers a supplementary descriptor (Joliet's): without them it reads the primary one.
        pieces: list[bytes | memoryview] = []
        start = 0
        for at in others:
            pieces += [memoryview(data)[start:at], b"\xff"]  # the end of the descriptors (ECMA-119 8.3)
            start = at + 1
        readings.append(("iso", b"".join([*pieces, memoryview(data)[start:]])))
    if data.find(b"NSR0", 0x8000, 0x40000) >= 0:
        readings.append(("udf", data))
    seen: set[tuple[int, int]] = set()
    opened = 0
    for form, reading in readings:
        try:
            for member in _opened(library, reading, form, budget, report, None):
                mark = (len(member.data), hash(member.data))
                if mark not in seen:
                    seen.add(mark)
                    yield member
            opened += 1
        except CannotOpen:
            continue
    if not opened:
        raise Damaged("not opened")


def _opened(
    library: sevenzip.Library,
    data: bytes,
    form: str,
    budget: Budget,
    report: Report,
    wanted: Callable[[Item, int], bool] | None,
) -> Iterator[Member]:
    password: str | None = None
    try:
        archive = Archive(library, data, form)
    except CannotOpen as error:
        if not error.encrypted:
            raise
        archive, password = _with_passwords(library, data, form, budget, error)
        report.saw("password", password)
    with archive:
        if len(archive) > budget.members:
            raise OverBudget("archive_members")
        items = archive.items()
        if wanted is not None:
            items = [item for item in items if wanted(item, len(archive))]
        open_ones = [item for item in items if password is not None or not item.encrypted]
        closed = [item for item in items if password is None and item.encrypted]
        yield from _taken(archive, open_ones, len(data), budget, report, closed)
    if closed:
        yield from _closed(library, data, form, closed, budget, report)


def _with_passwords(
    library: sevenzip.Library, data: bytes, form: str, budget: Budget, error: CannotOpen
) -> tuple[Archive, str]:
    for password in list(budget.passwords):
        if not budget.take_try():
            break
        try:
            archive = Archive(library, data, form, password)
        except CannotOpen:
            continue
        budget.opened_with(password)
        return archive, password
    raise error


def _closed(
    library: sevenzip.Library, data: bytes, form: str, closed: list[Item], budget: Budget, report: Report
) -> Iterator[Member]:
    """Members that want a password: each that fits the smallest of them is tried on all."""
    for password in list(budget.passwords):
        if not closed or not budget.take_try():
            break
        with Archive(library, data, form, password) as archive:
            smallest = min(closed, key=lambda item: item.size or 0)
            room, _ = budget.room(len(data))
            probes, _ = archive.extract({smallest.index: room}, 2 * room)
            if not probes or probes[0].result != sevenzip.OK or probes[0].over:
                continue
            del probes
            budget.opened_with(password)
            still: list[Item] = []
            yield from _taken(archive, closed, len(data), budget, report, still)
            for item in closed:
                if item not in still:
                    report.saw("password", f"{item.name}: {password}")
            closed = still
    report.encrypted += [item.name for item in closed]


def _taken(
    archive: Archive, items: Sequence[Item], packed: int, budget: Budget, report: Report, closed: list[Item]
) -> Iterator[Member]:
    """Take `items` out, batch by batch. Those that turn out to want a password are added to `closed`."""
    batch: dict[int, Item] = {}
    size = 0
    for item in items:
        budget.take_member()
        try:
            # Of a solid block only the first has a packed size, so the archive's own stands for it.
            budget.check_declared(item.size or 0, packed if item.solid or not item.packed else item.packed)
        except OverBudget as over:
            if over.final:
                raise
            report.could_not(over.reason)
            continue
        if batch and size + (item.size or 0) > BATCH:
            yield from _batch(archive, batch, packed, budget, report, closed)
            batch, size = {}, 0
        batch[item.index] = item
        size += item.size or 0
    if batch:
        yield from _batch(archive, batch, packed, budget, report, closed)


def _batch(
    archive: Archive, batch: dict[int, Item], packed: int, budget: Budget, report: Report, closed: list[Item]
) -> Iterator[Member]:
    budget.check_time()
    room, limit = budget.room(packed)
    out, complete = archive.extract(dict.fromkeys(batch, room), budget.limits.archive_bytes + room)
    out.reverse()
    missing = set(batch)
    while out:  # taken from the list, so that each is freed when it was looked at
        one = out.pop()
        item = batch[one.index]
        missing.discard(one.index)
        if one.over:
            report.could_not(limit)
            continue
        if one.result != sevenzip.OK:
            if item.encrypted and (archive.asked or one.result == sevenzip.WRONG_PASSWORD):
                closed.append(item)
                continue
            unknown = one.result == sevenzip.UNSUPPORTED
            report.could_not("unknown compression method" if unknown else "damaged archive")
            if not one.data:
                continue
        if len(one.data) > budget.octets:
            raise OverBudget("archive_bytes")
        budget.spend(len(one.data))
        data = one.data
        del one
        yield Member(item.name, data)
        del data
    if missing or not complete:
        report.could_not("damaged archive")

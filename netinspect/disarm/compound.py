"""Compound files ([MS-CFB]): read as a tree, written anew from it.

The reader takes what one reading shows and nothing else: a chain that ends early, runs in a circle or leaves the file
is `CannotClean`, and streams are no longer in sum than the file, so a small one cannot become a big one. The writer
makes version 3 with a fresh directory: what no entry leads to (slack, orphans, old sectors) is gone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from netinspect.disarm.contract import CannotClean
from netinspect.limits import Limits

MAGIC: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_FREE, _END, _FAT_SECTOR, _DIFAT_SECTOR = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC
_STORAGE, _STREAM, _ROOT = 1, 2, 5
_ENTRY: Final = struct.Struct("<64sHBBIII16sIQQIQ")
_CUTOFF: Final = 4096
_HEADER_DIFAT: Final = 109
_NAME: Final = 31
"""UTF-16 units of a name ([MS-CFB] 2.6.1), without its end."""
_DEPTH: Final = 32
"""Storages in storages; Office makes five."""


@dataclass(slots=True)
class Entry:
    """A storage (`data` is None) or a stream. `kept` are the octets of the entry that are carried over as they are."""

    name: str
    data: bytes | None = None
    children: list[Entry] = field(default_factory=list)
    clsid: bytes = bytes(16)
    state: int = 0
    created: int = 0
    modified: int = 0

    @property
    def is_storage(self) -> bool:
        """Whether it has children and no content."""
        return self.data is None

    def child(self, name: str) -> Entry | None:
        """The entry of this name; letters of either case ([MS-CFB] 2.6.4)."""
        wanted = name.upper()
        return next((entry for entry in self.children if entry.name.upper() == wanted), None)

    def walk(self, path: str = "", depth: int = 0) -> Iterator[tuple[str, Entry]]:
        """Yield everything below with its path."""
        if depth > _DEPTH:
            raise CannotClean("storages too deep")
        for entry in self.children:
            place = f"{path}{entry.name}"
            yield place, entry
            if entry.is_storage:
                yield from entry.walk(f"{place}/", depth + 1)


@dataclass(frozen=True, slots=True)
class Compound:
    """The tree, and how many entries of the directory it does not lead to."""

    root: Entry
    orphans: int


# --- reading --------------------------------------------------------------------------------------------------------


def read(data: bytes, limits: Limits) -> Compound:
    """Read a compound file.

    Raises:
        CannotClean: it is damaged, or over a limit.
    """
    return _Reader(data, limits).compound()


class _Reader:
    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) < 512 or not data.startswith(MAGIC):
            raise CannotClean("no compound file")
        self._view = memoryview(data)
        self._limits = limits
        major, order, shift, mini_shift = struct.unpack_from("<HHHH", data, 26)
        if order != 0xFFFE or (major, shift) not in ((3, 9), (4, 12)) or mini_shift != 6:
            raise CannotClean("damaged compound file")
        self._size = 1 << shift
        self._sectors = max(0, -(-(len(data) - self._size) // self._size))
        self._major = major
        # Streams share no sectors, so all together are no longer than the file.
        self._room = len(data)
        header = struct.unpack_from("<IIIIIIIII", data, 40)
        _, fat_count, self._directory, _, cutoff, self._mini_start, _, difat, _ = header
        if cutoff != _CUTOFF:
            raise CannotClean("damaged compound file")
        self._fat = self._table(self._fat_sectors(fat_count, difat))
        self._minifat = self._table(self._chain(self._mini_start, self._fat, self._sectors))
        self._mini = memoryview(b"")

    def _sector(self, number: int) -> memoryview:
        if number >= self._sectors:
            raise CannotClean("damaged compound file")
        at = (number + 1) * self._size
        return self._view[at : at + self._size]

    def _fat_sectors(self, count: int, difat: int) -> list[int]:
        if count > self._sectors:
            raise CannotClean("damaged compound file")
        found = list(struct.unpack_from(f"<{_HEADER_DIFAT}I", self._view, 76))
        seen: set[int] = set()
        per_sector = self._size // 4 - 1
        while difat not in (_END, _FREE):
            sector = self._sector(difat)
            if difat in seen or len(sector) < self._size:
                raise CannotClean("damaged compound file")
            seen.add(difat)
            *numbers, difat = struct.unpack(f"<{per_sector + 1}I", sector)
            found += numbers
        found = [number for number in found[:count] if number != _FREE]
        if len(set(found)) != len(found):
            raise CannotClean("damaged compound file")
        return found

    def _table(self, sectors: list[int]) -> list[int]:
        table: list[int] = []
        for number in sectors:
            sector = self._sector(number)
            table += struct.unpack(f"<{len(sector) // 4}I", sector[: len(sector) & ~3])
        return table

    def _chain(self, start: int, table: list[int], limit: int) -> list[int]:
        chain: list[int] = []
        while start not in (_END, _FREE):
            if start >= len(table) or len(chain) >= limit:
                raise CannotClean("damaged compound file")
            chain.append(start)
            start = table[start]
        return chain

    def _stream(self, start: int, size: int) -> bytes:
        """`size` octets of the chain that begins at `start`."""
        self._room -= size
        if self._room < 0:
            raise CannotClean("damaged compound file")
        if not size:
            return b""
        if size < _CUTOFF:
            count, table, unit = -(-size // 64), self._minifat, 64
        else:
            count, table, unit = -(-size // self._size), self._fat, self._size
        out: list[memoryview] = []
        number = start
        for _ in range(count):
            if number >= len(table):
                raise CannotClean("damaged compound file")
            out.append(self._mini[number * 64 : number * 64 + 64] if unit == 64 else self._sector(number))
            number = table[number]
        content = b"".join(out)[:size]
        # The last sector of a file may be cut off, as Office itself reads it.
        if len(content) < size - unit:
            raise CannotClean("damaged compound file")
        return content.ljust(size, b"\0")

    def compound(self) -> Compound:
        sectors = self._chain(self._directory, self._fat, self._sectors)
        raw = b"".join(self._sector(number) for number in sectors)
        if len(raw) < 128:
            raise CannotClean("damaged compound file")
        count = len(raw) // 128
        if count > 4 * self._limits.archive_members:
            raise CannotClean("too many streams")
        *_, clsid, state, created, modified, start, size = _ENTRY.unpack_from(raw)
        size &= 0xFFFFFFFF
        chain = self._chain(start, self._fat, self._sectors) if size else []
        self._mini = memoryview(b"".join(self._sector(number) for number in chain)[:size])
        root = Entry("Root Entry", None, [], clsid, state, created, modified)
        seen = {0}
        self._fill(root, 0, raw, count, seen)
        orphans = sum(
            1 for sid in range(count) if sid not in seen and raw[sid * 128 + 66] in (_STORAGE, _STREAM)
        )
        return Compound(root, orphans)

    def _fill(self, parent: Entry, sid: int, raw: bytes, count: int, seen: set[int], depth: int = 0) -> None:
        """Give `parent` its children: the tree of siblings under the entry's child, in order."""
        if depth > _DEPTH:
            raise CannotClean("storages too deep")
        waiting = [int.from_bytes(raw[sid * 128 + 76 : sid * 128 + 80], "little")]
        names: set[str] = set()
        while waiting:
            number = waiting.pop()
            if number == _FREE:
                continue
            if number >= count or number in seen:
                raise CannotClean("damaged compound file")
            seen.add(number)
            fields = _ENTRY.unpack_from(raw, number * 128)
            name, length, kind, _, left, right, _, clsid, state, created, modified, start, size = fields
            if kind not in (_STORAGE, _STREAM) or not 4 <= length <= 64 or length % 2:
                raise CannotClean("damaged compound file")
            text = name[: length - 2].decode("utf-16-le", "surrogatepass")
            if text.upper() in names:
                raise CannotClean("two streams of one name")
            names.add(text.upper())
            entry = Entry(text, None, [], clsid, state, created, modified)
            if kind == _STREAM:
                entry.data = self._stream(start, size & 0xFFFFFFFF if self._major == 3 else size)
            else:
                self._fill(entry, number, raw, count, seen, depth + 1)
            parent.children.append(entry)
            waiting += (left, right)


# --- writing --------------------------------------------------------------------------------------------------------


class _Placed:
    """An entry on its way into the directory."""

    __slots__ = ("black", "child", "entry", "kind", "left", "right", "size", "start")

    def __init__(self, entry: Entry, kind: int) -> None:
        self.entry, self.kind = entry, kind
        self.left = self.right = self.child = _FREE
        self.black = True
        self.start = _END if kind == _STREAM else 0
        self.size = len(entry.data or b"")

    def pack(self) -> bytes:
        name = self.entry.name.encode("utf-16-le", "surrogatepass") + b"\0\0"
        entry = self.entry
        return _ENTRY.pack(
            name, len(name), self.kind, self.black, self.left, self.right, self.child, entry.clsid, entry.state,
            entry.created, entry.modified, self.start, self.size,
        )  # fmt: skip


def _order(placed: _Placed) -> tuple[int, str]:
    name = placed.entry.name  # [MS-CFB] 2.6.4: the shorter name is the smaller one
    return len(name.encode("utf-16-le", "surrogatepass")), name.upper()


def _flatten(root: Entry) -> list[_Placed]:
    all_of_them = [_Placed(root, _ROOT)]
    for parent in all_of_them:  # grows while it is walked
        siblings = sorted(
            (_Placed(child, _STORAGE if child.is_storage else _STREAM) for child in parent.entry.children), key=_order
        )
        first = len(all_of_them)
        all_of_them += siblings
        parent.child = _link(siblings, first, 0, len(siblings), 1, len(siblings).bit_length())
    return all_of_them


def _link(siblings: list[_Placed], first: int, low: int, high: int, depth: int, red: int) -> int:
    """Make a balanced tree; only its unfilled lowest level is red, which keeps the rules of red-black trees."""
    if low >= high:
        return _FREE
    middle = (low + high) // 2
    node = siblings[middle]
    node.black = depth == 1 or depth < red
    node.left = _link(siblings, first, low, middle, depth + 1, red)
    node.right = _link(siblings, first, middle + 1, high, depth + 1, red)
    return first + middle


def write(root: Entry) -> bytes:
    """Write the tree; the same tree gives the same octets."""
    entries = _flatten(root)
    pieces: list[bytes] = []
    fat: list[int] = []
    mini = bytearray()
    minifat: list[int] = []

    def place(content: bytes) -> int:
        count = -(-len(content) // 512)
        if not count:
            return _END
        start = len(fat)
        pieces.append(content)
        if len(content) % 512:
            pieces.append(bytes(-len(content) % 512))
        fat.extend(range(start + 1, start + count))
        fat.append(_END)
        return start

    for placed in entries:
        content = placed.entry.data
        if not content:
            continue
        if len(content) < _CUTOFF:
            count = -(-len(content) // 64)
            placed.start = len(minifat)
            mini += content + bytes(-len(content) % 64)
            minifat += [*range(placed.start + 1, placed.start + count), _END]
        else:
            placed.start = place(content)
    entries[0].size = len(mini)
    entries[0].start = place(bytes(mini))
    minifat += [_FREE] * (-len(minifat) % 128)
    minifat_start = place(struct.pack(f"<{len(minifat)}I", *minifat))
    unused = _ENTRY.pack(b"", 0, 0, 0, _FREE, _FREE, _FREE, bytes(16), 0, 0, 0, 0, 0)
    directory = place(b"".join(placed.pack() for placed in entries) + unused * (-len(entries) % 4))
    return b"".join(_tables(fat, pieces, directory, minifat_start, len(minifat) // 128))


def _tables(fat: list[int], pieces: list[bytes], directory: int, minifat: int, minifats: int) -> list[bytes]:
    """The header in front and the allocation table behind what was placed."""
    fats = difats = 0
    while True:
        needed = -(-(len(fat) + fats + difats) // 128)
        more = max(0, -(-(needed - _HEADER_DIFAT) // 127))
        if (needed, more) == (fats, difats):
            break
        fats, difats = needed, more
    first = len(fat)
    numbers = list(range(first, first + fats))
    fat = fat + [_FAT_SECTOR] * fats + [_DIFAT_SECTOR] * difats
    fat += [_FREE] * (-len(fat) % 128)
    in_header, rest = numbers[:_HEADER_DIFAT], numbers[_HEADER_DIFAT:]
    difat_start = first + fats if difats else _END
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIII", MAGIC, b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, fats, directory, 0, _CUTOFF,
        minifat, minifats, difat_start, difats,
    )  # fmt: skip
    in_header += [_FREE] * (_HEADER_DIFAT - len(in_header))
    table = struct.pack(f"<{len(fat)}I", *fat)
    further = []
    for number in range(difats):
        part = rest[number * 127 : number * 127 + 127]
        part += [_FREE] * (127 - len(part))
        part.append(difat_start + number + 1 if number + 1 < difats else _END)
        further.append(struct.pack("<128I", *part))
    return [header + struct.pack(f"<{_HEADER_DIFAT}I", *in_header), *pieces, table, *further]

"""A small writer of compound files ([MS-CFB] version 3) and the compression of VBA sources ([MS-OVBA] 2.4.1).

For test material only: everything is built in memory, and what does not fit the plain layout (more than about 7 MB, for
which further DIFAT sectors would be needed) is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_SECTOR = 512
_MINI = 64
_MINI_CUTOFF = 4096
_FREE = 0xFFFFFFFF
_END = 0xFFFFFFFE
_FAT_SECTOR = 0xFFFFFFFD
_NONE = 0xFFFFFFFF
_HEADER_DIFAT = 109

_STORAGE, _STREAM, _ROOT = 1, 2, 5


class _Entry:
    """A directory entry on its way to 128 octets ([MS-CFB] 2.6.1)."""

    def __init__(self, name: str, kind: int, data: bytes = b"") -> None:
        self.name = name
        self.kind = kind
        self.data = data
        self.children: dict[str, _Entry] = {}
        self.left = self.right = self.child = _NONE
        self.black = True
        self.start = _END if kind == _STREAM else 0
        self.size = len(data)

    def pack(self) -> bytes:
        name = (self.name + "\0").encode("utf-16-le")
        return struct.pack(
            "<64sHBBIII16sIQQIQ", name, len(name), self.kind, self.black, self.left, self.right, self.child,
            b"", 0, 0, 0, self.start, self.size,
        )  # fmt: skip


def _sort_key(name: str) -> tuple[int, str]:
    return len(name), name.upper()  # [MS-CFB] 2.6.4: the shorter name is the smaller one


def _link(order: list[str], ids: Mapping[str, int], entries: list[_Entry], depth: int, red_depth: int) -> int:
    """Make a balanced tree of siblings; only its unfilled lowest level is red, which keeps all red-black rules."""
    if not order:
        return _NONE
    middle = len(order) // 2
    entry = entries[ids[order[middle]]]
    entry.black = depth == 1 or depth < red_depth
    entry.left = _link(order[:middle], ids, entries, depth + 1, red_depth)
    entry.right = _link(order[middle + 1 :], ids, entries, depth + 1, red_depth)
    return ids[order[middle]]


def _flatten(root: _Entry) -> list[_Entry]:
    entries = [root]
    for parent in entries:  # grows while it is walked: breadth first
        names = sorted(parent.children, key=_sort_key)
        ids = {}
        for name in names:
            ids[name] = len(entries)
            entries.append(parent.children[name])
        parent.child = _link(names, ids, entries, 1, len(names).bit_length())
    return entries


def _padded(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)


def _chain(fat: list[int], first: int, count: int) -> None:
    fat.extend(range(first + 1, first + count))
    fat.append(_END)


def write(streams: Mapping[str, bytes]) -> bytes:
    """Build a compound file of `streams`, whose keys are paths like `Macros/VBA/dir`.

    Raises ValueError when a name is longer than 31 characters or all of it is too big for this writer.
    """
    root = _Entry("Root Entry", _ROOT)
    for path, data in streams.items():
        *folders, leaf = path.split("/")
        if any(len(name) > 31 for name in (*folders, leaf)):
            raise ValueError(f"a name in {path!r} is too long for a compound file")
        place = root
        for name in folders:
            place = place.children.setdefault(name, _Entry(name, _STORAGE))
        place.children[leaf] = _Entry(leaf, _STREAM, data)
    entries = _flatten(root)

    sectors: list[bytes] = []  # pieces, each a whole number of sectors
    fat: list[int] = []
    mini = bytearray()
    minifat: list[int] = []
    for entry in entries[1:]:
        if entry.kind != _STREAM or not entry.data:
            continue
        if entry.size < _MINI_CUTOFF:
            entry.start = len(minifat)
            mini += _padded(entry.data, _MINI)
            _chain(minifat, entry.start, -(-entry.size // _MINI))
        else:
            entry.start = len(fat)
            sectors.append(_padded(entry.data, _SECTOR))
            _chain(fat, entry.start, -(-entry.size // _SECTOR))

    def place_table(data: bytes) -> tuple[int, int]:
        start, count = len(fat), -(-len(data) // _SECTOR)
        if not count:
            return _END, 0
        sectors.append(_padded(data, _SECTOR))
        _chain(fat, start, count)
        return start, count

    root.start, _ = place_table(bytes(mini))
    root.size = len(mini)
    minifat += [_FREE] * (-len(minifat) % (_SECTOR // 4))
    minifat_start, minifat_count = place_table(struct.pack(f"<{len(minifat)}I", *minifat))
    unused = struct.pack("<64sHBBIII16sIQQIQ", b"", 0, 0, 0, _NONE, _NONE, _NONE, b"", 0, 0, 0, 0, 0)
    directory = b"".join(entry.pack() for entry in entries) + unused * (-len(entries) % 4)
    directory_start, _ = place_table(directory)

    per_sector = _SECTOR // 4
    fat_count = 1
    while fat_count * per_sector < len(fat) + fat_count:
        fat_count += 1
    if fat_count > _HEADER_DIFAT:
        raise ValueError("too big for this writer of compound files")
    fat_start = len(fat)
    fat += [_FAT_SECTOR] * fat_count
    fat += [_FREE] * (fat_count * per_sector - len(fat))
    sectors.append(struct.pack(f"<{len(fat)}I", *fat))

    difat = [*range(fat_start, fat_start + fat_count), *[_FREE] * (_HEADER_DIFAT - fat_count)]
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIII", MAGIC, b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, fat_count, directory_start, 0,
        _MINI_CUTOFF, minifat_start, minifat_count, _END, 0,
    )  # fmt: skip
    return header + struct.pack(f"<{_HEADER_DIFAT}I", *difat) + b"".join(sectors)


def compress(data: bytes) -> bytes:
    """Compress `data` as a CompressedContainer ([MS-OVBA] 2.4.1.1.1)."""
    return b"\x01" + b"".join(_compress_chunk(data[at : at + 4096]) for at in range(0, len(data), 4096))


def _compress_chunk(chunk: bytes) -> bytes:
    out = bytearray()
    last_seen: dict[bytes, int] = {}
    at = 0
    while at < len(chunk):
        flag_at = len(out)
        out.append(0)
        for bit in range(8):
            if at >= len(chunk):
                break
            length, offset = _longest_match(chunk, at, last_seen)
            if length >= 3:
                out[flag_at] |= 1 << bit
                # 2.4.1.3.19.1: how many of the 16 bits are the length depends on how far into the chunk we are.
                offset_bits = max((at - 1).bit_length(), 4)
                out += struct.pack("<H", (offset - 1) << (16 - offset_bits) | (length - 3))
            else:
                out.append(chunk[at])
                length = 1
            for passed in range(at, at + length):
                last_seen[chunk[passed : passed + 3]] = passed
            at += length
    if len(out) > 4096:
        return struct.pack("<H", 0x3FFF) + chunk.ljust(4096, b"\0")  # a raw chunk is always 4096 octets
    return struct.pack("<H", 0xB000 | (len(out) - 1)) + bytes(out)


def _longest_match(chunk: bytes, at: int, last_seen: Mapping[bytes, int]) -> tuple[int, int]:
    candidate = last_seen.get(chunk[at : at + 3])
    if candidate is None or at + 3 > len(chunk):
        return 0, 0
    limit = min(len(chunk) - at, (0xFFFF >> max((at - 1).bit_length(), 4)) + 3)
    length = 3
    while length < limit and chunk[candidate + length] == chunk[at + length]:
        length += 1
    return length, at - candidate

"""Archives of the formats that Python cannot write, made by hand with stored members or by 7-Zip's own writer."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import pybit7z


def packed(
    members: Mapping[str, bytes], form: str, *, password: str = "", names_too: bool = False, fast: bool = False
) -> bytes:
    """What 7-Zip writes as `form` (`SevenZip`, `Zip`, `Wim`)."""
    with pybit7z.lib7zip_context(large_page_mode=False) as library:
        writer = pybit7z.BitArchiveWriter(library, getattr(pybit7z, f"Format{form}"))
        if fast:
            writer.set_compression_level(pybit7z.BitCompressionLevel.Fastest)
        if password and names_too:
            writer.set_password(password, pybit7z.EncryptionScope.DataAndHeaders)
        elif password:
            writer.set_password(password)
        for name, data in members.items():
            writer.add_file(data, name)
        return bytes(writer.compress_to())


def vint(number: int) -> bytes:
    """RAR 5's number: seven bits an octet, the low ones first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def rar5(members: Mapping[str, bytes]) -> bytes:
    """Stored members (the RAR 5.0 archive format, as its maker publishes it)."""

    def block(body: bytes) -> bytes:
        sized = vint(len(body)) + body
        return struct.pack("<I", zlib.crc32(sized)) + sized

    out = b"Rar!\x1a\x07\x01\x00" + block(vint(1) + vint(0) + vint(0))
    for name, data in members.items():
        octets = name.encode()
        fields = [vint(2), vint(2), vint(len(data)), vint(4), vint(len(data)), vint(0o644)]  # type, flags, sizes, ...
        fields += [struct.pack("<I", zlib.crc32(data)), vint(0), vint(1), vint(len(octets)), octets]
        out += block(b"".join(fields)) + data
    return out + block(vint(5) + vint(0) + vint(0))


def lzh(members: Mapping[str, bytes]) -> bytes:
    """Level 0 headers, method -lh0-."""
    out = b""
    for name, data in members.items():
        octets = name.encode()
        body = b"-lh0-" + struct.pack("<IIIBBB", len(data), len(data), 0, 0x20, 0, len(octets)) + octets
        body += struct.pack("<H", _crc16(data))
        out += bytes([len(body), sum(body) & 0xFF]) + body + data
    return out + b"\0"


def _crc16(data: bytes) -> int:
    crc = 0
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def arj(members: Mapping[str, bytes]) -> bytes:
    """Method 0."""

    def header(kind: int, name: str, data: bytes) -> bytes:
        body = struct.pack(
            "<BBBBBBBBIIIIHHBB", 30, 11, 1, 0, 0, 0, kind, 0, 0, len(data), len(data), zlib.crc32(data), 0, 0x20, 0, 0
        )
        body += name.encode() + b"\0" + b"\0"
        return struct.pack("<HH", 0xEA60, len(body)) + body + struct.pack("<IH", zlib.crc32(body), 0)

    out = header(2, "a.arj", b"")
    for name, data in members.items():
        out += header(0, name, data) + data
    return out + struct.pack("<HH", 0xEA60, 0)


def cab(members: Mapping[str, bytes]) -> bytes:
    """One folder, not compressed ([MS-CAB])."""
    content = b"".join(members.values())
    files, at = b"", 0
    for name, data in members.items():
        files += struct.pack("<IIHHHH", len(data), at, 0, 0x21, 0, 0x20) + name.encode() + b"\0"
        at += len(data)
    blocks = [content[start : start + 32768] for start in range(0, len(content), 32768)]
    data_at = 36 + 8 + len(files)
    folder = struct.pack("<IHH", data_at, len(blocks), 0)
    body = b"".join(struct.pack("<IHH", 0, len(block), len(block)) + block for block in blocks)
    size = data_at + len(body)
    head = struct.pack("<4sIIIIIBBHHHHH", b"MSCF", 0, size, 0, 44, 0, 3, 1, 1, len(members), 0, 0, 0)
    return head + folder + files + body


def ar(members: Mapping[str, bytes]) -> bytes:
    """As a `.deb` is."""
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}".encode() + b"`\n" + data
        out += b"\n" * (len(data) % 2)
    return out


def cpio(members: Mapping[str, bytes]) -> bytes:
    """The new ASCII format."""
    out = b""
    for name, data in (*members.items(), ("TRAILER!!!", b"")):
        octets = name.encode() + b"\0"
        values = (1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(octets), 0)
        out += b"070701" + b"".join(b"%08X" % value for value in values) + octets
        out += bytes(-len(out) % 4)
        out += data
        out += bytes(-len(out) % 4)
    return out


def iso(members: Mapping[str, bytes], joliet: Mapping[str, bytes] | None = None) -> bytes:
    """ISO 9660 with the root folder only, and if wanted a Joliet folder of its own (ECMA-119)."""

    def both(number: int) -> bytes:
        return struct.pack("<I", number) + struct.pack(">I", number)

    def record(name: bytes, at: int, size: int, flags: int) -> bytes:
        body = b"\0" + both(at) + both(size) + bytes(7) + bytes([flags, 0, 0]) + b"\1\0\0\1" + bytes([len(name)]) + name
        body += bytes(len(body) % 2 == 0)
        return bytes([len(body) + 1]) + body

    def descriptor(kind: int, root: int, escape: bytes) -> bytes:
        body = bytearray(2048)
        body[:8] = bytes([kind]) + b"CD001\1\0"
        body[80:88] = both(64)
        body[88 : 88 + len(escape)] = escape
        body[120:132] = b"\1\0\0\1" * 2 + b"\0\x08\x08\0"
        body[156:190] = record(b"\0", root, 2048, 2)
        body[881] = 1
        return bytes(body)

    sectors = {16: descriptor(1, 20, b""), 18: b"\xffCD001\1"}
    if joliet is not None:
        sectors[17] = descriptor(2, 21, b"%/E")
    else:
        sectors[17] = b"\xffCD001\1"
    at = 22
    for root, files in ((20, members), (21, joliet or {})):
        listing = record(b"\0", root, 2048, 2) + record(b"\1", root, 2048, 2)
        for name, data in files.items():
            listing += record(name.encode("utf-16-be" if root == 21 else "ascii"), at, len(data), 0)
            sectors[at] = data
            at += -(-len(data) // 2048) or 1
        sectors[root] = listing
    image = bytearray(max(64, at) * 2048)
    for sector, data in sectors.items():
        image[sector * 2048 : sector * 2048 + len(data)] = data
    return bytes(image)



"""Blocks of a pcapng file, each as octets (draft-ietf-opsawg-pcapng).

A file is a section header, then interfaces and packets in any order as long as an interface stands before its packets.
Everything is little-endian, times are ns since 1970. Whoever writes a file joins the blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

ETHERNET: Final = 1
RAW: Final = 101
"""LINKTYPE_ETHERNET and LINKTYPE_RAW (IPv4 or IPv6 without a link layer) of the tcpdump group's register."""

OPTION_BYTES: Final = 65_535
"""An option's length is a 16-bit number (§3.5); what is longer is cut."""

_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 10
_BYTE_ORDER: Final = 0x1A2B3C4D
_COMMENT, _APPLICATION = 1, 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_TLS_KEY_LOG: Final = 0x544C534B
_ZONE: Final = "netinspect zone "

_HEAD = struct.Struct("<II")
_NUMBER = struct.Struct("<I")
_OPTION = struct.Struct("<HH")
_PACKET_HEAD = struct.Struct("<IIIIIII")


def section(application: str = "") -> bytes:
    """The section header (§4.1) a file begins with; its length is not told in advance."""
    options = [(_APPLICATION, application.encode())] if application else []
    return _block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1), options)


def interface(linktype: int, name: str = "", description: str = "") -> bytes:
    """An interface (§4.2). They are counted from 0 in the order in which they stand in the file."""
    options = [(_RESOLUTION, b"\x09")]
    if description:
        options.insert(0, (_DESCRIPTION, description.encode()))
    if name:
        options.insert(0, (_NAME, name.encode()))
    return _block(_INTERFACE, struct.pack("<HHI", linktype, 0, 0), options)


def packet(number: int, time: int, frame: bytes, comments: Sequence[str] = (), *, wire: int = 0) -> bytes:
    """One frame (§4.3) of the interface `number`; `wire` is its size where less of it is here."""
    size = len(frame)
    padding = -size & 3
    length = 32 + size + padding
    if not comments:  # nearly all of them
        head = _PACKET_HEAD.pack(_PACKET, length, number, time >> 32, time & 0xFFFFFFFF, size, wire or size)
        return b"".join((head, frame, bytes(padding), _NUMBER.pack(length)))
    body = struct.pack("<IIIII", number, time >> 32, time & 0xFFFFFFFF, size, wire or size) + frame + bytes(padding)
    return _block(_PACKET, body, [(_COMMENT, comment.encode("utf-8", "replace")) for comment in comments])


def tls_secrets(key_log: bytes) -> bytes:
    """Keys of TLS sessions (§4.7), the lines of an NSS key log; stands in front of the packets it is for."""
    body = struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + key_log
    return _block(_SECRETS, body + bytes(-len(body) & 3), [])


def describe_zone(zone: str) -> str:
    """The description of an interface whose clients stand in this zone."""
    return _ZONE + zone


def described_zone(description: str) -> str:
    """The zone that an interface's description names; empty when it names none."""
    return description.removeprefix(_ZONE) if description.startswith(_ZONE) else ""


def _block(kind: int, body: bytes, options: Sequence[tuple[int, bytes]]) -> bytes:
    pieces = [body]
    for code, value in options:
        value = value[:OPTION_BYTES]
        pieces += (_OPTION.pack(code, len(value)), value, bytes(-len(value) & 3))
    if options:
        pieces.append(_OPTION.pack(0, 0))
    length = 12 + sum(map(len, pieces))
    return b"".join((_HEAD.pack(kind, length), *pieces, _NUMBER.pack(length)))

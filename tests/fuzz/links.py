"""Fuzz target of the decoders of unusual frames: any octets give a segment that stands in them, or none."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from netinspect.replay.fragments import OCTETS
from netinspect.replay.frame import ETHERNET, LINUX_SLL, LINUX_SLL2, LOOP, NULL, PPP, RAW, Interface
from netinspect.replay.links import Dissector
from tests.replay import make

_KINDS: Final = (ETHERNET, RAW, NULL, LOOP, PPP, LINUX_SLL, LINUX_SLL2, 50, 51, 104, 204, 239)


def links(data: bytes) -> None:
    """Octet 0 is the link type, then frames: two octets of size, one of seconds since the one before, the frame."""
    if not data:
        return
    where = Interface(_KINDS[data[0] % len(_KINDS)])
    dissector = Dissector()
    at, now = 1, 0
    while len(data) - at > 3:
        size, seconds = struct.unpack_from("!HB", data, at)
        stop = min(at + 3 + size, len(data))
        now += seconds * 10**9
        found = dissector.dissect((now, where, data, at + 3, stop, size))
        while found is not None:
            assert len(found.source) == len(found.destination) in (4, 16)
            assert len(found.ports) == 4
            assert len(found.payload) <= 65_535
            found = found.other
        at = stop
    assert dissector._fragments._held <= OCTETS


def _seed(kind: int, frames: Iterable[bytes]) -> bytes:
    return bytes((_KINDS.index(kind),)) + b"".join(struct.pack("!HB", len(one), 1) + one for one in frames)


def _seeds() -> tuple[bytes, ...]:
    one = make.Talk().open().client(b"EHLO a\r\n" * 20).segments[3]
    packet = make.packet(one)
    pieces = make.fragments(packet, 64)
    ethernet = make.link(packet, vlans=((0x88A8, 5), (0x8100, 6)))
    tunnels = {
        4: packet, 47: b"\x30\0\x65\x58\0\0\0\1\0\0\0\2" + ethernet, 51: b"\4\4\0\0" + bytes(20) + packet,
        97: b"\x30\0" + ethernet, 137: b"\0\1\1\xff" + packet,
        17: struct.pack("!HHHH", 9, 4789, 16 + len(ethernet), 0) + b"\x08\0\0\0\0\0\7\0" + ethernet,
    }  # fmt: skip
    return (
        _seed(ETHERNET, [ethernet, make.link(packet)]),
        _seed(RAW, [*pieces, *pieces[::-1]]),
        _seed(RAW, [pieces[0], pieces[1], pieces[1][:-1] + b"x", *pieces[2:]]),
        _seed(RAW, [make.ip("10.0.0.1", "10.0.0.2", kind, inner) for kind, inner in tunnels.items()]),
        _seed(RAW, [make.ip("fd00::1", "fd00::2", 0, b"\x3c\0\1\4\0\0\0\0\4\0\1\4\0\0\0\0" + packet)]),
        _seed(RAW, make.fragments(make.ip("fd00::1", "fd00::2", 4, packet), 64)),
        *(_seed(kind, [make.link(packet, kind)]) for kind in (NULL, LOOP, PPP, LINUX_SLL, LINUX_SLL2)),
    )


SEEDS: Final[dict[str, tuple[bytes, ...]]] = {"links": _seeds()}
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"links": links}

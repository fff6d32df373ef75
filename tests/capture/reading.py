"""Reads captures for the tests, with nothing of what writes or replays them: blocks by hand, packets by scapy."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

Address = tuple[str, int]


@dataclass(frozen=True)
class Frame:
    interface: str
    description: str
    time: int
    octets: bytes
    comments: tuple[str, ...] = ()

    def segment(self) -> tuple[Address, Address, TCP]:
        """Source, destination and TCP of a raw IP frame; AssertionError when a checksum or a length is wrong."""
        ip = (IP if self.octets[0] >> 4 == 4 else IPv6)(self.octets)
        fresh = ip.copy()
        if isinstance(ip, IP):
            assert ip.len == len(self.octets)
            del fresh.chksum
        else:
            assert ip.plen == len(self.octets) - 40
        del fresh[TCP].chksum
        assert bytes(fresh) == self.octets, "a checksum is wrong"
        return (ip.src, ip[TCP].sport), (ip.dst, ip[TCP].dport), ip[TCP]


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block; AssertionError when the file is not whole."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert length >= 12
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        yield kind, data[at + 8 : at + length - 4]
        at += length


def options(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(data):
        code, size = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert (size, at + 4) == (0, len(data))
            break
        found.append((code, data[at + 4 : at + 4 + size]))
        at += 4 + size + (-size & 3)
    return found


def frames(data: bytes) -> list[Frame]:
    """All frames of a pcapng file whose times are in ns."""
    interfaces: list[dict[int, bytes]] = []
    found = []
    for number, (kind, body) in enumerate(blocks(data)):
        assert (number == 0) == (kind == 0x0A0D0D0A)
        if kind == 1:
            told = dict(options(body[8:]))
            assert told[9] == b"\x09"
            interfaces.append(told)
        elif kind == 6:
            which, high, low, size, wire = struct.unpack_from("<IIIII", body)
            assert size == wire
            here = interfaces[which]
            said = tuple(value.decode() for code, value in options(body[20 + size + (-size & 3) :]) if code == 1)
            octets = body[20 : 20 + size]
            name, text = here.get(2, b"").decode(), here.get(3, b"").decode()
            found.append(Frame(name, text, high << 32 | low, octets, said))
    return found


@dataclass
class Talk:
    """One connection, put together in the order of the file; AssertionError when a number does not fit."""

    client: Address
    server: Address
    interface: str = ""
    description: str = ""
    said: list[tuple[str, bytes]] = field(default_factory=list)
    """Side (`C` or `S`) and octets, what one side says at a time together."""
    comments: list[tuple[bytes, str]] = field(default_factory=list)
    """What a commented frame says, and the comment."""
    flags: str = ""
    """Of all frames without octets, side and flags: `C:S S:SA C:A ... `."""
    next: dict[str, int] = field(default_factory=dict)

    def of(self, side: str) -> bytes:
        return b"".join(octets for who, octets in self.said if who == side)


def talks(data: bytes) -> list[Talk]:
    """The connections of a file of raw IP."""
    found: list[Talk] = []
    running: dict[frozenset[Address], Talk] = {}
    for frame in frames(data):
        source, destination, tcp = frame.segment()
        key = frozenset((source, destination))
        if tcp.flags == "S":
            running[key] = Talk(source, destination, frame.interface, frame.description)
            found.append(running[key])
        talk = running[key]
        side = "C" if source == talk.client else "S"
        payload = bytes(tcp.payload)
        if "S" not in tcp.flags:
            assert talk.next[side] == tcp.seq, "octets are missing or doubled"
            assert talk.next["S" if side == "C" else "C"] == tcp.ack, "acknowledged what was not said"
        talk.next[side] = (tcp.seq + len(payload) + ("S" in tcp.flags) + ("F" in tcp.flags)) & 0xFFFFFFFF
        if not payload:
            talk.flags += f"{side}:{tcp.flags} "
        elif talk.said and talk.said[-1][0] == side:
            talk.said[-1] = (side, talk.said[-1][1] + payload)
        else:
            talk.said.append((side, payload))
        talk.comments += [(payload, comment) for comment in frame.comments]
    return found


def recorded(folder: Path) -> list[Talk]:
    """The connections of all captures in a folder, in the order of their names."""
    return [talk for path in sorted(folder.glob("*.pcapng")) for talk in talks(path.read_bytes())]

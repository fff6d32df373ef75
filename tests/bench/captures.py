"""Captures of a busy network edge, made without one: the same arguments give the same octets.

What is in them:

- Mail on port 25, one to five messages a connection, with pipelining (RFC 2920). Of twenty messages twelve are texts
  of 10 KB, seven carry a Word document (100 KB), one carries a PDF (2 MB): 140 KB on the average. These are the
  messages of the gateway's bench, no two alike.
- All other octets: TLS on 443, HTTP on 80, SSH on 22 (5 KB to 2 MB an answer) and, a tenth of it, QUIC.
- Twenty connections at a time, their frames interleaved in runs of one to eleven. Segments of 1,448 octets with
  timestamps in the TCP header, an acknowledgement for every second one, SYN and FIN. Ethernet, IPv4, microseconds.
  Checksums are zero, as where the network card fills them in; none of the programs that are compared looks at them.

Nothing is lost or out of order: what that costs is not what is compared here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from tests.bench import messages
from tests.bench.messages import Message

_KINDS: tuple[tuple[Callable[[int], Message], int], ...] = (
    (messages.text_10k, 12), (messages.docx_100k, 7), (messages.pdf_2m, 1),
)  # fmt: skip
_PER_CONNECTION = (1, 1, 1, 2, 5)
_AT_A_TIME = 20
_SEGMENT = 1448
_START_US = 1_700_000_000_000_000
_FIN, _SYN, _PUSH, _ACK = 1, 2, 8, 16
_STOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class Made:
    """What a capture holds."""

    path: Path
    octets: int
    frames: int
    mails: int
    share: float
    """Of the octets, those that belong to mail."""


class _Wire:
    """Frames with their times."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now = _START_US
        self.frames = 0

    def _frame(self, packet: bytes) -> bytes:
        self._now += self._rng.randrange(5, 50)
        self.frames += 1
        size = 14 + len(packet)
        seconds, rest = divmod(self._now, 1_000_000)
        return struct.pack("<IIII", seconds, rest, size, size) + b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + packet

    def tcp(self, ends: tuple[bytes, bytes, int, int], seq: int, ack: int, flags: int, payload: bytes = b"") -> bytes:
        source, destination, port, other = ends
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 52 + len(payload), 0, 0x4000, 64, 6, 0, source, destination)
        tcp = struct.pack("!HHIIBBHHH", port, other, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x80, flags, 65535, 0, 0)
        stamp = self._now // 1000 & 0xFFFFFFFF
        return self._frame(ip + tcp + struct.pack("!BBBBII", 1, 1, 8, 10, stamp, stamp) + payload)

    def udp(self, ends: tuple[bytes, bytes, int, int], payload: bytes) -> bytes:
        source, destination, port, other = ends
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0x4000, 64, 17, 0, source, destination)
        return self._frame(ip + struct.pack("!HHHH", port, other, 8 + len(payload), 0) + payload)


class _Connection:
    """The frames of one TCP connection, one after the other."""

    def __init__(self, wire: _Wire, rng: random.Random, number: int, port: int) -> None:
        client = struct.pack("!I", 0x0A000000 + rng.randrange(1 << 16))
        server = bytes((192, 0, 2, 1 + rng.randrange(8)))
        own = 1024 + number % 60_000
        self._ends = ((client, server, own, port), (server, client, port, own))
        self._seq = [rng.randrange(1 << 32), rng.randrange(1 << 32)]
        self._wire = wire

    def _send(self, side: int, flags: int, payload: bytes = b"") -> bytes:
        seq, ack = self._seq[side], self._seq[1 - side] if flags & _ACK else 0
        self._seq[side] += len(payload) + bool(flags & (_SYN | _FIN))
        return self._wire.tcp(self._ends[side], seq, ack, flags, payload)

    def open(self) -> Iterator[bytes]:
        yield self._send(0, _SYN)
        yield self._send(1, _SYN | _ACK)
        yield self._send(0, _ACK)

    def say(self, side: int, data: bytes) -> Iterator[bytes]:
        for turn, at in enumerate(range(0, len(data), _SEGMENT)):
            yield self._send(side, _PUSH | _ACK, data[at : at + _SEGMENT])
            if turn % 2:
                yield self._send(1 - side, _ACK)

    def close(self) -> Iterator[bytes]:
        yield self._send(0, _FIN | _ACK)
        yield self._send(1, _FIN | _ACK)
        yield self._send(0, _ACK)


@cache
def _stock() -> bytes:
    return random.Random("stock").randbytes(_STOCK)


class _Maker:
    """Connections of both sorts; `mails` counts the messages begun."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._builders = [build for build, number in _KINDS for _ in range(number)]
        self._serials = count(seed * 1_000_000)
        self._numbers = count()
        self.wire = _Wire(self._rng)
        self.mails = 0

    def mail(self) -> Iterator[bytes]:
        connection = _Connection(self.wire, self._rng, next(self._numbers), 25)
        yield from connection.open()
        yield from connection.say(1, b"220 mx.corp.example ESMTP\r\n")
        yield from connection.say(0, b"EHLO out.sender.example\r\n")
        yield from connection.say(1, b"250-mx.corp.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n")
        for _ in range(self._rng.choice(_PER_CONNECTION)):
            self.mails += 1
            message = b"".join(self._rng.choice(self._builders)(next(self._serials)))
            yield from connection.say(
                0, b"MAIL FROM:<load@sender.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\n"
            )
            yield from connection.say(1, b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go on\r\n")
            yield from connection.say(0, message + b".\r\n")
            yield from connection.say(1, b"250 2.0.0 Ok: queued\r\n")
        yield from connection.say(0, b"QUIT\r\n")
        yield from connection.say(1, b"221 2.0.0 Bye\r\n")
        yield from connection.close()

    def other(self) -> Iterator[bytes]:
        rng = self._rng
        kind = rng.choice(("tls", "tls", "tls", "tls", "tls", "http", "http", "http", "ssh", "quic"))
        size = rng.randrange(5_000, 2_000_000)
        start = rng.randrange(_STOCK - size)
        answer = _stock()[start : start + size]
        if kind == "quic":
            yield from self._quic(answer)
            return
        port = {"tls": 443, "http": 80, "ssh": 22}[kind]
        connection = _Connection(self.wire, rng, next(self._numbers), port)
        yield from connection.open()
        if kind == "http":
            yield from connection.say(0, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size
            yield from connection.say(1, head + answer)
        elif kind == "ssh":
            yield from connection.say(1, b"SSH-2.0-OpenSSH_9.2\r\n")
            yield from connection.say(0, b"SSH-2.0-OpenSSH_9.2\r\n")
            yield from connection.say(1, answer)
        else:
            yield from connection.say(0, b"\x17\x03\x03\x01\0" + answer[:256])
            pieces = (answer[at : at + 16_384] for at in range(0, size, 16_384))
            yield from connection.say(1, b"".join(b"\x17\x03\x03" + len(one).to_bytes(2) + one for one in pieces))
        yield from connection.close()

    def _quic(self, answer: bytes) -> Iterator[bytes]:
        client, server = struct.pack("!I", 0x0A000000 + self._rng.randrange(1 << 16)), b"\xc0\0\2\x09"
        port = 1024 + next(self._numbers) % 60_000
        for turn, at in enumerate(range(0, len(answer), 1200)):
            yield self.wire.udp((server, client, 443, port), b"\x40" + answer[at : at + 1200])
            if turn % 4 == 3:
                yield self.wire.udp((client, server, port, 443), b"\x40" + answer[at : at + 30])


def write(path: Path, megabytes: int, share: float, seed: int = 1) -> Made:
    """Write a pcap of about so many MB (10^6 octets), `share` of it (0 to 1) mail.

    The connections that are open when it is large enough are finished, so it is a little larger.
    """
    maker = _Maker(seed)
    rng = random.Random(f"order {seed}")
    live: list[tuple[Iterator[bytes], bool]] = []
    octets, mail = 24, 0
    with path.open("wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        while live or octets < megabytes * 1_000_000:
            while len(live) < _AT_A_TIME and octets < megabytes * 1_000_000:
                wanted = mail < share * octets
                live.append((maker.mail() if wanted else maker.other(), wanted))
            at = rng.randrange(len(live))
            frames, is_mail = live[at]
            for _ in range(rng.randrange(1, 12)):
                frame = next(frames, None)
                if frame is None:
                    live.pop(at)
                    break
                file.write(frame)
                octets += len(frame)
                if is_mail:
                    mail += len(frame)
    return Made(path, octets, maker.wire.frames, maker.mails, mail / octets)

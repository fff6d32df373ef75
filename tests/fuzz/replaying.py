"""Fuzz target of replay: a capture of our own conversations with something done to its frames.

Whatever was done, nothing raises, and no message that is not the one that was sent passes as if all of it had been
seen: it is `unscanned`, or its connection is read a second time. Octets that were said are changed only in copies of
frames of which nothing gets lost, for otherwise no reader of a capture could know better.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from netinspect.assembly import inspector_of, without_engines
from netinspect.config import Settings
from netinspect.inspector import Inspector
from netinspect.replay.again import SecondReading
from netinspect.replay.engine import Outcome, Replay
from netinspect.replay.flows import FlowTable
from netinspect.replay.links import Dissector
from netinspect.smtp.events import Side
from tests.replay import make

_HEADERS: Final = 54
"""Octets of the headers of Ethernet, IPv4 and TCP in these frames."""


_LOSSES: Final = (0, 1, 2, 3, 4, 6, 7)
_LIES: Final = (0, 1, 5, 6, 7)


def _body(number: int, size: int) -> bytes:
    lines = b"".join(b"%d line %d of message %d\r\n" % (at * 7919, at, number) for at in range(size))
    return b"From: a@example.org\r\nTo: b@example.com\r\nSubject: %d\r\n\r\n" % number + lines


MESSAGES: Final = [_body(number, size) for number, size in enumerate((3, 40, 1, 12))]


def _hello(talk: make.Talk) -> make.Talk:
    talk.open().server(b"220 mx ESMTP\r\n").client(b"EHLO a\r\n")
    return talk.server(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")


def _plain() -> make.Talk:
    return make.Talk(mss=200, server_seq=0xFFFFFFF0).session(*MESSAGES[:2])


def _elsewhere() -> make.Talk:
    return make.Talk(server_address=("198.51.100.25", 40025), mss=300).session(MESSAGES[3], MESSAGES[1])


def _pipelined() -> make.Talk:
    talk = _hello(make.Talk(mss=150, client_seq=0xFFFFFF00))
    for message in MESSAGES[1:3]:
        talk.client(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        talk.server(b"250 ok\r\n250 ok\r\n354 go\r\n").client(message + b".\r\n").server(b"250 queued\r\n")
    return talk.client(b"QUIT\r\n").server(b"221 bye\r\n").close()


def _chunked() -> make.Talk:
    talk = _hello(make.Talk(mss=100))
    talk.client(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n").server(b"250 ok\r\n250 ok\r\n")
    first, second = MESSAGES[3][:200], MESSAGES[3][200:]
    talk.client(b"BDAT %d\r\n" % len(first) + first).server(b"250 ok\r\n")
    talk.client(b"BDAT %d LAST\r\n" % len(second) + second).server(b"250 queued\r\n")
    return talk.client(b"QUIT\r\n").server(b"221 bye\r\n").close(Side.SERVER)


_BASES: Final = tuple(make.frames(talk.segments) for talk in (_plain(), _pipelined(), _chunked(), _elsewhere()))
_SENT: Final = {hashlib.sha256(message).digest() for message in MESSAGES}


def mutated(data: bytes) -> list[make.Timed]:
    """Octet 0 chooses the capture, and whether frames are lost and damaged or copies changed; then changes of four
    octets: what, which frame, and a number."""
    if not data:
        return list(_BASES[0])
    frames = list(_BASES[data[0] % len(_BASES)])
    kinds = _LIES if data[0] & 0x80 else _LOSSES
    for at in range(1, len(data) - 3, 4):
        what, place, number = struct.unpack_from("!BBH", data, at)
        if not frames:
            break
        place %= len(frames)
        time, octets = frames[place]
        match kinds[what % len(kinds)]:
            case 0:  # moved
                frames.insert((place + number) % len(frames), frames.pop(place))
            case 1:  # once more
                frames.insert((place + number) % (len(frames) + 1), (time, octets))
            case 2:  # lost
                del frames[place]
            case 3:  # cut
                frames[place] = (time, octets[: number % (len(octets) + 1)])
            case 4:  # a damaged header
                where = number % _HEADERS
                frames[place] = (time, octets[:where] + bytes((number >> 8,)) + octets[where + 1 :])
            case 5:  # a copy that says something else, before or behind
                if len(octets) > _HEADERS + 1:
                    where = _HEADERS + (number >> 1) % (len(octets) - _HEADERS)
                    other = octets[:where] + bytes((octets[where] ^ 0x11,)) + octets[where + 1 :]
                    frames.insert(place + (number & 1), (time, other))
            case 6:  # a copy of a part
                cut = (number >> 1) % max(len(octets) - _HEADERS, 1)
                if cut and len(octets) > _HEADERS:
                    seq = struct.pack("!I", (int.from_bytes(octets[38:42]) + cut) & make.MASK)
                    size = struct.pack("!H", len(octets) - 14 - cut)
                    head = octets[:16] + size + octets[18:38] + seq + octets[42:_HEADERS]
                    frames.insert(place + (number & 1), (time, head + octets[_HEADERS + cut :]))
            case 7:  # a time
                frames[place] = (time + (number - 32768) * 10**9, octets)
    return frames


@cache
def _inspector() -> tuple[asyncio.AbstractEventLoop, Inspector]:
    loop = asyncio.new_event_loop()
    inspector = inspector_of(without_engines(Settings()))
    loop.run_until_complete(inspector.panel.start())
    return loop, inspector


def replay(data: bytes) -> None:
    """Replay a changed capture."""
    loop, inspector = _inspector()
    loop.run_until_complete(_replay(mutated(data), inspector))


async def _replay(frames: list[make.Timed], inspector: Inspector) -> None:
    passed: list[tuple[int, bytes]] = []
    orders: list[tuple[int, int]] = []

    def give(outcome: Outcome) -> None:
        orders.append(outcome.order)
        facts, inspection = outcome.judgement.facts, outcome.verdict.inspection
        if inspection is not None and outcome.judgement.decision.action == "accept" and not facts.unscanned:
            passed.append((outcome.verdict.first, b"".join(inspection.spool.chunks())))

    one = Replay(inspector, lambda flow: "external", give, "fuzz")
    table = FlowTable(Dissector().dissect)
    for at in range(0, len(frames), 16):
        table.feed(make.batch(frames[at : at + 16]))
        one.take(table)
        await one.drain()
    table.finish()
    one.take(table)
    await one.drain(0)
    assert orders == sorted(orders), "the order of the outcomes"
    suspects = {suspect.first for suspect in table.suspects}
    for first, message in passed:
        assert _sent(message) or first in suspects, "a message that was not sent passed"
    if suspects:
        again = SecondReading(Dissector().dissect, table.suspects)
        again.feed(make.batch(frames))
        again.finish()
        two = Replay(inspector, lambda flow: "external", lambda outcome: None, "fuzz")
        for flow, turns in again.readings():
            await two.second(flow, turns)
        await two.drain(0)
        again.close()


def _sent(message: bytes) -> bool:
    return hashlib.sha256(message).digest() in _SENT


def change(what: int, place: int, number: int) -> bytes:
    return struct.pack("!BBH", what, place, number & 0xFFFF)


def _seeds() -> tuple[bytes, ...]:
    seeds = []
    for start in (bytes((first,)) for first in (0, 1, 2, 3, 0x80, 0x81, 0x82, 0x83)):
        seeds += [start, *(start + change(what, 12, 5) + change(what, 17, 0x2003) for what in range(8))]
        seeds.append(start + b"".join(change(0, place * 3, place) for place in range(12)))
        seeds.append(start + b"".join(change(4, 20, where | 0x5500) for where in (16, 38, 42, 46, 47)))
    return tuple(seeds)


SEEDS: Final[dict[str, tuple[bytes, ...]]] = {"replay": _seeds()}
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"replay": replay}

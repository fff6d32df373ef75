"""Captures made of the recorded ones: the same conversation as other networks would have shown it. No chance in it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scapy.layers.inet import IP, TCP, fragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import rdpcap

from netinspect.capture import pcapng
from tests.e2e import mails
from tests.pcaps.expectation import FOLDER
from tests.pcaps.stage import checked, write

Make = Callable[[list[Packet]], list[Packet]]
OUTSIDE: Final = "10.55.9.2"
DERIVED: dict[str, tuple[str, str, Callable[[Path], None]]] = {}
"""Folder, what it is made of, text, and who makes it."""
SAME: dict[str, str] = {}
"""Folder, and the folder that has the same records."""


def frames_of(name: str) -> list[Packet]:
    return list(rdpcap(str(FOLDER / name / "capture.pcap")))


def derived(name: str, source: str, text: str, *, same: bool = True) -> Callable[[Make], Make]:
    """A pcap made of the frames of another."""

    def add(make: Make) -> Make:
        def build(path: Path) -> None:
            frames = make(frames_of(source))
            # One each microsecond: the order of the file is the order of the time.
            for number, frame in enumerate(frames):
                frame.time = frames[0].time + number / 1_000_000
            write(path / "capture.pcap", frames)

        DERIVED[name] = (source, text, build)
        if same:
            SAME[name] = source
        return make

    return add


def body(frames: list[Packet]) -> list[int]:
    """Places of the client's segments with the message: everything of a size no command has."""
    return [
        at for at, frame in enumerate(frames)
        if TCP in frame and frame[IP].src == OUTSIDE and len(frame[TCP].payload) > 300
    ]  # fmt: skip


@derived("out-of-order", "infected", "The segments of the message come in the opposite order.")
def out_of_order(frames: list[Packet]) -> list[Packet]:
    places = body(frames)
    for at, frame in zip(places, [frames[place] for place in reversed(places)], strict=True):
        frames[at] = frame
    return frames


@derived("retransmitted", "infected", "Every segment is there twice, the second copy later than the next segment.")
def retransmitted(frames: list[Packet]) -> list[Packet]:
    out = frames[:3]
    for at in range(3, len(frames)):
        out.append(frames[at])
        if at > 3:
            out.append(frames[at - 1].copy())
    return out


def _cut(frame: Packet, start: int, stop: int) -> Packet:
    """A part of a segment."""
    piece = frame.copy()
    payload = bytes(frame[TCP].payload)
    piece[TCP].remove_payload()
    piece[TCP].seq = (frame[TCP].seq + start) & 0xFFFFFFFF
    piece[TCP].add_payload(payload[start:stop])
    return checked(piece)


@derived("overlapping-same", "infected", "The segments of the message overlap, and agree on what they overlap in.")
def overlapping_same(frames: list[Packet]) -> list[Packet]:
    out = []
    places = set(body(frames))
    for at, frame in enumerate(frames):
        if at in places:
            size = len(frame[TCP].payload)
            out += [_cut(frame, size // 4, size), _cut(frame, 0, size // 2), frame]
        else:
            out.append(frame)
    return out


def _harmless(frame: Packet) -> Packet:
    """The same segment with another attachment."""
    piece = frame.copy()
    other = b"A text as long as that, in which nothing is.".ljust(68)
    changed = bytes(frame[TCP].payload).replace(_coded(mails.eicar()), _coded(other))
    piece[TCP].remove_payload()
    piece[TCP].add_payload(changed)
    return checked(piece)


def _coded(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


@derived("overlapping-conflict", "infected-plain", "A copy of the message without EICAR comes first, then the one "
         "with it: which of them the server took is not in the capture, so both are judged.", same=False)  # fmt: skip
def overlapping_conflict(frames: list[Packet]) -> list[Packet]:
    places = body(frames)
    return [*frames[: places[0]], *(_harmless(frames[at]) for at in places), *frames[places[0] :]]


@derived("overlapping-conflict-last", "infected-plain", "The same with the copy that has no EICAR behind the "
         "one that has.", same=False)  # fmt: skip
def overlapping_conflict_last(frames: list[Packet]) -> list[Packet]:
    places = body(frames)
    return [*frames[: places[-1] + 1], *(_harmless(frames[at]) for at in places), *frames[places[-1] + 1 :]]


@derived("gap", "clean", "A segment of the message is missing: what was in it nobody can tell.", same=False)
def gap(frames: list[Packet]) -> list[Packet]:
    return [frame for at, frame in enumerate(frames) if at != body(frames)[1]]


@derived("one-direction", "infected", "Only what the client said.", same=False)
def one_direction(frames: list[Packet]) -> list[Packet]:
    return [frame for frame in frames if frame[IP].src == OUTSIDE]


@derived("middle", "infected", "The capture begins behind the first three packets of the connection.", same=False)
def middle(frames: list[Packet]) -> list[Packet]:
    return frames[3:]


@derived("vlan", "infected", "Within a VLAN within a provider's VLAN (802.1ad).")
def vlan(frames: list[Packet]) -> list[Packet]:
    out = []
    for frame in frames:
        ether = Ether(src=frame.src, dst=frame.dst)
        out.append(ether / Dot1AD(vlan=100) / Dot1Q(vlan=55) / frame[IP].copy())
    return out


@derived("ip-fragments", "infected", "Every packet is in IP fragments of 296 octets at most, the last of them first.")
def ip_fragments(frames: list[Packet]) -> list[Packet]:
    out = []
    for number, frame in enumerate(frames):
        ip = frame[IP].copy()
        ip.id, ip.flags = 1000 + number, 0
        pieces = fragment(ip, 296)
        out += [Ether(src=frame.src, dst=frame.dst, type=0x0800) / piece for piece in reversed(pieces)]
    return out


@derived("sequence-wrap", "infected", "The client's sequence numbers pass 2^32 in the middle of the message.")
def sequence_wrap(frames: list[Packet]) -> list[Packet]:
    shift = -frames[body(frames)[0]][TCP].seq - 700
    out = []
    for frame in frames:
        if frame[IP].src == OUTSIDE:
            frame[TCP].seq = (frame[TCP].seq + shift) & 0xFFFFFFFF
        elif frame[TCP].ack:
            frame[TCP].ack = (frame[TCP].ack + shift) & 0xFFFFFFFF
        out.append(checked(frame))
    return out


def _nanoseconds(frame: Packet) -> int:
    return int(frame.time * 1_000_000) * 1000


def _several_interfaces(path: Path) -> None:
    blocks = [pcapng.section("netinspect tests")]
    names = (("spoofed-outside", "ext0", "external"), ("spoofed-inside", "int0", "internal"))
    for _, name, zone in names:
        blocks.append(pcapng.interface(pcapng.ETHERNET, name, pcapng.describe_zone(zone)))
    merged = [(_nanoseconds(frame), number, frame) for number, (source, _, _) in enumerate(names)
              for frame in frames_of(source)]  # fmt: skip
    for time, number, frame in sorted(merged, key=lambda one: one[:2]):
        blocks.append(pcapng.packet(number, time, bytes(frame)))
    _put(path / "capture.pcapng.gz", gzip.compress(b"".join(blocks), mtime=0))


DERIVED["several-interfaces"] = (
    "spoofed-outside, spoofed-inside",
    "A gzip-compressed pcapng of two interfaces, whose descriptions say which side they are on.",
    _several_interfaces,
)


def _spoofed_address(path: Path) -> None:
    blocks = [
        pcapng.section("netinspect tests"),
        pcapng.interface(pcapng.ETHERNET, "ext0", pcapng.describe_zone("external")),
    ]
    for frame in frames_of("spoofed-inside"):
        blocks.append(pcapng.packet(0, _nanoseconds(frame), bytes(frame)))
    _put(path / "capture.pcapng", b"".join(blocks))


DERIVED["spoofed-address"] = (
    "spoofed-inside",
    "The client has an address of ours but was seen on the external interface: it is not one of us.",
    _spoofed_address,
)


def _with_keys(source: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        blocks = [
            pcapng.section("netinspect tests"), pcapng.interface(pcapng.ETHERNET, "ext0"),
            pcapng.tls_secrets((FOLDER / source / "keys.log").read_bytes()),
        ]  # fmt: skip
        for frame in frames_of(source):
            blocks.append(pcapng.packet(0, _nanoseconds(frame), bytes(frame)))
        _put(path / "capture.pcapng", b"".join(blocks))

    return build


for _source in ("starttls-taken", "starttls-taken-1.2"):
    DERIVED[_source.replace("taken", "keys")] = (
        _source,
        "The keys of the TLS session are in the capture (a Decryption Secrets Block): the mail is read and judged.",
        _with_keys(_source),
    )


def _truncated(path: Path) -> None:
    data = (FOLDER / "several-mails" / "capture.pcap").read_bytes()
    _put(path / "capture.pcap", data[: len(data) * 2 // 3])


DERIVED["truncated-file"] = (
    "several-mails",
    "The file ends in the middle of a packet: what is readable is judged.",
    _truncated,
)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.glob("capture.*"):
        old.unlink()
    path.write_bytes(data)


def make() -> None:
    """Make all of them, from what is there."""
    for name, (source, text, build) in DERIVED.items():
        build(FOLDER / name)
        (FOLDER / name / "README.md").write_text(
            f"# {name}\n\n{text}\n\nHow it was made: from {source} by `make pcaps` (tests/pcaps/derived.py).\n"
        )

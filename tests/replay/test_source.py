"""Files, folders, patterns and pipes; compressed, cut, damaged; and what is no capture."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from netinspect.errors import CaptureError, NetinspectError
from netinspect.replay.compression import Expanded
from netinspect.replay.frame import ETHERNET
from netinspect.replay.source import BLOCK, Capture, expand, open_capture
from tests.replay.make import START, Talk, Timed, frames, pcap, pcapng
from tests.replay.reading import Seen

noise = random.Random(4)
TALK = Talk().session(*[b"Subject: x\r\n\r\n" + b"x\r\n" * 30_000] * 4)
LONG: list[Timed] = [
    (time, octets if number % 9 else octets + noise.randbytes(700))
    for number, (time, octets) in enumerate(frames(TALK.segments))
]
FILE = pcap(LONG)

NOISE = pcap([(START + number, noise.randbytes(1000)) for number in range(1200)])
"""More than one block of bzip2."""

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda octets: lzma.compress(octets, preset=0),
    "bzip2": bz2.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def written(folder: Path, octets: bytes, name: str = "capture") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    return str(path)


def walked(path: str) -> tuple[Seen, list[tuple[str, str]]]:
    seen = Seen()
    with open_capture(path) as capture:
        for _ in capture.walk(seen):
            assert capture.size is None or 0 <= capture.position <= capture.size
        return seen, capture.anomalies


@contextmanager
def piped(octets: bytes, size: int) -> Iterator[str]:
    """A pipe into which the octets are written in pieces."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as out:
            for at in range(0, len(octets), size):
                out.write(octets[at : at + size])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield f"/dev/fd/{reading}"
    finally:
        thread.join()
        os.close(reading)


def test_a_capture_knows_its_name_size_and_how_far_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    seen = Seen()
    with open_capture(path) as capture:
        assert (capture.name, capture.size, capture.regular, capture.time) == (path, len(FILE), True, 0)
        positions = [capture.position for _ in capture.walk(seen)]
        assert capture.time == LONG[-1][0]
    assert positions == sorted(positions)
    assert positions[-1] == len(FILE)
    assert len(positions) == len(seen.blocks) > 3
    assert len(seen.seen) == len(LONG)


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize("method", ["", *COMPRESS])
def test_what_a_file_is_its_octets_say(tmp_path: Path, method: str, make: Callable[[list[Timed]], bytes]) -> None:
    octets = make(LONG)
    path = written(tmp_path, COMPRESS[method](octets) if method else octets, "anything.txt")
    seen, anomalies = walked(path)
    assert [one[1] for one in seen.seen] == [time for time, _ in LONG]
    assert anomalies == []


@pytest.mark.parametrize("method", ["", *COMPRESS])
def test_batches_are_the_same_whenever_a_file_is_read(tmp_path: Path, method: str) -> None:
    path = written(tmp_path, COMPRESS[method](FILE) if method else FILE)

    def batches() -> list[list[tuple[int, bytes]]]:
        with open_capture(path) as capture:
            return [[(one[0], one[2][one[3] : one[4]]) for one in batch] for batch in capture.batches()]

    first = batches()
    assert first == batches()
    assert [one for batch in first for one in batch] == [(time // 1000 * 1000, octets) for time, octets in LONG]
    assert len(first) > 1


@pytest.mark.parametrize("size", [7, 4096, 1 << 20])
@pytest.mark.parametrize("method", ["", "gzip", "zstd"])
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, size: int, method: str) -> None:
    octets = pcap(LONG[:60]) if size < 100 else FILE
    octets = COMPRESS[method](octets) if method else octets
    with piped(octets, size) as path:
        seen, anomalies = walked(path)
    assert seen.seen == walked(written(tmp_path, octets))[0].seen
    assert anomalies == []


def test_a_pipe_is_read_in_halves(tmp_path: Path) -> None:
    seen = Seen()
    with piped(FILE, 1000) as path, open_capture(path) as capture:
        assert (capture.size, capture.regular) == (None, False)
        for octets in capture.chunks():
            assert len(octets) <= BLOCK
            capture.parse(octets, seen)
        capture.parse(b"", seen)
        assert capture.position == len(FILE)
    assert seen.seen == walked(written(tmp_path, FILE))[0].seen


def test_a_frame_of_a_live_pipe_is_given_at_once() -> None:
    reading, writing = os.pipe()
    seen = Seen()
    os.write(writing, pcap(LONG[:2]))
    with open_capture(f"/dev/fd/{reading}") as capture:
        chunks = capture.chunks()
        capture.parse(next(chunks), seen)
        assert len(seen.seen) == 2
        os.write(writing, pcap(LONG[2:3])[24:])
        capture.parse(next(chunks), seen)
        assert len(seen.seen) == 3
    os.close(reading)
    os.close(writing)


def test_standard_input_is_a_capture_too(tmp_path: Path) -> None:
    code = (
        "from netinspect.replay.source import open_capture\n"
        "with open_capture('-') as capture:\n"
        "    print(capture.name, capture.regular, sum(map(len, capture.batches())), capture.position)"
    )
    path = written(tmp_path, b"in front" + FILE)
    with open(path, "rb", buffering=0) as file:
        file.seek(8)
        from_file = subprocess.run([sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True)
    from_pipe = subprocess.run([sys.executable, "-c", code], input=FILE, capture_output=True, check=True)
    assert from_file.stdout.split() == ["-", "True", str(len(LONG)), str(len(FILE))]
    assert from_pipe.stdout.split() == [b"-", b"False", str(len(LONG)).encode(), str(len(FILE)).encode()]


# --- compressed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", COMPRESS)
def test_compressed_streams_behind_each_other_are_one_capture(tmp_path: Path, method: str) -> None:
    compress = COMPRESS[method]
    octets = compress(FILE[:30]) + compress(FILE[30:100_000]) + compress(FILE[100_000:])
    seen, anomalies = walked(written(tmp_path, octets + bytes(512)))
    assert len(seen.seen) == len(LONG)
    assert anomalies == []


@pytest.mark.parametrize("method", COMPRESS)
def test_a_compressed_file_that_was_cut_gives_what_is_there(tmp_path: Path, method: str) -> None:
    octets = COMPRESS[method](NOISE)
    seen, anomalies = walked(written(tmp_path, octets[: len(octets) * 9 // 10]))
    assert 100 < len(seen.seen) < 1200
    assert anomalies[0] == ("truncated", f"{method} data end in the middle")


@pytest.mark.parametrize("method", COMPRESS)
def test_damage_in_a_compressed_file_is_told(tmp_path: Path, method: str) -> None:
    octets = bytearray(COMPRESS[method](NOISE))
    octets[-30:] = b"\xff" * 30
    _, anomalies = walked(written(tmp_path, bytes(octets)))
    assert {kind for kind, _ in anomalies} & {"bad_compression", "truncated"}


def test_other_octets_behind_a_compressed_file_are_told(tmp_path: Path) -> None:
    seen, anomalies = walked(written(tmp_path, gzip.compress(FILE) + b"something else"))
    assert len(seen.seen) == len(LONG)
    assert anomalies == [("bad_compression", "gzip: other octets behind the end")]


@pytest.mark.parametrize("method", COMPRESS)
def test_a_bomb_does_not_fill_the_memory(tmp_path: Path, method: str) -> None:
    frames_in_it = 500 if method == "zstd" else 100  # of 200 KB
    bomb = pcap([(START, bytes(200_000))] * frames_in_it)
    path = written(tmp_path, COMPRESS[method](bomb))
    del bomb
    count = 0
    tracemalloc.start()
    with open_capture(path) as capture:
        for batch in capture.batches():
            count += len(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == frames_in_it
    assert peak < (60_000_000 if method == "zstd" else 8_000_000)


@given(st.binary(max_size=300), st.integers(0, 5000), st.sampled_from(list(COMPRESS)))
def test_damaged_compression_is_never_more_than_an_anomaly(damage: bytes, at: int, method: str) -> None:
    octets = bytearray(COMPRESSED[method])
    octets[at : at + len(damage)] = damage
    told: list[str] = []
    source = iter([bytes(octets)])
    expanded = Expanded(method, lambda most: next(source, b""), b"", lambda kind, detail: told.append(kind))
    assert len(b"".join(expanded.chunks(BLOCK))) < 40_000_000
    assert set(told) <= {"bad_compression", "truncated"}


COMPRESSED = {method: compress(pcap([(START, noise.randbytes(50))] * 90)) for method, compress in COMPRESS.items()}


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_folder_is_searched_for_what_begins_like_a_capture(tmp_path: Path) -> None:
    small = pcap(LONG[:2])
    names = ["b.pcap", "a/2.cap", "a/1.pcapng.gz", "a/deep/er/x", "c.pcap3"]
    for name in names:
        written(tmp_path, gzip.compress(small) if name.endswith("gz") else small, name)
    written(tmp_path, b"no capture", "a/readme.pcap")
    written(tmp_path, b"", "a/empty.pcap")
    written(tmp_path, gzip.compress(b"log"), "a/log.gz")
    os.mkfifo(tmp_path / "a" / "pipe.pcap")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = [os.path.relpath(path, tmp_path) for path in expand([str(tmp_path)])]
    assert found == ["b.pcap", "c.pcap3", "a/1.pcapng.gz", "a/2.cap", "a/deep/er/x"]


def test_arguments_are_given_in_their_order_and_patterns_in_that_of_names(tmp_path: Path) -> None:
    small = pcap(LONG[:2])
    two, one, odd = (written(tmp_path, small, name) for name in ("2.pcap", "1.pcap", "o[d]d.pcap"))
    nothing = str(tmp_path / "*.none")
    assert list(expand([two, "-", str(tmp_path / "?.pcap"), odd, nothing, "gone.pcap"])) == [
        two, "-", one, two, odd, nothing, "gone.pcap",
    ]  # fmt: skip
    assert list(expand([str(tmp_path / "**" / "1.pcap")])) == [one]


def test_a_folder_without_captures_is_an_error_when_it_is_opened(tmp_path: Path) -> None:
    written(tmp_path, b"text", "readme")
    assert list(expand([str(tmp_path)])) == [str(tmp_path)]
    with pytest.raises(CaptureError, match="is a folder without captures"):
        open_capture(str(tmp_path))


# --- no captures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "is empty"),
        (b"From: me\r\n", "is no capture"),
        (b"\xa1\xb2", "is no capture"),
        (b"snoop\0\0\0\0\0\0\2", "is a snoop file"),
        (b"PK\x03\x04rest", "is a ZIP archive"),
        (gzip.compress(b"text"), "is no capture"),
        (gzip.compress(b""), "cannot be read: gzip data of nothing"),
        (gzip.compress(FILE)[:10], "cannot be read: gzip data end in the middle"),
        (b"\x1f\x8b" + b"\xff" * 50, "cannot be read: gzip: "),
    ],
)
def test_what_is_no_capture_is_one_line_with_the_name(tmp_path: Path, octets: bytes, reason: str) -> None:
    path = written(tmp_path, octets)
    with pytest.raises(CaptureError) as caught:
        open_capture(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, NetinspectError)


def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_capture(str(tmp_path / "gone"))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    bad, good = written(tmp_path, b"text", "bad"), written(tmp_path, FILE, "good")
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        with pytest.raises(CaptureError):
            open_capture(bad)
        with open_capture(good) as capture:
            next(capture.walk(Seen()))
        capture.close()
    assert len(os.listdir("/dev/fd")) == before


def test_a_capture_with_much_wrong_in_it_tells_the_first_of_it(tmp_path: Path) -> None:
    broken = pcapng(LONG[:1])
    for _ in range(300):
        broken += pcapng(LONG[:1])[28:] + bytes(12)
    with open_capture(written(tmp_path, broken)) as capture:
        assert isinstance(capture, Capture)
        assert sum(map(len, capture.batches())) > 250
        assert 90 < len(capture.anomalies) <= 100


def test_reading_needs_neither_scapy_nor_mitmproxy() -> None:
    code = (
        "import sys\nfrom netinspect.replay import flows, source\n"
        "print([name for name in ('scapy', 'mitmproxy', 'zstandard', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_frames_are_of_the_link_type_of_the_file(tmp_path: Path) -> None:
    with open_capture(written(tmp_path, FILE)) as capture:
        assert {one[1].linktype for batch in capture.batches() for one in batch} == {ETHERNET}

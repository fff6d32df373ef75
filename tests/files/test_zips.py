"""A zip has two tables of contents and programs go by either: both are read, and what neither lists."""

from __future__ import annotations

import struct
import zlib

import pytest

from netinspect.files.unpack import Budget, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives


def opened(data: bytes) -> tuple[list[tuple[str, bytes]], list[str], list[str]]:
    report = Report()
    members = [(member.name, member.data) for member in unpack(data, "zip", "", Budget(Limits()), report)]
    return members, report.unscanned, [anomaly.kind for anomaly in report.anomalies]


def local(name: str, data: bytes, *, packed: bool = False) -> bytes:
    content = zlib.compress(data, wbits=-15) if packed else data
    head = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8 if packed else 0, 0, 0x21, zlib.crc32(data),
                       len(content), len(data), len(name), 0)  # fmt: skip
    return head + name.encode() + content


def test_a_member_that_the_directory_does_not_list_is_given() -> None:
    listed = archives.make_zip({"a.txt": b"listed"})
    data = local("hidden.exe", b"hidden", packed=True)
    # Before the archive: readers correct the offsets by what stands in front.
    assert opened(data + listed) == (
        [("a.txt", b"listed"), ("hidden.exe", b"hidden")], [], ["zip_unlisted_member"],
    )  # fmt: skip


def test_a_member_between_the_members_is_given() -> None:
    one, two = archives.make_zip({"a.txt": b"first"}), archives.make_zip({"b.txt": b"second"})
    # One archive behind the other: programs read the last directory, some the first.
    members, _, anomalies = opened(one + two)
    assert members == [("b.txt", b"second"), ("a.txt", b"first")]
    assert anomalies == ["zip_unlisted_member"]


def test_two_names_of_one_member_are_both_given() -> None:
    data = archives.make_zip({"harmless.txt": b"content"}).replace(b"harmless.txt", b"harmful.exe!", 1)
    members, unscanned, anomalies = opened(data)
    assert members == [("harmless.txt", b"content"), ("harmful.exe!", b"content")]
    assert (unscanned, anomalies) == ([], ["zip_names_differ"])


def test_two_contents_of_one_member_are_both_given() -> None:
    inner = zlib.compress(b"what the local header says", wbits=-15)
    data = bytearray(archives.make_zip({"a.txt": inner}, 0))
    data[8] = 8  # the local header says deflated, the directory stored
    members, _, anomalies = opened(bytes(data))
    assert members == [("a.txt", inner), ("a.txt~local", b"what the local header says")]
    assert anomalies == ["zip_headers_differ"]


def test_members_without_a_directory_are_given_and_it_is_said() -> None:
    data = local("a.txt", b"first") + local("b.txt", b"second", packed=True)
    assert opened(data) == (
        [("a.txt", b"first"), ("b.txt", b"second")], ["damaged archive"], ["zip_without_directory"] * 2,
    )  # fmt: skip


def test_a_streamed_member_without_a_directory_ends_where_it_ends() -> None:
    octets = bytearray(local("a.txt", b"first, " * 100, packed=True))
    octets[6] |= 8  # sizes behind the content
    octets[14:26] = bytes(12)
    members, _, _ = opened(bytes(octets) + b"PK\x07\x08" + bytes(12) + local("b.txt", b"second"))
    assert members == [("a.txt", b"first, " * 100), ("b.txt", b"second")]


def test_a_flag_in_one_header_only_encrypts_nothing() -> None:
    data = bytearray(archives.eicar_zip())
    data[6] |= 1
    assert opened(bytes(data))[0] == [("eicar.com", archives.eicar())]


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_what_is_cut_off_gives_what_is_there(method: int) -> None:
    text = b"".join(b"line %d of a longer text\n" % number for number in range(3000))
    data = archives.make_zip({"a.txt": text}, method)
    members, unscanned, _ = opened(data[: len(data) // 2])
    assert unscanned == ["damaged archive"]
    assert all(text.startswith(content[:100]) for _, content in members)

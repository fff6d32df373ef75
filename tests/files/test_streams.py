"""Compressed streams and tapes: what stands behind the end is read too."""

from __future__ import annotations

import lzma
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Member, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives


def opened(data: bytes, name: str = "", limits: Limits | None = None) -> tuple[list[Member], Report]:
    report = Report()
    return list(unpack(data, identify(data), name, Budget(limits or Limits()), report)), report


def lzip(data: bytes) -> bytes:
    """One member: header with a dictionary of 64 KiB, LZMA with an end mark, checksum and sizes."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    size = len(packed) + 26
    tail = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(8, "little") + size.to_bytes(8, "little")
    return b"LZIP\x01\x10" + packed + tail


@given(data=st.binary(max_size=3000), parts=st.integers(1, 3))
def test_lzip_comes_out_as_it_went_in(data: bytes, parts: int) -> None:
    members, report = opened(lzip(data) * parts, "a.txt.lz")
    assert [(one.name, one.data) for one in members] == [("a.txt", data * parts)]
    assert report == Report()


@given(data=st.binary(min_size=40, max_size=400), cut=st.integers(1, 30))
def test_a_cut_lzip_is_not_clean(data: bytes, cut: int) -> None:
    _, report = opened(lzip(data)[:-cut])
    assert report.unscanned == ["damaged archive"]


def test_a_bomb_in_lzip_is_stopped() -> None:
    limits = Limits(archive_ratio_floor=100_000, archive_ratio=50)
    assert opened(lzip(bytes(3_000_000)), limits=limits)[1].unscanned == ["archive_ratio"]


def test_an_archive_behind_a_stream_is_given() -> None:
    for packed in (archives.make_gzip(b"letter"), lzip(b"letter")):
        members, report = opened(packed + archives.eicar_zip())
        assert [one.data for one in members] == [b"letter", archives.eicar_zip()]
        assert [one.kind for one in report.anomalies] == ["trailing_data"]


def test_zeros_behind_a_stream_are_padding() -> None:
    assert [one.data for one in opened(archives.make_gzip(b"letter") + bytes(512))[0]] == [b"letter"]


@pytest.mark.parametrize("between", [b"", bytes(512), bytes(10_240)])
def test_tars_one_after_the_other_are_all_read(between: bytes) -> None:
    members, report = opened(archives.make_tar({"a": b"1"}) + between + archives.make_tar({"b": b"2" * 600}))
    assert [(one.name, one.data) for one in members] == [("a", b"1"), ("b", b"2" * 600)]
    assert [one.kind for one in report.anomalies] == ["appended_archive"]


def test_a_broken_header_in_a_tar_is_not_the_end_of_it() -> None:
    tape = bytearray(archives.make_tar({"a": b"1" * 600, "b": b"2" * 600, "c": b"3"}))
    tape[1536] ^= 1
    members, report = opened(bytes(tape))
    assert [one.name for one in members] == ["a", "c"]
    assert report.unscanned == ["damaged archive"]


def test_a_tar_from_before_the_magic_is_a_tar() -> None:
    tape = bytearray(archives.make_tar({"a": b"1"}))
    tape[257:265] = bytes(8)
    tape[148:156] = b" " * 8
    tape[148:156] = b"%06o\0 " % sum(tape[:512])
    assert [one.data for one in opened(bytes(tape))[0]] == [b"1"]
    tape[0] += 1
    assert identify(bytes(tape)) == "data"


def test_many_tars_cost_members() -> None:
    tapes = (archives.make_tar({"a": b"1"})[:1024] + bytes(512)) * 200
    assert opened(tapes, limits=Limits(archive_members=50))[1].unscanned == ["archive_members"]

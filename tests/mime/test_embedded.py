"""Files in texts: yEnc, begin-base64, BinHex, uuencode without its frame."""

from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.mime.embedded import embedded_files
from tests.mime.tools import parse

HEAD = b"Subject: s\r\n\r\n"
CONTENT = bytes(range(256)) + b"\x90\x90\x90aaaaaaaaaaaa\x90"


def yenc(data: bytes, name: str = "a.bin", size: int | None = None) -> bytes:
    out = bytearray()
    line = 0
    for octet in data:
        coded = (octet + 42) % 256
        if coded in (0, 10, 13, 61):
            out += bytes((61, (coded + 64) % 256))
            line += 2
        else:
            out.append(coded)
            line += 1
        if line >= 128:
            out += b"\r\n"
            line = 0
    size = len(data) if size is None else size
    return b"=ybegin line=128 size=%d name=%s\r\n%s\r\n=yend size=%d\r\n" % (size, name.encode(), out, size)


def binhex(data: bytes, name: str = "a.bin", resource: bytes = b"") -> bytes:
    head = bytes((len(name),)) + name.encode() + b"\0TEXTttxt\0\0"
    head += len(data).to_bytes(4, "big") + len(resource).to_bytes(4, "big")
    raw = head + binascii.crc_hqx(head, 0).to_bytes(2, "big")
    raw += data + binascii.crc_hqx(data, 0).to_bytes(2, "big")
    raw += resource + binascii.crc_hqx(resource, 0).to_bytes(2, "big")
    packed = bytearray()
    at = 0
    while at < len(raw):
        run = 1
        while at + run < len(raw) and raw[at + run] == raw[at] and run < 255:
            run += 1
        if raw[at] == 0x90:
            packed += b"\x90\0"
            at += 1
        elif run > 3:
            packed += bytes((raw[at], 0x90, run))
            at += run
        else:
            packed.append(raw[at])
            at += 1
    table = bytes.maketrans(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr",
    )
    chars = base64.b64encode(bytes(packed)).rstrip(b"=").translate(table)
    lines = b"\r\n".join(chars[at : at + 64] for at in range(0, len(chars), 64))
    return b"(This file must be converted with BinHex 4.0)\r\n\r\n:" + lines + b":\r\n"


def begin_base64(data: bytes) -> bytes:
    return b"begin-base64 644 a.bin\n" + base64.encodebytes(data) + b"====\n"


@pytest.mark.parametrize("frame", [yenc, binhex, begin_base64])
def test_a_file_in_a_text_is_a_leaf_of_its_own(frame: object) -> None:
    assert callable(frame)
    text = b"look at this:\r\n\r\n" + frame(CONTENT) + b"\r\nbye\r\n"
    parsed = parse(HEAD + text, bytewise=False)
    assert [(leaf.path, leaf.name) for leaf in parsed.leaves] == [("1", ""), ("1.uu1", "a.bin")]
    assert parsed.leaves[0].data == text
    assert parsed.leaves[1].data == CONTENT
    assert all(not leaf.why for leaf in parsed.leaves)


@pytest.mark.parametrize(("encoding", "frame"), [(b"x-yencode", yenc), (b"x-binhex40", binhex)])
def test_a_part_in_such_an_encoding_is_what_its_first_file_holds(encoding: bytes, frame: object) -> None:
    assert callable(frame)
    head = b"Content-Type: a/b; name=n\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    (leaf,) = parse(head + frame(CONTENT)).leaves
    assert (leaf.path, leaf.name, leaf.data) == ("1", "n", CONTENT)


def test_several_files_in_one_text_are_numbered() -> None:
    parsed = parse(HEAD + yenc(b"one", "1") + yenc(b"two", "2") + binhex(b"three", "3"), bytewise=False)
    assert [(leaf.path, leaf.name, leaf.data) for leaf in parsed.leaves[1:]] == [
        ("1.uu1", "1", b"one"), ("1.uu2", "2", b"two"), ("1.uu3", "3", b"three"),
    ]  # fmt: skip


def test_the_resource_fork_is_a_file_too() -> None:
    files = list(embedded_files(binhex(b"data", "n", b"resource"), 1000))
    assert [(file.name, file.data) for file in files] == [("n", b"data"), ("n.rsrc", b"resource")]
    assert not any(file.broken for file in files)


@pytest.mark.parametrize(
    "text",
    [yenc(b"data", size=9), yenc(b"data")[:-16], binhex(b"data" * 50)[:-90], begin_base64(b"data")[:-5]],
    ids=["size", "no-end", "cut", "no-end-line"],
)
def test_a_broken_file_is_named_as_broken(text: bytes) -> None:
    parsed = parse(HEAD + text, bytewise=False)
    assert "uu_broken" in parsed.leaves[1].why


def test_what_is_over_the_limit_is_cut_and_named() -> None:
    (file,) = embedded_files(binhex(b"\0" * 5000), 1000)
    assert file.over
    assert len(file.data) < 1000


def test_uuencoded_lines_without_their_frame_are_undone() -> None:
    lines = b"".join(binascii.b2a_uu(CONTENT[at : at + 45]) for at in range(0, len(CONTENT), 45))
    (leaf,) = parse(b"Content-Type: a/b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + lines).leaves
    assert leaf.data == CONTENT
    assert leaf.why == ("uu_broken",)


@given(st.binary(max_size=400), st.binary(max_size=40))
def test_whatever_goes_in_comes_out(data: bytes, resource: bytes) -> None:
    assert [file.data for file in embedded_files(yenc(data), 1000)] == [data]
    assert next(embedded_files(binhex(data, "n", resource), 1000)).data == data
    assert [file.data for file in embedded_files(begin_base64(data), 1000)] == [data]


@given(st.binary(max_size=300))
def test_any_octets_may_stand_in_a_frame(data: bytes) -> None:
    for frame in (b"=ybegin line=1 name=x\r\n", b"begin-base64 644 x\n", b"with BinHex 4.0)\r\n:"):
        list(embedded_files(frame + data, 200))

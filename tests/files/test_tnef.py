"""TNEF: attachments with their long names, embedded objects, bodies; whatever is cut short is told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.tnef import SIGNATURE, TnefError, _codec, decompress_rtf, members


def attribute(level: int, kind: int, identifier: int, data: bytes) -> bytes:
    return struct.pack("<BHHI", level, identifier, kind, len(data)) + data + struct.pack("<H", sum(data) & 0xFFFF)


def prop(kind: int, identifier: int, value: bytes, named: bytes = b"") -> bytes:
    head = struct.pack("<HH", kind, identifier) + named
    if kind in (0x1E, 0x1F, 0x102, 0x0D):
        return head + struct.pack("<II", 1, len(value)) + value + b"\0" * (-len(value) % 4)
    return head + value


def properties(*values: bytes) -> bytes:
    return struct.pack("<I", len(values)) + b"".join(values)


def tnef(*attributes: bytes) -> bytes:
    return SIGNATURE + b"\x01\x00" + b"".join(attributes)


RENDER = attribute(2, 6, 0x9002, b"\0" * 14)


def attachment(name: bytes, data: bytes, *values: bytes) -> bytes:
    out = RENDER + attribute(2, 1, 0x8010, name + b"\0") + attribute(2, 6, 0x800F, data)
    return out + attribute(2, 6, 0x9005, properties(*values)) if values else out


def test_attachments_come_in_their_order_with_their_names() -> None:
    data = tnef(attribute(1, 8, 0x9006, b"\0\0\1\0"), attachment(b"one.txt", b"1"), attachment(b"two.exe", b"22"))
    assert list(members(data)) == [("one.txt", b"1"), ("two.exe", b"22")]


def test_the_long_name_is_preferred_and_a_named_property_is_passed_over() -> None:
    guid = b"\0" * 16
    by_name = guid + struct.pack("<II", 1, 6) + "ab\0".encode("utf-16-le") + b"\0\0"
    by_number = guid + struct.pack("<II", 0, 7)
    values = (
        prop(3, 0x8001, b"\1\0\0\0", by_number),
        prop(0x1E, 0x8002, b"x\0", by_name),
        prop(0x1F, 0x3707, "sch\u00f6n.docm\0".encode("utf-16-le")),
    )
    assert list(members(tnef(attachment(b"SCHN~1.DOC", b"data", *values)))) == [("sch\u00f6n.docm", b"data")]


def test_names_are_in_the_code_page_of_the_file() -> None:
    page = attribute(1, 6, 0x9007, struct.pack("<II", 1251, 0))
    assert list(members(tnef(page, attachment("\u0444.txt".encode("cp1251"), b"x")))) == [("\u0444.txt", b"x")]


def test_an_embedded_message_is_given_without_the_identifier_in_front() -> None:
    inner = tnef(attachment(b"inner.exe", b"MZ"))
    values = (prop(0x0D, 0x3701, b"\7" * 16 + inner), prop(0x1E, 0x3001, b"Message\0"))
    outer = tnef(RENDER + attribute(2, 6, 0x9005, properties(*values)))
    ((name, content),) = members(outer)
    assert (name, content) == ("Message", inner)
    assert list(members(content)) == [("inner.exe", b"MZ")]


RTF = bytes.fromhex(
    "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d0a800fa0"
)


def test_bodies_are_members_and_compressed_rtf_is_undone() -> None:
    # The sample of [MS-OXRTFCP] §4.1.1.
    values = (prop(0x102, 0x1009, RTF), prop(0x102, 0x1013, b"<p>x</p>\0"), prop(0x1E, 0x1000, b"plain\0"))
    found = dict(members(tnef(attribute(1, 6, 0x9003, properties(*values)))))
    assert found["body.html"] == b"<p>x</p>"
    assert found["body.txt"] == b"plain"
    assert found["body.rtf"] == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"


def test_stored_rtf_is_given_as_it_is() -> None:
    assert decompress_rtf(struct.pack("<IIII", 17, 5, 0x414C454D, 0) + b"{\\rtf") == b"{\\rtf"


@pytest.mark.parametrize(
    "data",
    [
        tnef(attachment(b"a.exe", b"MZ"))[:-4],
        tnef(attachment(b"a.exe", b"MZ")) + b"\7 this is no attribute",
        tnef(attachment(b"a.exe", b"MZ"), attribute(2, 6, 0x9005, properties(prop(0x102, 0x3702, b"x")) + b"")[:-9]),
    ],
    ids=["cut", "rubbish", "properties"],
)
def test_what_is_cut_short_gives_what_there_is_and_tells(data: bytes) -> None:
    found = members(data)
    assert next(found)[0] == "a.exe"
    with pytest.raises(TnefError):
        list(found)


def test_zeros_at_the_end_are_padding() -> None:
    assert list(members(tnef(attachment(b"a", b"x")) + b"\0" * 100)) == [("a", b"x")]


@given(st.binary(max_size=300), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5))
def test_whatever_the_file_says_only_the_documented_error_comes(data: bytes, changes: list[tuple[int, int]]) -> None:
    values = (prop(0x1F, 0x3707, b"n\0\0\0"), prop(0x102, 0x1009, RTF))
    good = bytearray(tnef(attachment(b"a", b"x", *values), attribute(1, 6, 0x9003, properties(*values))))
    for at, octet in changes:
        if at < len(good):
            good[at] = octet
    for raw in (SIGNATURE + data, bytes(good)):
        try:
            for name, content in members(raw):
                assert isinstance(name, str)
                assert len(content) <= len(raw) * 16
        except TnefError:
            pass


@given(st.binary(max_size=300))
def test_any_octets_are_compressed_rtf(data: bytes) -> None:
    decompress_rtf(struct.pack("<IIII", len(data) + 12, 100_000, 0x75465A4C, 0) + data)


def test_a_code_page_that_is_none_is_read_as_western() -> None:
    for page in (0, 7, 99999):
        assert _codec(page) == "cp1252"

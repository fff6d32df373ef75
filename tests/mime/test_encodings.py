"""Transfer encodings: what is decoded, what is named a problem, and that cuts change neither."""

from __future__ import annotations

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.mime.encodings import Base64Decoder, Decoder, QuotedPrintableDecoder
from tests.mime.tools import cut, parse


def _run(decoder: Decoder, pieces: list[bytes]) -> tuple[bytes, set[str]]:
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return out + decoder.finish(), decoder.problems


def _base64(raw: bytes) -> tuple[bytes, set[str]]:
    whole = _run(Base64Decoder(), [raw])
    for size in (1, 3, 10):
        assert _run(Base64Decoder(), cut(raw, size)) == whole
    return whole


def _qp(raw: bytes) -> tuple[bytes, set[str]]:
    whole = _run(QuotedPrintableDecoder(), [raw])
    for size in (1, 3, 10):
        assert _run(QuotedPrintableDecoder(), cut(raw, size)) == whole
    return whole


@given(st.binary(max_size=3000), st.sampled_from([b"\r\n", b"\n", b""]), st.integers(1, 100), st.integers(1, 2000))
def test_clean_base64_comes_back_whatever_its_line_length(data: bytes, end: bytes, width: int, size: int) -> None:
    text = base64.b64encode(data)
    raw = b"".join(line + end for line in cut(text, width))
    decoded, problems = _run(Base64Decoder(), cut(raw, size))
    assert decoded == data
    assert problems <= {"base64_lines"}
    if width >= 52 or not width % 4:
        assert not problems


def test_short_lines_of_no_whole_groups_are_named() -> None:
    assert _base64(b"QUJDQQ\r\nQUJDQQ\r\n")[1] == {"base64_lines"}
    assert _base64(b"QUJDRA==\r\n")[1] == set()


@pytest.mark.parametrize(
    ("raw", "data", "problems"),
    [
        (b"QUJD\r\nREVG\r\n", b"ABCDEF", set()),
        (b"  QU JD\t\r\n \r\n", b"ABC", set()),
        (b"QUI=\r\n", b"AB", set()),
        (b"QQ=\r\n=\r\n", b"A", set()),
        (b"", b"", set()),
        (b"QU-JD", b"ABC", {"base64_rubbish"}),
        (b"QUJD\0REVG", b"ABCDEF", {"base64_rubbish"}),
        (b"QUI", b"AB", {"base64_padding"}),
        (b"QQ", b"A", {"base64_padding"}),
        (b"QQ=", b"A", {"base64_padding"}),
        (b"QUJDQ", b"ABC", {"base64_padding"}),
        (b"QUJD=", b"ABC", {"base64_padding"}),
        (b"Q=UJD", b"ABC", {"base64_padding"}),
        (b"QU=JD", b"ABC", {"base64_padding"}),
        (b"QQ==QUI=QUJD", b"AABABC", {"base64_after_padding"}),
        (b"QQ==\r\nQUJD\r\n", b"AABC", {"base64_after_padding"}),
        (b"QQ==!", b"A", {"base64_rubbish"}),
    ],
)
def test_broken_base64_is_decoded_on_and_named(raw: bytes, data: bytes, problems: set[str]) -> None:
    assert _base64(raw) == (data, problems)


def test_more_paddings_than_any_file_has_are_given_up_but_bounded() -> None:
    out, problems = _base64(b"QQ==" * 3000)
    assert out.startswith(b"A" * 2048)
    assert "base64_after_padding" in problems


_PIECES = st.lists(st.sampled_from([b"QUJD", b"Q", b"=", b"==", b"\r\n", b"!", b" ", b"QUI="]), max_size=30)


@given(_PIECES, st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_cuts_change_nothing_in_broken_base64(pieces: list[bytes], sizes: list[int]) -> None:
    raw = b"".join(pieces)
    assert _run(Base64Decoder(), _cuts(raw, sizes)) == _run(Base64Decoder(), [raw])


def _cuts(raw: bytes, sizes: list[int]) -> list[bytes]:
    out, at, turn = [], 0, 0
    while at < len(raw):
        out.append(raw[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return out


def test_large_base64_takes_the_fast_way_and_the_careful_way_to_the_same_end() -> None:
    data = bytes(range(256)) * 2000
    fast = base64.encodebytes(data).replace(b"\n", b"\r\n")
    assert _run(Base64Decoder(), cut(fast, 65_536)) == (data, set())
    odd = b"\r\n".join(cut(base64.b64encode(data), 75))
    assert _run(Base64Decoder(), cut(odd, 65_536)) == (data, set())
    late = fast[:-5000] + b"*" + fast[-5000:]
    assert _run(Base64Decoder(), cut(late, 65_536)) == (data, {"base64_rubbish"})


@pytest.mark.parametrize(
    ("raw", "data", "problems"),
    [
        (b"a=3Db=\r\nc=\nd", b"a=bcd", set()),
        (b"=c3=bC=C3=bc", "\u00fc\u00fc".encode(), set()),
        (b"line  \r\nnext\t \nend ", b"line\r\nnext\nend", set()),
        (b"soft= \t\r\nbreak", b"softbreak", set()),
        (b"last=", b"last", set()),
        (b"last= ", b"last", set()),
        (b"50=% and =ZZ", b"50=% and =ZZ", {"qp_broken"}),
        (b"==41", b"=A", {"qp_broken"}),
        (b"cut=4", b"cut=4", {"qp_broken"}),
        (b"=\rx", b"=\rx", {"qp_broken"}),
        (b"a\rb\0c_d", b"a\rb\0c_d", set()),
        (b"keep \tinside", b"keep \tinside", set()),
    ],
)
def test_quoted_printable(raw: bytes, data: bytes, problems: set[str]) -> None:
    assert _qp(raw) == (data, problems)


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_what_the_standard_library_encodes_comes_back(data: bytes, size: int) -> None:
    raw = quopri.encodestring(data.replace(b"\r", b"")).replace(b"\n", b"\r\n")
    assert _run(QuotedPrintableDecoder(), cut(raw, size)) == (data.replace(b"\r", b"").replace(b"\n", b"\r\n"), set())


_BITS = [b"a", b"=", b"=4", b"=41", b" ", b"\t", b"\r", b"\n", b"\r\n", b" " * 4097]
_QP = st.lists(st.sampled_from(_BITS), max_size=25)


@given(_QP, st.lists(st.integers(1, 5000), min_size=1, max_size=5))
def test_cuts_change_nothing_in_broken_quoted_printable(pieces: list[bytes], sizes: list[int]) -> None:
    raw = b"".join(pieces)
    assert _run(QuotedPrintableDecoder(), _cuts(raw, sizes)) == _run(QuotedPrintableDecoder(), [raw])


@pytest.mark.parametrize(
    "tail", [b"", b" " * 3, b" " * 5000, b" " * 200_000, b"\r ", b"=", b"=4", b"=\r", b" " * 5000 + b"\r"]
)
@pytest.mark.parametrize("after", [b"", b"\r\n", b"1", b" \n", b"\nx"])
def test_lines_longer_than_any_buffer_are_cut_where_nothing_changes(tail: bytes, after: bytes) -> None:
    raw = b"x" * 70_000 + tail + after
    whole = _run(QuotedPrintableDecoder(), [raw])
    for pieces in ([raw[:70_000], tail, after], [raw[:-1], raw[-1:]], cut(raw, 30_011)):
        assert _run(QuotedPrintableDecoder(), pieces) == whole


@pytest.mark.parametrize(
    ("field", "encoding", "why"),
    [
        ("BASE64", "base64", ()),
        (" base64 \t ", "base64", ()),
        ("base64 (really)", "base64", ()),
        ("(c) base64", "base64", ()),
        ("\n base64", "base64", ()),
        ('"base64"', "base64", ("encoding_form",)),
        ("base64;", "base64", ("encoding_form",)),
        ("base64 or so", "base64", ("encoding_form",)),
        ("", "7bit", ("encoding_form",)),
        ("x-secret", "x-secret", ("unknown_encoding",)),
    ],
)
def test_the_name_of_an_encoding_in_all_its_spellings(field: str, encoding: str, why: tuple[str, ...]) -> None:
    parsed = parse(f"Content-Transfer-Encoding: {field}\n\nSGVsbG8=\n")
    (leaf,) = parsed.leaves
    assert parsed.parser.root.encoding == encoding
    assert leaf.data == (b"Hello" if encoding == "base64" else b"SGVsbG8=\r\n")
    assert leaf.why == why


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary"])
def test_identity_encodings_leave_every_octet(encoding: str) -> None:
    body = bytes(range(256)) + b"\r\nbegin\r\n"
    assert parse(b"Content-Transfer-Encoding: " + encoding.encode() + b"\r\n\r\n" + body).data == {"1": body}


def test_broken_base64_makes_the_leaf_doubtful_and_an_anomaly() -> None:
    parsed = parse("Content-Transfer-Encoding: base64\n\nSGVs!bG8=\n")
    assert parsed.data == {"1": b"Hello"}
    assert parsed.leaves[0].why == ("base64_rubbish",)
    assert parsed.kinds == {"base64_rubbish"}


# --- uuencode ----------------------------------------------------------------------------------------------------


def _uu(data: bytes, name: str = "file.exe", end: str = "`\nend\n") -> str:
    return f"begin 644 {name}\n" + "".join(binascii.b2a_uu(line).decode() for line in cut(data, 45)) + end


DATA = bytes(range(256)) * 3 + b"odd"


def test_a_uuencoded_file_in_a_text_is_a_leaf_besides_the_text() -> None:
    text = "look:\n" + _uu(DATA) + "bye\n"
    parsed = parse("Subject: s\n\n" + text)
    seen = [(leaf.path, leaf.name, leaf.text) for leaf in parsed.leaves]
    assert seen == [("1", "", True), ("1.uu1", "file.exe", False)]
    assert parsed.data == {"1": text.replace("\n", "\r\n").encode(), "1.uu1": DATA}
    assert parsed.parser.mail is not None
    assert parsed.parser.mail.attachments == ("file.exe",)
    assert parsed.anomalies == []


def test_two_files_in_a_text_and_one_without_an_end() -> None:
    parsed = parse("Subject: s\n\n" + _uu(b"one" * 40, "a") + "x\n" + _uu(DATA, "b", ""))
    assert (parsed.data["1.uu1"], parsed.data["1.uu2"]) == (b"one" * 40, DATA)
    assert parsed.leaves[2].why == ("uu_broken",)


def test_prose_that_begins_with_begin_is_no_file() -> None:
    parsed = parse("Subject: s\n\nbegin 644 things\nand Then some\n\nbegin now\nbegin 6\n")
    assert [leaf.path for leaf in parsed.leaves] == ["1"]
    assert parsed.anomalies == []


def test_blanks_stripped_from_the_lines_of_a_file_are_borne() -> None:
    stripped = "\n".join(line.replace("`", " ").rstrip() for line in _uu(bytes(80)).split("\n"))
    parsed = parse("Subject: s\n\n" + _uu(b"x" * 45, end="") + stripped.partition("\n")[2])
    assert parsed.data["1.uu1"] == b"x" * 45 + bytes(80)


@pytest.mark.parametrize("word", ["x-uuencode", "uuencode", "X-UUE"])
def test_uuencode_as_a_transfer_encoding_decodes_the_part_itself(word: str) -> None:
    head = f"Content-Type: application/octet-stream\nContent-Transfer-Encoding: {word}\n\n"
    parsed = parse(head + _uu(DATA))
    assert [(leaf.path, leaf.data, leaf.name, leaf.why) for leaf in parsed.leaves] == [("1", DATA, "file.exe", ())]
    parsed = parse(head + "before\n" + _uu(DATA))
    assert parsed.leaves[0].why == ("uu_outside",)
    parsed = parse(head + "nothing\n")
    assert (parsed.leaves[0].data, parsed.leaves[0].why) == (b"nothing\r\n", ("uu_broken",))


def test_uuencoded_files_are_counted_as_parts() -> None:
    parsed = parse("Subject: s\n\n" + _uu(b"x" * 50) * 5, Limits(mime_parts=3))
    assert [leaf.path for leaf in parsed.leaves] == ["1", "1.uu1", "1.uu2", "1.uu3"]
    assert parsed.leaves[0].why == ("limit_uuencode",)

"""The structure of messages: which leaves come out, where they stand, when."""

from __future__ import annotations

import base64
import time

import pytest

from netinspect.limits import Limits
from netinspect.mime import MimeParser
from netinspect.spool import Spool, SpoolBudget
from tests.mime.tools import cut, parse, parse_pieces

HEAD = "From: a@example.org\nSubject: s\n"
MIXED = HEAD + "Content-Type: multipart/mixed; boundary=b\n\n"


def test_a_message_without_mime_is_one_text_with_its_last_line_end() -> None:
    parsed = parse(HEAD + "\nhello\nworld\n")
    (leaf,) = parsed.leaves
    assert (leaf.path, leaf.data, leaf.declared, leaf.text, leaf.why) == (
        "1", b"hello\r\nworld\r\n", "text/plain", True, (),
    )  # fmt: skip
    assert parsed.anomalies == []


def test_the_line_end_before_a_boundary_is_not_content() -> None:
    parsed = parse(MIXED + "--b\n\none\n\n--b\nContent-Type: text/html\n\n<p>two\n--b--\n")
    assert parsed.data == {"1.1": b"one\r\n", "1.2": b"<p>two"}
    assert [leaf.declared for leaf in parsed.leaves] == ["text/plain", "text/html"]
    assert parsed.anomalies == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_both_line_ends_give_the_same_parts(end: bytes) -> None:
    raw = (MIXED + "--b\nContent-Transfer-Encoding: base64\n\nSGVsbG8=\n--b\n\nx\n--b--\n").encode().replace(b"\n", end)
    assert parse(raw).data == {"1.1": b"Hello", "1.2": b"x"}


def test_mixed_line_ends_are_read_as_they_come() -> None:
    raw = b"Content-Type: multipart/mixed;\n boundary=b\r\n\nx\n--b\r\nA: 1\n\r\none\r\n--b\n\ntwo\n--b--"
    parsed = parse(raw)
    assert parsed.data == {"1.preamble": b"x", "1.1": b"one", "1.2": b"two"}


def test_preamble_and_epilogue_are_leaves_when_they_are_not_blank() -> None:
    parsed = parse(MIXED + "before\n--b\n\nx\n--b--\nafter\n")
    assert [(leaf.path, leaf.data, leaf.text) for leaf in parsed.leaves] == [
        ("1.preamble", b"before", True), ("1.1", b"x", True), ("1.epilogue", b"after\r\n", True),
    ]  # fmt: skip
    assert [leaf.path for leaf in parse(MIXED + "\n  \n--b\n\nx\n--b--\n\n").leaves] == ["1.1"]


def test_texts_behind_several_closing_delimiters_have_paths_of_their_own() -> None:
    parsed = parse(MIXED + "--b\n\nx\n--b--\nafter\n--b--\nagain\n")
    assert [leaf.path for leaf in parsed.leaves] == ["1.1", "1.epilogue", "1.epilogue2"]


def test_nested_multiparts_have_nested_paths() -> None:
    head = "Content-Type: multipart/alternative; boundary=c\n\n"
    inner = head + "--c\n\nplain\n--c\nContent-Type: text/html\n\nhtml\n--c--\n"
    parsed = parse(MIXED + "--b\n" + inner + "\n--b\n\nlast\n--b--\n")
    assert parsed.data == {"1.1.1": b"plain", "1.1.2": b"html", "1.2": b"last"}
    assert parsed.parser.root.children[0].content_type == "multipart/alternative"


def test_the_outer_boundary_ends_the_inner_multipart() -> None:
    parsed = parse(MIXED + "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1.1": b"one", "1.2": b"two"}
    assert parsed.kinds == {"missing_close_boundary"}


def test_an_inner_boundary_that_looks_like_the_outer_close_belongs_to_the_nearest() -> None:
    head = '--b\nContent-Type: multipart/mixed; boundary="b--"\n\n'
    parsed = parse(MIXED + head + "--b--\n\none\n--b----\n--b\n\ntwo\n--b--\n")
    assert parsed.data["1.1.1"] == b"one"
    assert parsed.data["1.2"] == b"two"


def test_a_boundary_that_starts_like_another_is_told_apart() -> None:
    head = "--b\nContent-Type: multipart/mixed; boundary=bb\n\n"
    parsed = parse(MIXED + head + "--bb\n\none\n--bb--\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1.1": b"one", "1.2": b"two"}
    assert parsed.anomalies == []


def test_the_same_boundary_inside_and_outside() -> None:
    parsed = parse(MIXED + "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1.1": b"one", "1.2": b"two"}


def test_a_missing_last_boundary_closes_at_the_end() -> None:
    parsed = parse(MIXED + "--b\n\none\n--b\n\ntwo\n")
    assert parsed.data == {"1.1": b"one", "1.2": b"two\r\n"}
    assert parsed.kinds == {"missing_close_boundary"}


def test_the_last_boundary_without_a_line_end() -> None:
    assert parse(MIXED + "--b\n\none\n--b--").data == {"1.1": b"one"}
    assert parse(MIXED + "--b\n\none\n--b").data == {"1.1": b"one", "1.2": b""}


def test_blanks_behind_a_boundary_are_padding() -> None:
    parsed = parse(MIXED + "--b \t \n\none\n--b--  \n")
    assert parsed.data == {"1.1": b"one"}
    assert parsed.anomalies == []


def test_a_line_that_goes_on_behind_the_boundary_is_text_and_a_doubt() -> None:
    parsed = parse(MIXED + "--b\n\none\n--bogus\nmore\n--b--\n")
    assert parsed.data == {"1.1": b"one\r\n--bogus\r\nmore"}
    assert parsed.leaves[0].why == ("boundary_suffix",)


def test_parts_behind_the_closing_boundary_are_read() -> None:
    parsed = parse(MIXED + "--b\n\none\n--b--\nbetween\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1": b"one", "1.epilogue": b"between", "1.2": b"two"}
    assert "boundary_after_close" in parsed.kinds


def test_a_part_may_end_in_its_header() -> None:
    parsed = parse(MIXED + "--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1": b"", "1.2": b"two"}
    assert parsed.leaves[0].declared == "text/html"


def test_a_part_without_a_blank_line_keeps_its_text() -> None:
    parsed = parse(MIXED + "--b\nhello there\nyou\n--b\n\ntwo\n--b--\n")
    assert parsed.data == {"1.1": b"hello there\r\nyou", "1.2": b"two"}
    assert "bad_header_line" in parsed.kinds


def test_a_line_that_is_no_field_does_not_hide_what_follows() -> None:
    parsed = parse(HEAD + "this is no field\nContent-Transfer-Encoding: base64\n\nSGVsbG8=\n")
    assert parsed.data == {"1.header": b"this is no field\r\nContent-Transfer-Encoding: base64\r\n", "1": b"Hello"}
    assert all(leaf.why == ("bad_header_line",) for leaf in parsed.leaves)


def test_no_boundary_and_a_boundary_that_never_comes() -> None:
    parsed = parse("Content-Type: multipart/mixed\n\n--b\n\nx\n")
    assert parsed.data == {"1": b"--b\r\n\r\nx\r\n"}
    assert parsed.leaves[0].why == ("no_boundary",)
    parsed = parse(MIXED + "text\n")
    assert parsed.data == {"1.preamble": b"text\r\n"}
    assert parsed.leaves[0].why == ("no_parts",)
    parsed = parse(f"Content-Type: multipart/mixed; boundary={'x' * 1001}\n\ntext\n")
    assert parsed.leaves[0].why == ("boundary_too_long",)


def test_a_digest_holds_messages() -> None:
    head = "Content-Type: multipart/digest; boundary=b\n\n"
    parsed = parse(head + "--b\n\nSubject: one\n\nx\n--b\n\nSubject: two\n\ny\n--b--\n")
    assert parsed.data == {"1.1.1": b"x", "1.2.1": b"y"}
    assert parsed.parser.root.children[1].children[0].headers.get("subject") == b" two"


def test_a_nested_message_is_parsed_in_place() -> None:
    nested = (
        "Content-Type: message/rfc822\n\nSubject: in\n"
        + MIXED.replace("boundary=b", "boundary=c")
        + "--c\n\nx\n--c--\n"
    )
    parsed = parse(MIXED + "--b\n" + nested + "--b\n\ny\n--b--\n")
    assert parsed.data == {"1.1.1.1": b"x", "1.2": b"y"}


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_an_encoded_nested_message_is_decoded_and_parsed(encoding: str) -> None:
    inner = b"Subject: in\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
    body = base64.encodebytes(inner).decode() if encoding == "base64" else inner.decode().replace("=", "=3D")
    head = f"Content-Type: message/rfc822; name=in.eml\nContent-Transfer-Encoding: {encoding}\n\n"
    outer = MIXED.replace("boundary=b", "boundary=o")
    raw = (outer + "--o\n" + head).replace("\n", "\r\n") + body.strip() + "\r\n--o\r\n\r\ny\r\n--o--\r\n"
    parsed = parse(raw.encode())
    assert parsed.data["1.1"] == inner.rstrip() or parsed.data["1.1"] == inner
    assert parsed.data["1.1.1.1"] == b"x"
    assert parsed.data["1.2"] == b"y"


def test_what_is_wrong_around_a_nested_message_makes_its_leaves_doubtful() -> None:
    inner = base64.encodebytes(b"Subject: in\r\n\r\nx\r\n").decode()
    parsed = parse("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n!" + inner)
    why = ("base64_rubbish",)
    assert [(leaf.path, leaf.why) for leaf in parsed.leaves] == [("1", why), ("1.1", why)]


def test_encoded_messages_in_encoded_messages_end_at_a_bound() -> None:
    raw = b"Subject: deep\r\n\r\nx\r\n"
    for _ in range(12):
        raw = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(raw)
    parsed = parse(raw, bytewise=False)
    assert "limit_mime_depth" in parsed.kinds
    assert "limit_mime_depth" in parsed.leaves[-1].why


def test_a_leaf_comes_out_as_soon_as_its_boundary_is_seen() -> None:
    limits, budget = Limits(), SpoolBudget(10_000)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    before = parser.mail
    assert before is None
    assert parser.feed((MIXED + "--b\n\none\n--").encode()) == []
    assert parser.mail is not None
    (leaf,) = parser.feed(b"b\n")
    assert leaf.content.getvalue() == b"one"
    parser.discard()
    leaf.content.close()
    assert budget.used == 0
    with pytest.raises(ValueError, match="closed"):
        parser.feed(b"x")


def test_nothing_at_all_is_one_empty_leaf() -> None:
    assert parse(b"").data == {"1": b""}
    assert parse(b"\r\n").data == {"1": b""}
    assert parse(b"\nbody").data == {"1": b"body"}
    assert parse(b"no header, only text\n").data == {"1": b"no header, only text\n"}


def test_an_mbox_line_in_front_is_no_header() -> None:
    parsed = parse(b"From a@b Mon Jan  1 00:00:00 2024\nSubject: s\n\nx\n")
    assert parsed.data == {"1": b"x\n"}
    assert parsed.anomalies == []


# --- ambiguity ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Content-Type: text/plain", "Content-Transfer-Encoding: 7bit"])
def test_two_of_a_header_that_decides_are_a_doubt(name: str) -> None:
    parsed = parse(f"{name}\n{name}\n\nx\n")
    assert parsed.leaves[0].why == ("duplicate_header",)
    assert "duplicate_header" in parsed.kinds


def test_a_doubt_about_a_multipart_goes_to_all_below_it() -> None:
    parsed = parse("Content-Type: text/plain\n" + MIXED.replace("mixed;", "mixed; boundary=z;") + "--b\n\nx\n--b--\n")
    assert all(leaf.why for leaf in parsed.leaves)
    parsed = parse("Content-Transfer-Encoding: base64\n" + MIXED + "--b\n\nx\n--b--\n")
    assert parsed.data == {"1.1": b"x"}
    assert parsed.leaves[0].why == ("encoded_multipart",)


def test_a_line_of_blanks_in_the_header_is_a_doubt() -> None:
    parsed = parse("Subject: s\n \nContent-Type: text/html\n\nx\n")
    assert parsed.leaves[0].why == ("blank_continuation",)


# --- limits ------------------------------------------------------------------------------------------------------


def test_a_header_block_over_its_limit_makes_the_rest_doubtful() -> None:
    limits = Limits(header_bytes=100)
    raw = "Subject: s\n" + "X: y\n" * 30 + "Content-Type: text/html\n\nbody\n"
    parsed = parse(raw, limits)
    assert parsed.leaves[-1].why == ("limit_header_bytes",)
    assert parsed.leaves[-1].data.endswith(b"body\r\n")
    assert ("limit_header_bytes", 0, "") in parsed.anomalies


@pytest.mark.parametrize("length", range(95, 106))
def test_a_header_block_near_its_limit_is_cut_the_same_in_any_pieces(length: int) -> None:
    parse("Subject: " + "s" * (length - 9) + "\n\nbody\n", Limits(header_bytes=100))
    parse((MIXED + "--b\nA: " + "s" * (length - 3) + "\n\nbody\n--b--\n"), Limits(header_bytes=100))


def test_too_many_fields_are_a_doubt() -> None:
    parsed = parse("X: y\n" * 6 + "\nbody\n", Limits(header_count=5))
    assert parsed.leaves[0].why == ("limit_header_count",)
    assert len(parsed.parser.root.headers) == 5


def test_too_deep_a_part_is_one_unread_leaf() -> None:
    raw = "x\n"
    for level in range(5):
        raw = f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n{raw}--b{level}--\n"
    parsed = parse(raw, Limits(mime_depth=3))
    assert "limit_mime_depth" in parsed.kinds
    assert any(b"multipart" in leaf.data or "limit_mime_depth" in leaf.why for leaf in parsed.leaves)


def test_too_many_parts_end_in_one_unread_leaf() -> None:
    parsed = parse(MIXED + "".join(f"--b\n\n{n}\n" for n in range(9)) + "--b--\n", Limits(mime_parts=4))
    assert [leaf.path for leaf in parsed.leaves] == ["1.1", "1.2", "1.3", "1.4", "1.rest"]
    assert parsed.leaves[-1].why == ("limit_mime_parts",)
    assert b"8" in parsed.leaves[-1].data


def _timed(raw: bytes, bound: float) -> None:
    start = time.process_time()
    parse_pieces(cut(raw, 65_536))
    parse_pieces([raw])
    assert time.process_time() - start < bound


def test_ten_thousand_parts_and_five_hundred_levels_take_bounded_time() -> None:
    _timed(MIXED.encode() + b"--b\n\nx\n" * 12_000, 6)
    levels = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(500))
    _timed(levels, 3)
    _timed(levels + b"\n--b1\n\nx" * 12_000, 6)
    _timed(b"Content-Type: message/rfc822\n\n" * 500, 3)


@pytest.mark.parametrize(
    "raw",
    [
        MIXED.encode() + b"--b\n\n" + b"\n--bx" * 100_000,
        b"X: " + b"y\n " * 300_000,
        b"Content-Type: " + b"(" * 500_000 + b"\n\n",
        b"Content-Type: multipart/mixed; " + b"a=b;" * 200_000 + b"\n\n",
        b"Content-Transfer-Encoding: base64\n\n" + b"QQ==" * 200_000,
        b"Content-Transfer-Encoding: base64\n\n" + b"=" * 1_000_000,
        b"Content-Transfer-Encoding: quoted-printable\n\n" + b" " * 1_000_000,
        b"Content-Transfer-Encoding: quoted-printable\n\n" + b"\r " * 500_000,
        b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=" * 1_000_000,
        b"\n" + b"\nbegin 644 x\n" * 70_000,
        b"\nbegin 644 x\n#AAAA\n" + b'"  \n' * 200_000,
        b"To: " + b"(,\\" * 300_000 + b"\n\n",
        b"\0" * 1_000_000,
    ],
)
def test_hostile_repetition_takes_linear_time(raw: bytes) -> None:
    _timed(raw, 4)

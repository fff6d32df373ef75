"""The reply reader."""

from __future__ import annotations

import pytest

from netinspect.limits import Limits
from netinspect.smtp.events import Reply
from netinspect.smtp.reply import ReplyReader


def read(data: bytes, **limits: int) -> list[Reply]:
    expected = ReplyReader(Limits(**limits)).feed(data)
    reader = ReplyReader(Limits(**limits))
    assert [reply for i in range(len(data)) for reply in reader.feed(data[i : i + 1])] == expected
    return expected


def test_replies_that_come_in_one_read_are_all_given() -> None:
    assert read(b"250 a\r\n250-b\r\n250-c\r\n250 d\r\n354\r\n") == [
        Reply(250, ("a",), b"250 a\r\n"),
        Reply(250, ("b", "c", "d"), b"250-b\r\n250-c\r\n250 d\r\n"),
        Reply(354, ("",), b"354\r\n"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"what",
        b"",
        b"25",
        b"199 x",
        b"600 x",
        b"2500 x",
        b"abc x",
        b"250_x",
        b" 250 x",
        "\u0662\u0665\u0660 x".encode(),
    ],
)
def test_a_line_that_is_no_reply_has_code_0(line: bytes) -> None:
    (reply,) = read(line + b"\r\n")
    assert (reply.code, reply.error, reply.raw) == (0, "syntax", line + b"\r\n")


def test_noise_inside_a_reply_is_kept_and_told() -> None:
    (reply,) = read(b"250-a\r\nnoise\r\n250 b\r\n")
    assert (reply.code, reply.lines, reply.error) == (250, ("a", "noise", "b"), "syntax")


def test_lines_that_disagree_are_told_and_the_last_one_counts() -> None:
    (reply,) = read(b"250-a\r\n550 b\r\n")
    assert (reply.code, reply.error) == (550, "code_mismatch")


def test_a_bare_line_end_is_told() -> None:
    (reply,) = read(b"250 a\n")
    assert (reply.code, reply.lines, reply.error) == (250, ("a",), "bare_newline")


def test_a_long_line_is_cut_and_still_a_reply() -> None:
    (reply,) = read(b"250 " + b"x" * 100 + b"\r\n", reply_line=20)
    assert (reply.code, reply.error, reply.raw) == (250, "too_long", b"250 " + b"x" * 14 + b"\r\n")


def test_a_reply_with_too_many_lines_keeps_its_last_one() -> None:
    (reply, after) = read(b"250-a\r\n" * 10 + b"250 z\r\n221 bye\r\n", reply_lines=3)
    assert (reply.code, reply.lines, reply.error) == (250, ("a", "a", "z"), "too_many_lines")
    assert reply.raw == b"250-a\r\n250-a\r\n250 z\r\n"
    assert after.error == ""


def test_text_that_is_no_utf8_is_replaced() -> None:
    (reply,) = read(b"250 \xff\r\n")
    assert reply.lines == ("\ufffd",)


def test_clear_forgets_what_is_not_complete() -> None:
    reader = ReplyReader(Limits())
    assert reader.feed(b"250-a\r\n250") == []
    assert reader.partial == 10
    reader.clear()
    assert reader.partial == 0
    assert reader.feed(b"220 b\r\n") == [Reply(220, ("b",), b"220 b\r\n")]


def test_a_reply_that_was_read_before_is_the_same_again_and_depends_on_the_limits() -> None:
    ehlo = b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
    assert read(ehlo) == read(ehlo) == [Reply(250, ("mx", "PIPELINING", "8BITMIME"), ehlo)]
    assert read(ehlo, reply_lines=2)[0].error == "too_many_lines"


def test_what_looks_like_a_known_reply_in_the_middle_of_another_belongs_to_that() -> None:
    ehlo = b"250-mx\r\n250 8BITMIME\r\n"
    reader = ReplyReader(Limits())
    assert reader.feed(ehlo) == [Reply(250, ("mx", "8BITMIME"), ehlo)]
    assert reader.feed(b"250-first\r\n") == []
    assert reader.feed(ehlo) == [Reply(250, ("first", "mx", "8BITMIME"), b"250-first\r\n" + ehlo)]
    assert reader.feed(b"25") == []
    assert [reply.code for reply in reader.feed(b"0-" + ehlo)] == [250]

"""What a hostile message costs: CPU seconds grow with its octets, whatever they are.

The bounds are many times what is needed on an idle machine: they tell a line from a square, not machines apart.
"""

from __future__ import annotations

import base64
import time

import pytest

from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser
from netinspect.mime.readings import other_readings
from netinspect.spool import Spool, SpoolBudget

MIB = 1_048_576
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
TWICE = b"Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n"
FILE = b"Content-Type: a/b; name=x\r\nContent-Transfer-Encoding: "


def repeat(what: bytes, size: int = MIB // 2) -> bytes:
    return what * (size // len(what))


def megabyte(what: bytes) -> bytes:
    return repeat(what, MIB)


def read(raw: bytes) -> tuple[float, set[str]]:
    """CPU seconds for all readings, and the limits that were reached."""
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    message = Spool(limits, budget)
    message.write(raw)
    leaves: list[Leaf] = []
    start = time.process_time()
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    for at in range(0, len(raw), 65_536):
        leaves += parser.feed(raw[at : at + 65_536])
    leaves += parser.close()
    leaves += other_readings(parser, leaves, message)
    seconds = time.process_time() - start
    reached = {why for leaf in leaves for why in leaf.why if why.startswith("limit")}
    assert len(leaves) <= limits.mime_parts + limits.mime_readings + 2
    for leaf in leaves:
        leaf.content.close()
    message.close()
    return seconds, reached


@pytest.mark.parametrize(
    "raw",
    [
        MIXED + repeat(b"--b\n\nx\n"),
        MIXED + repeat(b"--b\n"),
        MIXED + repeat(b"--b--\nx\n"),
        MIXED + repeat(b"--b--\n"),
        TWICE + repeat(b"--b\nContent-Type: a/b\n\nx\n"),
    ],
    ids=["parts", "parts-without-a-blank-line", "ends", "empty-ends", "parts-of-two-boundaries"],
)
def test_more_parts_than_ten_thousand_are_one_unread_part(raw: bytes) -> None:
    seconds, reached = read(raw)
    assert "limit_mime_parts" in reached
    assert seconds < 8


@pytest.mark.parametrize(
    "raw",
    [
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(500)),
        b"Content-Type: message/rfc822\n\n" * 500,
        b"Content-Type: message/rfc822\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" * 500,
    ],
    ids=["multiparts", "messages", "both"],
)
def test_five_hundred_levels_are_read_to_the_limit(raw: bytes) -> None:
    seconds, reached = read(raw + b"\n" + b"x" * MIB)
    assert "limit_mime_depth" in reached
    assert seconds < 4


@pytest.mark.parametrize(
    "header",
    [
        b"X: " + megabyte(b"y\n "),
        megabyte(b"X: y\n"),
        megabyte(b"Content-Type(x): a/b\n"),
        megabyte(b"(" * 4000 + b": y\n"),
        megabyte(b"Content-\n : x\n"),
        megabyte(b"X: y\n Content-Type: a/b\n"),
        b"Content-Type: " + megabyte(b"("),
        b"Content-Type: multipart/mixed; " + megabyte(b"name*0*=%41;"),
        megabyte(b"Content-Disposition: a" + b';name=("a.b\\' * 700 + b"\n"),
        megabyte(b"Content-Transfer-Encoding: base64\n"),
        b"To: " + megabyte(b"(,\\"),
        b"Subject: " + megabyte(b"=?utf-8?q?a?= "),
        b"\0" * MIB,
    ],
    ids=["folds", "fields", "odd-names", "open-comments", "torn-names", "hidden-fields", "comments", "sections",
         "names", "encodings", "addresses", "words", "zeros"],
)  # fmt: skip
def test_a_header_of_a_megabyte_takes_bounded_time(header: bytes) -> None:
    assert read(header + b"\n\nbody\n")[0] < 4


@pytest.mark.parametrize(
    "body",
    [
        TWICE + repeat(b"--\n"),
        TWICE + repeat(b"-"),
        TWICE + repeat(b"--q\nContent-Type: a/b\n"),
        TWICE + repeat(b"\n\nContent-Type: a/b\n"),
        TWICE + repeat(b"\n      --"),
        MIXED + b"--b\n\n" + repeat(b"--b"),
        MIXED + b"--b\n\n" + repeat(b"\n--bx"),
        MIXED + repeat(b"--b\nContent-Type(x): a/b; name=(a).b\nContent-Transfer-Encoding: base64\n\nQ!Q=A\n"),
        FILE + b"base64\n\n" + repeat(b"QQ==\n"),
        FILE + b"base64\n\n" + repeat(b"!\n"),
        FILE + b"base64\n\n" + repeat(b"QUF\n"),
        FILE + b"quoted-printable\n\n" + repeat(b"="),
        FILE + b"quoted-printable\n\n" + repeat(b"=z=a0"),
        FILE + b"foo\n\n" + repeat(b"=4"),
        b"\n" + repeat(b"begin 644 x\n#AAAA\n`\nend\n"),
        b"\nbegin 644 x\n#AAAA\n" + repeat(b"!!\n"),
        b"\nwith BinHex 4\n" + repeat(b"BinHex 4:"),
        b"\nbegin\n" + repeat(b"=ybegin line=1 size=1 name=x\na\n"),
    ],
)
def test_a_body_of_half_a_megabyte_takes_bounded_time(body: bytes) -> None:
    assert read(body)[0] < 8


@pytest.mark.parametrize(
    "field",
    [
        TWICE + b"--b\n" + FILE + b"base64\n\n",
        FILE + b"base64\nContent-Transfer-Encoding: 7bit\n\n",
        FILE + b"foo\n\n",
        FILE + b"base64\n\n!!!\n",
    ],
    ids=["two-boundaries", "two-encodings", "unknown-encoding", "rubbish"],
)
def test_an_ambiguous_message_of_many_megabytes_is_read_in_all_ways_in_seconds(field: bytes) -> None:
    raw = field + base64.encodebytes(bytes(range(256)) * 32_768)
    seconds, reached = read(raw)
    assert not reached
    assert seconds < 8


@pytest.mark.parametrize("unit", [b"!\n", b"QUF\n", b"QQ==\n"])
def test_a_reading_that_was_given_up_is_no_clean_one(unit: bytes) -> None:
    seconds, reached = read(FILE + b"base64\n\n" + repeat(unit, 8 * MIB))
    assert "limit_readings" in reached
    assert seconds < 8

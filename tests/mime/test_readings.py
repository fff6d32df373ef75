"""Ambiguous messages: whatever a program may take out of one is among the leaves. Ordinary ones stay as they are."""

from __future__ import annotations

import base64
import binascii
import email.message
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.mime import MimeParser
from netinspect.mime.readings import ambiguous
from netinspect.spool import Spool, SpoolBudget
from tests.mime.test_properties import MESSAGES, TIGHT
from tests.mime.tools import Parsed, read_all

PAYLOAD = b"MZ\x90\0 a program that somebody wants to run \0\x01\x02"
ENCODED = base64.b64encode(PAYLOAD).decode()
HEAD = "From: a@example.org\nSubject: s\nMIME-Version: 1.0\n"
TEXT = "Content-Type: text/plain\n\nhello\n"
FILE = "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=e.exe\n"
CODED = FILE + "Content-Transfer-Encoding: base64\n\n" + ENCODED + "\n"


def multipart(field: str, boundary: str) -> str:
    return f"{HEAD}{field}\n\n--{boundary}\n{TEXT}--{boundary}\n{CODED}--{boundary}--\n"


def contents(parsed: Parsed) -> list[bytes]:
    return [leaf.data for leaf in parsed.leaves]


@pytest.mark.parametrize(
    ("field", "boundary"),
    [
        ("Content-Type: multipart/mixed; boundary='b c'", "b c"),
        ("Content-Type: multipart/mixed; boundary=' b'", " b"),
        ('Content-Type: multipart/mixed; boundary=" "', ""),
        ("Content-Type: multipart/mixed; boundary=(boundary=b)c", "b"),
        ("Content-Type: multipart/mixed; boundary=(boundary=b)c", "c"),
        ("Content-Type: multipart/mixed; boundary=boundary=b", "b"),
        ("Content-Type: multipart/mixed; boundary=boundary=b", "boundary"),
        ('Content-Type: multipart/mixed; boundary=a"b"', "b"),
        ('Content-Type: multipart/mixed; boundary=a\\"b\\"', "b\\"),
        ("Content-Type: multipart/mixed; boundary=\\b", "b"),
        ("Content-Type: multipart/mixed; boundary=b; boundary=c", "c"),
        ("Content-Type: multipart/mixed; boundary=b; boundary*=c", "b"),
        ("Content-Type: multipart/mixed; boundary*0*=''x; boundary*0*=''b; boundary*1*=c", "bc"),
        ("Content-Type: multipart/mixed; boundary*=UTF-16''b%00c%00", "bc"),
        ("Content-Type: multipart/mixed; boundary==?utf-8?q?b?=", "b"),
        ("Content-Type: multipart/mixed; boundary=x\nContent-Type: multipart/mixed; boundary=b", "b"),
        ("Content-Type: multi\\part/mixed; boundary=b", "b"),
        ("Content-Type: text/plain; boundary=b", "b"),
        ("Content-Type: multipart/mixed; boundary=" + "b" * 1001, "b" * 1001),
        ("Content-Type: multipart/mixed; boundary=b", "b-"),
    ],
)
def test_parts_are_found_whatever_a_program_takes_for_the_boundary(field: str, boundary: str) -> None:
    parsed = read_all(multipart(field, boundary))
    assert PAYLOAD in contents(parsed)
    assert any(leaf.why for leaf in parsed.leaves)


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n--b\n\n"
        + "--c\n" + CODED + "--c--\n--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n--b--\n\n"
        + "--c\n" + CODED + "--c--\n--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + CODED + "--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + FILE + " Content-Transfer-Encoding: base64\n\n"
        + ENCODED + "\n--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\n\x0bContent-Transfer-Encoding: base64\n" + FILE
        + "\n" + ENCODED + "\n--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + FILE + "Content-Transfer-Encoding: base64\nABCD\n"
        + ENCODED + "\n--b--\n",
        HEAD + "Content-Type: multipart/mixed; boundary=b\n\n \r--b\n" + CODED + "\r--b\n" + TEXT + "--b\n" + TEXT
        + "--b--\n",
    ],
    ids=["delimiter-in-header", "end-in-header", "blank-line-first", "folded-field", "control-first", "no-blank-line",
         "cr-before-delimiter"],
)  # fmt: skip
def test_parts_are_found_whatever_a_program_takes_for_a_header(raw: str) -> None:
    parsed = read_all(raw)
    assert PAYLOAD in contents(parsed)
    assert "readings_differ" in {why for leaf in parsed.leaves for why in leaf.why}


def quads(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def spread(data: bytes) -> str:
    """Groups of two octets with the padding in their middle."""
    return "".join(f"{quad[:2]}={quad[2]}" for quad in (base64.b64encode(data[at : at + 2]).decode()
                                                        for at in range(0, len(data), 2)))  # fmt: skip


EVEN = PAYLOAD[: len(PAYLOAD) // 6 * 6]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (ENCODED.rstrip("=") + "\n====" + base64.b64encode(b"something harmless behind it").decode(), PAYLOAD),
        ("\n".join(base64.b64encode(PAYLOAD[at : at + 1]).decode()[:3] + "\n" for at in range(len(PAYLOAD))), PAYLOAD),
        ("\n".join(quad + "XX" for quad in quads(base64.b64encode(EVEN).decode(), 4)), EVEN),
        ("\n".join(quad + "#abcd" for quad in quads(base64.b64encode(EVEN).decode(), 8)), EVEN),
        ("A\n\n" + ENCODED, PAYLOAD),
        ("ABC\n\n" + ENCODED, PAYLOAD),
        (spread(EVEN), EVEN),
        (base64.urlsafe_b64encode(b"\xff\xfe\xfb" * 9).decode(), b"\xff\xfe\xfb" * 9),
    ],
    ids=["after-padding", "short-lines", "odd-lines", "comments", "one-before", "three-before", "in-groups", "url"],
)
def test_broken_base64_is_undone_in_every_way(body: str, content: bytes) -> None:
    raw = HEAD + FILE + "Content-Transfer-Encoding: base64\n\n" + body + "\n"
    parsed = read_all(raw)
    assert content in [data.rstrip(b"\n") for data in contents(parsed)]
    assert parsed.leaves[0].why


@pytest.mark.parametrize("mask", ["=  %s", "=0X%s", "=0%s", "=%s"])
def test_broken_quoted_printable_is_undone_in_every_way(mask: str) -> None:
    body = "=\n".join(mask % f"={octet:02X}" for octet in PAYLOAD)
    parsed = read_all(HEAD + FILE + "Content-Transfer-Encoding: quoted-printable\n\n" + body)
    assert PAYLOAD in contents(parsed)


def test_small_letters_may_be_no_escape() -> None:
    body = "".join(f"=a{chr(octet)}" for octet in b"BAD-FACE")
    parsed = read_all(HEAD + FILE + QUOTED + body + "=\n=\n=zz\n")
    assert b"BAD-FACE=zz\r\n" in contents(parsed)


QUOTED = "Content-Transfer-Encoding: quoted-printable\n\n"


@pytest.mark.parametrize(
    "encoding",
    [
        "Content-Transfer-Encoding: quoted-printable, base64",
        "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit",
        "Content-Transfer-Encoding: x-unknown base64",
        "Content-Transfer-Encoding: x-unknown",
    ],
)
def test_every_encoding_that_the_header_names_is_tried(encoding: str) -> None:
    parsed = read_all(HEAD + FILE + encoding + "\n\n" + ENCODED + "\n")
    assert PAYLOAD in contents(parsed)
    assert parsed.leaves[0].path == "1"
    assert all(leaf.path.startswith("1~") for leaf in parsed.leaves[1:])


def test_an_encoded_multipart_is_read_decoded_as_well() -> None:
    inner = "--b\r\n" + CODED.replace("\n", "\r\n") + "--b--\r\n"
    coded = base64.encodebytes(inner.encode()).decode()
    raw = HEAD + "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n" + coded
    assert PAYLOAD in contents(read_all(raw))


def test_a_message_that_only_says_it_is_encoded_is_read_as_it_stands() -> None:
    inner = HEAD + FILE + "\nrun this, please"
    parsed = read_all(HEAD + "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + inner)
    assert b"run this, please" in contents(parsed)


def test_a_broken_part_in_an_encoded_message_is_read_again_too() -> None:
    inner = HEAD + FILE + "Content-Transfer-Encoding: base64\n\nA\n\n" + ENCODED + "\n"
    coded = base64.encodebytes(inner.replace("\n", "\r\n").encode()).decode()
    raw = HEAD + "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + coded
    parsed = read_all(raw)
    found = [leaf.path for leaf in parsed.leaves if leaf.data == PAYLOAD]
    assert found
    assert found[0].startswith("1.1")


def test_two_readings_of_an_attachment_are_told_from_two_of_a_text() -> None:
    parsed = read_all(HEAD + FILE + "Content-Transfer-Encoding: base64\n\nA\n\n" + ENCODED + "\n")
    assert {why for leaf in parsed.leaves[1:] for why in leaf.why} == {"readings_differ"}
    parsed = read_all(HEAD + "Content-Transfer-Encoding: base64\n\nA\n\n" + ENCODED + "\n")
    assert {why for leaf in parsed.leaves[1:] for why in leaf.why} == {"reading"}
    assert "reading" in parsed.kinds


DKIM = (
    "DKIM-Signature: v=1; h=from:to:content-type:\n content-transfer-encoding:content-transfer-encoding:\n"
    "\tcontent-type:mime-version; b=abc\n"
)


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + "\nhello\n-- \nContent-Type: text/plain\n",
        HEAD + DKIM + "Content-Type: text/plain; charset=utf-8\n\nhello\n",
        HEAD + "Content-Transfer-Encoding: base64\n\nSGVsbG8\n",
        multipart('Content-Type: multipart/mixed; boundary="b c"', "b c"),
        multipart("Content-Type: multipart/mixed;\n boundary=b", "b"),
    ],
    ids=["quoted-header", "dkim", "no-padding", "quoted-boundary", "folded"],
)
def test_an_ordinary_message_has_one_reading(raw: str) -> None:
    assert all("~" not in leaf.path for leaf in read_all(raw).leaves)


def test_lines_of_any_one_length_are_no_other_reading() -> None:
    data = bytes(range(256)) * 20
    for size in (60, 71, 73, 74, 75, 76):
        text = "\n".join(quads(base64.b64encode(data).decode().rstrip("="), size))
        parsed = read_all(HEAD + FILE + "Content-Transfer-Encoding: base64\n\n" + text + "\n")
        assert contents(parsed) == [data]


def test_beyond_the_limit_the_message_counts_as_not_looked_at() -> None:
    parts = "".join(f"--c\n{FILE}\n{number}\n" for number in range(40))
    raw = multipart("Content-Type: multipart/mixed; boundary=x; boundary=c", "b") + parts
    parsed = read_all(raw, Limits(mime_readings=8))
    assert len([leaf for leaf in parsed.leaves if "~" in leaf.path]) == 8
    assert any("limit_readings" in leaf.why for leaf in parsed.leaves)
    assert "limit_readings" in parsed.kinds


def test_names_of_other_readings_are_attachments_of_the_mail() -> None:
    parsed = read_all(multipart("Content-Type: multipart/mixed; boundary='b c'", "b c"))
    assert parsed.parser.mail is not None
    assert "e.exe" in parsed.parser.mail.attachments


@given(MESSAGES, st.booleans())
def test_any_message_can_be_read_again(raw: bytes, tight: bool) -> None:
    read_all(raw, TIGHT if tight else None)


@given(st.binary(max_size=300), st.sampled_from([b"base64", b"quoted-printable", b"x-uue", b"x-yenc", b"binhex", b"?"]))
def test_any_body_can_be_read_again(body: bytes, encoding: bytes) -> None:
    read_all(b"Content-Type: a/b; name=x\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body)


@given(st.binary(min_size=1, max_size=500), st.sampled_from(["base64", "quoted-printable", "8bit"]))
def test_what_the_standard_library_writes_has_one_reading(data: bytes, encoding: str) -> None:
    mail = email.message.EmailMessage()
    mail.set_content("hello\n")
    if encoding == "base64":
        mail.add_attachment(data, maintype="application", subtype="pdf", filename="a.pdf")
    else:
        text = binascii.hexlify(data).decode() + " \u00fc\n-- \nx=y\n"
        mail.add_attachment(text, cte=encoding, filename="a.txt")
    assert all("~" not in leaf.path for leaf in read_all(mail.as_bytes()).leaves)


@pytest.mark.parametrize(
    "body",
    [
        b"--\r\n" * 200_000,
        b"--x\r\nContent-Type: a/b\r\n" * 50_000,
        b"".join(b"--%d\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ!\r\n" % number for number in range(9000)),
        b"--b\r\nContent-Transfer-Encoding: base64\r\nContent-Type: a/b\r\n\r\n" + b"Q=A=\r\n" * 100_000,
        b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\nContent-Type: a/b\r\n\r\n" + b"=0X=a\r\n" * 60_000,
        b"\r--" * 200_000,
    ],
    ids=["dashes", "headers", "words", "base64", "qp", "cr"],
)
def test_hostile_messages_are_read_again_in_bounded_time(body: bytes) -> None:
    start = time.process_time()
    read_all(b"Content-Type: multipart/mixed; boundary=b; boundary=c\r\n\r\n" + body)
    assert time.process_time() - start < 5


def test_an_ordinary_message_is_not_ambiguous() -> None:
    limits = Limits()
    parser = MimeParser(limits, lambda: Spool(limits, SpoolBudget(1 << 20)))
    leaves = [*parser.feed(b"Subject: s\r\n\r\nhello\r\n"), *parser.close()]
    assert not ambiguous(parser, leaves)
    for leaf in leaves:
        leaf.content.close()

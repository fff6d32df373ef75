"""Spellings of a header or a delimiter that only some programs understand: the file is found whoever is right."""

from __future__ import annotations

import base64
import binascii

import pytest

from netinspect.mime.headers import HeaderBlock, deciding_field
from tests.mime.tools import Parsed, parse, read_all

PAYLOAD = b"MZ\x90\0 a program in a mail that is not what it looks like \0\x01"
ENCODED = base64.encodebytes(PAYLOAD).decode()
HEAD = "From: a@example.org\nSubject: s\nMIME-Version: 1.0\n"
TEXT = "Content-Type: text/plain\n\nhello\n"
FILE = "Content-Type: application/octet-stream\nContent-Disposition: attachment; filename=e.exe\n"
CODED = FILE + "Content-Transfer-Encoding: base64\n\n" + ENCODED
MIXED = HEAD + "Content-Type: multipart/mixed; boundary=b\n\n"

NAMES = [
    "{}(x)", "{} (x)", "(x){}", "(x) {}", "{}(a(b)c)", "{}(", "{}(\\))", "{} ", "{}\t", "{}\x0b", "{}\x0c", "{}\0",
    "\0{}", "\x0b{}", "\x7f{}", "{}\x08", "{}\r", "\r{}", "{}\xa0", "\xa0{}", "\xef\xbb\xbf{}", "{}\xe2\x80\x8b",
    "{}\n ", "{}\n\t", "{}(x\n y)", '"{}"', "{};", "{}:", "{} =",
]  # fmt: skip
INNER = ["{}(x){}", "{}(a(b)c)-{}", "{} -{}", "{}- {}", "{}-\t{}", "{}-\n {}", "{}\xad-{}", "{}-\0{}"]


def raw_of(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1")


def found(raw: bytes) -> Parsed:
    parsed = read_all(raw)
    assert PAYLOAD in [leaf.data for leaf in parsed.leaves]
    return parsed


def spellings(first: str, second: str) -> list[str]:
    one = f"{first}-{second}"
    inner = [form.format(first, f"-{second}" if "(x)" in form else second) for form in INNER]
    return [form.format(one) for form in NAMES] + inner


@pytest.mark.parametrize("name", spellings("Content", "Type"))
def test_a_multipart_under_an_odd_name_is_opened(name: str) -> None:
    parts = f"--b\n{TEXT}--b\n{CODED}--b--\n"
    found(raw_of(f"{HEAD}{name}: multipart/mixed; boundary=b\n\n{parts}"))
    found(raw_of(f"{HEAD}Content-Type: text/plain\n{name}: multipart/mixed; boundary=b\n\n{parts}"))
    found(raw_of(f"{HEAD}{name}: text/plain\nContent-Type: multipart/mixed; boundary=b\n\n{parts}"))
    inner = f"{name}: multipart/mixed; boundary=c\n\n--c\n{CODED}--c--\n"
    found(raw_of(f"{MIXED}--b\n{TEXT}--b\n{inner}--b--\n"))


@pytest.mark.parametrize("name", spellings("Content", "Transfer-Encoding"))
def test_an_encoding_under_an_odd_name_is_undone(name: str) -> None:
    body = f"\n\n{ENCODED}"
    found(raw_of(f"{HEAD}{FILE}{name}: base64{body}"))
    found(raw_of(f"{HEAD}{FILE}{name}: 7bit\nContent-Transfer-Encoding: base64{body}"))
    found(raw_of(f"{HEAD}{FILE}Content-Transfer-Encoding: 7bit\n{name}: base64{body}"))
    found(raw_of(f"{MIXED}--b\n{TEXT}--b\n{FILE}{name}: base64{body}--b--\n"))


@pytest.mark.parametrize("name", ["X-Content-Type", "Content-Type-2", "Content_Type", "Subject", "(x)", "", "(" * 5000])
def test_other_names_mean_what_they_say(name: str) -> None:
    assert deciding_field(name.encode()) == ""


def test_an_odd_name_counts_as_the_field_and_is_a_doubt() -> None:
    parsed = parse(f"{HEAD}Content-Type(x): text/html\n\nx\n")
    assert parsed.leaves[0].declared == "text/html"
    assert parsed.leaves[0].why == ("field_name_form",)
    assert "field_name_form" in parsed.kinds
    block = HeaderBlock(b"Content-Type(x): text/html\n", 10)
    assert block.odd
    assert block.headers.fields == [("Content-Type(x)", b" text/html")]
    assert block.headers.get("content-type") == b" text/html"
    strict = HeaderBlock(b"Content-Type(x): text/html\n", 10, strict=True)
    assert strict.headers.get("content-type") is None


def test_a_file_that_only_a_strict_reader_sees_is_found() -> None:
    lines = "".join(binascii.b2a_uu(PAYLOAD[at : at + 45]).decode() for at in range(0, len(PAYLOAD), 45))
    block = f"begin 644 e.exe\n{lines}`\nend\n"
    found(raw_of(f"{HEAD}Content-Type(x): application/octet-stream\n\n{block}"))


@pytest.mark.parametrize(
    "value",
    [
        "base64\x0b", "base64\0", "\0base64", "base64;", "base64 x", "x base64", "(x)base64", "base(x)64", "bas\n e64",
        '"base64"', "'base64'", "=base64", "base-64", "base 64", "b64", "base64/7bit", "7bit;base64", "base64:",
        "base64\xa0", "=?us-ascii?q?base64?=", "<base64>", "ba\0se64", "Content-Transfer-Encoding: base64",
    ],
)  # fmt: skip
def test_an_encoding_in_an_odd_form_is_undone(value: str) -> None:
    field = f"Content-Transfer-Encoding: {value}\n\n"
    found(raw_of(f"{HEAD}{FILE}{field}{ENCODED}"))
    printable = "".join(f"={octet:02X}" for octet in PAYLOAD)
    found(raw_of(f"{HEAD}{FILE}{field.replace('base64', 'quoted-printable')}{printable}"))


@pytest.mark.parametrize("value", ["x-uuencode\0", "x x-uuencode", "x-(x)uuencode", "x-uu-encode", "=x-uuencode"])
def test_a_uuencoded_part_under_an_odd_encoding_is_undone(value: str) -> None:
    lines = "".join(binascii.b2a_uu(PAYLOAD[at : at + 45]).decode() for at in range(0, len(PAYLOAD), 45))
    found(raw_of(f"{HEAD}{FILE}Content-Transfer-Encoding: {value}\n\nbegin 644 e.exe\n{lines}`\nend\n"))


@pytest.mark.parametrize(
    "value",
    [
        ": multipart/mixed; boundary=b", ", multipart/mixed; boundary=b", "boundary=b", "; boundary=b",
        '"multipart/mixed"; boundary=b', "multipart; boundary=b", "multipart/mixed, boundary=b",
        "multipart/mixed boundary=b", "multipart/mixed; boundary:b", "multipart/mixed\0; boundary=b",
        'multipart/mixed; charset="; boundary=b', "multipart/mixed;\r boundary=b", "image/png; boundary=b",
    ],
)  # fmt: skip
def test_a_type_in_an_odd_form_is_opened(value: str) -> None:
    found(raw_of(f"{HEAD}Content-Type: {value}\n\n--b\n{TEXT}--b\n{CODED}--b--\n"))


@pytest.mark.parametrize(
    "line",
    [" --b", "\t--b", "\x0b--b", "\0--b", "\r--b", "\xef\xbb\xbf--b", "--b\x0b", "--b\0", "--bx", "--b--x", "--b (c)",
     "--b--", "--b-- ", "--b\xa0"],
)  # fmt: skip
def test_parts_behind_an_odd_delimiter_are_found(line: str) -> None:
    found(raw_of(f"{MIXED}--b\n{TEXT}{line}\n{CODED}--b--\n"))
    found(raw_of(f"{MIXED}{line}\n{TEXT}{line}\n{CODED}--b--\n"))


@pytest.mark.parametrize(
    "body",
    [
        f"{CODED}--b\n{TEXT}--b--\n",
        f"--a\n{CODED}--b\n{TEXT}--b--\n",
        f"--b\n{TEXT}--b--\n{CODED}",
        f"--b\n{TEXT}--b--\n--b\n{CODED}--b--\n",
        f"--b\n{TEXT}--b--\n--c\n{CODED}--c--\n",
    ],
    ids=["preamble", "other-delimiter-before", "epilogue", "after-the-end", "other-delimiter-after"],
)
def test_parts_before_and_after_all_parts_are_found(body: str) -> None:
    found(raw_of(MIXED + body))


def test_an_ordinary_text_with_dashes_is_no_doubt() -> None:
    body = "hello --b\n--\n-- \n ---\n  --option b\nboundary b\n"
    parsed = read_all(raw_of(f"{MIXED}preamble\n--b\nContent-Type: text/plain\n\n{body}--b--\n"))
    assert not any(leaf.why for leaf in parsed.leaves)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_an_odd_delimiter_is_seen_however_the_body_is_cut(size: int) -> None:
    raw = raw_of(f"{MIXED}--b\n\n{'x' * size}\n \t--b\n\n--b--\n")
    parsed = parse(raw)
    assert parsed.leaves[0].why == ("boundary_prefix",)


NESTED = {
    "plain": lambda mail: f"Content-Type: message/rfc822\n\n{mail}",
    "base64": lambda mail: (
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n"
        + base64.encodebytes(raw_of(mail)).decode()
    ),
    "printable": lambda mail: (
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable\n\n"
        + binascii.b2a_qp(raw_of(mail)).decode("latin-1").replace("\r\n", "\n")
    ),
}


@pytest.mark.parametrize("outer", NESTED)
@pytest.mark.parametrize("inner", NESTED)
@pytest.mark.parametrize(
    "trick",
    [
        f"{FILE}Content-Transfer-Encoding(x): base64\n\n{ENCODED}",
        f"{FILE}Content-Transfer-Encoding\n : base64\n\n{ENCODED}",
        f"{FILE}Content-Transfer-Encoding: base64\n\nA\n\n{ENCODED}",
        f'Content-Type: multipart/mixed; boundary="z(c)"\n\n--z\n{CODED}--z--\n',
        f"Content-Type: multipart/mixed; boundary=y; boundary=z\n\n--z\n{CODED}--z--\n",
        f"Content-Type: multipart/mixed\n\n--z\n{CODED}--z--\n",
    ],
    ids=["odd-name", "torn-name", "odd-base64", "comment", "two-boundaries", "no-boundary"],
)
def test_a_trick_in_a_mail_in_a_mail_is_found(outer: str, inner: str, trick: str) -> None:
    found(raw_of(f"{MIXED}--b\n{NESTED[outer](HEAD + NESTED[inner](HEAD + trick))}\n--b--\n"))

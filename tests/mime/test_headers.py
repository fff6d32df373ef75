"""Header fields: folds, structured values, names in every encoding, the summary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from netinspect.mime.headers import HeaderBlock
from netinspect.mime.structured import Structured, file_name, strip_comments
from netinspect.mime.summary import split_addresses
from netinspect.mime.words import _CODECS, decode_charset, decode_words, field_text
from tests.mime.tools import parse

U = "\u00fc"


def test_fields_keep_their_order_their_names_and_their_raw_values() -> None:
    block = HeaderBlock(b"B: 1\r\na : 2\r\n  two\r\nB:3\r\nEmpty:\r\n", 100)
    assert block.headers.fields == [("B", b" 1"), ("a", b" 2\r\n  two"), ("B", b"3"), ("Empty", b"")]
    assert block.headers.get("b") == b" 1"
    assert block.headers.get_all("b") == [b" 1", b"3"]
    assert block.headers.get("none") is None
    assert (block.junk, block.blank, block.overflow) == (-1, False, -1)


@given(st.binary(max_size=400))
def test_any_octets_are_a_header_block(raw: bytes) -> None:
    block = HeaderBlock(raw, 10)
    assert len(block.headers) <= 10
    for _, value in block.headers:
        Structured(value, media=True)
        Structured(value, media=False)
        assert len(field_text(value, 50)) <= 50


@given(st.text(alphabet="a=;\"\\*0123()/ \t'%=?b.u\u00fc", max_size=80))
def test_any_text_is_a_structured_field(text: str) -> None:
    for media in (True, False):
        Structured(text.encode(), media=media)
    assert isinstance(strip_comments(text), str)
    assert isinstance(decode_words(text), str)


@pytest.mark.parametrize(
    ("raw", "value", "params"),
    [
        (b" text/plain; charset=utf-8", "text/plain", {"charset": "utf-8"}),
        (b'Text/HTML;\r\n\tCharset="UTF-8";', "text/html", {"charset": "UTF-8"}),
        (b"text/plain", "text/plain", {}),
        (b"text / plain ; charset = x", "text/plain", {"charset": "x"}),
        (b"text (c (d)) /plain; (e) charset=x (f)", "text/plain", {"charset": "x"}),
        (b"text/plain charset=x", "text/plain", {"charset": "x"}),
        (b'a/b; x="1;2"; y=3', "a/b", {"x": "1;2", "y": "3"}),
        (b'a/b; x="1" y=3', "a/b", {"x": "1", "y": "3"}),
        (b'a/b; x="unclosed; y=3', "a/b", {"x": "unclosed; y=3"}),
        (b'a/b; x="q\\"q"; y="C:\\tmp\\f.exe"', "a/b", {"x": 'q"q', "y": "C:\\tmp\\f.exe"}),
        (b"text", "", {}),
        (b"", "", {}),
        (b"a/b; =x; y", "a/b", {}),
    ],
)
def test_structured_fields(raw: bytes, value: str, params: dict[str, str]) -> None:
    field = Structured(raw, media=True)
    assert (field.value, field.params) == (value, params)


@pytest.mark.parametrize(
    ("raw", "boundary", "doubts"),
    [
        (b"multipart/mixed; boundary=abc", b"abc", []),
        (b'multipart/mixed; boundary="a b"', b"a b", []),
        (b"multipart/mixed; boundary=a b", b"a", ["bad_parameter"]),
        (b"multipart/mixed; boundary=a (c)", b"a", []),
        (b"multipart/mixed; boundary*0=a; boundary*1=b", b"ab", []),
        (b"multipart/mixed; boundary*=us-ascii''a%62", b"ab", []),
        (b"multipart/mixed; boundary=a; boundary=b", b"a", ["duplicate_parameter"]),
        (b"multipart/mixed; boundary=a; boundary*=b", b"b", ["duplicate_parameter"]),
        (b'multipart/mixed; boundary="\xfc\xff"', b"\xfc\xff", []),
    ],
)
def test_boundaries(raw: bytes, boundary: bytes, doubts: list[str]) -> None:
    field = Structured(raw, media=True)
    assert (field.boundary, field.doubts) == (boundary, doubts)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"filename=a.exe", "a.exe"),
        (b'filename="a b.exe"', "a b.exe"),
        (b"filename=a b.exe", "a b.exe"),
        (b"filename=report(1).pdf", "report(1).pdf"),
        (b'filename="dir/a.exe"', "dir/a.exe"),
        (b"filename*=utf-8''%C3%BC.exe", f"{U}.exe"),
        (b"filename*=iso-8859-1'de'%FC.exe", f"{U}.exe"),
        (b"filename*=''a%20b.exe", "a b.exe"),
        (b"filename*=no-such-charset''%C3%BC", U),
        (b"filename*1=.exe; filename*0=long", "long.exe"),
        (b"filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.exe", f"{U}.exe"),
        (b"filename=plain; filename*=utf-8''real", "real"),
        (b'filename="=?utf-8?q?=C3=BC=2Eexe?="', f"{U}.exe"),
        (b'filename="=?utf-8?b?w7w=?= =?utf-8?b?LmV4ZQ==?="', f"{U}.exe"),
        (b'filename="=?utf-8?b?ww==?=\r\n =?utf-8?b?vA==?="', U),
        (b"filename==?iso-8859-1?Q?=FC?=", U),
        (b'filename="\xc3\xbc"', U),
        (b'filename="\xfc"', U),
        (b'filename="a\x00b\x01.exe"', "a\ufffdb\ufffd.exe"),
        (b'filename="exe.\xe2\x80\xaefdp"', "exe.\u202efdp"),
    ],
)
def test_names_in_every_encoding(field: bytes, name: str) -> None:
    parsed = parse(b"Content-Disposition: attachment; " + field + b"\r\n\r\nx", bytewise=False)
    assert parsed.leaves[0].name == name
    assert not parsed.leaves[0].text
    parsed = parse(b"Content-Type: a/b; " + field.replace(b"filename", b"name") + b"\r\n\r\nx", bytewise=False)
    assert parsed.leaves[0].name == name
    assert parsed.parser.mail is not None
    assert parsed.parser.mail.attachments == (name,)


def test_a_long_name_keeps_its_end() -> None:
    assert file_name("a" * 50 + ".exe", 20) == "a" * 10 + "\u2026" + "aaaaa.exe"
    parsed = parse('Content-Type: a/b; name="' + "n" * 3000 + '.exe"\n\nx', bytewise=False)
    assert len(parsed.leaves[0].name) == Limits().name_length
    assert parsed.leaves[0].name.endswith(".exe")
    assert parsed.kinds == {"name_too_long"}


@pytest.mark.parametrize("limit", range(1, 5))
def test_a_name_is_never_longer_than_asked(limit: int) -> None:
    assert len(file_name("abcdefgh", limit)) <= limit


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("no words", "no words"),
        ("=?utf-8?q?a_b=3F?= c", "a b? c"),
        ("x =?utf-8?q?a?= y =?utf-8?q?b?= z", "x a y b z"),
        ("=?utf-8?q?a?= =?iso-8859-1?q?=FC?=", f"a{U}"),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?utf-8?b?not base64?=", None),
        ("=?utf-8?q?open", "=?utf-8?q?open"),
        ("=?utf-8?q??=x", "x"),
        ("=?zlib?b?eJw=?=", None),
        ("=?unicode_escape?q?=5Cx?=", "\\x"),
    ],
)
def test_encoded_words(text: str, plain: str | None) -> None:
    if plain is None:
        assert isinstance(decode_words(text), str)
    else:
        assert decode_words(text) == plain


def test_every_known_charset_is_a_text_codec() -> None:
    for name in _CODECS:
        assert isinstance(decode_charset(bytes(range(256)), name), str)
        assert isinstance(decode_charset(b"abcd", name), str)
    assert decode_charset(b"\xe9", "latin1") == decode_charset(b"\xe9", "ISO-8859-1") == "\u00e9"
    assert decode_charset(b"\xc3\xbc", "hex") == U


def test_the_summary_is_what_a_reader_sees() -> None:
    parsed = parse(
        'From: =?utf-8?q?M=C3=BCller=2C?= <m@example.org>\nTo: "A, B" <a@x>, c@y,\n\t=?utf-8?q?D=2C?= <d@z>\n'
        "To: e@x\nSubject: =?utf-8?b?w7w=?=\n =?utf-8?b?w7w=?= end\nMessage-ID: <1@x>\n\nbody\n"
    )
    mail = parsed.parser.mail
    assert mail is not None
    assert mail.from_ == f"M{U}ller, <m@example.org>"
    assert mail.to == ('"A, B" <a@x>', "c@y", "D, <d@z>", "e@x")
    assert mail.subject == f"{U}{U} end"
    assert (mail.message_id, mail.attachments) == ("<1@x>", ())


def test_the_summary_is_bounded() -> None:
    parsed = parse("Subject: " + "s" * 5000 + "\nTo: " + "a@b, " * 3000 + "\n\nx\n", bytewise=False)
    mail = parsed.parser.mail
    assert mail is not None
    assert len(mail.subject) == 998
    assert len(mail.to) == Limits().recipients


@pytest.mark.parametrize(
    ("raw", "items"),
    [
        (b"a, b", [b"a", b" b"]),
        (b'"x, y" <a>, b', [b'"x, y" <a>', b" b"]),
        (b"a (x, (y), z), b", [b"a (x, (y), z)", b" b"]),
        (b'"q\\", r" <a>,b', [b'"q\\", r" <a>', b"b"]),
        (b'"" <a,b>; c', [b'"" <a,b>', b" c"]),
    ],
)
def test_addresses_are_cut_at_commas_that_separate(raw: bytes, items: list[bytes]) -> None:
    assert split_addresses(raw) == items


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("", True),
        ("Content-Type: text/html\n", True),
        ("Content-Type: text/plain; name=x\n", False),
        ("Content-Disposition: attachment\n", False),
        ("Content-Disposition: inline\n", True),
        ("Content-Type: image/png\n", False),
    ],
)
def test_what_is_a_body_text(head: str, text: bool) -> None:
    assert parse(f"Subject: s\n{head}\nx\n").leaves[0].text is text


def test_odd_forms_of_a_boundary_are_a_doubt() -> None:
    body = "\n\n--b\n\nx\n--b--\n"
    for form in ("(c) boundary=b", "boundary*=us-ascii''b", "boundary*0=b", "boundary=\rb"):
        parsed = parse("Content-Type: multipart/mixed; " + form + body)
        assert parsed.data == {"1.1": b"x"}
        assert parsed.leaves[0].why

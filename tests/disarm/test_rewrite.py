"""The mail written anew: what is replaced decodes to what was given, everything else stays octet for octet."""

from __future__ import annotations

import base64
import email
import email.message
import hashlib
import itertools
import quopri
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm.rewrite import (
    CannotRewrite,
    Edit,
    Replacement,
    has_dkim,
    plan,
    protection,
    rewritten,
    rewritten_size,
    target_of,
    walk,
)
from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser
from netinspect.mime.readings import other_readings
from netinspect.spool import Spool, SpoolBudget


@dataclass
class Mail:
    raw: bytes
    parser: MimeParser
    leaves: list[Leaf]

    def __post_init__(self) -> None:
        self.data = {leaf.path: leaf.content.getvalue() for leaf in self.leaves}

    def chunks(self, size: int = 7) -> Iterator[bytes]:
        for at in range(0, len(self.raw), size):
            yield self.raw[at : at + size]

    def plan(self, **parts: Replacement) -> list[Edit]:
        """`p1_2` is the path 1.2."""
        wanted = {name[1:].replace("_", "."): part for name, part in parts.items()}
        return plan(self.parser.root, self.leaves, wanted, self.chunks)

    def replace(self, **parts: Replacement) -> Mail:
        edits = self.plan(**parts)
        raw = b"".join(rewritten(self.chunks(), edits))
        for size in (1, 2, 1000):
            assert b"".join(rewritten(self.chunks(size), edits)) == raw
        assert rewritten_size(len(self.raw), edits) == len(raw)
        return read(raw)


def read(raw: bytes | str, *, readings: bool = False) -> Mail:
    if isinstance(raw, str):
        raw = raw.replace("\n", "\r\n").encode()
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    leaves = [*parser.feed(raw), *parser.close()]
    if readings:
        spool = Spool(limits, budget)
        spool.write(raw)
        leaves += other_readings(parser, leaves, spool)
    return Mail(raw, parser, leaves)


def by_python(raw: bytes, path: str) -> email.message.Message:
    message = email.message_from_bytes(raw)
    for number in path.split(".")[1:]:
        below = message.get_payload()
        assert isinstance(below, list)
        message = below[int(number) - 1]  # type: ignore[assignment]
    return message


MIXED = """From: a@example.org
Subject: s
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

preamble
--outer
Content-Type: multipart/alternative;
 boundary="inner"

--inner

first
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>=C3=A4</p>
--inner--
--outer
Content-Type: application/msword;
  name="a.doc"
Content-Disposition: attachment; filename="a.doc"; size=3
X-Kept: as it is,
\tfolded
content-transfer-encoding: base64
Content-MD5: AAAA

AAEC
--outer
Content-Type: message/rfc822

Subject: inside

text inside
--outer--
epilogue
"""


def test_without_replacements_there_is_nothing_to_edit() -> None:
    mail = read(MIXED)
    assert mail.plan() == []
    assert b"".join(rewritten(mail.chunks(), [])) == mail.raw


def test_header_spans_are_where_the_headers_are() -> None:
    mail = read(MIXED)
    for part in walk(mail.parser.root):
        block = mail.raw[part.header_offset : part.header_offset + part.header_length]
        assert block == b"".join(name.encode() + b":" + value + b"\r\n" for name, value in part.headers.fields)
        assert mail.raw[part.header_offset + part.header_length : part.offset] == b"\r\n"


@given(size=st.integers(1, 400))
def test_header_spans_do_not_depend_on_how_the_message_was_cut(size: int) -> None:
    mail = read(MIXED.replace("text inside", "") + "--outer\n\n--outer\n")
    limits = Limits()
    parser = MimeParser(limits, lambda: Spool(limits, SpoolBudget(limits.spool_memory_total)))
    for piece in mail.chunks(size):
        parser.feed(piece)
    parser.close()
    assert [(p.path, p.header_offset, p.header_length, p.offset) for p in walk(parser.root)] == [
        (p.path, p.header_offset, p.header_length, p.offset) for p in walk(mail.parser.root)
    ]


def test_a_cleaned_attachment_keeps_its_header_and_its_encoding() -> None:
    mail = read(MIXED)
    new = bytes(range(256)) * 3
    result = mail.replace(p1_2=Replacement(new))
    assert result.data == {**mail.data, "1.2": new}
    body = base64.encodebytes(new).replace(b"\n", b"\r\n").rstrip(b"\r\n")
    old = mail.raw.replace(b"Content-MD5: AAAA\r\n", b"")
    assert result.raw == old.replace(b"AAEC\r\n--outer", body + b"\r\n--outer")
    assert max(map(len, body.split(b"\r\n"))) == 76


def test_a_notice_takes_the_place_of_a_part() -> None:
    result = read(MIXED).replace(p1_2=Replacement("entfernt: ü\n".encode(), notice=True))
    leaf = next(leaf for leaf in result.leaves if leaf.path == "1.2")
    assert (leaf.name, leaf.declared, leaf.part.disposition, leaf.part.encoding) == (
        "a.doc.removed.txt", "text/plain", "attachment", "base64",
    )  # fmt: skip
    assert leaf.part.params["charset"] == "utf-8"
    assert [name for name, _ in leaf.part.headers.fields] == [
        "Content-Type", "Content-Disposition", "X-Kept", "content-transfer-encoding"
    ]  # fmt: skip
    assert leaf.part.headers.get("x-kept") == b" as it is,\r\n\tfolded"
    seen = by_python(result.raw, "1.2")
    assert (seen.get_content_type(), seen.get_content_charset(), seen.get_filename()) == (
        "text/plain", "utf-8", "a.doc.removed.txt",
    )  # fmt: skip
    assert seen.get_payload(decode=True) == "entfernt: ü\n".encode()


def test_a_body_text_without_header_becomes_a_notice() -> None:
    result = read(MIXED).replace(p1_1_1=Replacement("weg: ü".encode(), notice=True))
    assert result.data["1.1.1"] == "weg: ü".encode()
    seen = by_python(result.raw, "1.1.1")
    assert (seen.get_content_charset(), seen.get_filename(), seen["Content-Disposition"]) == ("utf-8", None, "inline")


def test_a_message_of_one_part_keeps_all_other_fields() -> None:
    mail = read("From: a@example.org\nContent-Type: application/pdf; name=x.pdf\nSubject: s\n\nabc\n")
    result = mail.replace(p1=Replacement(b"removed", notice=True))
    assert result.raw == (
        b'From: a@example.org\r\nContent-Type: text/plain; charset=utf-8;\r\n name="x.pdf.removed.txt"\r\n'
        b'Subject: s\r\nContent-Disposition: inline;\r\n filename="x.pdf.removed.txt"\r\n'
        b"Content-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n\r\ncmVtb3ZlZA==\r\n"
    )


def test_a_text_in_a_forwarded_message_is_replaced_where_it_stands() -> None:
    mail = read(MIXED)
    result = mail.replace(p1_3_1=Replacement(b"new text"))
    assert result.raw == mail.raw.replace(b"text inside", b"new text")


def test_what_seven_bits_cannot_carry_goes_into_base64() -> None:
    for data in (b"\xff", b"a\nb", b"a\0b", b"--outer--\r\n", b"x" * 999, b"From me"):
        result = read(MIXED).replace(p1_1_1=Replacement(data))
        assert result.data["1.1.1"] == data
        assert by_python(result.raw, "1.1.1")["Content-Transfer-Encoding"] == "base64"


def test_an_empty_part_right_before_its_delimiter_gets_a_body() -> None:
    mail = read("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n--b--\n")
    for replacement in (Replacement(b"text"), Replacement(b"text", notice=True), Replacement(b"")):
        result = mail.replace(p1_1=replacement)
        assert result.data == {"1.1": replacement.data}


def test_names_of_any_kind_become_names_of_texts() -> None:
    for name, shown in (
        ("=?utf-8?q?=C3=BC=E2=80=AEfdp=2Eexe?=", "ü_fdp.exe.removed.txt"),
        ("..\\\\..\\\\a b.doc", "_.._a b.doc.removed.txt"),
        ("x" * 500 + ".docm", None),
    ):
        mail = read(f'Content-Disposition: attachment;\n filename="{name}"\n\nx\n')
        result = mail.replace(p1=Replacement(b"t", notice=True))
        assert max(map(len, result.raw.split(b"\r\n"))) < 998
        found = result.leaves[0].name
        assert found == email.message_from_bytes(result.raw).get_filename()
        assert found.endswith(".removed.txt")
        if shown:
            assert found == shown


# --- what is not altered ------------------------------------------------------------------------------------------


def reason(mail: Mail, *paths: str) -> str:
    with pytest.raises(CannotRewrite) as caught:
        plan(mail.parser.root, mail.leaves, {path: Replacement(b"x", notice=True) for path in paths}, mail.chunks)
    return caught.value.reason


SIGNED = """Content-Type: multipart/signed; boundary=b; protocol="{protocol}"; micalg=sha-256

--b
Content-Type: application/msword; name=a.doc

x
--b
Content-Type: {kind}; name={name}

x
--b--
"""


@pytest.mark.parametrize(
    ("protocol", "kind", "name", "scheme"),
    [
        ("application/pkcs7-signature", "application/pkcs7-signature", "smime.p7s", "smime"),
        ("application/pgp-signature", "application/pgp-signature", "signature.asc", "openpgp"),
        ("application/x-other", "application/x-other", "x", "signed"),
    ],
)
def test_a_signed_message_is_never_altered(protocol: str, kind: str, name: str, scheme: str) -> None:
    text = SIGNED.format(protocol=protocol, kind=kind, name=name)
    mail = read(text)
    assert protection(mail.parser.root, mail.leaves) == scheme
    assert reason(mail, "1.1") == "signed"
    # Also where it is only forwarded, encoded or not.
    forwarded = "Content-Type: multipart/mixed; boundary=o\n\n--o\n\ntext\n--o\nContent-Type: message/rfc822\n"
    assert reason(read(f"{forwarded}\n{text}--o--\n"), "1.1") == "signed"
    packed = base64.encodebytes(text.encode()).decode()
    assert reason(read(f"{forwarded}Content-Transfer-Encoding: base64\n\n{packed}--o--\n"), "1.1") == "signed"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m",
        "Content-Type: application/x-pkcs7-mime",
        'Content-Type: application/octet-stream; name="smime.p7m"',
        "Content-Type: application/pgp-encrypted",
        "Content-Type: multipart/encrypted; boundary=x; protocol=application/pgp-encrypted",
    ],
)
def test_opaque_signatures_and_encryption_count(head: str) -> None:
    assert reason(read(f"{head}\n\nx\n"), "1") == "signed"


def test_an_openpgp_text_counts_and_a_quoted_one_does_not() -> None:
    text = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n-----BEGIN PGP SIGNATURE-----\n"
    for mail in (read(f"Subject: s\n\n{text}"), read(f"Subject: s\n\nsome words\n{text}" + "x\n" * 100_000)):
        assert protection(mail.parser.root, mail.leaves) == "openpgp"
    quoted = read("Subject: s\n\n" + "".join(f"> {line}\n" for line in text.splitlines()))
    assert protection(quoted.parser.root, quoted.leaves) == ""
    page = read(f"Content-Type: text/html\n\n<pre>{text}</pre>")
    assert protection(page.parser.root, page.leaves) == "openpgp"


def test_an_openpgp_text_is_seen_wherever_the_spool_was_cut() -> None:
    text = b"x" * 5000 + b"\r\n-----BEGIN PGP MESSAGE-----\r\n"
    for cut in range(4990, len(text), 3):
        mail = read(b"Subject: s\r\n\r\n")
        leaf = mail.leaves[0]
        leaf.content.write(text[:cut])
        leaf.content.flush()
        leaf.content.write(text[cut:])
        assert protection(mail.parser.root, mail.leaves) == "openpgp"


def test_what_is_read_in_more_than_one_way_is_not_altered() -> None:
    mail = read(MIXED)
    assert reason(mail, "1.preamble") == "ambiguous"
    assert reason(mail, "1.1.1~b") == "ambiguous"
    assert reason(mail, "1") == reason(mail, "1.9") == reason(mail, "") == "missing"
    twice = read(MIXED.replace("content-transfer-encoding: base64", "Content-Transfer-Encoding: 7bit\n" * 2))
    assert reason(twice, "1.2") == "missing" or reason(twice, "1.2") == "ambiguous"
    names = read("Content-Type: x/y; name=a.exe\nContent-Disposition: attachment; filename=a.txt\n\nx\n")
    assert reason(names, "1") == "ambiguous"
    assert reason(read("Subject: s\n\nbegin 644 a.exe\n#86)C\n`\nend\n"), "1.uu1") == "ambiguous"
    broken = read("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b--\n")
    assert reason(broken, "1.1") == "ambiguous"


def test_readings_of_a_body_go_with_the_body() -> None:
    raw = "Content-Type: text/html; name=a.htm\nContent-Transfer-Encoding: base64\n\nPGI+!!PC9i\nPg=PGI+\n"
    mail = read(raw, readings=True)
    assert mail.leaves[0].why
    result = mail.replace(p1=Replacement(b"clean"))
    assert read(result.raw, readings=True).data == {"1": b"clean"}


def test_a_part_of_an_encoded_message_is_replaced_with_it() -> None:
    inner = base64.encodebytes(MIXED.encode()).decode()
    outer = base64.encodebytes(
        f"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{inner}".encode()
    ).decode()
    mail = read(f"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\nMIME-Version: 1.0\n\n{outer}")
    inside = next(leaf.path for leaf in mail.leaves if leaf.name == "a.doc")
    assert reason(mail, inside) == "encoded"
    assert target_of(mail.parser.root, inside) == "1"
    assert target_of(mail.parser.root, inside + "~b") == target_of(mail.parser.root, inside + ".uu1") == "1"
    result = mail.replace(p1=Replacement(b"gone", notice=True))
    assert result.data == {"1": b"gone"}
    plain = read(MIXED)
    assert target_of(plain.parser.root, "1.2") == "1.2"
    assert target_of(plain.parser.root, "1.2.uu1") == "1.2.uu1"


@pytest.mark.parametrize(("field", "there"), [("DKIM-Signature", True), ("ARC-Seal", True), ("X-DKIM", False)])
def test_a_signature_of_the_domain_is_noted(field: str, there: bool) -> None:
    assert has_dkim(read(f"{field}: v=1\n\nx\n").parser.root) is there


# --- properties ---------------------------------------------------------------------------------------------------

_ENCODINGS = ("7bit", "8bit", "binary", "base64", "quoted-printable")
_TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r\n", b"\n", b"\r", b"--", b"--b", b"--b0--", b" ", b"\t", b"=", b".", b"From ", b"\xc3\xa4"]
        ),
        st.binary(max_size=12),
        st.binary(min_size=1, max_size=1).map(lambda octet: octet * 90),
    ),
    max_size=14,
).map(b"".join)


@st.composite
def mails(draw: st.DrawFn) -> bytes:
    """Well-formed mails: nested multiparts, all encodings, both line ends."""
    newline = draw(st.sampled_from([b"\r\n", b"\r\n", b"\n"]))
    numbers = itertools.count()

    def part(depth: int) -> list[bytes]:
        if depth < 3 and draw(st.integers(0, 2)) == 0:
            boundary = f"b{next(numbers)}".encode()
            lines = [b"Content-Type: multipart/mixed; boundary=" + boundary, b""]
            for _ in range(draw(st.integers(1, 3))):
                lines += [b"--" + boundary, *part(depth + 1)]
            return [*lines, b"--" + boundary + b"--", *draw(st.sampled_from([[], [b""]]))]
        encoding = draw(st.sampled_from(_ENCODINGS))
        kind = draw(st.sampled_from([b"text/html", b"application/x", b"image/png"]))
        name = draw(st.sampled_from([[], [b"Content-Disposition: attachment; filename=a.bin"]]))
        data = draw(st.binary(max_size=60))
        if encoding == "base64":
            body = base64.encodebytes(data).rstrip().split(b"\n")
        elif encoding == "quoted-printable":
            body = [quopri.encodestring(data.replace(b"\n", b"").replace(b"\r", b""))]
        else:
            body = [b"some text", b"and more"]
        return [b"Content-Type: " + kind, *name, b"Content-Transfer-Encoding: " + encoding.encode(), b"", *body]

    lines = [b"MIME-Version: 1.0", b"Subject: s", *part(0)]
    return newline.join(lines) + draw(st.sampled_from([newline, newline, b""]))


@given(raw=mails(), draw=st.data())
def test_new_parts_decode_to_what_was_given_and_all_others_stay(raw: bytes, draw: st.DataObject) -> None:
    mail = read(raw)
    paths = [leaf.path for leaf in mail.leaves]
    chosen = draw.draw(st.lists(st.sampled_from(paths), unique=True, min_size=1))
    new = {path: Replacement(draw.draw(_TEXTS), notice=draw.draw(st.booleans())) for path in chosen}
    edits = plan(mail.parser.root, mail.leaves, new, mail.chunks)
    result = b"".join(rewritten(mail.chunks(draw.draw(st.integers(1, 99))), edits))
    again = read(result)
    assert again.data == {path: new[path].data if path in new else data for path, data in mail.data.items()}
    for leaf in again.leaves:
        assert not leaf.why
        seen = by_python(result, leaf.path).get_payload(decode=True)
        if leaf.path in new:
            assert seen == new[leaf.path].data
        else:
            assert seen == by_python(raw, leaf.path).get_payload(decode=True)
            before = next(one for one in mail.leaves if one.path == leaf.path).part
            assert hashlib.sha256(_octets(result, leaf.part)).digest() == hashlib.sha256(_octets(raw, before)).digest()


def _octets(raw: bytes, part: object) -> bytes:
    return raw[part.header_offset : part.offset + part.length]  # type: ignore[attr-defined]


@given(raw=st.binary(max_size=60), cuts=st.integers(1, 70), draw=st.data())
def test_streaming_makes_the_edits_wherever_the_pieces_end(raw: bytes, cuts: int, draw: st.DataObject) -> None:
    points = sorted(draw.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    edits = [
        Edit(start, stop - start, draw.draw(st.binary(max_size=4)))
        for start, stop in zip(points[::2], points[1::2], strict=False)
    ]
    expected, at = b"", 0
    for edit in edits:
        expected += raw[at : edit.offset] + edit.data
        at = edit.offset + edit.length
    expected += raw[at:]
    pieces = [raw[start : start + cuts] for start in range(0, len(raw), cuts)]
    assert b"".join(rewritten(pieces, edits)) == expected
    assert rewritten_size(len(raw), edits) == len(expected)

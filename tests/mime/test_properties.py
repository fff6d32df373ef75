"""What holds for every message: cuts change nothing, nothing raises, ordinary mails read as Python reads them."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from netinspect.limits import Limits
from tests.mime.tools import cut, parse_pieces

LINES = st.sampled_from(
    [
        b"", b"x", b" ", b"\t", b"--b", b"--b--", b"--c", b"--c--", b"--b ", b"--bc", b"----", b"--", b"-", b"\r",
        b"Subject: s", b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/mixed; boundary=c",
        b'Content-Type: multipart/digest; boundary="b--"', b"Content-Type: message/rfc822", b"Content-Type: text/html",
        b"Content-Type: multipart/mixed", b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: x-uue",
        b"Content-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: what", b"no field", b"a=3D=",
        b"SGVsbG8=", b"SGVs", b"U3ViamVjdDogcw0KDQpoaQ==", b"begin 644 f", b"#86)C", b"`", b"end", b"\0\xff", b"X: y\0",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\n", b"\r\n", b"\r", b""])
MESSAGES = st.lists(st.tuples(LINES, ENDS), max_size=40).map(lambda lines: b"".join(map(b"".join, lines)))
TIGHT = Limits(header_bytes=60, header_count=3, mime_depth=3, mime_parts=4, spool_memory=64, name_length=8)


@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1, max_size=6), st.booleans())
def test_cuts_never_change_leaves_hashes_anomalies_or_parts(raw: bytes, sizes: list[int], tight: bool) -> None:
    limits = TIGHT if tight else Limits()
    whole = parse_pieces([raw], limits)
    pieces, at, turn = [], 0, 0
    while at < len(raw):
        pieces.append(raw[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    whole.same(parse_pieces(pieces, limits))
    whole.same(parse_pieces(cut(raw, 1), limits))


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_any_octets_are_a_message(raw: bytes, size: int) -> None:
    parse_pieces([raw]).same(parse_pieces(cut(raw, size)))


@given(st.binary(max_size=300), st.integers(0, 8))
def test_every_octet_of_an_unencoded_body_is_in_a_leaf(body: bytes, level: int) -> None:
    raw = b"Subject: s\r\n\r\n" + body
    for _ in range(level):
        raw = b"Content-Type: message/rfc822\r\n\r\n" + raw
    leaves = parse_pieces([raw]).leaves
    assert leaves[0].data == body


CONTENTS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(alphabet="abc \u00fc\n.=-", min_size=1, max_size=200)),
        st.tuples(st.just("file"), st.binary(min_size=1, max_size=400)),
    ),
    min_size=1,
    max_size=4,
)


@given(CONTENTS, st.sampled_from(["base64", "quoted-printable", "8bit"]), st.sampled_from(["\r\n", "\n"]))
def test_ordinary_mails_read_as_the_standard_library_reads_them(
    contents: list[tuple[str, str | bytes]], encoding: str, end: str
) -> None:
    mail = EmailMessage(policy=email.policy.default.clone(linesep=end))
    mail["From"] = "a@example.org"
    mail["Subject"] = "s\u00fcbject"
    mail.set_content("first\n")
    for number, (kind, content) in enumerate(contents):
        if kind == "text":
            assert isinstance(content, str)
            mail.add_attachment(content, cte=encoding, filename=f"n{number}\u00fc.txt")
        else:
            assert isinstance(content, bytes)
            mail.add_attachment(content, maintype="application", subtype="pdf", filename=f"f{number}.pdf")
    raw = mail.as_bytes()
    parsed = parse_pieces(cut(raw, 97))
    read = email.message_from_bytes(raw, policy=email.policy.default)
    expected = [
        (part.get_content_type(), part.get_payload(decode=True), part.get_filename() or "")
        for part in read.walk()
        if not part.is_multipart()
    ]
    # RFC 2045 §6.7 rule 3: Python keeps blanks at the end of a quoted-printable line; its encoder makes none.
    assert [(leaf.declared, leaf.data, leaf.name) for leaf in parsed.leaves] == expected
    assert parsed.anomalies == []
    assert parsed.parser.mail is not None
    assert parsed.parser.mail.subject == "s\u00fcbject"

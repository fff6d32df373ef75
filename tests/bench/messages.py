"""Deterministic messages, ready for the wire: CRLF, no line that starts with a dot, without the final dot.

Every builder takes a serial number: the same number gives the same bytes, another one other bytes in every part that
is worth scanning (all images and text streams of a document, not only one), because scanners remember the parts of
documents by themselves. What real documents have in common (styles, relationships) they have in common here.
"""

from __future__ import annotations

import base64
import io
import random
import struct
import zipfile
import zlib
from functools import cache

Message = tuple[bytes, ...]
"""A message in pieces that are sent one after the other."""

_VOCABULARY = (
    "account agenda amount annual answer approved archive august autumn balance board branch budget building "
    "calendar called change client colleague committee company confirm contract copy corrected current customer "
    "deadline december delivery department details discussed document draft during enclosed evening expected figures "
    "final finance following friday from function general greetings hotel however important include invoice january "
    "kindly last later letter machine manager march material meeting minutes monday morning network next notes number "
    "offer office once order original page paper parcel payment people please position possible price project "
    "proposal purchase quality quarter question ready received regards reminder report request response review room "
    "sample schedule second section september service shipment signed since special staff status summary supplier "
    "table team thanks their themselves thursday today together total travel tuesday until update version waiting "
    "warehouse week which within without wording year yesterday you your"
)
_WORDS = _VOCABULARY.split()

_HEAD = (
    "From: Sender <load@sender.example>\r\n"
    "To: User <user@corp.example>\r\n"
    "Subject: {subject} {serial}\r\n"
    "Date: Sun, 22 Nov 2026 08:00:00 +0000\r\n"
    "Message-ID: <{subject}.{serial}@sender.example>\r\n"
    "MIME-Version: 1.0\r\n"
)
_BOUNDARY = "=_part_7d1c0a55"


def _rng(kind: str, serial: int) -> random.Random:
    return random.Random(f"{kind} {serial}")


@cache
def _lines() -> list[str]:
    """A stock of text lines: to choose from it is quicker than to write each mail word by word."""
    rng = _rng("lines", 0)
    return [" ".join(rng.choices(_WORDS, k=9)).capitalize() + ".\r\n" for _ in range(4_000)]


def _text(rng: random.Random, size: int) -> str:
    """Lines of words, CRLF, of about `size` octets."""
    return "".join(rng.choices(_lines(), k=max(1, size // 70)))


def _base64_lines(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _mixed(subject: str, serial: int, text: str, kind: str, name: str, encoded: tuple[bytes, ...]) -> Message:
    """A multipart/mixed of a text and one attachment that is base64 lines already."""
    head = (
        _HEAD.format(subject=subject, serial=serial)
        + f'Content-Type: multipart/mixed; boundary="{_BOUNDARY}"\r\n\r\n--{_BOUNDARY}\r\n'
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
        f"{text}\r\n--{_BOUNDARY}\r\n"
        f'Content-Type: {kind}; name="{name}"\r\nContent-Transfer-Encoding: base64\r\n'
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return (head.encode("ascii"), *encoded, f"--{_BOUNDARY}--\r\n".encode("ascii"))


def _joined(message: Message) -> Message:
    return (b"".join(message),)


def text_10k(serial: int) -> Message:
    """About 10 KB of plain text."""
    head = _HEAD.format(subject="text", serial=serial) + "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    return ((head + _text(_rng("text", serial), 9_700)).encode("ascii"),)


# --- a Word document without macros ------------------------------------------------------------------------------

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_WORD_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"


def _relationships(*pairs: tuple[str, str]) -> str:
    rows = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(pairs, 1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{rows}</Relationships>'


_FIXED_MEMBERS = {
    "[Content_Types].xml": (
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/><Default Extension="png" ContentType="image/png"/>'
        f'<Override PartName="/word/document.xml" ContentType="{_WORD_TYPE}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{_WORD_TYPE}.styles+xml"/></Types>'
    ),
    "_rels/.rels": _relationships(("officeDocument", "word/document.xml")),
    "word/_rels/document.xml.rels": _relationships(("styles", "styles.xml"), ("image", "media/image1.png")),
    "word/styles.xml": f'{_XML}<w:styles xmlns:w="{_WORD}">'
    + "".join(
        f'<w:style w:type="paragraph" w:styleId="Style{n}"><w:name w:val="style {n}"/><w:basedOn w:val="Normal"/>'
        f'<w:rPr><w:sz w:val="{16 + n % 24}"/><w:color w:val="{n * 70_001 % 0xFFFFFF:06X}"/></w:rPr></w:style>'
        for n in range(100)
    )
    + "</w:styles>",
}


@cache
def _paragraphs() -> list[str]:
    """A stock of paragraphs to choose from: quicker than to write each document word by word."""
    rng = _rng("paragraphs", 0)
    return [
        f'<w:p w:rsidR="{rng.getrandbits(32):08X}"><w:pPr><w:pStyle w:val="Style{n % 100}"/></w:pPr><w:r>'
        f'<w:t xml:space="preserve">{" ".join(rng.choices(_WORDS, k=60)).capitalize()}.</w:t></w:r></w:p>'
        for n in range(3_000)
    ]


def _png(rng: random.Random, width: int, height: int) -> bytes:
    """A real PNG of noise, which does not compress."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    row = 1 + width * 3
    pixels = bytearray(rng.randbytes(row * height))
    pixels[::row] = bytes(height)  # filter type 0 at the start of each row
    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(pixels), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def docx(serial: int) -> bytes:
    """A macro-free .docx of about 73 KB: some 20 pages of text and one image."""
    rng = _rng("docx", serial)
    body = "".join(rng.sample(_paragraphs(), k=205))
    image = f'<w:p><w:r><w:drawing xmlns:r="{_OFFICE}"><a:blip xmlns:a="urn:a" r:embed="rId2"/></w:drawing></w:r></w:p>'
    document = f'{_XML}<w:document xmlns:w="{_WORD}"><w:body>{body}{image}<w:sectPr/></w:body></w:document>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:

        def put(name: str, data: str | bytes) -> None:
            package.writestr(zipfile.ZipInfo(name, (2026, 11, 22, 8, 0, 0)), data, zipfile.ZIP_DEFLATED, 5)

        for name, content in _FIXED_MEMBERS.items():
            put(name, content)
        put("word/document.xml", document)
        put("word/media/image1.png", _png(rng, 128, 110))
    return out.getvalue()


def docx_100k(serial: int) -> Message:
    """A mail of about 100 KB with `docx(serial)`."""
    text = _text(_rng("docx mail", serial), 1_200)
    name = f"report{serial}.docx"
    return _joined(_mixed("docx", serial, text, f"{_WORD_TYPE}.document", name, (_base64_lines(docx(serial)),)))


# --- a PDF as a scanner or an office program makes it ------------------------------------------------------------


def pdf(serial: int, size: int = 1_470_000) -> bytes:
    """A PDF of about `size` octets: compressed text streams and images that do not compress any more."""
    rng = _rng("pdf", serial)
    out = io.BytesIO()
    offsets: list[int] = []

    def put(content: bytes) -> None:
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (len(offsets), content))

    out.write(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n")
    put(b"<< /Type /Catalog /Pages 2 0 R >>")
    put(b"<< /Type /Pages /Kids [] /Count 0 >>")
    while out.tell() < size:
        lines = (" ".join(rng.choices(_WORDS, k=10)) for _ in range(50))
        drawn = "".join(f"BT /F1 10 Tf 72 {720 - 13 * row} Td ({line}) Tj ET\n" for row, line in enumerate(lines))
        stream = zlib.compress(drawn.encode("ascii"))
        put(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream))
        stream = rng.randbytes(48_000)
        put(
            b"<< /Type /XObject /Subtype /Image /Width 400 /Height 300 /BitsPerComponent 8 /ColorSpace /DeviceRGB "
            b"/Filter /DCTDecode /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
        )
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, table))
    return out.getvalue()


def pdf_2m(serial: int) -> Message:
    """A mail of about 2 MB with `pdf(serial)`."""
    text = _text(_rng("pdf mail", serial), 1_000)
    return _joined(_mixed("pdf", serial, text, "application/pdf", f"scan{serial}.pdf", (_base64_lines(pdf(serial)),)))


# --- the rest ------------------------------------------------------------------------------------------------------


def eicar() -> bytes:
    """The EICAR test file, put together here so that this source is not itself a find."""
    return rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"


def eicar_zip(serial: int) -> Message:
    """A small mail with EICAR in a zip: what is measured must also stop something."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(zipfile.ZipInfo("readme.txt"), _text(_rng("zip", serial), 1_500))
        package.writestr(zipfile.ZipInfo("eicar.com"), eicar())
    text = _text(_rng("zip mail", serial), 800)
    name = f"files{serial}.zip"
    return _joined(_mixed("zip", serial, text, "application/zip", name, (_base64_lines(out.getvalue()),)))


MARK = b"netinspect bench second signature"
"""Plain text that only the bench's own clamd database knows: who stops it has asked clamd."""


def marked(serial: int) -> Message:
    """A small text mail with `MARK` in it."""
    head = _HEAD.format(subject="mark", serial=serial) + "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    return (head.encode("ascii"), MARK, b"\r\n", _text(_rng("mark", serial), 500).encode("ascii"))


@cache
def _big_tail() -> bytes:
    return _base64_lines(_rng("big", 0).randbytes(57 * 256_000))


def big_20m(serial: int) -> Message:
    """A mail of 20 MB with 14.6 MB of noise. The first line differs, the rest is one shared object."""
    first = _base64_lines(_rng("big first", serial).randbytes(57))
    text = _text(_rng("big mail", serial), 1_000)
    return _mixed("big", serial, text, "application/octet-stream", f"backup{serial}.bin", (first, _big_tail()))

"""What the unpackers are fuzzed from: for each format small files that reach far into its reader, all made here."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import struct
import uuid
import zlib
from functools import cache
from typing import Final

import pikepdf
from msoffcrypto.format.ooxml import OOXMLFile

from netinspect.samples import archives, cfb, office, tricks
from tests.files import made

PROGRAM: Final = b"MZ" + bytes(62) + b"program" * 8
MEMBERS: Final = {"a.txt": b"content " * 20, "b.exe": PROGRAM}
WORD: Final = "a"
"""The password that the targets know."""

ISO_SYSTEM: Final = 0x8000
"""Octets of a disc image that nobody reads (ECMA-119 6.2.1): the target puts them in front."""


# --- streams and archives ---------------------------------------------------------------------------------------------


def _zstd(content: bytes) -> bytes:
    """One frame with one raw block (RFC 8878 §3.1.1)."""
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(content)]) + (len(content) << 3 | 1).to_bytes(3, "little") + content


def _compress(content: bytes) -> bytes:
    """What `compress` writes, each octet a code of nine bits."""
    bits = sum(octet << 9 * number for number, octet in enumerate(content))
    return b"\x1f\x9d\x90" + bits.to_bytes(-(-9 * len(content) // 8), "little")


def _mslz(content: bytes) -> bytes:
    """What Microsoft's `compress` writes, all of it literal."""
    out = b"SZDD\x88\xf0\x27\x33A_" + struct.pack("<I", len(content))
    return out + b"".join(b"\xff" + content[at : at + 8] for at in range(0, len(content), 8))


def _local(name: bytes, data: bytes, *, flags: int = 0) -> bytes:
    packed = zlib.compress(data, wbits=-15)
    sizes = (0, 0, 0) if flags & 8 else (zlib.crc32(data), len(packed), len(data))
    return struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, flags, 8, 0, 0x21, *sizes, len(name), 0) + name + packed


def zips() -> tuple[bytes, ...]:
    """Every method, both ways of encryption, and what readers disagree about."""
    plain = archives.make_zip(MEMBERS)
    stored = bytearray(archives.make_zip({"a.txt": zlib.compress(b"what the local header says", wbits=-15)}, 0))
    stored[8] = 8
    streamed = _local(b"a.txt", b"first, " * 20, flags=8) + b"PK\x07\x08" + bytes(12) + _local(b"b.txt", b"second")
    return (
        *(archives.make_zip(MEMBERS, method) for method in (0, 8, 12, 14)),
        archives.encrypted_zip(),
        made.packed(MEMBERS, "Zip", password=WORD),
        plain + archives.make_zip({"c.txt": b"third"}),
        _local(b"hidden.exe", PROGRAM) + plain,
        plain.replace(b"a.txt", b"c.exe", 1),
        bytes(stored),
        streamed,
        plain[:-30],
        plain[:-2] + struct.pack("<H", 7) + b"comment",
    )


def library() -> dict[str, tuple[bytes, ...]]:
    """Formats of 7-Zip's library that can be made here, by kind."""
    return {
        "7z": (
            made.packed(MEMBERS, "SevenZip"), made.packed(MEMBERS, "SevenZip", password=WORD),
            made.packed(MEMBERS, "SevenZip", password=WORD, names_too=True),
            made.packed(MEMBERS, "SevenZip", password=WORD * 2, names_too=True), made.packed({"e": b""}, "SevenZip"),
        ),
        "rar": (made.rar5(MEMBERS), made.rar5({"a": b""})),
        "cab": (made.cab(MEMBERS),),
        "lzh": (made.lzh(MEMBERS),),
        "arj": (made.arj(MEMBERS),),
        "ar": (made.ar(MEMBERS), made.ar({"control.tar.gz": gzip.compress(archives.make_tar(MEMBERS), mtime=0)})),
        "cpio": (made.cpio(MEMBERS),),
        "wim": (made.packed(MEMBERS, "Wim"),),
        "zstd": (_zstd(b"content " * 20), b"\x50\x2a\x4d\x18\4\0\0\0skip" + _zstd(b"content")),
        "z": (_compress(b"content " * 20),),
        "lzma": (lzma.compress(b"content " * 20, lzma.FORMAT_ALONE),),
        "mslz": (_mslz(b"content " * 20),),
        "swf": (b"CWS\x06" + struct.pack("<I", 168) + zlib.compress(b"content " * 20),),
    }  # fmt: skip


def streams() -> dict[str, tuple[bytes, ...]]:
    """One content each, in one piece, in two, with something behind it."""
    content = b"content " * 20
    return {
        "gzip": (archives.make_gzip(content), gzip.compress(content, mtime=0) * 2 + b"behind"),
        "bzip2": (bz2.compress(content), bz2.compress(content) * 2 + b"behind"),
        "xz": (lzma.compress(content), lzma.compress(content, check=lzma.CHECK_NONE) * 2 + b"behind"),
    }


def images() -> tuple[bytes, ...]:
    """Disc images without what nobody reads at their start and end."""
    joliet = made.iso({"PRIMARY.TXT;1": b"one", "BOTH.TXT;1": b"both"}, {"joliet.txt": b"two", "both.txt": b"both"})
    return tuple(image[ISO_SYSTEM:].rstrip(b"\0") for image in (made.iso({"A.TXT;1": b"one"}), joliet))


# --- documents --------------------------------------------------------------------------------------------------------


def native(name: str, content: bytes) -> bytes:
    """An OLENativeStream as Packager writes it."""
    path = b"C:\\Temp\\" + name.encode() + b"\0"
    body = b"\x02\0" + name.encode() + b"\0" + path + b"\0\0\x03\0" + struct.pack("<I", len(path)) + path
    body += struct.pack("<I", len(content)) + content
    return struct.pack("<I", len(body)) + body


def compounds() -> dict[str, tuple[bytes, ...]]:
    """Compound files: with packages, of a message, of slides."""
    attachment = "__attach_version1.0_#00000000"
    inner = cfb.write({"\x01Ole10Native": native("a.exe", PROGRAM)})
    squeezed = struct.pack("<I", len(inner)) + zlib.compress(inner)
    slides = struct.pack("<HHI", 0x10, 0x1011, len(squeezed)) + squeezed
    slides += struct.pack("<HHI", 0, 0x1011, len(inner)) + inner
    return {
        "doc": (
            office.plain_doc(), office.melissa_doc(), tricks.template_doc(), tricks.url_link_doc(),
            cfb.write({
                "WordDocument": b"x", "ObjectPool/_1/\x01Ole10Native": native("run.exe", PROGRAM),
                "MBD01/Package": archives.make_zip({"a": b"b"}), "MBD02/odd": PROGRAM,
            }),
        ),
        "xls": (tricks.xlm_xls(start=True), tricks.dde_xls()),
        "ppt": (cfb.write({"PowerPoint Document": slides, "Current User": b"x"}),),
        "msg": (
            cfb.write({
                "__properties_version1.0": bytes(32), "__substg1.0_1000001F": "Good morning".encode("utf-16-le"),
                "__substg1.0_10130102": b"<html>hello</html>", f"{attachment}/__substg1.0_37010102": PROGRAM,
                f"{attachment}/__substg1.0_3707001F": "run.exe".encode("utf-16-le"),
            }),
        ),
    }  # fmt: skip


def packages() -> tuple[bytes, ...]:
    """OOXML."""
    return (office.plain_docx(), office.melissa_docm(), office.template_docx(), office.dde_docx())


@cache
def encrypted() -> bytes:
    """OOXML under the password that Office tries by itself."""
    out = io.BytesIO()
    OOXMLFile(io.BytesIO(office.plain_docx())).encrypt("VelvetSweatshop", out)
    return out.getvalue()


def rtfs() -> tuple[bytes, ...]:
    """RTF with a package, with a document, with an object cut short."""
    inner = cfb.write({"\x01Ole10Native": native("a.exe", PROGRAM)})
    head = struct.pack("<III", 0x501, 2, 16) + b"Word.Document.8\0" + bytes(8) + struct.pack("<I", len(inner))
    return (
        tricks.package_rtf(),
        tricks.package_rtf(update=True),
        b"{\\rtf1{\\object\\objemb{\\*\\objdata " + (head + inner).hex().encode() + b"}}}",
        b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105000002000000080000005061636b61676500}}}",
    )


def pdfs() -> tuple[bytes, ...]:
    """PDF with a script, a file and a start, in the open, in object streams, encrypted."""
    pdf = pikepdf.new()
    pdf.add_blank_page()
    pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.Launch, F="cmd.exe")
    pdf.Root.Names = pdf.make_indirect(
        pikepdf.Dictionary(
            JavaScript=pikepdf.Dictionary(
                Names=[
                    pikepdf.String("a"),
                    pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS=pdf.make_stream(b"eval(x)")),
                ]
            )
        )
    )
    pdf.attachments["tool.exe"] = PROGRAM

    def saved(**how: object) -> bytes:
        out = io.BytesIO()
        pdf.save(out, deterministic_id=True, **how)  # type: ignore[arg-type]
        return out.getvalue()

    lock = pikepdf.Encryption(owner="o", user=WORD)
    locked = io.BytesIO()
    pdf.save(locked, encryption=lock, static_id=True)
    return (
        saved(),
        saved(object_stream_mode=pikepdf.ObjectStreamMode.generate),
        saved().replace(b"/JavaScript", b"/J#61vaScript"),
        locked.getvalue(),
    )


def notebooks() -> tuple[bytes, ...]:
    """OneNote sections: the store of files, and the packaging in which files lie among other data."""
    section = uuid.UUID("7b5c52e4-d88c-4da7-aeb1-5378d02996d3").bytes_le
    store = uuid.UUID("bde316e7-2665-4511-a4c4-8d4d0b7a9eac").bytes_le
    packed = uuid.UUID("638de92f-a6d4-4bc1-9a36-b3fc2511a5b7").bytes_le
    files = (store + struct.pack("<QIQ", len(content), 0, 0) + content for content in (PROGRAM, b"b"))
    return (
        section + bytes(100) + b"".join(files),
        section + bytes(16) + packed + bytes(60) + b"MZ\x90\x00program" + archives.make_zip({"a": b"b"}),
    )


# --- texts ------------------------------------------------------------------------------------------------------------

_MAIL: Final = (
    b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello\r\n"
    b"--x\r\nContent-Disposition: attachment; filename=a.exe\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(PROGRAM) + b"\r\n--x--\r\n"
)  # fmt: skip


def texts() -> dict[str, tuple[bytes, ...]]:
    """Pages and scripts with a file in each way that is looked for, and mails."""
    inner = archives.make_zip({"run.exe": PROGRAM * 3})
    word = base64.b64encode(inner).decode()
    scripts = [
        f'var a=atob("{word}");',
        "var a=atob(\"" + '"+"'.join(word[at : at + 40] for at in range(0, len(word), 40)) + '");',
        "save(new Blob([new Uint8Array([" + ", ".join(map(str, inner)) + "])]));",
        "unescape('" + "".join(f"%{octet:02x}" for octet in inner) + "')",
        "atob(`" + "\n".join(word[at : at + 76] for at in range(0, len(word), 76)) + "`)",
    ]
    pages = tuple(f"<html><script>{script}</script></html>".encode() for script in scripts)
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg'><script>{scripts[0]}</script></svg>".encode()
    return {
        "eml": (_MAIL, b"Subject: s\r\nContent-Type: message/rfc822\r\n\r\n" + _MAIL),
        "mht": (_MAIL.replace(b"multipart/mixed", b"multipart/related"),),
        "html": (*pages, f"<html><script>{scripts[0]}</script></html>".encode("utf-16")),
        "svg": (drawing,),
        "script": tuple(script.encode() for script in scripts[:2]),
        "xml": (b"<?xml version='1.0'?>" + drawing,),
        "words": (scripts[0].encode(), base64.encodebytes(inner) * 2),
    }


# --- mails ------------------------------------------------------------------------------------------------------------

_BINHEX: Final = b'(This file must be converted with BinHex 4.0)\r\n\r\n:"@9dFf&b3\'9KBQ:\r\n'
_YENC: Final = b"=ybegin line=128 size=2 name=x\r\n\x8b\x8c\r\n=yend size=2\r\n"


def _part(*fields: bytes, body: bytes = b"body") -> bytes:
    return b"--b\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body + b"\r\n"


def mails() -> tuple[bytes, ...]:
    """What mail programs read differently: types, encodings, boundaries, names, files in texts."""
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    word = base64.b64encode(PROGRAM)
    parts = (
        _part(b"Content-Type: message/partial; id=1; number=1; total=2"),
        _part(b"Content-Type: message/external-body; access-type=URL; URL=\"http://a.invalid\""),
        _part(b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: 7bit", body=word),
        _part(b"Content-Transfer-Encoding: (c) base64 ", body=word[:20] + b"==" + word[20:] + b"\r\n\x01=\r\n"),
        _part(b"Content-Transfer-Encoding: x-uuencode", body=b"begin 644 f\r\n#86)C\r\n`\r\nend"),
        _part(b"Content-Transfer-Encoding: quoted-printable", body=b"a=3d=\r\n=3=0X= \r\n=="),
        _part(b"Content-Type: text/plain; charset=utf-7",
              body=_YENC + b"begin-base64 644 x\r\nQQ==\r\n====\r\n" + _BINHEX),
        _part(b"Content-Type: application/x; name*0*=utf-8''%e2%80; name*1*=%ae.exe; name=\"=?utf-8?b?YS5leGU=?=\""),
        _part(b"Content-Disposition: attachment; filename=\"a\\\".exe\"; filename*=iso-8859-1'en'b%2eexe",
              body=PROGRAM),
        _part(b"Content-Type: multipart/alternative; boundary*0=\"c\"; boundary*1=\" d \"",
              body=b"--c d\r\n\r\nx\r\n--c d--\r\nafter"),
    )  # fmt: skip
    closed = head + b"preamble\r\n" + b"".join(parts) + b"--b--\r\n" + _part(body=_YENC)
    return (
        closed,
        head + b"".join(parts[:3]),
        closed.replace(b"\r\n", b"\n", 20).replace(b": ", b":\t", 5),
        head.replace(b"mixed; boundary=b", b"digest; boundary=\"b\" (c); boundary=")
        + _part(body=b"Subject: s\r\n\r\nx"),
        b"\0" + head[:20] + b"no field\r\nContent-Type: text/html; charset=\"utf-16\"\r\n\r\n" + word,
    )


def winmail() -> tuple[bytes, ...]:
    """TNEF without its signature: attachments, names in two ways, a message within, bodies, compressed RTF."""

    def attribute(level: int, kind: int, identifier: int, data: bytes) -> bytes:
        head = struct.pack("<BHHI", level, identifier, kind, len(data))
        return head + data + struct.pack("<H", sum(data) & 0xFFFF)

    def properties(*values: tuple[int, int, bytes]) -> bytes:
        out = struct.pack("<I", len(values))
        for kind, identifier, value in values:
            out += struct.pack("<HH", kind, identifier)
            if identifier >= 0x8000:
                out += bytes(16) + struct.pack("<II", 1, 6) + "ab\0".encode("utf-16-le") + b"\0\0"
            out += struct.pack("<II", 1, len(value)) + value + bytes(-len(value) % 4)
        return out

    rendering = attribute(2, 6, 0x9002, bytes(14))
    file = rendering + attribute(2, 1, 0x8010, b"a.exe\0") + attribute(2, 6, 0x800F, PROGRAM)
    name = (0x1F, 0x3707, "long name.exe\0".encode("utf-16-le"))
    inner = struct.pack("<IH", 0x223E9F78, 1) + file
    rtf = b"{\\rtf1 hello}"
    body = struct.pack("<IIII", len(rtf) + len(rtf) // 8 + 13, len(rtf), 0x75465A4C, 0)
    body += b"".join(b"\0" + rtf[at : at + 8] for at in range(0, len(rtf), 8))
    page = attribute(1, 6, 0x9007, struct.pack("<II", 1251, 0))
    texts = properties((0x102, 0x1009, body), (0x102, 0x1013, b"<p>x</p>"), (0x1E, 0x1000, b"x"), (0x1E, 0x8002, b"y"))
    return (
        b"\1\0" + page + file + attribute(2, 6, 0x9005, properties(name)),
        b"\1\0" + rendering + attribute(2, 6, 0x9005, properties((0x0D, 0x3701, bytes(16) + inner), name)),
        b"\1\0" + attribute(1, 6, 0x9003, texts) + attribute(1, 2, 0x800C, b"body\0") + bytes(10),
    )

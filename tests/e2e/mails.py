"""Messages for the tests. Each begins with a header of ours that holds its token, so it is found again anywhere."""

from __future__ import annotations

import base64
import io
import itertools
import os
import random
import zipfile

TOKEN = b"X-E2E-Token: "
_count = itertools.count(1)


def token() -> str:
    """A word that no other message of this run has."""
    return f"t{os.getpid()}x{next(_count)}"


def find_token(data: bytes) -> str:
    """The token of a message, `""` if it has none."""
    at = data.find(TOKEN)
    if at < 0:
        return ""
    return data[at + len(TOKEN) : data.find(b"\n", at)].strip().decode("ascii", "replace")


def mail(
    name: str,
    *,
    body: bytes = b"",
    attachment: bytes | None = None,
    filename: str = "notes.bin",
    sender: str = "friend@outside.example",
    recipient: str = "user@corp.example",
) -> bytes:
    """A message with CRLF line ends: text, and an attachment if there is one.

    The text holds the token as well, so that no engine has seen it before.
    """
    body = body or b"A plain text for " + name.encode() + b".\r\n.\r\n..two dots and a lone one above\r\n"
    head = (
        TOKEN + name.encode() + b"\r\n"
        b"From: A Friend <" + sender.encode() + b">\r\n"
        b"To: " + recipient.encode() + b"\r\n"
        b"Subject:   spaced  subject, folded\r\n\tand kept\r\n"
        b"Date: Sun, 22 Nov 2026 05:00:00 +0000\r\n"
        b"Message-ID: <" + name.encode() + b"@outside.example>\r\n"
        b"MIME-Version: 1.0\r\n"
    )  # fmt: skip
    if attachment is None:
        return head + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body
    coded = base64.encodebytes(attachment).replace(b"\n", b"\r\n")
    return (
        head + b'Content-Type: multipart/mixed; boundary="=_edge_="\r\n\r\n'
        b"preamble\r\n--=_edge_=\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body
        + b"\r\n--=_edge_=\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
        b'Content-Disposition: attachment; filename="' + filename.encode() + b'"\r\n\r\n' + coded
        + b"--=_edge_=--\r\nepilogue\r\n"
    )  # fmt: skip


def noise(size: int, seed: int = 7) -> bytes:
    """Bytes that do not compress; the same for the same seed."""
    return random.Random(seed).randbytes(size)


def eicar() -> bytes:
    """The EICAR test file, put together here so that this source is not one."""
    return b"".join((rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$", b"EICAR-STANDARD", b"-ANTIVIRUS-TEST-FILE!", b"$H+H*"))


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def eicar_mail(name: str, **more: str) -> bytes:
    """EICAR in a zip in a mail."""
    return mail(name, attachment=zipped("invoice.com", eicar()), filename="invoice.zip", **more)  # type: ignore[arg-type]


def stuffed(data: bytes) -> bytes:
    """As DATA wants it: dots doubled, the end-of-data line behind (RFC 5321 §4.5.2)."""
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    out = data.replace(b"\r\n.", b"\r\n..")
    return (b"." if out.startswith(b".") else b"") + out + b".\r\n"

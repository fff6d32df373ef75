"""Mails for the demo and the tests, as the octets a client sends after DATA: CRLF, not dot-stuffed."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

from netinspect.samples import archives, office

_DATE = "Mon, 03 Jan 2000 10:00:00 +0000"


def mail(
    *,
    from_: str = "Alice <alice@outside.example>",
    to: str = "Bob <bob@inside.example>",
    subject: str = "Test",
    text: str = "Good morning,\n\nthis is a test.\n",
    attachment: bytes | None = None,
    name: str = "attachment.bin",
    declared: str = "application/octet-stream",
    message_id: str = "<test@outside.example>",
) -> bytes:
    """One mail, with or without an attachment."""
    message = EmailMessage(policy=SMTP)
    message["From"] = from_
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = _DATE
    message["Message-ID"] = message_id
    message.set_content(text)
    if attachment is not None:
        maintype, _, subtype = declared.partition("/")
        message.add_attachment(attachment, maintype=maintype, subtype=subtype, filename=name)
        message.set_boundary("=====netinspect-sample=====")
    return message.as_bytes()


def clean_mail() -> bytes:
    """A text and a document without macros."""
    return mail(
        subject="Minutes of the meeting",
        attachment=office.plain_docx(),
        name="minutes.docx",
        declared="application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    )


def eicar_mail() -> bytes:
    """EICAR in a zip."""
    return mail(subject="Invoice", attachment=archives.eicar_zip(), name="invoice.zip", declared="application/zip")


def macro_mail() -> bytes:
    """The Melissa behaviours, inert, in a Word 97 document."""
    return mail(
        subject="The document you asked for",
        attachment=office.melissa_doc(),
        name="list.doc",
        declared="application/msword",
    )


def internal_sender_mail() -> bytes:
    """A harmless text whose From is one of ours."""
    return mail(from_="Carol <carol@inside.example>", subject="From a colleague", message_id="<test@inside.example>")


def smuggling_mail(line_end: bytes = b"\n.\r\n") -> bytes:
    """A mail that hides the commands of a second one behind a lone dot that is no end-of-data (CVE-2023-51764)."""
    hidden = mail(from_="Boss <boss@inside.example>", subject="Smuggled")
    commands = b"MAIL FROM:<boss@inside.example>\r\nRCPT TO:<bob@inside.example>\r\nDATA\r\n"
    return mail(subject="Harmless").removesuffix(b"\r\n") + line_end + commands + hidden

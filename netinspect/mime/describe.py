"""From header fields to what a part is: type, encoding, name (RFC 2045, RFC 2046, RFC 2183)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netinspect.mime.names import FIELDS, ending, other_names, plain
from netinspect.mime.structured import Structured, file_name, strip_comments
from netinspect.mime.words import to_text, unfold

if TYPE_CHECKING:
    from netinspect.mime.context import Context
    from netinspect.mime.part import Part

MESSAGES: Final = frozenset({"message/rfc822", "message/global", "message/news", "message/external-body"})
IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
DECODED: Final = frozenset({"base64", "quoted-printable", "uuencode", "yenc", "binhex"})
# RFC 2046 §5.2.2, §5.2.3: the content is elsewhere, or comes together from several mails that nobody sees as one.
_ELSEWHERE: Final = {"message/partial": "partial", "message/external-body": "external_body"}
_FAMILIES: Final = ("text/", "multipart/", "application/", "image/", "audio/", "video/", "message/", "font/", "model/")

_ENCODINGS: Final[dict[bytes, str]] = {
    b"7bit": "7bit",
    b"8bit": "8bit",
    b"binary": "binary",
    b"base64": "base64",
    b"quoted-printable": "quoted-printable",
    b"uuencode": "uuencode",
    b"x-uuencode": "uuencode",
    b"x-uue": "uuencode",
    b"uue": "uuencode",
    b"x-uu": "uuencode",
    b"uu": "uuencode",
    b"yenc": "yenc",
    b"x-yenc": "yenc",
    b"x-yencode": "yenc",
    b"yencode": "yenc",
    b"binhex": "binhex",
    b"x-binhex": "binhex",
    b"x-binhex40": "binhex",
    b"binhex40": "binhex",
    b"mac-binhex40": "binhex",
}

# Longer than RFC 2046 §5.1.1 allows by far (70); programs take more than 70, so more is searched for.
BOUNDARY: Final = 1000


def describe(part: Part, context: Context, *, digest: bool) -> bytes:
    """Fill `part` from its headers; return the boundary of a multipart (`b""`: none that can be used).

    `digest` tells that the part stands in a multipart/digest (RFC 2046 §5.1.5).
    """
    headers = part.headers
    doubts: list[str] = []
    boundary = b""
    name = ""
    default = "message/rfc822" if digest else "text/plain"
    types = headers.get_all("content-type")
    if types:
        if len(types) > 1:
            doubts.append("duplicate_header")
            context.anomaly("duplicate_header", part.offset, "Content-Type")
        raw = types[-1] if context.last else types[0]
        field = Structured(raw, media=True, last=context.last)
        multipart = field.value.startswith("multipart/")
        if not field.value:
            # RFC 2045 §5.2: what cannot be read is text/plain. With a boundary somebody will read a multipart.
            context.anomaly("bad_content_type", part.offset)
            if field.boundary:
                doubts.append("bad_content_type")
        part.content_type = field.value or default
        part.params = field.params
        name = field.params.get("name", "")
        elsewhere = _ELSEWHERE.get(field.value)
        if elsewhere is not None:
            doubts.append(elsewhere)
            context.anomaly(elsewhere, part.offset)
        if field.boundary and not multipart:
            # Somebody may take it for a multipart: most of all where nothing but the type is in the way.
            context.doubtful = True
            if field.value and not field.value.startswith(_FAMILIES):
                doubts.append("bad_content_type")
                context.anomaly("bad_content_type", part.offset)
        if field.problems:
            _problems(field, part, context, doubts if multipart else [])
        if multipart:
            boundary = _boundary(field, part, context, doubts)
            if boundary and _odd(raw, field):
                doubts.append("boundary_form")
                context.anomaly("boundary_form", part.offset)
    else:
        part.content_type = default
    dispositions = headers.get_all("content-disposition")
    if dispositions:
        field = Structured(dispositions[-1] if context.last else dispositions[0], media=False, last=context.last)
        part.disposition = field.value
        media = name
        name = field.params.get("filename") or name
        if field.problems:
            _problems(field, part, context, [])
    else:
        media = ""
    if name:
        _name(part, name, context)
    if name or dispositions or (part.params and "charset" not in part.params) or len(part.params) > 1:
        _other_names(part, types, dispositions, media, context)
    encodings = headers.get_all("content-transfer-encoding")
    if encodings:
        if len(encodings) > 1:
            doubts.append("duplicate_header")
            context.anomaly("duplicate_header", part.offset, "Content-Transfer-Encoding")
        _encoding(encodings[-1] if context.last else encodings[0], part, context, doubts)
        if boundary and part.encoding not in IDENTITY:
            # RFC 2045 §6.4 forbids it; the parts are read as they stand, some programs would decode them first.
            doubts.append("encoded_multipart")
            context.anomaly("encoded_multipart", part.offset, part.encoding)
    if len(types) > FIELDS or len(dispositions) > FIELDS:
        doubts.append("limit_names")
        context.anomaly("limit_names", part.offset)
    if doubts:
        part.doubts = tuple(dict.fromkeys((*part.doubts, *doubts)))
    return boundary


def _problems(field: Structured, part: Part, context: Context, doubts: list[str]) -> None:
    for kind in dict.fromkeys(field.problems):
        context.anomaly(kind, part.offset)
    doubts.extend(field.doubts)


def _boundary(field: Structured, part: Part, context: Context, doubts: list[str]) -> bytes:
    # RFC 2046 §5.1.1: a boundary does not end with a blank; relays append them.
    boundary = field.boundary.rstrip(b" \t\r\n")
    if not boundary or len(boundary) > BOUNDARY:
        kind = "boundary_too_long" if boundary else "no_boundary"
        doubts.append(kind)
        context.anomaly(kind, part.offset)
        return b""
    if len(boundary) > 70:
        context.anomaly("long_boundary", part.offset)
    return boundary


def _odd(raw: bytes, field: Structured) -> bool:
    """Comments, sections or a fold in the boundary are allowed, but programs read other boundaries out of them."""
    if b"(" in raw and field.boundary not in raw.partition(b"(")[0]:
        return True
    return field.boundary not in raw or b"boundary*" in raw.lower()


def _name(part: Part, name: str, context: Context) -> None:
    part.filename = file_name(name, context.limits.name_length)
    if part.filename != name.strip():
        long = len(name) > context.limits.name_length
        context.anomaly("name_too_long" if long else "name_control", part.offset)
    if part.filename:
        context.names.append(part.filename)


def _other_names(
    part: Part, types: list[bytes], dispositions: list[bytes], media: str, context: Context
) -> None:
    """Two names with two endings, or a field that programs read in more than one way."""
    if len(types) < 2 and len(dispositions) < 2 and plain(types + dispositions):
        if not media or not part.filename or ending(media) in ("", ending(part.filename)):
            return
        names = [file_name(media, context.limits.name_length)]
    else:
        names = other_names(part.headers, part.filename, context.limits.name_length)
    if names:
        part.other_names = tuple(names)
        context.names += names
        context.anomaly("name_ambiguous", part.offset)


def encodings_named(raw: bytes) -> list[str]:
    """Every transfer encoding whose word stands somewhere in the field, in their order."""
    text = raw[:1000].lower()
    for separator in b" \t\r\n;,\"'()=:\x0b\x0c":
        text = text.replace(bytes((separator,)), b"\n")
    return list(dict.fromkeys([_ENCODINGS[word] for word in text.split(b"\n") if word in _ENCODINGS]))


def _encoding(raw: bytes, part: Part, context: Context, doubts: list[str]) -> None:
    word = raw.strip(b" \t\r\n").lower()
    known = _ENCODINGS.get(word)
    if known is not None:
        part.encoding = known
        return
    # QUIRK: RFC 2045 §6.1 allows comments here, and blanks are everywhere; Python's email then decodes nothing.
    text = strip_comments(to_text(unfold(raw[:1000]))).strip().lower()
    known = _ENCODINGS.get(text.encode())
    if known is None:
        # QUIRK: quotes, a parameter or more words; those who read on take the first word.
        words = text.replace(";", " ").replace(",", " ").split()
        first = words[0].strip("\"'") if words else ""
        known = _ENCODINGS.get(first.encode())
        if not words:
            known = "7bit"
        kind = "unknown_encoding" if known is None else "encoding_form"
        doubts.append(kind)
        context.anomaly(kind, part.offset, file_name(text, 64))
        text = file_name(first, 64)
    part.encoding = known or text

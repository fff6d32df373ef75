"""The header of a mail as a reader would see it (the `email` object of Suricata's EVE)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netinspect.mime.words import field_text, unfold

if TYPE_CHECKING:
    from netinspect.limits import Limits
    from netinspect.mime.headers import Headers

# RFC 5322 §2.1.1: a line has at most 998 characters; a subject is shown on one.
_TEXT: Final = 998
_ADDRESSES: Final = 65_536
_SEPARATOR: Final = re.compile(rb'[,;"()<>\\]')


@dataclass(frozen=True, slots=True)
class MailSummary:
    """Decoded and bounded; a field that is missing is empty. `to` holds one string an address, with its name."""

    from_: str = ""
    to: tuple[str, ...] = ()
    subject: str = ""
    message_id: str = ""
    attachments: tuple[str, ...] = ()


def summarise(headers: Headers, limits: Limits) -> MailSummary:
    """The summary of one header block, without attachments."""
    return MailSummary(
        from_=_first(headers, "from"),
        to=_addresses(headers.get_all("to"), limits.recipients),
        subject=_first(headers, "subject"),
        message_id=_first(headers, "message-id"),
    )


def _first(headers: Headers, name: str) -> str:
    raw = headers.get(name)
    return "" if raw is None else field_text(raw, _TEXT)


def _addresses(fields: list[bytes], limit: int) -> tuple[str, ...]:
    found: list[str] = []
    for raw in fields:
        for item in split_addresses(unfold(raw[:_ADDRESSES])):
            if len(found) >= limit:
                return tuple(found)
            text = field_text(item, _TEXT)
            if text:
                found.append(text)
    return tuple(found)


def split_addresses(raw: bytes) -> list[bytes]:
    """Cut an address list (RFC 5322 §3.4) at its commas, not at those in quotes, comments or angle brackets.

    A group's name goes with its first member. The cut comes before the words are decoded: a comma in an encoded
    name separates nothing.
    """
    if b'"' not in raw and b"(" not in raw and b";" not in raw:
        return raw.split(b",")
    items: list[bytes] = []
    start = 0
    skip = -1
    comments = 0
    quoted = angle = False
    for mark in _SEPARATOR.finditer(raw):
        at = mark.start()
        if at == skip:
            continue
        char = mark[0]
        if char == b"\\":
            skip = at + 1
        elif char == b'"' and not comments:
            quoted = not quoted
        elif quoted:
            continue
        elif char == b"(":
            comments += 1
        elif char == b")":
            comments = max(0, comments - 1)
        elif comments:
            continue
        elif char == b"<":
            angle = True
        elif char == b">":
            angle = False
        elif not angle:
            items.append(raw[start:at])
            start = at + 1
    items.append(raw[start:])
    return items

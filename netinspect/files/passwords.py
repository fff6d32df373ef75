"""Passwords that may open what is encrypted: those that stand in the mail itself, then those that everybody uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from netinspect.mime.words import field_text

MOST: Final = 50
"""Candidates from one mail."""
TEXT: Final = 65_536
"""Octets of each text that are looked at: a mail that gives a password says so early."""

COMMON: Final = (
    "infected", "VelvetSweatshop", "password", "1234", "12345", "123456", "12345678", "123", "1111", "0000", "111111",
    "malware", "virus", "secret", "invoice", "admin", "qwerty", "abc123", "Password1", "passwd", "pass", "test",
    "document", "777", "999", "2024", "2025", "2026",
)  # fmt: skip
"""`infected` is how samples are exchanged, the second is Excel's own default ([MS-OFFCRYPTO] 2.4.2.3)."""

# The word "password" in the languages of the mails that do this, and the PIN and the code.
_WORD: Final = (
    r"pass\s?-?(?:word|wort|code|phrase|wd)|kenn-?wort|passw(?:d|ort)?|contrase[nñ]a|clave|mot\s+de\s+passe|mdp|senha|"
    r"parola(?:\s+d.ordine)?|has[lł]o|wachtwoord|l[öo]senord|adgangskode|passord|salasana|heslo|jelsz[oó]|parol[aă]?|"
    r"[şs]ifre|пароль|код|密码|密碼|口令|パスワード|비밀번호|암호|סיסמה|كلمة\s+(?:السر|المرور)|κωδικ[οό]ς|mật\s+khẩu|"
    r"\bpass\b|\bpin\b|code|pwd|\bpw\b"
)
_QUOTES: Final = "\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_QUOTED = re.compile(rf"[{_QUOTES}]([^\s{_QUOTES}]{{3,40}})[{_QUOTES}]")
_TAG = re.compile(r"<[^<>]{0,400}>")
_ENTITIES = {"&nbsp;": " ", "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'"}
_HINT = re.compile(_WORD, re.IGNORECASE)
_BREAK = re.compile(rf"[\s{_QUOTES}<>]+|[:=\uff1a](?=\S)")
_EDGE = ".,;:!?()[]{}*"
_NEAR: Final = 160
"""Characters behind the word."""
_WORDS: Final = 6
"""Words behind the word."""


_FIELDS: Final = 200
"""Header fields that are looked at."""
# What programs write for programs: no sender tells a password there, and it is most of a header.
_NO_TEXT: Final = (
    "received", "dkim-", "arc-", "authentication-", "content-", "message-id", "references", "in-reply-to", "date",
    "mime-version", "return-path", "list-", "x-spam", "x-ms-exchange", "x-microsoft", "x-google", "delivered-to",
)  # fmt: skip


def header_text(fields: Sequence[tuple[str, bytes]]) -> bytes:
    """The subject and other texts of a header, decoded, where they speak of a password; else `b""`."""
    told = []
    for name, value in fields[:_FIELDS]:
        if name.lower().startswith(_NO_TEXT):
            continue
        text = field_text(value, 998)  # RFC 5322 §2.1.1
        if _HINT.search(text) or _HINT.search(name):
            told.append(f"{name}: {text}")
    return "\n".join(told).encode("utf-8", "replace")


def candidates(texts: Iterable[bytes]) -> list[str]:
    """The words in `texts` that may be a password, likeliest first, `MOST` at most."""
    found: dict[str, None] = {}
    quoted: dict[str, None] = {}
    for octets in texts:
        text = _text(octets)
        if not _HINT.search(text):
            continue
        for match in _HINT.finditer(text):
            words = [word for word in _BREAK.split(text[match.end() : match.end() + _NEAR]) if word]
            for word in words[:_WORDS]:
                for form in (word, word.strip(_EDGE)):
                    if 1 < len(form) <= 64:
                        found.setdefault(form)
            if len(found) >= MOST:
                return list(found)[:MOST]
        for match in _QUOTED.finditer(text):
            quoted.setdefault(match[1])
            if len(quoted) >= MOST:
                break
    for word in quoted:
        found.setdefault(word)
    return list(found)[:MOST]


def _text(octets: bytes) -> str:
    octets = octets[:TEXT]
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        text = octets.decode("cp1252", "replace")
    if "<" in text and ">" in text:
        # Both ways: a password may look like a tag, and a tag may stand in the middle of the sentence.
        text = f"{_TAG.sub(' ', text)}\n{text}" if _HINT.search(text) else text
    if "&" in text:
        for entity, character in _ENTITIES.items():
            text = text.replace(entity, character)
    return text

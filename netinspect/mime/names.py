"""The other file names that a mail program may read out of a part's header.

What the parser takes is the name by RFC 2183 and RFC 2231. Programs differ in what they do with quotes in the middle,
comments, single quotes, sections in the wrong order or in two fields, charsets of two octets, and in which of two
names they prefer. A name matters for what opens the file: only those with another ending are of interest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from netinspect.mime.structured import file_name, strip_comments
from netinspect.mime.words import decode_words, to_text, unfold

if TYPE_CHECKING:
    from netinspect.mime.headers import Headers

_FIELDS: Final = ("content-disposition", "content-type")
_PARAMETER: Final = re.compile(
    r"(?:file)?name[ \\\"']{0,8}(?:\*(\d{1,3}))?(\*)?[ \"']{0,8}=[ \t]*+(\"[^\"]*+\"|[^;]*+)", re.IGNORECASE
)
# What nearly every such field looks like: a value, and one name in quotes or bare.
_USUAL: Final = re.compile(
    rb"""[^"'*\\(=;]*+(?:;[ \t\r\n]*+(?:file)?name=(?:"[^"'*\\(=?]*+"|[\w.+-]++))?[ \t\r\n]*+;?""", re.IGNORECASE
)
_NEXT: Final = re.compile(r";\s*+[\w-]+\**+\d*+\**+\s*+=")
_CHARSET: Final = re.compile(r"[\w-]*'[\w-]*'")
_ENDING: Final = re.compile(r"\.(\w{1,10})$", re.ASCII)
_WORD: Final = re.compile(r"=\?utf-?(?:16|32|7)", re.IGNORECASE)
_SAME: Final = {"jpeg": "jpg", "jpe": "jpg", "html": "htm", "tiff": "tif", "mpeg": "mpg", "text": "txt", "yml": "yaml"}
# More of a field than a name takes; what is longer is a limit elsewhere.
_TEXT: Final = 8192
_MANY: Final = 8
# A part has one of each; of more than this not all are read for names.
FIELDS: Final = 16


def plain(fields: list[bytes]) -> bool:
    """Whether there is but one way to read a name out of these: one field, nothing but a quoted or a bare value."""
    for raw in fields:
        if _USUAL.fullmatch(raw):
            continue
        if b"*" in raw or b"\\" in raw or b"(" in raw or b"'" in raw or raw.count(b'"') % 2:
            return False
        lower = raw.lower()
        if lower.count(b"name") > 1 or (b"=?utf-" in lower and _WORD.search(to_text(raw))):
            return False
        at = lower.find(b"name")
        if at < 0:
            continue
        first = raw.find(b'"', at)
        end = raw.find(b";", at)
        if first >= 0 and (end < 0 or first < end):
            closing = raw.find(b'"', first + 1)
            follows = raw[closing + 1 :].lstrip()
            if follows and not follows.startswith(b";"):
                return False
            if raw[at:first].strip(b" \t\r\n")[-1:] != b"=":
                return False
        elif end >= 0 and b"=" not in raw[end:] and raw[end + 1 :].strip():
            return False
    return True


def ending(name: str) -> str:
    """What stands behind the last dot, lower case, different spellings of one made the same."""
    match = _ENDING.search(name.strip(" ."))
    if match is None:
        return ""
    found = match[1].lower()
    return _SAME.get(found, found)


def other_names(headers: Headers, name: str, limit: int) -> list[str]:
    """Names in other readings of these headers whose endings are not that of `name`, each ending once."""
    fields = [raw[:_TEXT] for field in _FIELDS for raw in headers.get_all(field)[:FIELDS]]
    found: list[str] = []
    seen = {ending(name), ""}
    for candidate in _candidates(fields):
        text = file_name(candidate, limit)
        what = ending(text)
        if what not in seen:
            seen.add(what)
            found.append(text)
            if len(found) >= _MANY:
                break
    return found


def _candidates(fields: list[bytes]) -> list[str]:
    found: list[str] = []
    sections: list[tuple[int, str]] = []
    for raw in fields:
        text = to_text(unfold(raw))
        variants = [text]
        if "(" in text:
            variants += [strip_comments(text), strip_comments(text).replace(" ", ""), text.replace("()", "")]
        for variant in variants:
            for match in _PARAMETER.finditer(variant):
                value = match[3]
                # To the next parameter, whatever stands between: `file;.zip`, `"file".zip`.
                start = match.start(3)
                following = _NEXT.search(variant, start)
                rest = variant[start : following.start() if following else None]
                if match[1] is not None and variant is text:
                    sections.append((int(match[1]), value))
                for one in (value, rest):
                    found += _spellings(one)
    if sections:
        joined = "".join(_section(value) for _, value in sections)
        ordered = "".join(_section(value) for _, value in sorted(sections, key=lambda item: item[0]))
        found += [joined, ordered]
    return found


def _section(value: str) -> str:
    value = value.strip().strip("\"'") if value[:2] != "''" else value
    return _octets(_CHARSET.sub("", value, count=1))


def _octets(value: str) -> str:
    """Percent signs undone; octets of two-octet charsets without their zeros."""
    octets = unquote_to_bytes(value.encode("utf-8", "surrogateescape")) if "%" in value else None
    return value if octets is None else to_text(octets.replace(b"\0", b""))


def _spellings(value: str) -> list[str]:
    bare = value.strip().strip("\"'")
    found = [bare]
    if '"' in bare or "'" in bare or "\\" in bare:
        found.append(bare.replace('"', "").replace("'", "").replace("\\", ""))
    if "%" in bare:
        found.append(_octets(_CHARSET.sub("", bare, count=1)))
    if "=?" in bare:
        # Without a byte order mark the octets of UTF-16 mean what the reader's machine makes of them.
        found.append(decode_words(bare))
        found.append(decode_words(_WORD.sub("=?latin-1", bare)).replace("\0", ""))
    return found

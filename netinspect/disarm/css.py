"""Style sheets and addresses: which may stay in a page."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_COMMENT: Final = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(?:([0-9a-f]{1,6})[ \t\r\n\f]?|([^0-9a-f\r\n\f])|\r\n|[\r\n\f])", re.IGNORECASE)
_BLANK: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]+")
# Code in a style sheet (old Internet Explorer and Gecko, which live on in mail programs), and what fetches a sheet.
_ACTS: Final = re.compile(
    r"expression\(|behaviou?r:|-moz-binding|@import|@charset|(?:java|vb|live)script:|mocha:|data:(?!image/)|data:image/svg"
)
_URL: Final = re.compile(r"""(?:url|src|image-set)\(["']?([^"')]*)""")
_IMPORT: Final = re.compile(r"@(?:import|charset)[^;{}]*;", re.IGNORECASE)
_MARKS: Final = re.compile(r"<!--|-->|<!\[CDATA\[|\]\]>")

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):")
_LINKS: Final = frozenset({"http", "https", "mailto", "tel", "cid", "mid", "ftp", "sms", "news", "webcal", "geo"})
_SOURCES: Final = frozenset({"http", "https", "cid", "mid"})
_TARGETS: Final = frozenset({"http", "https", "mailto"})
_PICTURE: Final = re.compile(r"data:image/(?:png|p?jpe?g|gif|webp|bmp|x-icon|vnd\.microsoft\.icon)[;,]")


def address_may_stay(value: str, use: str = "link") -> bool:
    """Whether an address may stay as a `link`, as the `source` of a picture, or as the `target` of a form.

    Browsers drop tabs and line ends anywhere and blanks around; what is relative stays, unless it is a share of another
    machine (which is logged in to when a page shows a picture from it).
    """
    text = _BLANK.sub("", value).lower()
    if text.startswith(("//", "\\", "/\\")):
        return False
    if ":" not in re.split(r"[/?#\\]", text, maxsplit=1)[0]:
        return True
    match = _SCHEME.match(text)
    if match is None:
        return False
    if use == "source":
        return match[1] in _SOURCES or _PICTURE.match(text) is not None
    return match[1] in (_TARGETS if use == "target" else _LINKS)


def style_may_stay(css: str, octets: bytes = b"") -> bool:
    """Whether nothing acts in a style sheet or a `style` attribute. `octets`: its text in UTF-8 where `css` is not."""
    texts = [css]
    if octets:
        texts.append(unicodedata.normalize("NFKC", octets.decode("utf-8", "replace")))
    for text in list(texts):
        # A comment may split a word, and a string may hold what only looks like a comment: both ways are read.
        texts.append(_COMMENT.sub("", text))
    for text in texts:
        for form in {text, _ESCAPE.sub(_char, text), _COMMENT.sub("", _ESCAPE.sub(_char, text))}:
            plain = _BLANK.sub("", form).lower()
            if _ACTS.search(plain):
                return False
            if any(not address_may_stay(match[1], "source") for match in _URL.finditer(plain)):
                return False
    return True


def sheet(css: str, octets: bytes = b"") -> str:
    """What may stay of the content of a `style` element: all but its imports, or nothing."""
    kept = _IMPORT.sub("", _MARKS.sub("", css))
    # Read as XML, a `<` in it would begin an element; the others begin another charset (UTF-7, HZ) or code in old IE.
    if "<" in kept or "~{" in kept or "&" in kept or not style_may_stay(kept, octets):
        return ""
    return re.sub(r"\+(?=[A-Za-z0-9+/])", "+ ", kept).strip()


def _char(match: re.Match[str]) -> str:
    if match[1]:
        code = int(match[1], 16)
        return chr(code) if 0 < code < 0xD800 or 0xDFFF < code < 0x110000 else "\ufffd"
    return match[2] or ""

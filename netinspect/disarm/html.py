"""HTML: script, frames, objects and whatever else acts taken out, through nh3 (ammonia). Runs in a worker.

The page is parsed as browsers do and written anew from what is on a list; what is not on it does not come out, known
or not. Then it is read once more, and has to come out the same: a page that changes each time it is read is how
cleaners are deceived.

The charset may stand in the mail's header or nowhere, so octets from 0x80 on travel through as characters of a private
plane and come out as they were; everything else that comes out is ASCII, references (`&#8364;`) included. Charsets in
which ASCII octets mean something else are read (ISO-2022) or cannot be written in what comes out (UTF-7, HZ).
"""

from __future__ import annotations

import codecs
import functools
import re
from typing import TYPE_CHECKING, Final

from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.disarm.css import address_may_stay, sheet, style_may_stay

if TYPE_CHECKING:
    from collections.abc import Callable

    import nh3

LONGEST: Final = 8_388_608
"""Octets; a page without pictures in it that is longer is none that anybody wrote."""
_DEEPEST: Final = 3000
"""Elements in elements. The parser's time grows with the square: 10,000 cost a second."""
_READINGS: Final = 4

_PRIVATE: Final = 0x10FE00
_CONTROLS: Final[dict[int, int | None]] = dict.fromkeys((*range(9), 0x0B, *range(0x0E, 0x20), 0x7F))
_FROM_OCTETS: Final = _CONTROLS | {octet: _PRIVATE + octet for octet in range(0x80, 0x100)}
_TO_OCTETS: Final = {_PRIVATE + octet: octet for octet in range(0x80, 0x100)}
_OTHERS: Final = re.compile(f"[\x80-{chr(_PRIVATE - 1)}]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAGS: Final = _words(
    "a abbr acronym address area article aside b bdi bdo big blockquote br button caption center cite code col"
    " colgroup data dd del details dfn dir div dl dt em fieldset figcaption figure font footer form h1 h2 h3 h4 h5"
    " h6 header hr i img input ins kbd label legend li main map mark menu nav nobr ol optgroup option p pre q rp"
    " rt ruby s samp section select small span strike strong sub summary sup table tbody td textarea tfoot th"
    " thead time tr tt u ul var wbr"
)
_WITH_CONTENT: Final = _words(
    "script style title iframe frameset noframes noembed noscript template svg math xmp xml applet plaintext"
)
_EVERYWHERE: Final = _words(
    "align background bgcolor border class color dir height id lang name style title valign width"
)
_ATTRIBUTES: Final = {
    "a": {"href", "target", "rel"},
    "area": {"href", "alt", "shape", "coords", "target"},
    "img": {"src", "alt", "usemap", "hspace", "vspace"},
    "table": {"cellpadding", "cellspacing", "summary", "rules", "frame"},
    "td": {"colspan", "rowspan", "nowrap", "headers", "scope"},
    "th": {"colspan", "rowspan", "nowrap", "headers", "scope"},
    "col": {"span"},
    "colgroup": {"span"},
    "font": {"face", "size"},
    "hr": {"size", "noshade"},
    "br": {"clear"},
    "ol": {"start", "type"},
    "ul": {"type"},
    "li": {"value", "type"},
    "blockquote": {"cite", "type"},
    "q": {"cite"},
    "del": {"cite", "datetime"},
    "ins": {"cite", "datetime"},
    "time": {"datetime"},
    "details": {"open"},
    "form": {"action", "method"},
    "input": {"type", "value", "checked", "disabled", "readonly", "maxlength", "size", "placeholder", "src", "alt"},
    "button": {"type", "value", "disabled"},
    "select": {"multiple", "size", "disabled"},
    "option": {"value", "selected"},
    "optgroup": {"label"},
    "textarea": {"rows", "cols", "placeholder", "readonly"},
    "label": {"for"},
}
_ADDRESSES: Final = {"href": "link", "cite": "link", "src": "source", "background": "source", "action": "target"}

_BEFORE: Final = re.compile(r"<[a-z!/?]", re.IGNORECASE)
_TAG: Final = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
# Elements without an end tag, or that often have none: they are not what nests.
_FLAT: Final = _words(
    "area base br col embed hr img input link meta param source track wbr p li dd dt option td th tr tbody thead"
)
_MEDIA: Final = re.compile(r"[A-Za-z0-9 ,:().-]{1,200}")
_STYLE: Final = re.compile(r'<style(?: media="([^"<>]*)")?>(.*?)</style>', re.DOTALL)
_BODY: Final = re.compile(r"<body\s(?=\s{0,9}[a-z])", re.IGNORECASE)
_META: Final = re.compile(r"""<meta\b[^>]{0,400}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{1,40})""", re.IGNORECASE)
_CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?\d|windows-?12\d\d|cp125\d|koi8-?[ru]|gb2312|gbk|gb18030|big5"
    r"|big5-hkscs|euc-?(?:jp|kr|cn|tw)|shift[_-]?jis|sjis|x-sjis|ks_c_5601-1987|tis-620|macintosh|windows-874",
    re.IGNORECASE,
)

# What is told of it; what is taken out does not depend on these.
_SIGNS: Final = tuple(
    (word, re.compile(pattern, re.IGNORECASE))
    for word, pattern in (
        ("script", r"<script"),
        ("event-handler", r"[\s\"'/]on[a-z]{3,24}\s{0,9}="),
        ("script-address", r"(?:java|vb)\s{0,9}script\s{0,9}(?::|&)"),
        ("data-address", r"=\s{0,9}[\"']?\s{0,9}data:(?!image/(?:png|jpe?g|gif|webp|bmp))"),
        ("frame", r"<i?frame"),
        ("object", r"<(?:object|embed|applet)"),
        ("base", r"<base\b"),
        ("redirect", r"<meta[^>]{0,200}http-equiv\s{0,9}=\s{0,9}[\"']?\s{0,9}refresh"),
        ("import", r"<link\b|@import"),
        ("style-code", r"expression\s{0,9}\(|behaviou?r\s{0,9}:|-moz-binding"),
        ("drawing", r"<(?:svg|math)"),
        ("conditional-comment", r"<!(?:--)?\[if"),
    )
)  # fmt: skip


def clean(data: bytes) -> Cleaned:
    """`data` without what acts; a page that is clean already comes back as it was. Deterministic.

    Raises:
        CannotClean: its charset cannot be told, it is too long or too deep, or it never comes out the same.
    """
    if len(data) > LONGEST:
        raise CannotClean("document too long")
    text, write = _read(data)
    page = _written(text)
    for _ in range(_READINGS):
        again = _written(page)
        if again == page:
            break
        page = again
    else:
        raise CannotClean("unstable markup")
    # The parser makes one line end of all.
    cleaned = write(page.replace("\n", "\r\n") if "\r\n" in text else page)
    if cleaned == data:
        return Cleaned(data)
    removed = tuple(Removal(word) for word, pattern in _SIGNS if pattern.search(text))
    return Cleaned(cleaned, removed or (Removal("markup"),))


def _read(data: bytes) -> tuple[str, Callable[[str], bytes]]:
    """The text, and what makes octets of one."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise CannotClean("charset")
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            try:
                return data[2:].decode(codec).translate(_CONTROLS), functools.partial(_with_mark, mark, codec)
            except UnicodeDecodeError as error:
                raise CannotClean("charset") from error
    if b"\x1b" in data:
        # Whatever the header says of the charset: what is written is ASCII.
        if not data.isascii():
            raise CannotClean("charset")
        try:
            text = data.decode("iso2022_jp_2") if b"\x1b$)C" not in data else data.decode("iso2022_kr")
        except UnicodeDecodeError as error:
            raise CannotClean("charset") from error
        return text.translate(_CONTROLS), _references
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    text = data[len(mark) :].decode("latin-1").translate(_FROM_OCTETS)
    return text, functools.partial(_octets, mark)


def _references(page: str) -> bytes:
    return page.encode("ascii", "xmlcharrefreplace")


def _with_mark(mark: bytes, codec: str, page: str) -> bytes:
    return mark + page.encode(codec)


def _octets(mark: bytes, page: str) -> bytes:
    """What was an octet becomes one again; other characters become references."""
    page = _OTHERS.sub(lambda match: f"&#{ord(match[0])};", page)
    return mark + page.translate(_TO_OCTETS).encode("latin-1", "xmlcharrefreplace")


def _in_utf8(text: str) -> bytes:
    """`text` where its octets were UTF-8, `b""` where it is plain."""
    return b"" if text.isascii() else text.translate(_TO_OCTETS).encode("latin-1", "replace")


def _written(text: str) -> str:
    """`text` parsed, and written from what is on the lists."""
    # The parser of fragments drops this element; its style is often that of the whole mail.
    text = _BODY.sub("<div ", text)
    _check_depth(text)
    head = ""
    charset = _META.search(text[:4096])
    if charset and _CHARSETS.fullmatch(charset[1]):
        head = f'<meta charset="{charset[1].lower()}">'
    if "<style" in text.lower():
        # All other text comes out escaped, so these elements can be told with certainty.
        for media, css in _STYLE.findall(_style_finder().clean(text)):
            kept = sheet(css, _in_utf8(css))
            if kept:
                head += f'<style media="{media}">' if media else "<style>"
                head += f"\n{kept}\n</style>"
    # RFC 2152 and RFC 1843: a program that reads UTF-7 or HZ finds no markup in these either.
    body = _cleaner().clean(text).strip().replace("+", "&#43;").replace("~{", "&#126;{")
    start = text[:256].lstrip("\ufeff \t\r\n\f").lower()
    kind = "<!DOCTYPE html>\n" if start.startswith("<!doctype html") else ""
    return f"{kind}<html><head>{head}</head><body>\n{body}\n</body></html>\n"


def _check_depth(text: str) -> None:
    depth = 0
    for slash, tag in _TAG.findall(text):
        if tag.lower() in _FLAT:
            continue
        depth = max(0, depth - 1) if slash else depth + 1
        if depth > _DEEPEST:
            raise CannotClean("nested too deep")


def _attribute(tag: str, name: str, value: str) -> str | None:
    """The value as it may stay, None when it may not."""
    if name == "style":
        return value if style_may_stay(value, _in_utf8(value)) else None
    use = _ADDRESSES.get(name)
    if use and not address_may_stay(value, use):
        return None
    return value


@functools.cache
def _cleaner() -> nh3.Cleaner:
    import nh3

    return nh3.Cleaner(
        tags=set(_TAGS),
        clean_content_tags=set(_WITH_CONTENT),
        attributes={"*": set(_EVERYWHERE), **_ATTRIBUTES},
        attribute_filter=_attribute,
        # Schemes are judged by `_attribute`; the library's own list would not know `cid:`.
        url_schemes={"http", "https", "mailto", "tel", "cid", "mid", "ftp", "sms", "news", "webcal", "geo", "data"},
        link_rel=None,
    )


@functools.cache
def _style_finder() -> nh3.Cleaner:
    import nh3

    return nh3.Cleaner(
        tags={"style"},
        clean_content_tags=set(_WITH_CONTENT - {"style"}),
        attributes={"style": {"media"}},
        attribute_filter=lambda tag, name, value: value if _MEDIA.fullmatch(value) else None,
        link_rel=None,
    )


def load() -> None:
    """Make what costs something to make."""
    _cleaner()
    _style_finder()

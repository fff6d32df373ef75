"""Pages without what acts: read by another parser, by our own scan and once more by the cleaner, nothing is left."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm import html, svg
from netinspect.disarm.contract import CannotClean
from netinspect.disarm.css import address_may_stay, sheet, style_may_stay
from netinspect.limits import Limits
from tests.disarm.looks import examine

LIMITS = Limits()


class Reader(HTMLParser):
    """Another view of the page: tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.other: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


_GONE = {
    "script", "iframe", "frame", "frameset", "object", "embed", "applet", "base", "link", "svg", "math", "template",
    "xml", "noscript", "xmp", "plaintext", "noembed", "noframes", "audio", "video", "source", "portal", "marquee",
    "title", "set",
}  # fmt: skip


def harmless(data: bytes) -> Reader:
    """Check what came out of the cleaner."""
    codec = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1"
    page = Reader(data.decode(codec))
    assert not _GONE & set(page.tags)
    assert not {part for tag in page.tags for part in tag.split(":")[:-1]}
    assert page.other in ([], ["DOCTYPE html"])
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("srcdoc", "formaction", "xlink:href", "ping", "http-equiv", "data", "srcset", "dynsrc")
        if name in ("href", "src", "action", "background", "cite"):
            text = "".join(char for char in value if char > " ").lower()
            assert not text.startswith(
                ("javascript:", "vbscript:", "data:text", "data:application", "file:", "//", "\\")
            )
        if tag == "meta":
            assert name == "charset"
    again = html.clean(data)
    assert (again.data, again.removed) == (data, ())
    assert examine(data).findings == ()
    return page


MAIL = b"""<!DOCTYPE html>
<html xmlns:o="urn:schemas-microsoft-com:office:office"><head>
<meta http-equiv="Content-Type" content="text/html; charset=utf-8"><title>News</title>
<style type="text/css"><!-- p.x > a { color: #ff0000; margin: 0 } @media print { p { display: none } } --></style>
</head><body bgcolor="#ffffff" style="margin:0">
<table width="600" cellpadding="0" cellspacing="0" border="0" style="border-collapse:collapse"><tr>
<td align="center" style="font-family:'Open Sans',Arial;color:#333;background:url(cid:bg@x)"><p class="x">
Gr\xc3\xbc\xc3\x9fe &euro;&nbsp;5 <a href="https://a.example/?a=1&amp;b=2#x" target="_blank">link</a>
<a href="mailto:a@example.org">mail</a></p>
<img src="cid:logo@example" alt="Logo" width="100"><img src="data:image/png;base64,iVBOR+w0K/Gg=">
<img src="https://a.example/x.png"><font face="Arial" size="2">f</font><o:p>&nbsp;</o:p></td></tr></table>
</body></html>
"""


def test_what_mails_need_stays() -> None:
    cleaned = html.clean(MAIL)
    page = harmless(cleaned.data)
    text = cleaned.data.decode()
    for kept in (
        '<meta charset="utf-8">', "p.x > a { color: #ff0000; margin: 0 } @media print { p { display: none } }",
        '<table width="600" cellpadding="0" cellspacing="0" border="0" style="border-collapse:collapse">',
        'align="center"',
        '<div bgcolor="#ffffff" style="margin:0">',
        "style=\"font-family:'Open Sans',Arial;color:#333;background:url(cid:bg@x)\"", "Grüße", "&#8364;&nbsp;5",
        'href="https://a.example/?a=1&amp;b=2#x" target="_blank"', 'href="mailto:a@example.org"',
        'src="cid:logo@example"',
        'src="https://a.example/x.png"', '<font face="Arial" size="2">', "<!DOCTYPE html>",
    ):  # fmt: skip
        assert kept in text
    assert ("img", "src", "data:image/png;base64,iVBOR+w0K/Gg=") in page.attributes


CLASSICS = [
    "<script>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<SCRIPT/SRC=//a.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<img/src='x'/onerror=alert(1)>",
    "<img src=`x` onerror=alert(1)>",
    "<body onload=alert(1)><p>x",
    "<iframe src=javascript:alert(1)></iframe><frame src=x>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<object data='data:text/html;base64,PHNjcmlwdD4='>fallback</object><embed src=x.swf><applet code=x></applet>",
    "<base href='http://evil.example/'><a href=x>",
    "<meta http-equiv=refresh content='0;url=data:text/html,<script>alert(1)</script>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' \tjAvA\nscript&colon;alert(1)'>x</a>",
    "<a href='&#x6A;avascript:alert(1)'>x</a><a href='vbscript:x'>x</a><a href='data:text/html,x'>x</a>",
    "<a href='file://host/share/x.exe'>x</a><img src='\\\\host\\share\\x.png'><img src='//host/x.png'>",
    "<form action=javascript:alert(1)><input type=image src=x formaction=javascript:1><button formaction=javascript:1>",
    "<svg><script>alert(1)</script></svg><svg onload=alert(1)>",
    "<svg><a xlink:href=javascript:alert(1)><text>x</text></a><animate attributeName=href values=javascript:1 /></svg>",
    "<svg><foreignObject><iframe src=javascript:1></iframe></foreignObject></svg>",
    "<!--[if gte mso 9]><script>alert(1)</script><![endif]--><![if !mso]><p>x</p><![endif]>",
    "<link rel=import href=x.html><link rel=stylesheet href=x.css>",
    "<style>@import 'http://a.example/x.css'; p{behavior:url(x.htc)}</style>",
    "<p style='width:expression(alert(1))'>x</p><p style='width:exp/**/ression(alert(1))'>x</p>",
    "<p style='width:\\65 xpression(alert(1))'>x</p><p style='-moz-binding:url(x)'>x</p>",
    '<p style=\'content:"/*";width:expression(alert(1));x:"*/"\'>x</p>',
    "<p style='background:url(javascript:alert(1))'>x</p><p style='background:url(\"\\6a avascript:1\")'>x</p>",
    "<div style='width:\uff45\uff58pression(1)'>x</div>",
    # What changes when it is parsed a second time.
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<svg></p><style><a id='</style><img src=1 onerror=alert(1)>'>",
    "<math><annotation-xml encoding='text/html'><style><img src=x onerror=alert(1)></style></annotation-xml></math>",
    "<svg><desc><table><style><a title='</style><img src=x onerror=alert(1)>'></table></desc></svg>",
    "<xmp><p title='</xmp><img src=x onerror=alert(1)>'></xmp>",
    "<title><a title='</title><img src=x onerror=alert(1)>'></title>",
    "<textarea><a title='</textarea><img src=x onerror=alert(1)>'></textarea>",
    "<template><script>alert(1)</script></template><plaintext><script>alert(1)</script>",
    "<select><template><style><!--</style><a rel='--></style></template></select><img src=x onerror=alert(1)>'>",
    "<style><style/><img src=x onerror=alert(1)></style>",
    "<style>a{content:'</style><img src=x onerror=alert(1)>'}</style>",
    "<style>&lt;script&gt;alert(1)</style><style>x<![CDATA[<script xmlns='http://www.w3.org/1999/xhtml'>]]></style>",
    "<table><td><script>alert(1)</script><caption><svg><style><img src onerror=1>",
    "<a title='<style>x</style><script>alert(1)</script>'>x</a>",
    "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
    "<input onfocus=alert(1) autofocus><details open ontoggle=alert(1)><video><source onerror=alert(1)></video>",
    "<xml id=x><x><![CDATA[<script>alert(1)</script>]]></x></xml><span datasrc=#x dataformatas=html></span>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-<p>x",
    "<p>~{<script>alert(1)</script>~}",
    "<a href='http://a\x00.example' on\x00click=alert(1)>x</a><scr\x00ipt>alert(1)</script>",
    "<p \xa0onclick=alert(1)>x</p><p/onclick=alert(1)/>",
    "<?xml version='1.0'?><?php system('x') ?><% eval %><p>x",
    "<img src='x' style='x:expression(1)' class='a\"onerror=alert(1) b'>",
]


@pytest.mark.parametrize("text", CLASSICS)
def test_what_a_browser_would_run_does_not_survive(text: str) -> None:
    for page in (text, f"<html><head>{text}</head><body>{text}</body></html>"):
        for data in (page.encode(), b"\xef\xbb\xbf" + page.encode(), page.encode("utf-16")):
            cleaned = html.clean(data)
            assert cleaned.removed
            found = harmless(cleaned.data)
            assert not any(
                "alert" in value for _, name, value in found.attributes if name not in ("title", "class", "rel")
            )
            assert b"+AD" not in cleaned.data
            assert b"~{" not in cleaned.data


_WORDS = st.lists(
    st.sampled_from([
        *CLASSICS, "<", ">", "</", "<!--", "-->", "<![CDATA[", "]]>", "'", '"', "`", "=", " ", "/", "&lt;", "&#", "\0",
        "<svg>", "</svg>", "<math>", "<mtext>", "<style>", "</style>", "<p>", "</p>", "<table>", "<form>", "</form>",
        "<td>",
        "<select>", "<option>", "<a href=", "<img src=", " onerror=alert(1)", " style=", "javascript:alert(1)",
        "expression(", "<textarea>", "</textarea>", "<title>", "<noscript>", "</noscript>", "\r\n", "\x1b", "\u00e4",
        "<b>", "<i>", "</b>", "<nobr>", "<button>", "</button>", "<h1>", "<ruby><rt>",
    ]),
    max_size=14,
).map("".join)  # fmt: skip


@given(_WORDS)
def test_nothing_that_is_made_of_these_survives(text: str) -> None:
    try:
        cleaned = html.clean(text.encode())
    except CannotClean as reason:
        told = str(reason)
        assert told in ("charset", "unstable markup")
        return
    harmless(cleaned.data)


@given(st.binary(max_size=60))
def test_any_octets_become_a_harmless_page(data: bytes) -> None:
    try:
        cleaned = html.clean(data)
    except CannotClean:
        return
    harmless(cleaned.data)
    assert b"\0" not in cleaned.data or data.startswith((b"\xff\xfe", b"\xfe\xff"))


@given(
    st.binary(max_size=40).filter(
        lambda data: not set(data) & set(b"\x1b<>&+~\r") and data[:2] not in (b"\xff\xfe", b"\xfe\xff")
    )
)
def test_octets_of_any_charset_come_out_as_they_were(data: bytes) -> None:
    text = bytes(octet for octet in data if octet >= 0x20 and octet != 0x7F).strip()
    if text.startswith(b"\xef\xbb\xbf"):
        return
    assert b"<p>" + text + b"</p>" in html.clean(b"<p>" + text + b"</p>").data


def test_japanese_in_seven_bits_becomes_references() -> None:
    text = "<p>日本<script>x</script></p><style>p { color: red }</style>".encode("iso2022_jp")
    cleaned = html.clean(text)
    assert b"&#26085;&#26412;" in cleaned.data
    assert b"\x1b" not in cleaned.data
    # What an escape sequence hides from one reader is no markup to any other.
    harmless(html.clean(b"<p>\x1b$B<p<b<i\x1b(B</p>").data)


@pytest.mark.parametrize("data", [b"\x1b$B<script>", b"\x1b\xff", b"\xff\xfe\x00\xd8", b"\xff\xfe\0\0<\0\0\0"])
def test_a_charset_that_cannot_be_told_cannot_be_cleaned(data: bytes) -> None:
    with pytest.raises(CannotClean, match="charset"):
        html.clean(data)


def test_too_deep_and_too_long_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotClean, match="nested too deep"):
        html.clean(b"<div>" * 3001)
    harmless(html.clean(b"<div>" * 2000 + b"x").data)
    monkeypatch.setattr(html, "LONGEST", 10)
    with pytest.raises(CannotClean, match="too long"):
        html.clean(b"<p>12345678")


# --- styles and addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "use", "stays"),
    [
        ("https://a.example/x:y", "link", True), ("x/y:z", "link", True), ("#a", "link", True), ("?a:b", "link", True),
        ("tel:1", "link", True), ("tel:1", "source", False), ("cid:a", "source", True), ("x.png", "source", True),
        ("data:image/png;base64,AA", "source", True), ("data:image/svg+xml,x", "source", False),
        ("data:image/png;base64,AA", "link", False), ("ms-msdt:/x", "link", False), ("c:\\x", "link", False),
        ("\\\\host\\x", "source", False), ("/\\host", "link", False), (" //host", "link", False),
        ("java\tscript:x", "link", False), ("\x01javascript:x", "link", False), ("mailto:a", "target", True),
        (":x", "link", False), ("%6aavascript:x", "link", False), ("ftp://x", "target", False),
    ],
)  # fmt: skip
def test_addresses(address: str, use: str, stays: bool) -> None:
    assert address_may_stay(address, use) is stays


def test_styles() -> None:
    assert style_may_stay("color:red;background:url('https://a.example/x.png');filter:alpha(opacity=5)")
    for css in (
        "a:url(\\\\host\\x)",
        "x:\\65xpression(1)",
        "@\\69mport x",
        "a:ur/**/l(javascript:1)",
        "behaviour:url(x)",
    ):
        assert not style_may_stay(css)
    assert sheet("@import url(x.css); p { a: b }") == "p { a: b }"
    assert sheet("<!-- p { a: b } -->") == "p { a: b }"
    assert sheet("p { a: '<' }") == sheet("p { a: '&' }") == sheet("@import url(x") == ""


# --- SVG ----------------------------------------------------------------------------------------------------------

DRAWING = b"""<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">
<style>rect { fill: red }</style>
<defs><linearGradient id="g"><stop offset="0" style="stop-color:red"/></linearGradient></defs>
<rect width="9" height="9" fill="url(#g)"/><use xlink:href="#g"/><text x="1">words &amp; \xc3\xa4</text>
<a xlink:href="https://a.example/"><circle r="1"/></a><image href="data:image/png;base64,AA=="/>%s</svg>"""


def test_a_harmless_drawing_stays_as_it_is() -> None:
    data = DRAWING.replace(b"%s", b"")
    assert svg.clean(data, LIMITS).data == data


@pytest.mark.parametrize(
    ("part", "word"),
    [
        (b"<script>alert(1)</script>", "script"),
        (b"<g onload='alert(1)'/>", "event-handler"),
        (b"<x:script xmlns:x='http://www.w3.org/2000/svg'>alert(1)</x:script>", "script"),
        (b"<script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>", "script"),
        (
            b"<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'><iframe/></body></foreignObject>",
            "foreign-object",
        ),
        (b"<a href='javascript:alert(1)'><text>x</text></a>", "address"),
        (b"<a><set attributeName='href' to='javascript:alert(1)'/></a>", "animation"),
        (b"<use href='data:image/svg+xml,x#y'/>", "address"),
        (b"<image href='file://host/alert'/>", "address"),
        (b"<style>@import 'alert.css';</style>", "style-code"),
        (b"<rect fill='url(javascript:alert)'/>", "address"),
        (b"<?xml-stylesheet href='alert.xsl'?>", "instruction"),
        (b"<title><![CDATA[<script>alert(1)</script>]]></title><script/>", "script"),
    ],
)
def test_a_drawing_loses_what_acts(part: bytes, word: str) -> None:
    cleaned = svg.clean(DRAWING.replace(b"%s", part), LIMITS)
    assert word in {removal.what for removal in cleaned.removed}
    assert svg.clean(cleaned.data, LIMITS) == type(cleaned)(cleaned.data)
    root = ElementTree.fromstring(cleaned.data)  # noqa: S314
    assert {element.tag.rpartition("}")[2] for element in root.iter()} >= {"rect", "stop", "text", "circle", "image"}
    assert "words & ä" in "".join(root.itertext())
    assert b"<script" not in cleaned.data
    assert b"javascript" not in cleaned.data
    assert examine(cleaned.data).findings == ()


@pytest.mark.parametrize(
    "data",
    [
        b"<svg>", b"", b"<svg xmlns='http://www.w3.org/2000/svg'><g></svg>",
        b"<!DOCTYPE svg [<!ENTITY a 'x'>]><svg xmlns='http://www.w3.org/2000/svg'>&a;</svg>",
        b"<!DOCTYPE svg [<!ATTLIST g onload CDATA 'x'>]><svg xmlns='http://www.w3.org/2000/svg'><g/></svg>",
        b"<svg xmlns='http://www.w3.org/2000/svg'>" + b"<g>" * 600 + b"</g>" * 600 + b"</svg>",
    ],
)  # fmt: skip
def test_a_drawing_that_is_not_plain_xml_cannot_be_cleaned(data: bytes) -> None:
    with pytest.raises(CannotClean):
        svg.clean(data, LIMITS)

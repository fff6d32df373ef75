"""RTF without objects and active fields: the rest stays octet for octet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm import rtf
from netinspect.disarm.contract import CannotClean
from netinspect.limits import Limits
from tests.disarm.looks import signatures

LIMITS = Limits()
PICTURE = rb"{\pict\pngblip 89504e47}"
OBJECT = (
    rb"{\object\objemb\objupdate{\*\objclass Package}{\*\objdata 0105000002000000}{\result{\rtlch shown}"
    + PICTURE
    + b"}}"
)


def document(body: bytes) -> bytes:
    return rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}before " + body + rb" after\par}" + b"\r\n\0"


def cleaned(body: bytes) -> tuple[bytes, list[str]]:
    result = rtf.clean(document(body), LIMITS)
    again = rtf.clean(result.data, LIMITS)
    assert (again.data, again.removed) == (result.data, ())
    start, end = document(b"|").split(b"|")
    assert result.data.startswith(start)
    assert result.data.endswith(end)
    return result.data[len(start) : -len(end)], [removal.what for removal in result.removed]


@pytest.mark.parametrize(
    ("body", "left", "removed"),
    [
        (OBJECT, b"{{\\rtlch shown}" + PICTURE + b"}", ["object"]),
        (OBJECT.replace(b"objdata", b"ObjData"), b"{{\\rtlch shown}" + PICTURE + b"}", ["object"]),
        (rb"{\object\objocx{\*\objdata 01}}", b"", ["object"]),
        (rb"a{\*\objdata 0105}b", b"ab", ["object"]),
        (rb"{\b{\object{\objdata{\*\x} 01}}}", rb"{\b}", ["object"]),
        (rb"{\*\template http://a.example/t.dotm}", b"", ["template"]),
        (rb"{\*\datastore 0105d0cf11e0}", b"", ["custom-data"]),
        (
            rb"{\field{\*\fldinst DDEAUTO c:\\\\cmd.exe " rb'"/c calc"' rb"}{\fldrslt{\i !Err}}}",
            rb"{{\i !Err}}",
            ["dde"],
        ),
        (rb"{\field{\*\fldinst {\b D}{D\'45 }{x}}}", b"", ["dde"]),
        (rb"{\*\fldinst \u68 \u68 \u69  x}", b"", ["dde"]),
        (rb'{\field{\*\fldinst INCLUDEPICTURE "http://a.example/x.png"}{\fldrslt x}}', b"{x}", ["link"]),
        (rb'{\field{\*\fldinst HYPERLINK "file:///c:/a.exe"}{\fldrslt x}}', b"{x}", ["hyperlink"]),
        (rb"{\field{\*\fldinst {\field{\*\fldinst QUOTE 68 68 69}{\fldrslt DDE}} x}{\fldrslt y}}", b"{y}", ["dynamic"]),
        (rb"{\object{\result\objdata 01}}", b"", ["object", "object"]),
        (rb"{\field{\fldrslt\fldinst DDE x}}", b"{\\field}", ["dde"]),
        (rb"{\sp{\sn pFragments}{\sv 1;5;1111}}", b"", ["shape-property"]),
        (rb"{\field{\*\fldinst PAGE}{\fldrslt " + OBJECT + b"}}", None, ["object"]),
    ],
)
def test_whole_groups_are_cut_out_and_results_stay(body: bytes, left: bytes | None, removed: list[str]) -> None:
    found, words = cleaned(body)
    assert words == removed
    assert left is None or found == left
    assert signatures(document(found)) == set()


@pytest.mark.parametrize(
    "body",
    [
        rb'{\field{\*\fldinst HYPERLINK "https://a.example/"}{\fldrslt x}}',
        rb"{\field{\*\fldinst PAGE}{\fldrslt 1}}",
        PICTURE,
        rb"about \\objdata and \{\\object\}, \'e4 \u228 ?",
        rb"{\sp{\sn fLine}{\sv 0}}",
    ],
)
def test_a_harmless_document_stays_as_it_is(body: bytes) -> None:
    assert cleaned(body) == (body, [])


def test_what_stands_behind_the_document_goes() -> None:
    data = document(b"x") + rb"{\object{\objdata 01}}"
    result = rtf.clean(data, LIMITS)
    assert result.data == document(b"x").rstrip(b"\r\n\0")
    assert [removal.what for removal in result.removed] == ["hidden-data"]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{\\rt1 }", rb"{\rtf1 {", rb"{\rtf1 \'4}", b"{\\rtf1 \\", rb"{\rtf1 \bin5 abcde}", rb"{\rtf1\objdata 01}",
        rb"{\rtf1 \aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa x}", rb"{\rtf1\objupdate12345678901234 }", b"{\\rtf1 a\0b}",
        rb"{\rtf1{\*\listoverride\listoverridecount25 }}", rb"{\rtf1" + b"{" * 2000 + b"}" * 2000 + b"}",
        rb"{\rtf1{\fonttbl" + rb"{\f1 x;}" * 9000 + b"}}",
    ],
)  # fmt: skip
def test_what_is_not_written_as_it_should_be_cannot_be_cleaned(data: bytes) -> None:
    with pytest.raises(CannotClean):
        rtf.clean(data, LIMITS)


_PIECES = st.lists(
    st.sampled_from([
        b"{", b"}", rb"\object", rb"\*", rb"\objdata", rb"\result", rb"\field", rb"\fldinst", rb"\fldrslt", b"DDEAUTO ",
        b" ", b"01", rb"\'44", rb"\sn", b"pFragments", rb"\template", rb"\\", OBJECT, rb"\u68 ", rb"\b", b"\n",
    ]),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(_PIECES)
def test_whatever_is_cut_the_rest_is_clean_and_stays_so(body: bytes) -> None:
    try:
        result = rtf.clean(rb"{\rtf1 " + body + b"}", LIMITS)
    except CannotClean:
        return
    again = rtf.clean(result.data, LIMITS)
    assert (again.data, again.removed) == (result.data, ())
    if result.removed:
        assert not {name for name in signatures(result.data) if name.startswith(("Rtf", "OLE"))}

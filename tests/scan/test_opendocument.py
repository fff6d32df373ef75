"""OpenDocument: macros, what starts them, what is fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify
from netinspect.scan import office as engine
from netinspect.scan.contract import Finding

SHA = "a" * 64


def part(name: str, data: bytes) -> list[tuple[str, str]]:
    return [(one.category, one.signature) for one in engine.part(name, data, SHA, "odf")]


def test_a_macro_is_information() -> None:
    module = b"<script:module>Sub A\nEnd Sub</script:module>"
    assert part("Basic/Standard/Module1.xml", module) == [("macro", "Odf.Macro")]
    assert part("Scripts/python/a.py", b"x = 1") == [("macro", "Odf.Macro")]
    assert part("Basic/Standard/script-lb.xml", b"<library:library/>") == []


@pytest.mark.parametrize("source", [b'Shell("calc")', b"Shell(&quot;calc&quot;)", b"import os", b"SystemShellExecute"])
def test_a_macro_that_starts_programs_is_suspicious(source: bytes) -> None:
    assert ("macro-suspicious", "Odf.MacroStarts") in part("Basic/Standard/Module1.xml", b"<m>Sub A\n" + source)


EVENT = '<script:event-listener script:event-name="%s" xlink:href="vnd.sun.star.script:A.B.C?language=Basic"/>'
CONTENT = [
    ("macro-autoexec", "Odf.Event", EVENT % "dom:load"),
    ("macro-autoexec", "Odf.Event", EVENT % "office:view-created"),
    ("dde", "Odf.DDE", '<text:dde-connection-decl office:dde-application="cmd" office:dde-topic="/c x"/>'),
    ("dde", "Odf.DDE", '<table:table-cell table:formula="of:=DDE(&quot;cmd&quot;;&quot;/c x&quot;;1)"/>'),
    ("external-template", "Odf.Link", '<text:section-source xlink:href="http://a.invalid/a.odt"/>'),
    ("external-template", "Odf.Link", '<draw:object-ole xlink:type="simple" xlink:href="file://server.invalid/a"/>'),
    ("external-template", "Odf.Link", '<draw:floating-frame xlink:href="//server.invalid/a"/>'),
]


@pytest.mark.parametrize(("category", "signature", "xml"), CONTENT)
def test_what_acts_in_a_document_is_found(category: str, signature: str, xml: str) -> None:
    assert part("content.xml", xml.encode()) == [(category, signature)]
    flat = f'<?xml version="1.0"?><d xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0">{xml}</d>'.encode()
    answers = engine.scan(flat, identify(flat), SHA)
    assert [(one.category, one.signature) for one in answers if isinstance(one, Finding)] == [(category, signature)]


HARMLESS = [
    EVENT % "dom:click", '<text:a xlink:href="http://www.example.org/"/>', '<draw:image xlink:href="http://a.invalid/a.png"/>',
    '<draw:object xlink:href="./Object 1"/>', '<x office:dde-application="soffice" office:dde-topic="a.ods"/>',
    '<meta:template xlink:href="../../templates/letter.ott"/>', "<text:p>DDE(is a word)</text:p>",
]  # fmt: skip


@pytest.mark.parametrize("xml", HARMLESS)
def test_what_waits_is_left_alone(xml: str) -> None:
    assert part("content.xml", xml.encode()) == []


def test_macros_of_a_flat_document_are_found() -> None:
    flat = (
        b'<?xml version="1.0"?><o:d xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0">'
        b'<ooo:module ooo:name="a">Sub A\nShell("x")\nEnd Sub</ooo:module></o:d>'
    )
    assert {one.category for one in engine.scan(flat, identify(flat), SHA) if isinstance(one, Finding)} == {
        "macro", "macro-suspicious",
    }  # fmt: skip


@given(st.binary(max_size=200), st.sampled_from(["content.xml", "Basic/a/b.xml", "meta.xml"]))
def test_rubbish_never_raises(data: bytes, name: str) -> None:
    part(name, b"<script:event-listener href dde- " + data)

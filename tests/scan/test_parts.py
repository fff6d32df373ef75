"""Documents of text: RTF, XML of 2003, parts of OOXML and ODF, SYLK."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify
from netinspect.samples import cfb, office, tricks
from netinspect.scan import office as engine
from netinspect.scan import rtf
from netinspect.scan.contract import Finding
from netinspect.scan.targets import is_remote

SHA = "a" * 64


def found(data: bytes) -> list[tuple[str, str]]:
    answers = engine.scan(data, identify(data), SHA)
    return [(one.category, one.signature) for one in answers if isinstance(one, Finding)]


def part(name: str, data: bytes) -> list[tuple[str, str]]:
    return [(one.category, one.signature) for one in engine.part(name, data, SHA)]


# --- RTF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rtf_text",
    [
        b"{\\rtf1{\\*\\template http://template.invalid/x.dotm}}",
        b"{\\rtf1{\\*\\template \\'68\\'74tp://template.invalid/x.dotm}}",
        b"{\\rtf1{\\*\\template \\u104?ttp://template.invalid/x}}",
        b"{\\rtf1{\\*\n\\template\nhttp://template.invalid/x}}",
        b"{\\rtf1{\\*\\template \\\\\\\\server.invalid\\\\share\\\\x.dot}}",
    ],
)
def test_a_template_elsewhere_is_found_behind_escapes(rtf_text: bytes) -> None:
    assert found(rtf_text) == [("external-template", "Rtf.Template")]


@pytest.mark.parametrize(
    "field",
    [
        b"{\\*\\fldinst DDEAUTO server topic}",
        b"{\\*\\fldinst{\\rtlch DD}{\\b EAUTO server topic}}",
        b"{\\*\\fldinst \\'44DE server topic}",
        b'{\\*\\fldinst  "DDE" server topic}',
    ],
)
def test_dde_is_found_in_pieces(field: bytes) -> None:
    assert found(b"{\\rtf1{\\field" + field + b"{\\fldrslt x}}}") == [("dde", "Rtf.DDE")]


def test_fields_that_are_honest_are_left_alone() -> None:
    text = b'{\\rtf1{\\field{\\*\\fldinst HYPERLINK "http://www.example.org/"}{\\fldrslt DDE server topic}}}'
    assert found(text) == []


def test_a_package_is_named_and_a_program_in_it_is_banned() -> None:
    assert found(tricks.package_rtf()) == [("embedded-object", "Rtf.Object"), ("banned-type", "Name.exe")]
    assert found(tricks.package_rtf("report.txt")) == [("embedded-object", "Rtf.Object")]


def test_an_equation_that_loads_itself_is_an_exploit() -> None:
    text = b"{\\rtf1{\\object\\objemb%s{\\*\\objclass Equation.3}{\\*\\objdata 0105}}}"
    assert ("embedded-object", "Rtf.Equation") in found(text % b"")
    assert ("exploit", "Rtf.Equation") in found(text % b"\\objupdate")


def test_text_about_rtf_is_no_object() -> None:
    assert found(b"{\\rtf1 write \\\\objdata and \\\\objupdate here}") == []


@given(st.binary(max_size=400))
def test_rubbish_is_rtf_too(data: bytes) -> None:
    rtf.scan(b"{\\rtf1{\\object{\\*\\objdata " + data, SHA)
    rtf.scan(b"{\\rtf1{\\*\\template " + data + b"}{\\fldinst " + data, SHA)


# --- parts ----------------------------------------------------------------------------------------------------------

RELATION = b'<Relationships><Relationship Type="http://x/%s" Target="%s" %s/></Relationships>'


@pytest.mark.parametrize(
    ("kind", "target", "mode", "expected"),
    [
        (b"xlMacrosheet", b"worksheets/a.xml", b"", ("xlm-macro", "XLM.MacroSheet")),
        (b"xlIntlMacrosheet", b"worksheets/a.xml", b"", ("xlm-macro", "XLM.MacroSheet")),
        (b"hyperlink", b"powershell%20-c%20x", b'TargetMode="External"', ("exploit", "Ooxml.Command")),
        (b"control", b"http://x.invalid/a", b'TargetMode="External"', ("external-template", "Ooxml.Control")),
        (b"oleObject", b"ms-msdt:/id", b'TargetMode="External"', ("external-template", "Ooxml.Object")),
    ],
)
def test_relations_that_act_are_found(kind: bytes, target: bytes, mode: bytes, expected: tuple[str, str]) -> None:
    assert part("xl/_rels/workbook.xml.rels", RELATION % (kind, target, mode)) == [expected]


@pytest.mark.parametrize(
    ("kind", "target"),
    [(b"hyperlink", b"http://www.example.org/cmd.html"), (b"hyperlink", b"mailto:a@example.org"),
     (b"image", b"http://www.example.org/a.png")],
)  # fmt: skip
def test_relations_that_wait_are_left_alone(kind: bytes, target: bytes) -> None:
    assert part("word/_rels/document.xml.rels", RELATION % (kind, target, b'TargetMode="External"')) == []


def test_what_a_macro_sheet_calls_is_named() -> None:
    sheet = b"<xm:macrosheet><row><c><f>EXEC(&quot;x&quot;)</f></c><c><f>HALT()</f></c></row></xm:macrosheet>"
    assert part("xl/macrosheets/sheet1.xml", sheet) == [
        ("xlm-macro", "XLM.MacroSheet"), ("macro-suspicious", "XLM.Calls"),
    ]  # fmt: skip
    assert part("xl/macrosheets/sheet1.bin", b"\x42\x01\x6e\x00")[1] == ("macro-suspicious", "XLM.Calls")


def test_a_defined_name_that_starts_macros_is_found() -> None:
    book = b'<workbook><definedNames><definedName name="_xlnm.Auto_Open" hidden="1">Macro1!$A$1</definedName>'
    assert part("xl/workbook.xml", book) == [("macro-autoexec", "XLM.AutoOpen")]
    assert part("xl/workbook.xml", b"<definedName name='Auto'>x</definedName>") == []
    assert part("xl/workbook.bin", "_xlnm.Auto_Open".encode("utf-16-le")) == [("macro-autoexec", "XLM.AutoOpen")]


def test_controls_are_information() -> None:
    assert part("word/activeX/activeX1.xml", b"<ax:ocx/>") == [("embedded-object", "Ooxml.ActiveX")]


def test_a_field_that_fetches_a_document_is_found() -> None:
    field = b'<w:fldSimple w:instr=" LINK Word.Document.12 http://x.invalid/a.docx "/>'
    assert part("word/document.xml", field) == [("external-template", "Word.Link")]


# --- one file -------------------------------------------------------------------------------------------------------


def test_dde_in_excel_2003_xml_is_found() -> None:
    head = b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook><ExcelWorkbook>'
    link = b"<SupBook><Path>no-such-server|topic</Path><ExternName><Name>A1</Name>%s</ExternName></SupBook>"
    assert found(head + link % b"" + b"</ExcelWorkbook></Workbook>") == [("dde", "Excel.DDE")]
    assert found(head + link % b"<OLELink/>" + b"</ExcelWorkbook></Workbook>") == []


def test_dde_and_templates_in_word_2003_xml_are_found() -> None:
    head = b'<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument>'
    field = b'<w:fldSimple w:instr="DDEAUTO server topic"/>'
    template = b'<w:attachedTemplate w:val="http://x.invalid/a.dot"/>'
    assert found(head + field + template) == [("dde", "Word.DDE"), ("external-template", "Word.Template")]


def test_a_flat_package_is_read_like_a_packed_one() -> None:
    relation = RELATION % (b"attachedTemplate", b"http://x.invalid/a.dotm", b'TargetMode="External"')
    flat = b'<?xml version="1.0"?><pkg:package xmlns:pkg="http://x"><pkg:part>' + relation + b"</pkg:part>"
    assert found(flat) == [("external-template", "Ooxml.Template")]


def test_a_project_in_a_flat_package_is_read() -> None:
    project = base64.encodebytes(cfb.write(office.vba_streams(office.MELISSA_SOURCE)))
    flat = (
        b'<?xml version="1.0"?><?mso-application progid="Word.Document"?>'
        b'<pkg:package xmlns:pkg="http://schemas.microsoft.com/office/2006/xmlPackage">'
        b'<pkg:part pkg:name="/word/vbaProject.bin" pkg:contentType="application/vnd.ms-office.vbaProject">'
        b"<pkg:binaryData>" + project + b"</pkg:binaryData></pkg:part></pkg:package>"
    )
    assert ("macro-replication", "Melissa.NormalTemplate") in found(flat)


def test_xml_of_others_is_left_alone() -> None:
    assert found(b'<?xml version="1.0"?><feed><SupBook><Path>a|b</Path></SupBook></feed>') == []


def test_sylk_formulas_that_start_something_are_found() -> None:
    assert found(b"ID;P\r\nC;X1;Y1;Ecmd|'/c x'!A0\r\nE\r\n") == [("dde", "Sylk.DDE")]
    macro = b'ID;P\r\nO;E\r\nNN;NAuto_open;ER1C1\r\nC;X1;Y1;EEXEC("x")\r\nE\r\n'
    assert found(macro) == [
        ("xlm-macro", "XLM.Sylk"), ("macro-autoexec", "XLM.AutoOpen"), ("macro-suspicious", "XLM.Calls"),
    ]  # fmt: skip
    assert found(b"ID;P\r\nC;X1;Y1;K5;ESUM(R1C1:R2C2)\r\nE\r\n") == []


@pytest.mark.parametrize(
    ("target", "remote"),
    [("http://x", True), ("\\\\server\\share", True), ("//server/share", True), ("file:///C:/a.dot", False),
     ("file://server/a.dot", True), ("file:////server/a.dot", True), ("mhtml:http://x!y", True), ("letter.dot", False),
     ("C:\\a.dot", False), (' "https://x"', True)],
)  # fmt: skip
def test_targets_elsewhere_are_told_from_those_here(target: str, remote: bool) -> None:
    assert is_remote(target) is remote

"""What is taken out of OOXML documents, and that all else stays."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oletools import olevba

from netinspect.disarm import ooxml
from netinspect.disarm.contract import CannotClean, Cleaned
from netinspect.limits import Limits
from netinspect.samples import cfb, office, tricks
from tests.disarm import documents as made
from tests.disarm.looks import examine

LIMITS = Limits()


def cleaned(data: bytes) -> Cleaned:
    """Clean, and see to what holds for every cleaned document."""
    result = ooxml.clean(data, LIMITS)
    if not result.removed:
        assert result.data == data
        return result
    for name, content in made.members(result.data).items():
        if name.endswith((".xml", ".rels")):
            ElementTree.fromstring(content)  # noqa: S314 - it is what the test made
    seen = examine(result.data)
    assert not [finding for finding in seen.findings if finding.severity < 3], result.removed
    assert not seen.unscanned
    assert ooxml.clean(result.data, LIMITS) == Cleaned(result.data)
    assert ooxml.clean(data, LIMITS) == result
    return result


def what(result: Cleaned) -> set[str]:
    return {removal.what for removal in result.removed}


def main(result: Cleaned) -> str:
    parts = made.members(result.data)
    return next(parts[name].decode() for name in ("word/document.xml", "xl/worksheets/sheet1.xml") if name in parts)


# --- packages -------------------------------------------------------------------------------------------------------


def test_a_harmless_document_stays_as_it_is() -> None:
    link = ("rId5", "hyperlink", "!https://example.org/?a=b&c")
    body = '<w:p><w:hyperlink r:id="rId5"><w:r><w:t>x</w:t></w:r></w:hyperlink></w:p>' + made.field(made.code(" PAGE "))
    for data in (office.plain_docx(), made.word(body, link), made.workbook(made.cell('IF(A1="a|b",1,2)'))):
        assert cleaned(data) == Cleaned(data)


@pytest.mark.parametrize("part", ["word/vbaProject.bin", "word/harmless.xml", "word/media/image1.png"])
def test_a_vba_project_goes_whatever_it_is_called(part: str) -> None:
    data = office.macro_docm(office.MELISSA_SOURCE, part=part)
    result = cleaned(data)
    assert part not in made.members(result.data)
    assert (
        b"vbaProject" not in made.members(result.data)["word/_rels/document.xml.rels"]
        if ("word/_rels/document.xml.rels" in made.members(result.data))
        else True
    )
    parser = olevba.VBA_Parser("a.docm", data=result.data)
    assert not parser.detect_vba_macros()
    parser.close()


def test_the_type_of_the_main_part_stays_with_the_name_of_the_attachment() -> None:
    """Word refuses a `.docm` with the main part of a `.docx`."""
    result = cleaned(office.melissa_docm())
    assert b"document.macroEnabled.main+xml" in made.members(result.data)["[Content_Types].xml"]
    assert b"vbaProject" not in made.members(result.data)["[Content_Types].xml"]


def test_members_that_are_not_edited_keep_their_octets_and_times() -> None:
    parts = {"word/media/image1.png": made.PNG, "word/vbaProject.bin": made.vba_project()}
    result = cleaned(made.word("", ("rId2", "image", "media/image1.png"), parts=parts))
    with zipfile.ZipFile(io.BytesIO(result.data)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        assert archive.read("word/media/image1.png") == made.PNG
    assert infos["word/media/image1.png"].date_time == (2001, 2, 3, 4, 5, 6)
    assert "word/vbaProject.bin" not in infos


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("word/embeddings/oleObject1.bin", cfb.write({"\x01Ole10Native": b"\4\0\0\0abcd"})),
        ("payload.exe", made.PROGRAM),
        ("word/media/image2.png", made.PROGRAM),
        ("word/a.lnk", tricks.shortcut()),
        ("word/b.txt", b"some words"),
        ("customUI/customUI.xml", b"<customUI onLoad='x'/>"),
        ("word/activeX/activeX1.xml", b"<ocx/>"),
    ],
)
def test_what_no_document_needs_goes(name: str, content: bytes) -> None:
    result = cleaned(made.word("", parts={name: content}))
    assert name not in made.members(result.data)


def test_the_workbook_of_a_chart_is_cleaned_and_kept() -> None:
    inner = made.workbook(made.cell("cmd|'/c x'!A1"))
    data = made.word("", ("rId7", "package", "embeddings/book.xlsx"), parts={"word/embeddings/book.xlsx": inner})
    result = cleaned(data)
    assert what(result) == {"dde"}
    kept = made.members(result.data)["word/embeddings/book.xlsx"]
    assert ooxml.clean(kept, LIMITS) == Cleaned(kept)
    assert b"cmd" not in made.members(kept)["xl/worksheets/sheet1.xml"]


def test_documents_in_documents_end() -> None:
    data = made.word("")
    for _ in range(10):
        data = made.word("", parts={"word/embeddings/book.docx": data})
    assert what(cleaned(data)) == {"object"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_other_encodings_are_read(encoding: str) -> None:
    parts = made.members(made.word(made.field(made.code("DDEAUTO x y"))))
    text = parts["word/document.xml"].decode().replace("UTF-8", encoding.removesuffix("-sig"))
    parts["word/document.xml"] = text.encode(encoding)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "DDE" not in main(cleaned(out.getvalue()))


# --- ambiguity ------------------------------------------------------------------------------------------------------


def _zip(*entries: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "second", ["word/document.xml", "Word/Document.xml", "/word/document.xml", "word\\document.xml"]
)
def test_a_name_twice_is_not_cleaned(second: str) -> None:
    parts = made.members(made.word(""))
    with pytest.raises(CannotClean, match="two readings"):
        ooxml.clean(_zip(*parts.items(), (second, b"<other/>")), LIMITS)


def test_a_local_header_that_disagrees_is_not_cleaned() -> None:
    data = made.word("")
    at = data.find(b"word/document.xml")
    with pytest.raises(CannotClean, match="two readings"):
        ooxml.clean(data[:at] + b"word/documenu.xml" + data[at + 17 :], LIMITS)


def test_a_member_outside_of_the_directory_is_left_out() -> None:
    hidden = _zip(("word/vbaProject.bin", made.vba_project()))
    body = hidden[: hidden.find(b"PK\x01\x02")]
    result = cleaned(body + made.word(""))
    assert what(result) == {"hidden data"}
    assert b"vbaProject" not in result.data


@pytest.mark.parametrize(("before", "behind"), [(b"MZ stub", b""), (b"", b"Rar!\x1a\x07\x00 and so on")])
def test_what_stands_around_the_package_is_left_out(before: bytes, behind: bytes) -> None:
    data = made.word("")
    result = cleaned(before + data + behind)
    assert what(result) == {"hidden data"}
    assert made.members(result.data) == made.members(data)
    assert not before or before not in result.data
    assert not behind or behind not in result.data


@pytest.mark.parametrize(
    "text",
    [
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        b"<?xml version='1.0' encoding='UTF-7'?><a instr=''/>",
        b"<a instr=''>" * 2000,
        b"<a xmlns:b='c'><b:fldChar></a>",
    ],
)
def test_xml_with_another_meaning_elsewhere_is_not_cleaned(text: bytes) -> None:
    with pytest.raises(CannotClean):
        ooxml.clean(made.word("", parts={"word/styles.xml": text}), LIMITS)


def test_a_bomb_is_not_unpacked() -> None:
    data = made.word("", parts={"word/styles.xml": b"<a>" + bytes(50_000_000) + b"</a>"})
    with pytest.raises(CannotClean, match="archive_ratio"):
        ooxml.clean(data, LIMITS)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"words", cfb.write({"WordDocument": b"x"}), _zip(("a", b"b"))])
def test_what_is_no_document_is_not_cleaned(data: bytes) -> None:
    with pytest.raises(CannotClean):
        ooxml.clean(data, LIMITS)


# --- Word -----------------------------------------------------------------------------------------------------------

DDE = 'DDEAUTO c:\\\\no-such-program "/c x"'


@pytest.mark.parametrize(
    "body",
    [
        made.field(made.code(DDE)),
        made.field(made.code(" DD"), made.code("EAU"), made.code("TO no-such x")),
        made.field(made.code("&#68;D&#x45; no-such x")),
        made.field(made.code("<![CDATA[DDE]]> no-such x")),
        made.field(made.code(f'"{DDE}"')),
        made.field(made.quote(68, 68, 69), made.code(" no-such x")),
        made.field(made.code("D"), made.quote(68, 69), made.code(" no-such x")),
        made.field(made.code(DDE, "t")),
        made.field(made.code("SEQ ", "delInstrText"), made.code(DDE)),
        made.field(made.code("DDE"), made.code("X", "delInstrText"), made.code(" no-such x")),
        made.field(
            "<w:r><mc:AlternateContent><mc:Choice Requires='w'><w:instrText>DDE a b</w:instrText></mc:Choice>"
            "<mc:Fallback><w:instrText>SEQ</w:instrText></mc:Fallback></mc:AlternateContent></w:r>"
        ),
        "<w:p><w:fldSimple w:instr=' DDE no-such x'><w:r><w:t>Result</w:t></w:r></w:fldSimple></w:p>",
        made.field(made.code("IF "), made.begin(made.code(DDE)), made.END),
        f"<w:p>{made.begin()}{made.code(DDE)}</w:p><w:p><w:r><w:t>Result</w:t></w:r></w:p>",
        f"<w:p>{made.code(DDE)}<w:r><w:t>Result</w:t></w:r></w:p>",
    ],
)
def test_dde_goes_and_its_result_stays(body: str) -> None:
    result = cleaned(made.word(body))
    assert what(result) & {"dde", "field"}
    text = main(result)
    assert "no-such" not in text
    assert "Before" in text
    assert "After" in text
    assert "Result" in text
    assert 'mc:Ignorable="w14"' in text


@pytest.mark.parametrize(
    "text",
    [
        'INCLUDETEXT "http://x.invalid/a.docx"',
        "INCLUDEPICTURE \\\\\\\\x.invalid\\\\a.png",
        "LINK Word.Document.8 http://x.invalid/a",
        'HYPERLINK "file:///c:/a.exe"',
        "HYPERLINK ms-msdt:/id",
        "HYPERLINK \\o &quot;tip&quot; javascript:x",
        "RD http://x.invalid/a",
    ],
)
def test_fields_that_fetch_go(text: str) -> None:
    result = cleaned(made.word(made.field(made.code(text))))
    assert what(result) == {"field"}
    assert "instrText" not in main(result)
    assert "Result" in main(result)


@pytest.mark.parametrize(
    "text",
    ["PAGE", " = 1 + 2", "HYPERLINK \\l &quot;mark&quot;", 'HYPERLINK "https://example.org"', "TOC \\o", "SEQ DDE"],
)
def test_other_fields_stay(text: str) -> None:
    data = made.word(made.field(made.code(text)))
    assert cleaned(data) == Cleaned(data)


def test_a_field_in_another_that_stays_goes_alone() -> None:
    inner = made.begin(made.code(DDE)) + made.shown("Inner") + made.END
    result = cleaned(made.word(f"<w:p>{made.begin(made.code('PAGE '))}{made.shown('Page')}{inner}{made.END}</w:p>"))
    assert main(result).count("fldChar ") == 3
    assert "Inner" in main(result)


@pytest.mark.parametrize(
    ("kind", "element"),
    [
        ("attachedTemplate", '<w:attachedTemplate r:id="rId9"/>'),
        ("subDocument", '<w:subDoc r:id="rId9"/>'),
        ("image", '<w:drawing><x:blip xmlns:x="urn:x" r:link="rId9"/></w:drawing>'),
        ("frame", '<w:f r:id="rId9"/>'),
        ("mailMergeSource", '<w:mailMerge><w:query/><w:dataSource r:id="rId9"/></w:mailMerge>'),
        ("unheardOf", "<w:x><w:y r:id='rId9'/></w:x>"),
        ("oleObject", '<w:object><o:OLEObject Type="Link" r:id="rId9"/></w:object>'),
    ],
)
def test_relationships_to_elsewhere_go_with_what_names_them(kind: str, element: str) -> None:
    result = cleaned(made.word(element, ("rId9", kind, "!http://x.invalid/a")))
    assert result.removed
    assert b"x.invalid" not in b"".join(made.members(result.data).values())
    assert "rId9" not in main(result)


@pytest.mark.parametrize(
    "target",
    ["file:///c:/a.exe", "mhtml:http://x", "javascript:x", "ms-word:ofe|u|x", "\\\\x\\y", "a.exe", "//x/y", "x:y"],
)
def test_only_plain_hyperlinks_stay(target: str) -> None:
    body = '<w:p><w:hyperlink r:id="rId9"><w:r><w:t>Shown</w:t></w:r></w:hyperlink></w:p>'
    result = cleaned(made.word(body, ("rId9", "hyperlink", f"!{target}"), ("rId8", "hyperlink", "!mailto:a@b")))
    assert what(result) == {"hyperlink"}
    assert "hyperlink" not in main(result)
    assert "Shown" in main(result)
    assert b"mailto:a@b" in made.members(result.data)["word/_rels/document.xml.rels"]


def test_a_target_that_is_only_said_to_be_inside_goes() -> None:
    assert what(cleaned(made.word("", ("rId9", "attachedTemplate", "http://x.invalid/a.dotm")))) == {"template"}


def test_a_template_goes() -> None:
    assert what(cleaned(office.template_docx())) == {"template"}


def test_an_object_becomes_its_picture() -> None:
    body = (
        '<w:p><w:r><w:object w:dxaOrig="1"><v:shape id="s"><v:imagedata r:id="rId3"/></v:shape>'
        '<o:OLEObject Type="Embed" r:id="rId4"/></w:object></w:r></w:p>'
    )
    links = (("rId3", "image", "media/a.png"), ("rId4", "oleObject", "embeddings/a.bin"))
    parts = {"word/media/a.png": made.PNG, "word/embeddings/a.bin": cfb.write({"CONTENTS": b"x"})}
    text = main(cleaned(made.word(body, *links, parts=parts)))
    assert '<w:pict><v:shape id="s"><v:imagedata r:id="rId3"/></v:shape></w:pict>' in text


# --- Excel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula", ["cmd|'/c x'!A1", "+cmd |'/c x'!A1", "'cmd'|'/c x'!A1", "SUM(1,cmd&#124;'/c x'!A1)"]
)
def test_a_formula_that_asks_a_program_leaves_its_value(formula: str) -> None:
    result = cleaned(made.workbook(made.cell(formula), calculated=True))
    assert what(result) == {"dde"}
    assert '<c r="A1"><v>42</v></c>' in main(result)
    assert "xl/calcChain.xml" not in made.members(result.data)
    assert b"calcChain" not in made.members(result.data)["[Content_Types].xml"]


@pytest.mark.parametrize(
    "inner", ["<ddeLink ddeService='cmd' ddeTopic='x'/>", "<oleLink r:id='rId1'/>", "<externalBook r:id='rId1'/>"]
)
def test_links_to_workbooks_leave_values(inner: str) -> None:
    part = f'{made.HEAD}<externalLink xmlns="{made.X}" xmlns:r="{made.REL}">{inner}</externalLink>'
    rows = (
        made.cell("[1]Sheet1!A1", "17")
        + made.cell("[1]!x", "18", ' t="shared" ref="B2:B3" si="0"', "B2")
        + made.cell("", "19", ' t="shared" si="0"', "B3")
        + made.cell("Table1[2024]", "20", place="C4")
    )
    data = made.workbook(
        rows,
        sheets=(("rId5", "externalLink", "externalLinks/externalLink1.xml"),),
        references='<externalReferences><externalReference r:id="rId5"/></externalReferences>',
        names='<definedName name="far">[1]Sheet1!A1</definedName><definedName name="near">One!A1</definedName>',
        parts={
            "xl/externalLinks/externalLink1.xml": part,
            "xl/externalLinks/_rels/externalLink1.xml.rels": made.relations(
                ("rId1", "externalLinkPath", "!file:///x.xlsx")
            ),
            "xl/charts/chart1.xml": f'{made.HEAD}<c:chart xmlns:c="urn:c"><c:f>[1]Sheet1!$A$1</c:f></c:chart>',
        },
    )
    result = cleaned(data)
    text, parts = main(result), made.members(result.data)
    assert "<f>Table1[2024]</f>" in text
    assert text.count("<f") == 1
    assert all(f"<v>{value}</v>" in text for value in (17, 18, 19, 20))
    assert b"externalReference" not in parts["xl/workbook.xml"]
    assert b"near" in parts["xl/workbook.xml"]
    assert b"far" not in parts["xl/workbook.xml"]
    assert b"<c:f>#REF!</c:f>" in parts["xl/charts/chart1.xml"]
    assert not [name for name in parts if "externalLink" in name]


def _macro_sheet(kind: str = "xlMacrosheet", content_type: str = "application/vnd.ms-excel.macrosheet+xml") -> bytes:
    sheet = (
        f'{made.HEAD}<xm:macrosheet xmlns:xm="http://schemas.microsoft.com/office/excel/2006/main" xmlns="{made.X}">'
        '<sheetData><row r="1"><c r="A1"><f>EXEC("no-such")</f></c></row></sheetData></xm:macrosheet>'
    )
    return made.workbook(
        "",
        sheets=(("rId5", kind, "macrosheets/sheet1.xml"),),
        names='<definedName name="_xlnm.Auto_Open" hidden="1">More2!$A$1</definedName>',
        parts={"xl/macrosheets/sheet1.xml": sheet},
        types={"xl/macrosheets/sheet1.xml": content_type},
    )


@pytest.mark.parametrize(
    "data",
    [_macro_sheet(), _macro_sheet("worksheet"), _macro_sheet("worksheet", f"{made.OPEN}spreadsheetml.worksheet+xml")],
)
def test_a_macro_sheet_becomes_an_empty_one(data: bytes) -> None:
    result = cleaned(data)
    parts = made.members(result.data)
    assert what(result) == {"xlm"}
    assert b"Auto_Open" not in parts["xl/workbook.xml"]
    assert b'r:id="rId5"' in parts["xl/workbook.xml"]
    assert b'Target="/xl/worksheets/removed1.xml"' in parts["xl/_rels/workbook.xml.rels"]
    assert b'"/xl/worksheets/removed1.xml" ContentType=' in parts["[Content_Types].xml"]
    assert b"macrosheet" not in b"".join(parts.values())


def _binary(*records: tuple[int, bytes]) -> bytes:
    out = b""
    for kind, content in records:
        out += bytes((kind,)) if kind < 128 else bytes((kind & 0x7F | 0x80, kind >> 7))
        assert len(content) < 128
        out += bytes((len(content),)) + content
    return out


def test_binary_workbooks_lose_macro_sheets_and_objects() -> None:
    name = "_xlnm.Auto_Open"
    record = struct.pack("<IBII", 0x21, 0, 0xFFFFFFFF, len(name)) + name.encode("utf-16-le") + bytes(8)
    sheet = _binary((129, b""), (145, b""), (146, b""), (638, b""), (639, b"rId2"), (640, b""), (130, b""))
    parts = {
        "xl/workbook.bin": _binary((131, b""), (39, record), (132, b"")),
        "xl/_rels/workbook.bin.rels": made.relations(
            ("rId1", "worksheet", "worksheets/sheet1.bin"), ("rId3", "xlMacrosheet", "macrosheets/sheet2.bin")
        ),
        "xl/worksheets/sheet1.bin": sheet,
        "xl/worksheets/_rels/sheet1.bin.rels": made.relations(
            ("rId2", "oleObject", "../embeddings/a.bin"), ("rId4", "hyperlink", "!file:///c:/a.exe")
        ),
        "xl/macrosheets/sheet2.bin": sheet,
        "xl/embeddings/a.bin": cfb.write({"CONTENTS": b"x"}),
    }
    types = {
        "xl/worksheets/sheet1.bin": "application/vnd.ms-excel.worksheet",
        "xl/macrosheets/sheet2.bin": "application/vnd.ms-excel.macrosheet",
    }
    result = cleaned(
        made.package("xl/workbook.bin", "application/vnd.ms-excel.sheet.binary.macroEnabled.main", parts, types)
    )
    left = made.members(result.data)
    assert what(result) == {"xlm", "object", "hyperlink"}
    assert left["xl/worksheets/sheet1.bin"] == _binary((129, b""), (145, b""), (146, b""), (130, b""))
    assert "none_".encode("utf-16-le") in left["xl/workbook.bin"]
    assert len(left["xl/workbook.bin"]) == len(parts["xl/workbook.bin"])
    assert not [part for part in left if "macrosheet" in part or "embeddings" in part]
    assert b"a.exe" not in left["xl/worksheets/_rels/sheet1.bin.rels"]


@pytest.mark.parametrize("depth", [20, 100_000])
def test_nested_fields_cost_their_length(depth: int) -> None:
    body = f"<w:p>{made.begin() * depth}{made.END * depth}</w:p>"
    started = time.process_time()
    if depth < 64:
        assert cleaned(made.word(body)).removed
    else:
        with pytest.raises(CannotClean):
            ooxml.clean(made.word(body), LIMITS)
    assert time.process_time() - started < 5


def test_names_that_are_macros_go() -> None:
    names = '<definedName name="a" function="1">x</definedName><definedName name="b">EXEC("x")</definedName>'
    result = cleaned(made.workbook("", names=names))
    assert what(result) == {"xlm"}
    assert b"definedName" not in made.members(result.data)["xl/workbook.xml"]


def test_controls_and_objects_of_a_sheet_go_with_their_lists() -> None:
    after = (
        '<oleObjects><mc:AlternateContent><mc:Choice Requires="x"><oleObject r:id="rId2"/></mc:Choice>'
        '<mc:Fallback><oleObject r:id="rId2"/></mc:Fallback></mc:AlternateContent></oleObjects>'
        '<controls><control r:id="rId3"/></controls><hyperlinks><hyperlink ref="A1" r:id="rId4"/></hyperlinks>'
    )
    links = (
        ("rId2", "oleObject", "../embeddings/a.bin"),
        ("rId3", "control", "../activeX/activeX1.xml"),
        ("rId4", "hyperlink", "!file:///c:/a.exe"),
    )
    parts = {"xl/embeddings/a.bin": cfb.write({"CONTENTS": b"x"}), "xl/activeX/activeX1.xml": b"<ocx/>"}
    result = cleaned(made.workbook("", after=after, sheet_links=links, parts=parts))
    assert what(result) == {"object", "activex", "hyperlink"}
    assert main(result).endswith("<sheetData></sheetData></worksheet>")


def test_connections_wait_to_be_asked() -> None:
    part = f'{made.HEAD}<connections xmlns="{made.X}"><connection id="1" name="c" refreshOnLoad="1"/></connections>'
    data = made.workbook("", sheets=(("rId5", "connections", "connections.xml"),), parts={"xl/connections.xml": part})
    result = cleaned(data)
    assert what(result) == {"refresh"}
    assert b'<connection id="1" name="c"/>' in made.members(result.data)["xl/connections.xml"]


# --- PowerPoint -----------------------------------------------------------------------------------------------------


def _slide(tree: str, *links: made.Rel, timing: str = "", parts: dict[str, bytes | str] | None = None) -> bytes:
    slide = (
        f'{made.HEAD}<p:sld xmlns:p="{made.P}" xmlns:a="{made.A}" xmlns:r="{made.REL}" xmlns:mc="{made.MC}">'
        f"<p:cSld><p:spTree>{tree}</p:spTree></p:cSld>{timing}</p:sld>"
    )
    listed: dict[str, bytes | str] = {
        "ppt/presentation.xml": f'{made.HEAD}<p:presentation xmlns:p="{made.P}"/>',
        "ppt/slides/slide1.xml": slide,
        "ppt/slides/_rels/slide1.xml.rels": made.relations(*links),
        **(parts or {}),
    }
    return made.package("ppt/presentation.xml", f"{made.OPEN}presentationml.presentation.main+xml", listed)


def test_a_click_that_starts_a_program_goes() -> None:
    tree = '<p:sp><a:hlinkClick r:id="" action="ppaction://macro?name=x"/><a:hlinkHover r:id="rId2" action="ppaction://program"/></p:sp>'
    result = cleaned(_slide(tree, ("rId2", "hyperlink", "!file:///powershell.exe%20x")))
    assert what(result) == {"action", "hyperlink"}
    assert b"<p:sp></p:sp>" in made.members(result.data)["ppt/slides/slide1.xml"]


def test_an_object_on_a_slide_becomes_its_picture() -> None:
    tree = (
        '<p:graphicFrame><p:nvGraphicFramePr><p:cNvPr id="7" name="o"/></p:nvGraphicFramePr><a:graphic><a:graphicData>'
        '<mc:AlternateContent><mc:Choice Requires="v"><p:oleObj r:id="rId2"/></mc:Choice><mc:Fallback>'
        '<p:oleObj r:id="rId2"><p:pic><p:nvPicPr><p:cNvPr id="0" name=""/></p:nvPicPr></p:pic></p:oleObj></mc:Fallback>'
        "</mc:AlternateContent></a:graphicData></a:graphic></p:graphicFrame>"
    )
    parts: dict[str, bytes | str] = {"ppt/embeddings/a.bin": cfb.write({"CONTENTS": b"x"})}
    timing = '<p:timing><p:cmd type="verb" cmd="0"/></p:timing>'
    result = cleaned(_slide(tree, ("rId2", "oleObject", "../embeddings/a.bin"), timing=timing, parts=parts))
    text = made.members(result.data)["ppt/slides/slide1.xml"].decode()
    assert (
        '<p:spTree><p:pic><p:nvPicPr><p:cNvPr id="7" name=""/></p:nvPicPr></p:pic></p:spTree></p:cSld></p:sld>' in text
    )


# --- everything -----------------------------------------------------------------------------------------------------

SAMPLES = [
    office.melissa_docm(),
    office.template_docx(),
    office.dde_docx(),
    _macro_sheet(),
    made.word(made.field(made.quote(68, 68, 69), made.code(" x")), ("rId9", "hyperlink", "!file:///a")),
    made.workbook(made.cell("a|b!c"), calculated=True),
]


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
    st.booleans(),
)
def test_hostile_octets_end_in_cannot_clean_at_worst(data: bytes, changes: list[tuple[int, int]], cut: bool) -> None:
    octets = bytearray(data)
    for at, value in changes:
        octets[at % len(octets)] = value
    try:
        result = ooxml.clean(bytes(octets[: len(octets) // 2] if cut else octets), LIMITS)
    except CannotClean:
        return
    assert ooxml.clean(result.data, LIMITS) == Cleaned(result.data)


@given(st.sampled_from(SAMPLES), st.data())
def test_hostile_xml_ends_in_cannot_clean_at_worst(data: bytes, draw: st.DataObject) -> None:
    parts = made.members(data)
    name = draw.draw(st.sampled_from(sorted(parts)))
    octets = bytearray(parts[name])
    for at, piece in draw.draw(
        st.lists(
            st.tuples(
                st.integers(0, 5000), st.sampled_from([b"", b"<", b">", b"&", b'"', b"x", b"</w:r>", b" r:id='rId9'"])
            ),
            max_size=4,
        )
    ):
        octets[at % (len(octets) + 1) : at % (len(octets) + 1)] = piece
    parts[name] = bytes(octets)
    try:
        result = ooxml.clean(_zip(*parts.items()), LIMITS)
    except CannotClean:
        return
    assert ooxml.clean(result.data, LIMITS) == Cleaned(result.data)

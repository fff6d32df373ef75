"""Office documents: what is found, what is left alone, and that no document can make the engine raise."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify
from netinspect.samples import archives, cfb, mails, office
from netinspect.scan import office as engine
from netinspect.scan.contract import Finding, Unscanned

SHA = "a" * 64


def categories(data: bytes) -> list[str]:
    answers = engine.scan(data, identify(data), SHA)
    return [answer.category if isinstance(answer, Finding) else f"unscanned: {answer.reason}" for answer in answers]


def test_the_melissa_document_is_found_out() -> None:
    assert categories(office.melissa_doc()) == [
        "macro", "macro-autoexec", "macro-suspicious", "macro-replication", "macro-replication", "macro-replication",
    ]  # fmt: skip


def test_an_honest_macro_is_information_only() -> None:
    (finding,) = engine.scan(office.macro_doc(office.HARMLESS_SOURCE), "doc", SHA)
    assert finding == Finding("office", "VBA.Project", "macro", 3, SHA)


def test_a_project_by_itself_is_read_like_one_in_a_document() -> None:
    project = cfb.write(office.vba_streams(office.MELISSA_SOURCE))
    assert "macro-replication" in categories(project)


@pytest.mark.parametrize(
    "data", [office.plain_doc(), office.plain_docx(), mails.clean_mail(), b"", b"Sub AutoOpen()\nEnd Sub\n"]
)
def test_no_macro_no_finding(data: bytes) -> None:
    assert categories(data) == []


def test_text_about_packed_macros_is_not_given_to_olevba_as_a_macro() -> None:
    assert categories(b"The line begins with QWN0aXZlTWltZ and Sub AutoOpen() follows.\n") == []


def active_mime(document: bytes) -> bytes:
    packed = zlib.compress(document)
    return b"ActiveMime\x00\x00\x01\xf0\x04\x00\x00\x00" + bytes(14) + b"\x32\x00\x00\x00".ljust(18, b"\0") + packed


def test_a_project_packed_in_a_web_archive_is_found() -> None:
    packed = base64.encodebytes(active_mime(cfb.write(office.vba_streams(office.MELISSA_SOURCE))))
    page = (
        b'MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary="b"\r\n\r\n--b\r\n'
        b"Content-Type: text/html\r\n\r\n"
        b"<html></html>\r\n--b\r\nContent-Location: editdata.mso\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Type: application/x-mso\r\n\r\n" + packed + b"\r\n--b--\r\n"
    )
    assert "macro-replication" in categories(page)


def test_a_project_packed_in_word_2003_xml_is_found() -> None:
    packed = base64.b64encode(active_mime(cfb.write(office.vba_streams(office.MELISSA_SOURCE))))
    document = (
        b'<?xml version="1.0"?><?mso-application progid="Word.Document"?>'
        b'<w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml"><w:docSuppData>'
        b'<w:binData w:name="editdata.mso">' + packed + b"</w:binData></w:docSuppData></w:wordDocument>"
    )
    assert "macro-replication" in categories(document)


def test_excel_4_macro_sheets_are_found() -> None:
    assert categories(office.xlm_xls()) == ["xlm-macro"]


def test_excel_4_macros_that_start_by_themselves_are_found() -> None:
    name = b"\x20\x00" + bytes(12) + b"\x00\x01"
    book = b"\x09\x08\x10\x00" + bytes(16) + b"\x85\x00\x0e\x00" + bytes(5) + b"\x01\x06\x00Macro1"
    book += b"\x18\x00\x10\x00" + name + b"\x0a\x00\x00\x00"
    assert categories(cfb.write({"Workbook": book.ljust(4096, b"\0")})) == ["xlm-macro", "macro-autoexec"]


def test_excel_4_macros_in_sylk_are_found() -> None:
    assert categories(b"ID;P\r\nO;E\r\nNN;NAuto_open;ER1C1\r\nC;X1;Y1;EHALT()\r\nE\r\n") == [
        "xlm-macro",
        "macro-autoexec",
    ]


def test_encrypted_documents_are_told_and_unscanned() -> None:
    package = cfb.write({"EncryptedPackage": bytes(100), "EncryptionInfo": bytes(10)})
    assert categories(package) == ["encrypted", "unscanned: encrypted"]
    word = cfb.write({"WordDocument": b"\xec\xa5\xc1\x00".ljust(11, b"\0") + b"\x03" + bytes(4096)})
    assert categories(word) == ["encrypted", "unscanned: encrypted"]
    book = b"\x09\x08\x00\x00\x2f\x00\x04\x00" + bytes(4)
    assert categories(cfb.write({"Workbook": book.ljust(4096, b"\0")})) == ["encrypted", "unscanned: encrypted"]


def test_a_workbook_embedded_in_a_document_is_read_where_it_is() -> None:
    book = b"\x85\x00\x0e\x00" + bytes(5) + b"\x01\x06\x00Macro1\x0a\x00\x00\x00"
    streams = {"WordDocument": bytes(5000), "ObjectPool/_1/Workbook": book, "ObjectPool/_2/WordDocument": bytes(100)}
    assert categories(cfb.write(streams)) == ["xlm-macro"]


def test_a_document_cut_off_is_unscanned() -> None:
    assert categories(office.melissa_doc()[:700]) == ["unscanned: damaged document"]


@pytest.mark.parametrize(
    ("data", "category"),
    [
        (b"{\\rtf1{\\field{\\*\\fldinst DDEAUTO server topic}}}", "dde"),
        (b"{\\rtf1{\\*\\template http://template.invalid/x.dotm}}", "external-template"),
        (b"{\\rtf1{\\object\\objemb{\\*\\objdata 0105}}}", "embedded-object"),
        (cfb.write({"WordDocument": bytes(2048) + b"\x13 DDEAUTO c:\\\\x \x14" + bytes(3000)}), "dde"),
        (cfb.write({"WordDocument": bytes(4096), "ObjectPool/_1/\x01Ole10Native": b"x"}), "embedded-object"),
    ],
)
def test_dde_templates_and_objects_are_found(data: bytes, category: str) -> None:
    assert categories(data) == [category]


@pytest.mark.parametrize("target", [b"C:\\\\Templates\\\\letter.dot", b"letter.dot", b"file:///C:/letter.dot"])
def test_a_template_of_this_machine_is_none_from_elsewhere(target: bytes) -> None:
    assert categories(b"{\\rtf1{\\*\\template " + target + b"}}") == []


RELATION = '<Relationships><Relationship Type="http://x/relationships/%s" Target="%s" TargetMode="%s"/></Relationships>'


@pytest.mark.parametrize(
    ("kind", "target", "mode", "found"),
    [
        ("attachedTemplate", "http://template.invalid/a.dotm", "External", True),
        ("attachedTemplate", "&#104;ttp://template.invalid/a", "external", True),
        ("attachedTemplate", "\\\\server.invalid\\share\\a.dotm", "External", True),
        ("attachedTemplate", "file://server.invalid/share/a.dotm", "External", True),
        ("oleObject", "mhtml:http://template.invalid/a!x-usc:b", "External", True),
        ("attachedTemplate", "file:///C:\\Users\\a\\Normal.dotm", "External", False),
        ("hyperlink", "http://www.example.org/", "External", False),
        ("oleObject", "embeddings/oleObject1.bin", "Internal", False),
    ],
)
def test_relations_that_fetch_from_elsewhere_are_found(kind: str, target: str, mode: str, found: bool) -> None:
    for encoding in ("utf-8", "utf-16"):
        data = (RELATION % (kind, target, mode)).encode(encoding)
        assert bool(engine.part("word/_rels/settings.xml.rels", data, SHA)) is found


def test_dde_in_the_parts_of_a_document_is_found() -> None:
    simple = b'<w:fldSimple w:instr=" DDE &quot;server&quot; topic"/>'
    assert [finding.category for finding in engine.part("word/header1.xml", simple, SHA)] == ["dde"]
    assert [finding.category for finding in engine.part("xl/externalLinks/externalLink1.xml", b"<ddeLink/>", SHA)] == [
        "dde"
    ]
    assert engine.part("word/document.xml", b"<w:instrText> PAGE </w:instrText> DDE", SHA) == []


def test_a_macro_sheet_in_a_workbook_is_found() -> None:
    assert [finding.category for finding in engine.part("xl/macrosheets/sheet1.xml", b"<xm:macrosheet/>", SHA)] == [
        "xlm-macro"
    ]


def test_a_failure_inside_oletools_is_unscanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AttributeError("as oletools does")

    monkeypatch.setattr(engine.olevba, "VBA_Parser", broken)
    assert engine.scan(office.melissa_doc(), "doc", SHA) == [
        Unscanned("office", "macros cannot be read (AttributeError)", SHA)
    ]


ORIGINALS = [
    office.melissa_doc(),
    office.xlm_xls(),
    cfb.write(office.vba_streams(office.HARMLESS_SOURCE)),
    office.plain_doc(),
]


@given(st.sampled_from(ORIGINALS), st.integers(0, 20_000), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_never_raises(original: bytes, at: int, damage: bytes) -> None:
    at %= len(original)
    data = original[:at] + damage + original[at + len(damage) :]
    for answer in engine.scan(data, identify(original), SHA):
        assert isinstance(answer, Finding | Unscanned)


@given(st.binary(max_size=600))
def test_rubbish_as_a_part_never_raises(data: bytes) -> None:
    for name in (
        "word/document.xml",
        "word/_rels/a.rels",
        "xl/workbook.xml",
        "xl/macrosheets/a",
        "xl/externalLinks/a.xml",
    ):
        engine.part(name, data, SHA)


def test_eicar_is_not_this_engines_business() -> None:
    assert categories(archives.eicar()) == []


def test_storages_in_a_circle_are_damage() -> None:
    whole = bytearray(office.macro_doc(office.HARMLESS_SOURCE))
    root = whole.find("Root Entry".encode("utf-16-le"))
    # MS-CFB §2.6.1: the type stands at 66 of a directory entry, the child's number at 76; number 0 is the root itself.
    whole[root + 66] = 1
    whole[root + 76 : root + 80] = bytes(4)
    assert categories(bytes(whole)) == ["unscanned: damaged document"]


def test_a_header_with_impossible_sizes_is_damage() -> None:
    whole = bytearray(office.macro_doc(office.HARMLESS_SOURCE))
    whole[0x1E:0x20] = (1).to_bytes(2, "little")  # sectors of two octets (MS-CFB §2.2 knows 512 and 4096)
    assert categories(bytes(whole)) == ["unscanned: damaged document"]

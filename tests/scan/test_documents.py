"""Binary documents: workbooks record by record, objects by their class, compiled macros, templates, encryption."""

from __future__ import annotations

import io
import random
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msoffcrypto.format.ooxml import OOXMLFile

from netinspect.files.kind import identify
from netinspect.limits import Limits
from netinspect.samples import cfb, office, tricks
from netinspect.scan import biff, decrypt, examine, objects
from netinspect.scan import office as engine
from netinspect.scan.contract import Finding, Unscanned

SHA = "a" * 64


def found(data: bytes) -> list[tuple[str, str]]:
    answers = engine.scan(data, identify(data), SHA)
    return [(one.category, one.signature) for one in answers if isinstance(one, Finding)]


def detail(data: bytes, signature: str) -> str:
    (one,) = (x for x in engine.scan(data, identify(data), SHA) if isinstance(x, Finding) and x.signature == signature)
    return one.detail


# --- workbooks ------------------------------------------------------------------------------------------------------


def test_a_macro_sheet_that_only_halts_calls_nothing() -> None:
    assert found(tricks.xlm_xls()) == [("xlm-macro", "XLM.MacroSheet")]


@pytest.mark.parametrize(("number", "name"), [(110, "EXEC"), (150, "CALL"), (149, "REGISTER"), (132, "FOPEN")])
def test_calls_out_of_a_macro_sheet_are_named(number: int, name: str) -> None:
    document = tricks.xlm_xls(number, start=True, hidden=True)
    assert found(document) == [
        ("xlm-macro", "XLM.MacroSheet"), ("macro-autoexec", "XLM.AutoOpen"), ("macro-suspicious", "XLM.Calls"),
    ]  # fmt: skip
    assert detail(document, "XLM.Calls") == name
    assert detail(document, "XLM.MacroSheet") == "1 macro sheets, 1 hidden"


def test_a_link_to_a_dde_server_is_found_and_one_to_an_object_is_information() -> None:
    assert found(tricks.dde_xls()) == [("dde", "Excel.DDE")]
    assert detail(tricks.dde_xls(), "Excel.DDE") == "no-such-server|topic"
    assert found(tricks.dde_xls(ole=True)) == [("embedded-object", "Excel.OleLink")]


def test_a_link_to_another_workbook_is_nothing() -> None:
    assert found(tricks.dde_xls("other.xls")) == []


def test_a_macro_sheet_of_excel_4_without_a_container_is_found() -> None:
    sheet = tricks.biff(0x0409, struct.pack("<HH", 0, 0x40) + bytes(2)) + tricks.biff(0x000A, b"")
    assert biff.is_raw(sheet)
    assert [one.category for one in engine.scan(sheet, "data", SHA) if isinstance(one, Finding)] == ["xlm-macro"]


@pytest.mark.parametrize(("kind", "answer"), [(0, ""), (1, "dde"), (2, "ole")])
def test_links_of_a_binary_workbook_are_told_apart(kind: int, answer: str) -> None:
    part = b"\x80\x01\x00" + b"\xe8\x02\x02" + struct.pack("<H", kind)
    assert biff.xlsb_link(part) == answer
    signatures = [one.signature for one in engine.part("xl/externalLinks/externalLink1.bin", part, SHA)]
    assert signatures == (["Excel.DDE"] if kind == 1 else [])


@given(st.binary(max_size=2000))
def test_rubbish_is_a_workbook_too(data: bytes) -> None:
    biff.read(data)
    biff.xlsb_link(data)
    biff.xlsb_calls(data)


def test_many_records_cost_a_bounded_time() -> None:
    start = time.process_time()
    biff.read(tricks.biff(0x0085, b"\0\0\0\0\0\1") * 300_000)
    assert time.process_time() - start < 3


# --- objects --------------------------------------------------------------------------------------------------------


def test_an_equation_is_only_harmful_when_its_font_name_is_too_long() -> None:
    assert found(tricks.equation_doc()) == []
    assert found(tricks.equation_doc(b"A" * 60)) == [("exploit", "Equation.FontName")]


def test_an_object_that_is_a_link_to_an_address_is_found() -> None:
    assert found(tricks.url_link_doc()) == [("external-template", "OLE.UrlLink")]
    assert detail(tricks.url_link_doc(), "OLE.UrlLink") == "http://link.invalid/a.hta"
    assert found(tricks.url_link_doc("nothing")) == []


def test_controls_and_packages_are_information() -> None:
    document = cfb.write({"WordDocument": bytes(4096), "ObjectPool/_1/\x03OCXNAME": b"x"})
    assert found(document) == [("embedded-object", "OLE.ActiveX")]


def test_the_class_of_a_storage_tells_what_it_is() -> None:
    document = bytearray(cfb.write({"WordDocument": bytes(4096), "ObjectPool/_1/x": bytes(5000)}))
    at = document.find("_1".encode("utf-16-le") + b"\0\0")
    document[at + 80 : at + 96] = bytes.fromhex("d8f45030b598cf11bb8200aa00bdce0b")
    assert found(bytes(document)) == [("exploit", "OLE.HtmlApplication")]


@given(st.binary(max_size=800))
def test_rubbish_is_an_equation_and_a_link_too(data: bytes) -> None:
    objects.equation(data, SHA)
    objects.link(data, SHA)
    objects.link(bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b") + data, SHA)


def test_a_template_elsewhere_of_a_binary_document_is_found() -> None:
    assert found(tricks.template_doc()) == [("external-template", "Word.Template")]
    assert found(tricks.template_doc("C:\\Templates\\letter.dot")) == []


@pytest.mark.parametrize(
    ("field", "signature"),
    [
        (b'\x13 LINK Word.Document.8 "http://link.invalid/a.doc" \x14', "Word.Link"),
        (b'\x13 INCLUDETEXT "\\\\\\\\server.invalid\\\\share\\\\a.doc" \x14', "Word.Link"),
        (b'\x13 "DDEAUTO" c:\\\\x \x14', "Word.DDE"),
    ],
)
def test_fields_of_a_binary_document_that_fetch_are_found(field: bytes, signature: str) -> None:
    for text in (field, field.decode("latin-1").encode("utf-16-le")):
        document = cfb.write({"WordDocument": bytes(2048) + text + bytes(3000)})
        assert [name for _, name in found(document)] == [signature]


# --- compiled macros ------------------------------------------------------------------------------------------------


def test_stomped_macros_are_found_by_what_only_the_compiled_code_says() -> None:
    assert found(tricks.stomped_doc()) == [("macro-suspicious", "VBA.Stomped"), ("macro", "VBA.Project")]
    assert detail(tricks.stomped_doc(), "VBA.Stomped") == "ThisDocument: no-such-program.invalid"


def test_compiled_code_that_agrees_with_its_source_is_honest() -> None:
    source = 'Sub Greet()\n    MsgBox "Good morning, ""all"""\nEnd Sub\n'
    pcode = bytes(64) + tricks.literal('Good morning, "all"') + bytes(32)
    assert found(cfb.write(office.vba_streams(source, pcode=pcode))) == [("macro", "VBA.Project")]


def test_compiled_code_without_any_source_is_stomped() -> None:
    streams = office.vba_streams("", pcode=bytes(6000))
    streams["VBA/ThisDocument"] = bytes(6000) + cfb.compress(b'Attribute VB_Name = "ThisDocument"\r\n')
    assert ("macro-suspicious", "VBA.Stomped") in found(cfb.write(streams))


# --- encryption -----------------------------------------------------------------------------------------------------


def locked(document: bytes, password: str) -> bytes:
    out = io.BytesIO()
    OOXMLFile(io.BytesIO(document)).encrypt(password, out)
    return out.getvalue()


FILLER = {"word/media/noise.bin": random.Random(1).randbytes(9000)}
SECRET = office.plain_docx(members=FILLER)


def test_a_document_with_offices_own_password_is_opened() -> None:
    assert decrypt.open_document(locked(SECRET, "VelvetSweatshop")) == (SECRET, "VelvetSweatshop")


def test_a_document_is_opened_with_a_password_that_is_known_and_no_other() -> None:
    closed = locked(SECRET, "tomato")
    assert decrypt.open_document(closed, ("potato",)) is None
    assert decrypt.open_document(closed, ("potato", "tomato")) == (SECRET, "tomato")
    answers = engine.scan(closed, "ole", SHA)
    assert engine.unlock(closed, answers, SHA) == (answers, b"")
    told, plain = engine.unlock(closed, answers, SHA, ("tomato",))
    assert plain == SECRET
    assert [(one.category, one.detail) for one in told if isinstance(one, Finding)] == [
        ("encrypted", "opened with the password tomato")
    ]


def test_what_is_in_an_opened_document_is_examined() -> None:
    document = office.template_docx()
    closed = locked(office.plain_docx(members={**FILLER, "word/vbaProject.bin": cfb.write(
        office.vba_streams(office.MELISSA_SOURCE))}), "VelvetSweatshop")  # fmt: skip
    examination = examine.Examiner(Limits()).examine(closed, path="1")
    assert "macro-replication" in {one.category for one in examination.findings}
    assert examination.unscanned == ()
    assert examine.Examiner(Limits()).examine(document, path="1").findings[0].category == "external-template"


def test_rounds_are_paid_before_they_are_run() -> None:
    closed = locked(SECRET, "VelvetSweatshop").replace(b'spinCount="100000"', b'spinCount="9999999"')
    start = time.process_time()
    assert decrypt.open_document(closed) is None
    assert time.process_time() - start < 1


@given(st.integers(0, 20_000), st.binary(min_size=1, max_size=8))
def test_a_damaged_encrypted_document_never_raises(at: int, damage: bytes) -> None:
    at %= len(LOCKED)
    data = LOCKED[:at] + damage + LOCKED[at + len(damage) :]
    answers = engine.scan(data, "ole", SHA)
    told, _ = engine.unlock(data, answers, SHA, ("x",)) if b'"100000"' not in data else (answers, b"")
    assert all(isinstance(one, Finding | Unscanned) for one in told)


LOCKED = locked(SECRET, "tomato").replace(b'spinCount="100000"', b'spinCount="100"   ')


def test_encrypted_slides_are_told() -> None:
    user = struct.pack("<HHIII", 0, 0x0FF6, 20, 20, 0xF3D1C4DF) + bytes(20)
    slides = cfb.write({"Current User": user, "PowerPoint Document": bytes(5000)})
    assert ("encrypted", "Encrypted.Document") in found(slides)

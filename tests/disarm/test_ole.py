"""What is taken out of documents of Office 97-2003, and that all else stays."""

from __future__ import annotations

import io
import struct
import zlib

import olefile
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oletools import olevba

from netinspect.disarm import biff, compound, ole, slides
from netinspect.disarm.contract import CannotClean, Cleaned
from netinspect.limits import Limits
from netinspect.samples import cfb, office, tricks
from tests.disarm import documents as made
from tests.disarm.looks import examine

LIMITS = Limits()
BEGIN, SEPARATE, END = "\x13", "\x14", "\x15"


def cleaned(data: bytes) -> Cleaned:
    """Clean, and see to what holds for every cleaned document."""
    result = ole.clean(data, LIMITS)
    if not result.removed:
        assert result.data == data
        return result
    seen = examine(result.data)
    assert not [finding for finding in seen.findings if finding.severity < 3 or finding.category != "encrypted"]
    assert not seen.unscanned
    assert ole.clean(result.data, LIMITS) == Cleaned(result.data)
    assert ole.clean(data, LIMITS) == result
    return result


def streams(data: bytes) -> dict[str, bytes]:
    with olefile.OleFileIO(io.BytesIO(data), raise_defects=olefile.DEFECT_INCORRECT) as read:
        return {"/".join(path): read.openstream(path).read() for path in read.listdir()}


def what(result: Cleaned) -> set[str]:
    return {removal.what for removal in result.removed}


# --- the compound file ----------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.text(
            st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="/\\:!"), min_size=1, max_size=31
        ).filter(lambda name: len(name.upper()) <= 31),
        st.integers(0, 9000),
        max_size=20,
    ),
)
def test_what_is_written_is_read_again(sizes: dict[str, int]) -> None:
    sizes = {name.upper(): size for name, size in sizes.items()}
    root = compound.Entry("Root Entry", clsid=b"c" * 16, created=1, modified=2)
    folder = compound.Entry(
        "~folder", children=[compound.Entry(name, bytes([size % 251]) * size) for name, size in sizes.items()]
    )
    root.children = [folder, compound.Entry("~stream", b"x")]
    data = compound.write(root)
    read = compound.read(data, LIMITS)
    assert {path: entry.data for path, entry in read.root.walk() if entry.data is not None} == {
        path: entry.data for path, entry in root.walk() if entry.data is not None
    }
    assert (read.root.clsid, read.root.created, read.orphans) == (root.clsid, 1, 0)
    assert compound.write(read.root) == compound.write(compound.read(compound.write(read.root), LIMITS).root)
    assert streams(data) == {f"~folder/{name}": bytes([size % 251]) * size for name, size in sizes.items()} | {
        "~stream": b"x"
    }


def test_a_file_with_further_tables_of_sectors_is_written() -> None:
    root = compound.Entry(
        "Root Entry", children=[compound.Entry("big", bytes(9_000_000)), compound.Entry("b", b"b" * 5000)]
    )
    data = compound.write(root)
    assert compound.read(data, LIMITS).root.child("B").data == b"b" * 5000  # type: ignore[union-attr]
    assert len(streams(data)["big"]) == 9_000_000


@pytest.mark.parametrize("at", [30, 44, 48, 60, 68, 76])
def test_a_broken_compound_file_is_not_cleaned(at: int) -> None:
    data = bytearray(made.doc("text"))
    data[at : at + 4] = b"\xf0\xff\xff\x0f"
    with pytest.raises(CannotClean):
        ole.clean(bytes(data), LIMITS)


def test_streams_that_share_sectors_do_not_grow() -> None:
    root = compound.Entry(
        "Root Entry", children=[compound.Entry("WordDocument", bytes(20_000)), compound.Entry("1Table", bytes(20_000))]
    )
    data = bytearray(compound.write(root))
    read = compound.read(bytes(data), LIMITS)
    assert read.orphans == 0
    start = data.find("1Table".encode("utf-16-le"))
    data[start + 116 : start + 124] = data[data.find("WordDocument".encode("utf-16-le")) + 116 :][:4] + struct.pack(
        "<I", 40_000
    )
    with pytest.raises(CannotClean):
        compound.read(bytes(data), LIMITS)


def test_entries_that_no_tree_leads_to_are_left_out() -> None:
    data = bytearray(made.doc("text", {"Macros/VBA/dir": b"x" * 5000}))
    at = data.find("Root Entry".encode("utf-16-le"))
    count = len(data)
    for sid in range(1, 8):
        entry = at + 128 * sid
        if data[entry : entry + 12] == "Macros".encode("utf-16-le"):
            data[entry + 76 : entry + 80] = b"\xff" * 4
    assert len(data) == count
    result = cleaned(bytes(data))
    assert "orphan" in what(result)
    assert b"x" * 100 not in result.data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no compound file"),
        (cfb.write({"EncryptedPackage": b"x", "EncryptionInfo": b"y"}), "encrypted"),
        (cfb.write({"__properties_version1.0": bytes(100)}), "no document"),
        (made.vba_project(), "no document"),
        (made.xls(tricks.biff(0x2F, b"\1\0")), "encrypted"),
        (made.ppt(extra={"Current User": bytes(12) + b"\xdf\xc4\xd1\xf3" + bytes(16)}), "encrypted"),
        (cfb.write({"WordDocument": b"\xdc\xa5\x65\0".ljust(4096, b"\0")}), "Word 97"),
    ],
)
def test_what_cannot_be_cleaned_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(CannotClean, match=reason):
        ole.clean(data, LIMITS)


def test_an_encrypted_document_is_not_cleaned() -> None:
    data = bytearray(made.doc("text"))
    data[data.find(b"\xec\xa5\xc1\0") + 11] |= 1
    with pytest.raises(CannotClean, match="encrypted"):
        ole.clean(bytes(data), LIMITS)


# --- all documents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "make"), [("Macros/", made.doc), ("_VBA_PROJECT_CUR/", None), ("Elsewhere/", made.doc)]
)
def test_a_vba_project_goes(root: str, make: object) -> None:
    project = office.vba_streams(office.MELISSA_SOURCE, root=root)
    data = made.xls(tricks.biff(0xD3, b""), extra=project) if make is None else made.doc("text", project)
    result = cleaned(data)
    left = streams(result.data)
    assert not [path for path in left if path.startswith(root)]
    parser = olevba.VBA_Parser("a.doc", data=result.data)
    assert not parser.detect_vba_macros()
    parser.close()


def test_the_samples_are_cleaned() -> None:
    for data in (
        office.melissa_doc(),
        office.xlm_xls(),
        tricks.xlm_xls(110, start=True),
        tricks.dde_xls(),
        tricks.template_doc(),
    ):
        assert cleaned(data).removed


@pytest.mark.parametrize(
    "extra",
    [
        {"ObjectPool/_1/\x01Ole10Native": b"\4\0\0\0abcd"},
        {"ObjectPool/_1/\x03OCXNAME": b"x"},
        {"ObjectPool/_1/Equation Native": b"x"},
        {"MBD00012345/Workbook": b"x"},
        {"Payload": made.PROGRAM},
        {"\x01Ole": bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b") + b"h"},
        {"MsoDataStore/a/Item": made.PROGRAM},
        {"Data": b"x" * 10 + b"\0Attribut" + b"y" * 10},
    ],
)
def test_what_no_document_needs_goes(extra: dict[str, bytes]) -> None:
    result = cleaned(made.doc("text", extra))
    assert result.removed
    assert set(streams(result.data)) == {"WordDocument", "1Table"}


def test_the_streams_of_a_document_stay() -> None:
    extra = {
        "\x05SummaryInformation": b"s" * 200,
        "Data": b"d" * 5000,
        "MsoDataStore/a/Item": b"<x/>",
        "\x01CompObj": b"c" * 100,
    }
    data = made.doc("text", extra)
    assert cleaned(data) == Cleaned(data)
    result = cleaned(made.doc("text", extra | {"Macros/VBA/dir": b"x"}))
    assert {name: content for name, content in streams(result.data).items() if name in extra} == extra


def test_an_archive_behind_the_document_goes() -> None:
    result = cleaned(made.doc("text") + made.word(""))
    assert what(result) == {"hidden data"}
    assert b"PK" not in result.data


def test_a_class_that_is_no_document_goes() -> None:
    data = bytearray(made.doc("text"))
    at = data.find("Root Entry".encode("utf-16-le"))
    data[at + 80 : at + 96] = bytes.fromhex("d8f45030b598cf11bb8200aa00bdce0b")
    assert what(cleaned(bytes(data))) == {"class"}


# --- Word -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("pieces", [1, 3, 40])
@pytest.mark.parametrize(
    "code",
    [
        "DDEAUTO c:\\\\no-such x",
        ' "DDE" no-such x',
        "INCLUDETEXT http://no-such.invalid/a",
        "LINK Word.Document http://no-such.invalid",
        f"{BEGIN} QUOTE 68 68 69 {SEPARATE}DDE{END} no-such x",
        f"D{BEGIN} QUOTE 68 69 {SEPARATE}DE{END} no-such x",
        'HYPERLINK "file:///no-such.exe"',
    ],
)
def test_fields_that_fetch_become_blank(code: str, pieces: int, wide: bool) -> None:
    text = f"Before {BEGIN}{code}{SEPARATE}Result{END} After\r"
    data = made.doc(text, wide=wide, pieces=pieces)
    result = cleaned(data)
    assert what(result) & {"dde", "field"}
    stream = streams(result.data)["WordDocument"]
    assert len(stream) == len(streams(data)["WordDocument"])
    readable = stream.replace(b"\0", b"")
    assert b"no-such" not in readable
    if pieces == 1:
        assert b"Before \x13" in readable
        assert b"\x14Result\x15 After" in readable


@pytest.mark.parametrize("code", ["PAGE", f"IF {BEGIN}PAGE{SEPARATE}1{END} = 1", "HYPERLINK \\l mark", "SEQ DDE"])
def test_other_fields_stay(code: str) -> None:
    data = made.doc(f"a {BEGIN}{code}{SEPARATE}b{END} c")
    assert cleaned(data) == Cleaned(data)


def test_dde_outside_of_the_text_goes_too() -> None:
    data = cfb.write(
        {
            "WordDocument": struct.pack("<HH", 0xA5EC, 0xC1).ljust(3000, b"\0") + b"\x13 DDE a b".ljust(2000),
            "0Table": bytes(5000),
        }
    )
    assert what(cleaned(data)) == {"dde"}


def test_a_template_elsewhere_goes_and_the_other_names_stay() -> None:
    result = cleaned(tricks.template_doc())
    assert what(result) == {"template"}
    assert "template.invalid".encode("utf-16-le") not in result.data


def test_key_assignments_go_with_the_macros() -> None:
    result = cleaned(made.doc("text", {"Macros/VBA/dir": b"x"}))
    assert streams(result.data)["WordDocument"][made.FIB + 8 * 24 :][:8] == bytes(8)


# --- Excel ----------------------------------------------------------------------------------------------------------


def test_macro_sheets_become_empty_and_keep_their_place() -> None:
    data = made.xls(sheets=((0, 0x10), (1, 0x40), (0, 0x10), (0, 0x40)))
    result = cleaned(data)
    assert what(result) == {"xlm"}
    before, after = streams(data)["Workbook"], streams(result.data)["Workbook"]
    assert len(after) == len(before)
    places = [at for at in range(len(before) - 4) if before[at : at + 4] == b"\x85\0\x0e\0"]
    for number, at in enumerate(places):
        assert after[at + 9] == 0
        (sheet,) = struct.unpack_from("<I", after, at + 4)
        assert after[sheet + 6 : sheet + 8] == b"\x10\0"
        kept = number in (0, 2)
        assert (after[sheet + 20 : sheet + 22] == b"\x06\0") == kept
        assert (after[sheet:][:60] == before[sheet:][:60]) == kept


@pytest.mark.parametrize(
    "record",
    [
        made.name_record(b"\x01", flags=0x20, formula=b"\x3a\0\0"),
        made.name_record(b"Auto_Open12"),
        made.name_record(b"f", flags=0x0B),
        made.name_record(b"n", formula=b"\x17\x01\x00x\x42\x01\x6e\x00"),
    ],
)
def test_names_that_start_macros_lose_their_meaning(record: bytes) -> None:
    data = made.xls(record, tricks.biff(0x00FC, b"shared strings"))
    result = cleaned(data)
    assert what(result) == {"xlm"}
    assert b"shared strings" in result.data
    assert len(streams(result.data)["Workbook"]) == len(streams(data)["Workbook"])


@pytest.mark.parametrize("ole_link", [False, True])
def test_links_to_programs_become_names_without_meaning(ole_link: bool) -> None:
    result = cleaned(tricks.dde_xls(ole=ole_link))
    assert what(result) == {"dde"}
    assert b"no-such-server" not in result.data


def test_what_says_that_there_is_a_project_goes_with_it() -> None:
    table = tricks.biff(0x00FF, struct.pack("<HIHH", 8, 1000, 4, 0))
    result = cleaned(made.xls(tricks.biff(0x01BD, b""), tricks.biff(0x00D3, b""), table, sheets=((0, 0x10),)))
    book = streams(result.data)["Workbook"]
    at = book.find(b"\xff\0\x0a\0")
    assert struct.unpack_from("<HI", book, at + 4) == (8, 992)
    (sheet,) = struct.unpack_from("<I", book, book.find(b"\x85\0\x0e\0") + 4)
    assert book[sheet : sheet + 2] == b"\x09\x08"


def test_links_to_workbooks_stay() -> None:
    data = made.xls(tricks.biff(0x01AE, b"\1\0\x06\0\0\x01b.xls"), tricks.biff(0x01AE, b"\1\0\1\4"))
    assert cleaned(data) == Cleaned(data)


@pytest.mark.parametrize("stream", [b"", b"\x09\x08\x10\0", b"\x09\x08\xff\xff" + bytes(100), bytes(5000)])
def test_a_damaged_workbook_is_not_cleaned(stream: bytes) -> None:
    with pytest.raises(CannotClean):
        biff.clean(stream)


# --- PowerPoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_objects_and_macros_of_slides_are_emptied(packed: bool) -> None:
    project = made.ppt_object(made.vba_project(), packed=packed)
    info = made.ppt_record(0x0400, struct.pack("<III", 5, 1, 2), version=2)
    data = made.ppt(info, project, made.ppt_record(0x0FA8, b"words of a slide"))
    result = cleaned(data)
    assert what(result) == {"object", "vba"}
    stream = streams(result.data)["PowerPoint Document"]
    assert len(stream) == len(streams(data)["PowerPoint Document"])
    assert b"words of a slide" in stream
    at = stream.find(b"\x10\x00\x11\x10")
    inner = zlib.decompressobj().decompress(stream[at + 12 :])
    assert not compound.read(inner, LIMITS).root.children


def test_objects_that_no_walk_leads_to_are_emptied() -> None:
    hidden = made.ppt_record(0x0FA8, made.ppt_object(made.vba_project()))
    assert what(cleaned(made.ppt(hidden))) == {"object"}


def test_clicks_that_start_programs_do_nothing() -> None:
    clicks = [made.ppt_record(0x0FF3, bytes(8) + bytes((action,)) + bytes(7)) for action in range(8)]
    result = cleaned(made.ppt(*clicks))
    assert {(removal.what, removal.where) for removal in result.removed} == {
        ("action", "macro"),
        ("action", "program"),
        ("action", "object"),
    }


@pytest.mark.parametrize(
    ("target", "stays"),
    [("https://example.org", True), ("256,1,Title", True), ("c:\\a.exe", False), ("file:///a", False)],
)
def test_hyperlinks_of_slides(target: str, stays: bool) -> None:
    text = made.ppt_record(0x0FBA, target.encode("utf-16-le"), version=0x10)
    assert bool(cleaned(made.ppt(made.ppt_record(0x0FD7, text, version=0xF))).removed) is not stays


@given(st.binary(max_size=300))
def test_any_octets_are_a_deck_or_not(octets: bytes) -> None:
    try:
        result, removed = slides.clean(octets)
    except CannotClean:
        return
    assert len(result) == len(octets)
    assert bool(removed) == (result is not octets)


# --- everything -----------------------------------------------------------------------------------------------------

SAMPLES = [
    office.melissa_doc(),
    office.xlm_xls(),
    tricks.xlm_xls(110, start=True),
    tricks.dde_xls(),
    tricks.template_doc(),
    made.doc(f"a {BEGIN}DDE {BEGIN}QUOTE 1{SEPARATE}x{END}{SEPARATE}c{END}", pieces=3),
    made.xls(made.name_record(b"\x01", flags=0x20), sheets=((1, 0x40), (0, 0x10))),
    made.ppt(made.ppt_object(made.vba_project())),
]


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8),
    st.booleans(),
)
def test_hostile_octets_end_in_cannot_clean_at_worst(data: bytes, changes: list[tuple[int, int]], cut: bool) -> None:
    octets = bytearray(data)
    for at, value in changes:
        octets[at % len(octets)] = value
    try:
        ole.clean(bytes(octets[: len(octets) // 2] if cut else octets), LIMITS)
    except CannotClean:
        return


@given(st.sampled_from(SAMPLES), st.data())
def test_hostile_streams_end_in_cannot_clean_at_worst(data: bytes, draw: st.DataObject) -> None:
    tree = compound.read(data, LIMITS).root
    places = [entry for _, entry in tree.walk() if entry.data]
    for _ in range(draw.draw(st.integers(1, 6))):
        entry = draw.draw(st.sampled_from(places))
        octets = bytearray(entry.data or b"")
        at = draw.draw(st.integers(0, 700))
        piece = draw.draw(
            st.sampled_from(
                [b"", b"\xff\xff", b"\0\0\0\0", b"\x13DDE ", b"\x10\0\x11\x10\xff\xff\xff\0\0\0\0\0\x78", b"\x09\x08"]
            )
        )
        octets[at : at + len(piece)] = piece
        entry.data = bytes(octets)
    try:
        ole.clean(compound.write(tree), LIMITS)
    except CannotClean:
        return

"""Cleaned documents open: LibreOffice makes the documents, the tests put into them what runs, and LibreOffice reads
what is left of them. One call for each step, for it starts slowly."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from netinspect.disarm import compound, ole, ooxml
from netinspect.disarm.contract import Cleaned
from netinspect.limits import Limits
from netinspect.samples import office
from tests.disarm import documents as made
from tests.disarm.looks import examine

pytestmark = pytest.mark.e2e

LIMITS = Limits()
_SPACES = {"office": "office", "text": "text", "table": "table", "draw": "drawing", "svg": "svg-compatible"}


def _odf(kind: str, element: str, body: str) -> str:
    root = "urn:oasis:names:tc:opendocument:xmlns"
    spaces = "".join(f' xmlns:{prefix}="{root}:{name}:1.0"' for prefix, name in _SPACES.items())
    mime = f'office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.{kind}"'
    inside = f"<office:body><office:{element}>{body}</office:{element}></office:body>"
    return f"{made.HEAD}<office:document{spaces} {mime}>{inside}</office:document>"


def _table(name: str, *cells: str) -> str:
    row = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>' for text in cells
    )
    return f'<table:table table:name="{name}"><table:table-row>{row}</table:table-row></table:table>'


TEXT = _odf(
    "text",
    "text",
    '<text:p>Words before</text:p><text:p>(DDEAUTO no-such-server "/c x"|Shown result) words after</text:p>',
)
SHEETS = _odf("spreadsheet", "spreadsheet", _table("One", "Words", "4711") + _table("Two", "Macro"))
SLIDES = _odf(
    "presentation",
    "presentation",
    '<draw:page draw:name="p1"><draw:frame svg:width="20cm" svg:height="3cm" svg:x="2cm" svg:y="2cm">'
    "<draw:text-box><text:p>Words of a slide</text:p></draw:text-box></draw:frame></draw:page>",
)


def _office(folder: Path, kind: str, *files: Path) -> None:
    program = shutil.which("soffice")
    if program is None or shutil.which("pdftotext") is None:
        pytest.fail("soffice or pdftotext is missing: `make test` installs them (TEST_PACKAGES in the Makefile)")
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    subprocess.run(
        [
            program,
            "--headless",
            "--norestore",
            profile,
            "--convert-to",
            kind,
            "--outdir",
            str(folder),
            *map(str, files),
        ],
        timeout=180,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


def _edited(data: bytes, edit: Callable[[compound.Entry], None]) -> bytes:
    root = compound.read(data, LIMITS).root
    edit(root)
    return compound.write(root)


def _project(root: str) -> compound.Entry:
    tree = compound.read(made.vba_project(), LIMITS).root
    return compound.Entry(root, children=tree.children)


def _with_field(root: compound.Entry) -> None:
    stream = root.child("WordDocument")
    assert stream is not None
    assert stream.data is not None
    data = stream.data
    at = data.find("(DDEAUTO".encode("utf-16-le"))
    step = 2 if at >= 0 else 1
    at = at if at >= 0 else data.find(b"(DDEAUTO")
    assert at >= 0
    end = data.find(b")", at)
    edges = {b"(": b"\x13", b"|": b"\x14", b")": b"\x15"}
    field = b"".join(edges.get(data[place : place + 1], data[place : place + 1]) for place in range(at, end + step))
    stream.data = data[:at] + field + data[end + step :]
    root.children += [_project("Macros"), compound.Entry("ObjectPool", children=[compound.Entry("_1", b"x")])]


def _with_macro_sheet(root: compound.Entry) -> None:
    stream = root.child("Workbook")
    assert stream is not None
    book = bytearray(stream.data or b"")
    at, sheets = 0, []
    while book[at : at + 2] != b"\x0a\0":
        if book[at : at + 2] == b"\x85\0":
            sheets.append(at)
        at += 4 + int.from_bytes(book[at + 2 : at + 4], "little")
    book[sheets[1] + 4 + 5] = 1
    (place,) = struct.unpack_from("<I", book, sheets[1] + 4)
    book[place + 6 : place + 8] = b"\x40\0"
    stream.data = bytes(book)
    root.children.append(_project("_VBA_PROJECT_CUR"))


def _with_object(root: compound.Entry) -> None:
    stream = root.child("PowerPoint Document")
    assert stream is not None
    stream.data = (stream.data or b"") + made.ppt_object(made.vba_project())


def _with_project(data: bytes, main: str, folder: str) -> bytes:
    parts = made.members(data)
    kind = "http://schemas.microsoft.com/office/2006/relationships/vbaProject"
    link = f'<Relationship Id="rId999" Type="{kind}" Target="vbaProject.bin"/></Relationships>'.encode()
    name = f"{folder}/_rels/{main}.rels"
    parts[name] = parts[name].replace(b"</Relationships>", link)
    parts[f"{folder}/vbaProject.bin"] = made.vba_project()
    default = b'<Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>'
    parts["[Content_Types].xml"] = parts["[Content_Types].xml"].replace(b"</Types>", default)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def _workbook() -> bytes:
    words = '<row r="1"><c r="A1" t="inlineStr"><is><t>Words of a cell</t></is></c></row>'
    return made.workbook(words + made.cell("no-such|'/c x'!A1", "4711", place="A2"))


def _field_docx() -> bytes:
    body = made.field(made.code('DDEAUTO no-such-server "/c x"'), result="Shown result")
    body += '<w:p><w:hyperlink r:id="rId9"><w:r><w:t>Shown link</w:t></w:r></w:hyperlink></w:p>'
    return made.word(body, ("rId9", "hyperlink", "!file:///c:/a.exe"))


WORDS = {
    "letter.doc": ("Words before", "Shown result", "words after"), "melissa.docm": ("Test material.",),
    "field.docx": ("Before", "Shown result", "Shown link", "After"),
    "table.xls": ("Words", "4711"), "table.xlsx": ("Words of a cell", "4711"),
    "slides.ppt": ("Words of a slide",), "slides.pptx": ("Words of a slide",),
}  # fmt: skip


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, Cleaned]]:
    """What came and what is left, by name."""
    folder = tmp_path_factory.mktemp("office")
    (folder / "letter.fodt").write_text(TEXT)
    (folder / "table.fods").write_text(SHEETS)
    (folder / "slides.fodp").write_text(SLIDES)
    for kind, source in (
        ("doc", "letter.fodt"),
        ("xls", "table.fods"),
        ("ppt", "slides.fodp"),
        ("pptx", "slides.fodp"),
    ):
        _office(folder, kind, folder / source)
    harmful = {
        "letter.doc": _edited((folder / "letter.doc").read_bytes(), _with_field),
        "melissa.docm": office.melissa_docm(),
        "field.docx": _field_docx(),
        "table.xls": _edited((folder / "table.xls").read_bytes(), _with_macro_sheet),
        "table.xlsx": _with_project(_workbook(), "workbook.xml", "xl"),
        "slides.ppt": _edited((folder / "slides.ppt").read_bytes(), _with_object),
        "slides.pptx": _with_project((folder / "slides.pptx").read_bytes(), "presentation.xml", "ppt"),
    }
    return {
        name: (data, (ole if name[-4:] in (".doc", ".xls", ".ppt") else ooxml).clean(data, LIMITS))
        for name, data in harmful.items()
    }


def test_what_was_put_in_is_found_and_then_is_not(documents: dict[str, tuple[bytes, Cleaned]]) -> None:
    assert documents.keys() == WORDS.keys()
    for name, (data, result) in documents.items():
        assert result.removed, name
        assert examine(data).findings, name
        assert not examine(result.data).findings, name


def test_each_opens_and_shows_its_words(documents: dict[str, tuple[bytes, Cleaned]], tmp_path: Path) -> None:
    files = []
    for number, (name, (_, result)) in enumerate(documents.items()):
        files.append(tmp_path / f"{number}-{name}")
        files[-1].write_bytes(result.data)
    _office(tmp_path, "pdf", *files)
    for file, words in zip(files, WORDS.values(), strict=True):
        pdf = file.with_suffix(".pdf")
        text = subprocess.run(["pdftotext", pdf, "-"], check=True, capture_output=True, text=True, timeout=30).stdout
        for word in words:
            assert word in " ".join(text.split()), file.name
        assert "no-such" not in text

"""Inert Office documents that carry VBA macros: real containers, macros that can do nothing.

The macro of `melissa_*` shows what the Melissa worm of 1999 showed to an analyst (runs by itself, switches the macro
protection off, writes itself into the Normal template, walks the Outlook address book) in words of our own. Every
statement stands behind `If False Then`, the names lead nowhere, and there is no compiled p-code.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO

from netinspect.samples import cfb

MELISSA_SOURCE = """\
' Test material of netinspect. Nothing below can run: see the condition.
Private Sub Document_Open()
    AutoOpen
End Sub

Sub AutoOpen()
    Dim templateProject, mailProgram, book, entry, letter
    If False Then
        Options.VirusProtection = False
        System.PrivateProfileString("", "HKEY_CURRENT_USER\\Software\\Test\\Office\\9.0\\Secur" & "ity", "Level") = 1&
        Set templateProject = NormalTemplate _
            .VBProject.VBComponents.Item(1)
        templateProject.CodeModule.AddFromString "' nothing"
        Set mailProgram = CreateObject("Out" & "look.Application")
        For Each book In mailProgram.GetNameSpace("MAPI").AddressLists
            For Each entry In book.AddressEntries
                Set letter = mailProgram.CreateItem(0)
                letter.Recipients.Add entry
                letter.Send
            Next
        Next
    End If
End Sub
"""

HARMLESS_SOURCE = """\
Function Total(first As Double, second As Double) As Double
    Total = first + second
End Function
"""

_DOCUMENT_ATTRIBUTES = """\
Attribute VB_Name = "ThisDocument"
Attribute VB_Base = "1Normal.ThisDocument"
Attribute VB_GlobalNameSpace = False
Attribute VB_Creatable = False
Attribute VB_PredeclaredId = True
Attribute VB_Exposed = True
Attribute VB_TemplateDerived = True
Attribute VB_Customizable = True
"""

_CONTENT_TYPES = """\
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Default Extension="xml" ContentType="application/xml"/>{extra}\
<Override PartName="/word/document.xml" ContentType="{main}"/></Types>"""

_RELATIONSHIPS = """\
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{entries}</Relationships>"""

_OFFICE_RELATIONSHIP = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"

_BODY = """\
<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>\
<w:p><w:r><w:t>{text}</w:t></w:r></w:p>{fields}</w:body></w:document>"""


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack("<HI", kind, len(data)) + data


def _dir_stream(modules: Mapping[str, int], offset: int = 0) -> bytes:
    """The `dir` stream ([MS-OVBA] 2.3.4.2), uncompressed; `modules` gives each name its type record's id.

    `offset` is where the source starts in each module's stream: before it stands the p-code, if there is any.
    """
    out = [
        _record(0x0001, struct.pack("<I", 3)),  # PROJECTSYSKIND: 64-bit Windows
        _record(0x0002, struct.pack("<I", 0x409)),
        _record(0x0014, struct.pack("<I", 0x409)),
        _record(0x0003, struct.pack("<H", 1252)),
        _record(0x0004, b"Project"),
        _record(0x0005, b"") + _record(0x0040, b""),
        _record(0x0006, b"") + _record(0x003D, b""),
        _record(0x0007, struct.pack("<I", 0)),
        _record(0x0008, struct.pack("<I", 0)),
        struct.pack("<HIIH", 0x0009, 4, 1, 1),  # PROJECTVERSION: its size field does not count the minor version
        _record(0x000C, b"") + _record(0x003C, b""),
        _record(0x000F, struct.pack("<H", len(modules))),
        _record(0x0013, struct.pack("<H", 0xFFFF)),
    ]
    for name, kind in modules.items():
        narrow, wide = name.encode("cp1252"), name.encode("utf-16-le")
        out += [
            _record(0x0019, narrow) + _record(0x0047, wide),
            _record(0x001A, narrow) + _record(0x0032, wide),
            _record(0x001C, b"") + _record(0x0048, b""),
            _record(0x0031, struct.pack("<I", offset)),
            _record(0x001E, struct.pack("<I", 0)),
            _record(0x002C, struct.pack("<H", 0xFFFF)),
            _record(kind, b""),
            _record(0x002B, b""),
        ]
    out.append(_record(0x0010, b""))
    return b"".join(out)


def _crlf(text: str) -> bytes:
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode("cp1252", "replace")


def vba_streams(
    source: str, *, modules: Mapping[str, str] | None = None, root: str = "", pcode: bytes = b""
) -> dict[str, bytes]:
    """The streams of a VBA project: `source` stands in ThisDocument, `modules` adds further ones by name.

    `pcode` is put before the source of each module, where compiled code stands; it need not be any.
    """
    sources = {"ThisDocument": _DOCUMENT_ATTRIBUTES + source}
    for name, text in (modules or {}).items():
        sources[name] = f'Attribute VB_Name = "{name}"\n{text}'
    kinds = {name: 0x0022 if name == "ThisDocument" else 0x0021 for name in sources}
    project = [
        'ID="{00000000-0000-0000-0000-000000000000}"',
        "Document=ThisDocument/&H00000000",
        *(f"Module={name}" for name in sources if name != "ThisDocument"),
        'Name="Project"',
        'HelpContextID="0"',
        'VersionCompatible32="393222000"',
        "",
    ]
    streams = {
        "PROJECT": "\r\n".join(project).encode("ascii"),
        "VBA/_VBA_PROJECT": struct.pack("<HHBH", 0x61CC, 0xFFFF, 0, 0),  # 2.3.4.1: version 0xFFFF, no cache
        "VBA/dir": cfb.compress(_dir_stream(kinds, len(pcode))),
    }
    streams |= {f"VBA/{name}": pcode + cfb.compress(_crlf(text)) for name, text in sources.items()}
    return {f"{root}{path}": data for path, data in streams.items()}


def macro_doc(source: str, *, modules: Mapping[str, str] | None = None, text: str = "Test material.") -> bytes:
    """A Word 97 file (OLE2) with a VBA project."""
    # [MS-DOC] 2.5.1: wIdent 0xA5EC, nFib of Word 97, and the flag that the tables are in 1Table.
    fib = struct.pack("<HHHHHH", 0xA5EC, 0x00C1, 0, 0x0409, 0, 0x0200)
    streams = {
        "WordDocument": fib.ljust(1536, b"\0") + text.encode("cp1252", "replace").ljust(2560, b"\0"),
        "1Table": bytes(4096),
        **vba_streams(source, modules=modules, root="Macros/"),
    }
    return cfb.write(streams)


def plain_doc(text: str = "Test material.") -> bytes:
    """A Word 97 file without macros."""
    fib = struct.pack("<HHHHHH", 0xA5EC, 0x00C1, 0, 0x0409, 0, 0x0200)
    return cfb.write({"WordDocument": fib.ljust(4096, b"\0") + text.encode("cp1252", "replace"), "1Table": bytes(4096)})


def _docx(
    *, macro: bool, text: str, members: Mapping[str, bytes], document_entries: str = "", fields: str = ""
) -> bytes:
    kind = "application/vnd.ms-word.document.macroEnabled.main+xml" if macro else (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    )  # fmt: skip
    extra = '<Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/>' if macro else ""
    main = f'<Relationship Id="rId1" Type="{_OFFICE_RELATIONSHIP}/officeDocument" Target="word/document.xml"/>'
    parts = {
        "[Content_Types].xml": _CONTENT_TYPES.format(extra=extra, main=kind).encode(),
        "_rels/.rels": _RELATIONSHIPS.format(entries=main).encode(),
        "word/document.xml": _BODY.format(text=text, fields=fields).encode(),
        "word/_rels/document.xml.rels": _RELATIONSHIPS.format(entries=document_entries).encode(),
        **members,
    }
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def macro_docm(source: str, *, modules: Mapping[str, str] | None = None, part: str = "word/vbaProject.bin") -> bytes:
    """A Word 2007 file with a VBA project; `part` is the name under which the project is kept."""
    entry = (
        '<Relationship Id="rId9" Type="http://schemas.microsoft.com/office/2006/relationships/vbaProject" '
        f'Target="{part.removeprefix("word/")}"/>'
    )
    project = cfb.write(vba_streams(source, modules=modules))
    return _docx(macro=True, text="Test material.", members={part: project}, document_entries=entry)


def plain_docx(text: str = "Test material.", members: Mapping[str, bytes] | None = None) -> bytes:
    """A Word 2007 file without macros; `members` are added as they are."""
    return _docx(macro=False, text=text, members=members or {})


def template_docx(target: str = "http://template.invalid/report.dotm") -> bytes:
    """A Word 2007 file whose settings name a template elsewhere."""
    kind = f"{_OFFICE_RELATIONSHIP}/attachedTemplate"
    entry = f'<Relationship Id="rId1" Type="{kind}" Target="{target}" TargetMode="External"/>'
    return plain_docx(members={"word/_rels/settings.xml.rels": _RELATIONSHIPS.format(entries=entry).encode()})


def dde_docx() -> bytes:
    """A Word 2007 file with a DDEAUTO field whose server does not exist."""
    field = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> DDEA</w:instrText></w:r>'
        "<w:r><w:instrText>UTO no-such-server topic </w:instrText></w:r>"
        '<w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'
    )
    return _docx(macro=False, text="Test material.", members={}, fields=field)


def xlm_xls() -> bytes:
    """An Excel 97 file with one Excel 4 macro sheet, which is empty."""

    def biff(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", kind, len(data)) + data

    start = biff(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0))
    sheet = biff(0x0085, struct.pack("<IBB", 0, 0, 1) + b"\x06\x00Macro1")  # [MS-XLS] 2.4.28: dt 1 is a macro sheet
    return cfb.write({"Workbook": (start + sheet + biff(0x000A, b"")).ljust(4096, b"\0")})


def melissa_doc() -> bytes:
    """Word 97: the Melissa behaviours, inert."""
    return macro_doc(MELISSA_SOURCE)


def melissa_docm() -> bytes:
    """Word 2007: the Melissa behaviours, inert."""
    return macro_docm(MELISSA_SOURCE)

"""Office documents for the tests of the cleaners, each with one thing in it; nothing in them can do anything."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from netinspect.samples import cfb, office, tricks

REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
X = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
OPEN = "application/vnd.openxmlformats-officedocument."
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
PROGRAM = b"MZ" + bytes(62) + b"PE\0\0" + bytes(200)

Rel = tuple[str, str, str]
"""Id, type's last step, target; a target that begins with `!` is external."""


def relations(*links: Rel) -> bytes:
    out = []
    for name, kind, target in links:
        mode = ' TargetMode="External"' if target.startswith("!") else ""
        where = target.lstrip("!").replace("&", "&amp;")
        out.append(f'<Relationship Id="{name}" Type="{REL}/{kind}" Target="{where}"{mode}/>')
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'{HEAD}<Relationships xmlns="{space}">{"".join(out)}</Relationships>'.encode()


def package(
    main: str, main_type: str, parts: Mapping[str, bytes | str], types: Mapping[str, str] | None = None
) -> bytes:
    """A package of `parts`, of which `main` is the document."""
    overrides = {main: main_type, **(types or {})}
    listed = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, kind in overrides.items())
    defaults = {
        "rels": "application/vnd.openxmlformats-package.relationships+xml",
        "xml": "application/xml",
        "png": "image/png",
        "bin": f"{OPEN}oleObject",
        "xlsx": f"{OPEN}spreadsheetml.sheet",
    }
    listed = "".join(f'<Default Extension="{end}" ContentType="{kind}"/>' for end, kind in defaults.items()) + listed
    space = "http://schemas.openxmlformats.org/package/2006/content-types"
    members: dict[str, bytes | str] = {
        "[Content_Types].xml": f'{HEAD}<Types xmlns="{space}">{listed}</Types>',
        "_rels/.rels": relations(("rId1", "officeDocument", main)),
        **parts,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            octets = content.encode() if isinstance(content, str) else content
            archive.writestr(zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6)), octets, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


# --- Word -----------------------------------------------------------------------------------------------------------


def word(
    body: str, *links: Rel, parts: Mapping[str, bytes | str] | None = None, types: Mapping[str, str] | None = None
) -> bytes:
    document = (
        f'{HEAD}<w:document xmlns:w="{W}" xmlns:r="{REL}" xmlns:mc="{MC}" '
        f'xmlns:o="urn:schemas-microsoft-com:office:office" xmlns:v="urn:schemas-microsoft-com:vml" '
        f'xmlns:w14="urn:w14" mc:Ignorable="w14"><w:body>'
        f"<w:p><w:r><w:t>Before</w:t></w:r></w:p>{body}<w:p><w:r><w:t>After</w:t></w:r></w:p></w:body></w:document>"
    )
    made = {"word/document.xml": document, "word/_rels/document.xml.rels": relations(*links), **(parts or {})}
    return package("word/document.xml", f"{OPEN}wordprocessingml.document.main+xml", made, types)


def begin(inside: str = "") -> str:
    return f'<w:r><w:fldChar w:fldCharType="begin"/></w:r>{inside}'


def code(text: str, element: str = "instrText") -> str:
    return f"<w:r><w:rPr><w:b/></w:rPr><w:{element}>{text}</w:{element}></w:r>"


def shown(text: str) -> str:
    return f'<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>{text}</w:t></w:r>'


END = '<w:r><w:fldChar w:fldCharType="end"/></w:r>'


def field(*codes: str, result: str = "Result") -> str:
    return f"<w:p>{begin()}{''.join(codes)}{shown(result)}{END}</w:p>"


def quote(*numbers: int, result: str = "DDEAUTO") -> str:
    return begin(code(" QUOTE " + " ".join(map(str, numbers)) + " ")) + shown(result) + END


# --- Excel ----------------------------------------------------------------------------------------------------------


def workbook(
    rows: str, *, names: str = "", sheets: tuple[Rel, ...] = (), references: str = "",
    sheet_links: tuple[Rel, ...] = (), after: str = "", parts: Mapping[str, bytes | str] | None = None,
    types: Mapping[str, str] | None = None, calculated: bool = False,
) -> bytes:  # fmt: skip
    listed = '<sheet name="One" sheetId="1" r:id="rId1"/>' + "".join(
        f'<sheet name="More{number}" sheetId="{number}" r:id="{link[0]}"/>'
        for number, link in enumerate(sheets, 2)
        if link[1] in ("xlMacrosheet", "worksheet")
    )
    book = (
        f'{HEAD}<workbook xmlns="{X}" xmlns:r="{REL}"><sheets>{listed}</sheets>{references}'
        f"{f'<definedNames>{names}</definedNames>' if names else ''}</workbook>"
    )
    spaces = f'xmlns="{X}" xmlns:r="{REL}" xmlns:mc="{MC}"'
    sheet = f"{HEAD}<worksheet {spaces}><sheetData>{rows}</sheetData>{after}</worksheet>"
    chain = (("rId90", "calcChain", "calcChain.xml"),) if calculated else ()
    made: dict[str, bytes | str] = {
        "xl/workbook.xml": book,
        "xl/_rels/workbook.xml.rels": relations(("rId1", "worksheet", "worksheets/sheet1.xml"), *sheets, *chain),
        "xl/worksheets/sheet1.xml": sheet,
        "xl/worksheets/_rels/sheet1.xml.rels": relations(*sheet_links),
        **(parts or {}),
    }
    listed_types = {"xl/worksheets/sheet1.xml": f"{OPEN}spreadsheetml.worksheet+xml", **(types or {})}
    if calculated:
        made["xl/calcChain.xml"] = f'{HEAD}<calcChain xmlns="{X}"><c r="A1" i="1"/></calcChain>'
        listed_types["xl/calcChain.xml"] = f"{OPEN}spreadsheetml.calcChain+xml"
    return package("xl/workbook.xml", f"{OPEN}spreadsheetml.sheet.main+xml", made, listed_types)


def cell(formula: str, value: str = "42", attributes: str = "", place: str = "A1") -> str:
    return f'<row r="{place[1:]}"><c r="{place}"><f{attributes}>{formula}</f><v>{value}</v></c></row>'


# --- compound files -------------------------------------------------------------------------------------------------

FIB = 0x9A


def doc(text: str, extra: Mapping[str, bytes] | None = None, *, wide: bool = True, pieces: int = 1) -> bytes:
    """A Word 97 file with a table of pieces; they stand in the file in the reverse of their order."""
    step = -(-len(text) // pieces)
    parts = [text[at : at + step] for at in range(0, len(text), step)]
    octets = [part.encode("utf-16-le" if wide else "cp1252") for part in parts]
    fib = bytearray(struct.pack("<HHHHHH", 0xA5EC, 0x00C1, 0, 0x0409, 0, 0x0200).ljust(1024, b"\0"))
    stream, offsets = bytes(fib), {}
    for number in reversed(range(len(parts))):
        offsets[number] = len(stream)
        stream += octets[number]
    places, at = [0], 0
    for part in parts:
        at += len(part)
        places.append(at)
    table = struct.pack(f"<{len(places)}I", *places)
    for number in range(len(parts)):
        where = offsets[number] if wide else offsets[number] * 2 | 0x40000000
        table += struct.pack("<HIH", 0, where, 0)
    clx = b"\x02" + struct.pack("<I", len(table)) + table
    out = bytearray(stream.ljust(4096, b"\0"))
    struct.pack_into("<II", out, FIB + 8 * 33, 64, len(clx))
    struct.pack_into("<II", out, FIB + 8 * 24, 16, 32)
    return cfb.write({"WordDocument": bytes(out), "1Table": (bytes(64) + clx).ljust(4096, b"\0"), **(extra or {})})


def xls(*records: bytes, extra: Mapping[str, bytes] | None = None, sheets: tuple[tuple[int, int], ...] = ()) -> bytes:
    """An Excel 97 file: records of the globals, and sheets as (type in the list, type of the substream)."""
    start = tricks.biff(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 0, 0, 0))
    end = tricks.biff(0x000A, b"")
    listed = len(sheets) * (4 + 6 + 2 + 6)
    at = len(start) + listed + sum(map(len, records)) + len(end)
    out, bodies = start, b""
    for number, (kind, real) in enumerate(sheets):
        out += tricks.biff(0x0085, struct.pack("<IBB", at + len(bodies), 0, kind) + b"\x06\x00Sheet" + b"%d" % number)
        body = tricks.biff(0x0809, struct.pack("<HHHHII", 0x0600, real, 0, 0, 0, 0))
        tokens = b"\x17\x01\x00x" + struct.pack("<BBH", 0x42, 1, 110)
        body += tricks.biff(0x0006, struct.pack("<HHH8sHIH", 0, 0, 0, b"", 0, 0, len(tokens)) + tokens)
        bodies += body + end
    return cfb.write({"Workbook": (out + b"".join(records) + end + bodies).ljust(4096, b"\0"), **(extra or {})})


def name_record(name: bytes, *, flags: int = 0, formula: bytes = b"") -> bytes:
    head = struct.pack("<HBBHHHBBBBB", flags, 0, len(name), len(formula), 0, 0, 0, 0, 0, 0, 0)
    return tricks.biff(0x0018, head + name + formula)


def ppt_object(content: bytes, *, packed: bool = True) -> bytes:
    """An ExOleObjStg record."""
    if packed:
        body = struct.pack("<I", len(content)) + zlib.compress(content)
        return struct.pack("<HHI", 0x10, 0x1011, len(body)) + body
    return struct.pack("<HHI", 0, 0x1011, len(content)) + content


def ppt_record(kind: int, content: bytes, *, version: int = 0) -> bytes:
    return struct.pack("<HHI", version, kind, len(content)) + content


def ppt(*records: bytes, extra: Mapping[str, bytes] | None = None) -> bytes:
    inside = ppt_record(0x03E8, b"".join(records), version=0xF)
    return cfb.write({"PowerPoint Document": inside.ljust(4096, b"\0"), "Current User": bytes(32), **(extra or {})})


def vba_project() -> bytes:
    return cfb.write(office.vba_streams(office.MELISSA_SOURCE))

"""Office documents: VBA through oletools, Excel 4 macros, DDE, templates and objects from elsewhere, encryption.

Only candidates are looked into, after a look that costs microseconds: compound files, RTF, SYLK, text that carries a
packed VBA project (MHTML, Word 2003 XML, flat OPC). Plain text never goes to olevba, which takes any
text for a macro. Of OOXML the examiner gives the VBA project as a compound file of its own and the XML parts one by one
(`part`).

This runs in a worker: oletools is slow on hostile input and can fail in any way. Each failure is `Unscanned`.
"""

from __future__ import annotations

import html
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Final
from xml.etree.ElementTree import ParseError

import olefile
from oletools import olevba

from netinspect.files import kind as kinds
from netinspect.scan import vba
from netinspect.scan.contract import Category, Finding, Unscanned

ENGINE: Final = vba.ENGINE

FINGERPRINT: Final = f"oletools {olevba.__version__}"

# What olefile raises on hostile content, and what oletools does besides. Anything else is a crash of the worker.
_DAMAGED: Final = (OSError, ValueError, LookupError, struct.error, OverflowError)
_FAILURES: Final = (
    *_DAMAGED, olevba.OlevbaBaseException, ArithmeticError, AttributeError, TypeError, AssertionError, RuntimeError,
    EOFError, NameError, zlib.error, zipfile.BadZipFile, ParseError,
)  # fmt: skip

Answer = Sequence[Finding | Unscanned]

_OBJECT_STREAMS: Final = frozenset({"\x01OLE10NATIVE", "\x01OLE10FTEXE"})
_VBA_NAMES: Final = frozenset({"VBA", "_VBA_PROJECT", "_VBA_PROJECT_CUR"})


def scan(data: bytes, kind: str, sha256: str) -> Answer:
    """Look into one artifact; `()` when it is no candidate or nothing is in it."""
    try:
        if kind in kinds.OLES:
            return _compound(data, kind, sha256)
        if kind == "rtf":
            return _rtf(data, sha256)
        if kind == "sylk":
            return _sylk(data, sha256)
        if kind == "activemime" or (kind in _TEXTS and any(mark in data for mark in kinds.MACRO_MARKS)):
            return _macros(data, sha256)
    except _DAMAGED:
        return (Unscanned(ENGINE, "damaged document", sha256),)
    return ()


_TEXTS: Final = frozenset({"xml", "html", "mht", "eml", "text"})


def _macros(data: bytes, sha256: str) -> list[Finding | Unscanned]:
    """Take the source out and say what it does."""
    try:
        sources = _sources(data)
    except _FAILURES as error:
        return [Unscanned(ENGINE, f"macros cannot be read ({type(error).__name__})", sha256)]
    if sources is None:
        return []
    found: list[Finding | Unscanned] = [Finding(ENGINE, "VBA.Project", "macro", 3, sha256)]
    if not sources:
        return [*found, Unscanned(ENGINE, "macro source not readable", sha256)]
    source = "\n".join(sources)
    if len(source) > vba.SOURCE_LIMIT:
        return [*found, Unscanned(ENGINE, "macro source too long", sha256)]
    return [*found, *vba.findings(source, sha256)]


def _sources(data: bytes) -> list[str] | None:
    """Let olevba find the sources; None when there are no macros, `[]` when there are and their source is not there."""
    parser = olevba.VBA_Parser("artifact", data=data, disable_pcode=True)
    try:
        if parser.type == olevba.TYPE_TEXT:
            return None  # it has only the text itself, which it would call a macro
        parser.no_xlm = True
        if not parser.detect_vba_macros():
            return None
        sources: list[str] = []
        size = 0
        for *_, source in parser.extract_macros():
            if isinstance(source, str):
                sources.append(source)
                size += len(source)
            if size > vba.SOURCE_LIMIT:
                return sources
        for *_, text in parser.extract_form_strings():  # forms hide strings that the code uses
            if isinstance(text, str) and text:
                sources.append('"' + text.replace('"', "'").replace("\n", " ") + '"')
        return sources
    finally:
        parser.close()


def _compound(data: bytes, kind: str, sha256: str) -> Answer:
    found: list[Finding | Unscanned] = []
    with olefile.OleFileIO(io.BytesIO(data)) as ole:
        names = {entry.name.upper() for entry in ole.direntries if entry is not None}
        for path in ole.listdir():  # embedded documents are storages of the same file
            read = _STREAMS.get(path[-1].upper())
            if read is not None:
                answer = read(ole.openstream(path).read(), sha256)
                found += _closed(sha256) if answer is None else answer
        if not _OBJECT_STREAMS.isdisjoint(names):
            found.append(Finding(ENGINE, "OLE.Package", "embedded-object", 3, sha256))
        orphans = _has_orphans(ole)
    if kind == "ppt" or orphans or not _VBA_NAMES.isdisjoint(names) or b"\0Attribut" in data:
        found += _macros(data, sha256)
    return found


def _has_orphans(ole: olefile.OleFileIO) -> bool:
    """Whether the directory holds storages or streams that its tree does not reach; Office may still find them."""
    ole.directory_fp.seek(0)
    raw = ole.directory_fp.read()
    return any(
        entry is None and raw[sid * 128 + 66 : sid * 128 + 67] in (b"\x01", b"\x02")
        for sid, entry in enumerate(ole.direntries)
    )


def _closed(sha256: str) -> Answer:
    return (
        Finding(ENGINE, "Encrypted.Document", "encrypted", 3, sha256),
        Unscanned(ENGINE, "encrypted", sha256),
    )


_DDE_NARROW = re.compile(rb"\x13[ ]{0,64}DDE(?:AUTO)?[ \"]", re.IGNORECASE)
_DDE_WIDE = re.compile(rb"\x13\x00(?: \x00){0,64}D\x00D\x00E\x00(?:A\x00U\x00T\x00O\x00)?[ \"]\x00", re.IGNORECASE)


def _word(stream: bytes, sha256: str) -> list[Finding] | None:
    """Look for fields, which begin with 0x13 in the text ([MS-DOC] 2.8.25); None when the document is encrypted."""
    if len(stream) > 12 and stream[11] & 0x01:  # 2.5.2: fEncrypted
        return None
    match = _DDE_NARROW.search(stream) or _DDE_WIDE.search(stream)
    return [Finding(ENGINE, "Word.DDE", "dde", 2, sha256)] if match else []


_BIFF_BOF = frozenset({0x0009, 0x0209, 0x0409, 0x0809})
_BIFF_EOF, _BIFF_SHEET, _BIFF_NAME, _BIFF_PASSWORD = 0x000A, 0x0085, 0x0018, 0x002F


def _workbook(stream: bytes, sha256: str) -> list[Finding] | None:
    """Read the workbook's global records ([MS-XLS] 2.1.7.20.3); None when it is encrypted."""
    at, sheets, starts = 0, 0, False
    while at + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, at)
        record = stream[at + 4 : at + 4 + length]
        at += 4 + length
        if kind == _BIFF_PASSWORD:
            return None
        if kind == _BIFF_EOF:
            break
        if kind == _BIFF_SHEET and len(record) > 5 and record[5] == 1:  # 2.4.28: dt
            sheets += 1
        elif kind == _BIFF_NAME and len(record) > 15:  # 2.4.150: fBuiltin, and the code or the name itself
            builtin = record[0] & 0x20
            name = record[14:].replace(b"\0", b"").lower()
            starts = starts or bool(builtin and (record[14] == 1 or record[15] in (1, 2))) or b"auto_open" in name
    return _excel4("XLM.MacroSheet", sheets > 0, starts, sha256)


# What each reads gives findings, or None where the stream is encrypted.
_STREAMS: Final[dict[str, Callable[[bytes, str], list[Finding] | None]]] = {
    "WORDDOCUMENT": _word, "WORKBOOK": _workbook, "BOOK": _workbook, "ENCRYPTEDPACKAGE": lambda stream, sha256: None,
}  # fmt: skip


def _excel4(signature: str, present: bool, starts: bool, sha256: str) -> list[Finding]:
    found = []
    if present:
        found.append(Finding(ENGINE, signature, "xlm-macro", 2, sha256))
        if starts:
            found.append(Finding(ENGINE, "XLM.AutoOpen", "macro-autoexec", 2, sha256))
    return found


_SLK_MACRO = re.compile(rb"(?m)^O;[^\r\n]{0,200}\bE\b")
_SLK_START = re.compile(rb"(?im)^NN;[^\r\n]{0,200}N\"?auto_(?:open|close)")


def _sylk(data: bytes, sha256: str) -> Answer:
    return _excel4("XLM.Sylk", bool(_SLK_MACRO.search(data)), bool(_SLK_START.search(data)), sha256)


_RTF_TEMPLATE = re.compile(rb"\{\s*\\\*\s*\\template\s+([^{}]{1,400})\}", re.IGNORECASE)
_RTF_DDE = re.compile(rb"\\fldinst[^}]{0,200}?\bDDE(?:AUTO)?\b", re.IGNORECASE)


def _rtf(data: bytes, sha256: str) -> Answer:
    found = []
    template = _RTF_TEMPLATE.search(data)
    if template and _is_remote(template[1].decode("latin-1").strip()):
        found.append(_elsewhere("Rtf.Template", template[1].decode("latin-1"), sha256))
    if _RTF_DDE.search(data):
        found.append(Finding(ENGINE, "Rtf.DDE", "dde", 2, sha256))
    if b"\\objdata" in data.lower():
        found.append(Finding(ENGINE, "Rtf.Object", "embedded-object", 3, sha256))
    return found


def _elsewhere(signature: str, target: str, sha256: str, category: Category = "external-template") -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, target.strip()[:200])


# `file:///` with a drive is this machine (templates are kept so in honest documents); two or four slashes are a server.
_REMOTE = re.compile(
    r"(?:https?|ftp|webdav|mhtml|ms-[a-z-]+):|\\\\[^\\]|//[^/]|file:/{0,1}/[^/]|file:/{4,}", re.IGNORECASE
)


def _is_remote(target: str) -> bool:
    return _REMOTE.match(target.strip()) is not None


_RELATION = re.compile(r"<(?:\w+:)?Relationship\b([^>]{0,8192})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_FETCHED: Final = {"attachedtemplate": "Ooxml.Template", "oleobject": "Ooxml.Object", "frame": "Ooxml.Frame",
                   "subdocument": "Ooxml.Subdocument", "afchunk": "Ooxml.Chunk"}  # fmt: skip
_FIELD_EDGE = re.compile(r"fldCharType\s*=\s*[\"'](?:begin|separate|end)")
_FIELD_TEXT = re.compile(r"<(?:\w+:)?instrText\b[^>]*>([^<]*)<")
_FIELD_SIMPLE = re.compile(r"<(?:\w+:)?fldSimple\b[^>]{0,4096}?\binstr\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_DDE = re.compile(r"\s*\"?\s*DDE(?:AUTO)?\b", re.IGNORECASE)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def part(name: str, data: bytes, sha256: str) -> Sequence[Finding]:
    """Look at one member of the OOXML document `sha256`."""
    low = name.replace("\\", "/").lstrip("/").lower()
    if low.endswith(".rels"):
        return _relationships(_text(data), sha256)
    if low.startswith("xl/macrosheets/") and not low.endswith(".rels"):
        return (Finding(ENGINE, "XLM.MacroSheet", "xlm-macro", 2, sha256, name[:200]),)
    if low == "xl/workbook.xml":
        starts = b"Auto_Open" in data or b"auto_open" in data.lower()
        if starts and b"macrosheet" in data.lower():
            return (Finding(ENGINE, "XLM.AutoOpen", "macro-autoexec", 2, sha256),)
        return ()
    if low.startswith("xl/externallinks/"):
        return (Finding(ENGINE, "Excel.DDE", "dde", 2, sha256),) if b"ddeLink" in data else ()
    if low.startswith("word/") and (b"instr" in data or data.startswith((b"\xff\xfe", b"\xfe\xff"))):
        return _fields(_text(data), sha256)
    return ()


def _relationships(text: str, sha256: str) -> list[Finding]:
    found = []
    for relation in _RELATION.finditer(text):
        pairs = _ATTRIBUTE.finditer(relation[1])
        values = {match[1].lower(): html.unescape(match[2] or match[3] or "") for match in pairs}
        signature = _FETCHED.get(values.get("type", "").rpartition("/")[2].lower())
        target = values.get("target", "")
        if signature and values.get("targetmode", "").lower() == "external" and _is_remote(target):
            found.append(_elsewhere(signature, target, sha256))
    return found


def _fields(text: str, sha256: str) -> list[Finding]:
    for stretch in _FIELD_EDGE.split(text):
        if "instrText" in stretch and _DDE.match(html.unescape("".join(_FIELD_TEXT.findall(stretch)))):
            return [Finding(ENGINE, "Word.DDE", "dde", 2, sha256)]
    for match in _FIELD_SIMPLE.finditer(text):
        if _DDE.match(html.unescape(match[1] or match[2] or "")):
            return [Finding(ENGINE, "Word.DDE", "dde", 2, sha256)]
    return []

"""The parts of an OOXML document: relationships that fetch, DDE fields and links, macro sheets, ActiveX.

Also the XML of Office 2003 and the flat form of OOXML, which keep all parts in one file.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

from netinspect.scan import biff
from netinspect.scan.contract import Category, Finding
from netinspect.scan.targets import is_remote

ENGINE: Final = "office"

_RELATION = re.compile(r"<(?:\w+:)?Relationship\b([^>]{0,8192})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"(\w+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_FETCHED: Final = {
    "attachedtemplate": "Ooxml.Template", "oleobject": "Ooxml.Object", "frame": "Ooxml.Frame",
    "subdocument": "Ooxml.Subdocument", "afchunk": "Ooxml.Chunk", "control": "Ooxml.Control",
    "customui": "Ooxml.CustomUI", "extensibility": "Ooxml.CustomUI", "package": "Ooxml.Package",
    "mailmergesource": "Ooxml.MailMerge", "xlexternallinkpath": "Ooxml.Link", "webextension": "Ooxml.WebExtension",
}  # fmt: skip
_MACRO_SHEETS: Final = frozenset({"xlmacrosheet", "xlintlmacrosheet"})
# A hyperlink that is a command line: what PowerPoint runs when the pointer passes over it.
_COMMAND = re.compile(
    r"(?:file:/*)?(?:[a-z]:)?[\\/\w%.]{0,120}\b(?:powershell|cmd|mshta|wscript|cscript|rundll32|regsvr32|certutil|bitsadmin)"
    r"(?:\.exe)?(?:%20|\s|\+|$)",
    re.IGNORECASE,
)
_FIELD_EDGE = re.compile(r"fldCharType\s*=\s*[\"'](?:begin|separate|end)")
_FIELD_TEXT = re.compile(r"<(?:\w+:)?instrText\b[^>]*>([^<]*)<")
_FIELD_SIMPLE = re.compile(r"<(?:\w+:)?fldSimple\b[^>]{0,4096}?\binstr\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_DDE = re.compile(r"\s*\"?\s*DDE(?:AUTO)?\b", re.IGNORECASE)
_FETCHES = re.compile(r"\s*(?:LINK\s+\S+|INCLUDETEXT|IMPORT)\s+\"?([^\s\"]{4,400})", re.IGNORECASE)
# Only Excel 4 macros start by a defined name; a VBA project has procedures for it.
_STARTS = re.compile(
    r"<(?:\w+:)?definedName\b[^>]{0,400}?\bname\s*=\s*[\"'](?:_xlnm\.)?auto_(?:open|close|(?:de)?activate)",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"<(?:\w+:)?f\b[^>]*>([^<]{1,8192})<")


def text(data: bytes) -> str:
    """XML as text; the byte order mark decides, else it is UTF-8."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def part(name: str, data: bytes, sha256: str) -> Sequence[Finding]:
    """Look at one member of the document `sha256`."""
    low = name.replace("\\", "/").lstrip("/").lower()
    if low.endswith(".rels"):
        return relationships(text(data), sha256)
    if low.startswith("xl/"):
        return _excel(low, name, data, sha256)
    if "activex/" in low:
        return (Finding(ENGINE, "Ooxml.ActiveX", "embedded-object", 3, sha256, name[:200]),)
    if low.startswith("word/") and (b"instr" in data or data.startswith((b"\xff\xfe", b"\xfe\xff"))):
        return fields(text(data), sha256)
    return ()


def _excel(low: str, name: str, data: bytes, sha256: str) -> Sequence[Finding]:
    if low.startswith("xl/macrosheets/"):
        calls = biff.xlsb_calls(data) if low.endswith(".bin") else _calls(text(data))
        return biff.excel4("XLM.MacroSheet", False, calls, sha256, name[:200])
    if low == "xl/workbook.xml":
        if _STARTS.search(text(data)):
            return (Finding(ENGINE, "XLM.AutoOpen", "macro-autoexec", 2, sha256),)
    elif low == "xl/workbook.bin":
        wide = data.lower()
        if any(word.encode("utf-16-le") in wide for word in ("auto_open", "auto_close")):
            return (Finding(ENGINE, "XLM.AutoOpen", "macro-autoexec", 2, sha256),)
    elif low.startswith("xl/externallinks/"):
        if b"ddeLink" in data or (low.endswith(".bin") and biff.xlsb_link(data) == "dde"):
            return (Finding(ENGINE, "Excel.DDE", "dde", 2, sha256),)
    elif low.startswith("xl/activex/"):
        return (Finding(ENGINE, "Ooxml.ActiveX", "embedded-object", 3, sha256, name[:200]),)
    return ()


def _calls(sheet: str) -> list[str]:
    calls: set[str] = set()
    for formula in _FORMULA.findall(sheet):
        calls.update(biff.text_calls(html.unescape(formula)))
    return sorted(calls)


def relationships(document: str, sha256: str) -> list[Finding]:
    """Look at a `.rels` part, or at all of them in a flat document."""
    found = []
    for relation in _RELATION.finditer(document):
        pairs = _ATTRIBUTE.finditer(relation[1])
        values = {match[1].lower(): html.unescape(match[2] or match[3] or "") for match in pairs}
        kind = values.get("type", "").rpartition("/")[2].lower()
        target = values.get("target", "")
        if kind in _MACRO_SHEETS:
            found.append(_finding("XLM.MacroSheet", "xlm-macro", sha256, target))
        elif kind == "hyperlink":
            if _COMMAND.match(target):
                found.append(_finding("Ooxml.Command", "exploit", sha256, target))
        elif values.get("targetmode", "").lower() == "external" and is_remote(target):
            signature = _FETCHED.get(kind)
            if signature:
                found.append(_finding(signature, "external-template", sha256, target))
    return found


def fields(document: str, sha256: str) -> list[Finding]:
    """Look for fields that start programs or fetch documents."""
    codes = [
        html.unescape("".join(_FIELD_TEXT.findall(stretch)))
        for stretch in _FIELD_EDGE.split(document)
        if "instrText" in stretch
    ]
    codes += [html.unescape(match[1] or match[2] or "") for match in _FIELD_SIMPLE.finditer(document)]
    found = []
    for code in codes:
        if _DDE.match(code):
            found.append(_finding("Word.DDE", "dde", sha256, code))
            break
    for code in codes:
        fetched = _FETCHES.match(code)
        if fetched and is_remote(fetched[1]):
            found.append(_finding("Word.Link", "external-template", sha256, fetched[1]))
            break
    return found


# --- one file that is the whole document ---------------------------------------------------------------------------

_SUP_BOOK = re.compile(r"<(?:\w+:)?SupBook>(.{0,20000}?)</(?:\w+:)?SupBook>", re.DOTALL)
_SUP_PATH = re.compile(r"<(?:\w+:)?Path>([^<]{0,2000}\|[^<]{0,2000})</")
_2003_TEMPLATE = re.compile(r"<(?:\w+:)?attachedTemplate\b[^>]{0,400}?\bval\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_2003_LINK = re.compile(r"<(?:\w+:)?(?:OLEObject|subDoc)\b([^>]{0,2000})>")
_FLAT_MACRO_SHEET = re.compile(r"<(?:\w+:)?macrosheet\b", re.IGNORECASE)


def flat(data: bytes, sha256: str) -> list[Finding]:
    """Look at the XML of Word or Excel 2003, or at a flat OPC package."""
    document = text(data)
    found = relationships(document, sha256) if "Relationship" in document else []
    if "instr" in document:
        found += fields(document, sha256)
    for book in _SUP_BOOK.finditer(document):
        path = _SUP_PATH.search(book[1])
        if path and "<OLELink" not in book[1]:
            found.append(_finding("Excel.DDE", "dde", sha256, html.unescape(path[1])))
            break
    if "ddeLink" in document:
        found.append(_finding("Excel.DDE", "dde", sha256))
    template = _2003_TEMPLATE.search(document)
    if template and is_remote(html.unescape(template[1] or template[2] or "")):
        found.append(_finding("Word.Template", "external-template", sha256, template[1] or template[2]))
    for link in _2003_LINK.finditer(document):
        for value in _ATTRIBUTE.finditer(link[1]):
            target = html.unescape(value[2] or value[3] or "")
            if value[1].lower() in ("href", "src", "link") and is_remote(target):
                found.append(_finding("Word.Link", "external-template", sha256, target))
    if _FLAT_MACRO_SHEET.search(document):
        found += biff.excel4("XLM.MacroSheet", "auto_open" in document.lower(), _calls(document), sha256)
    return found


def _finding(signature: str, category: Category, sha256: str, detail: str = "") -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, detail.strip()[:200])

"""Office documents: VBA through oletools, Excel 4 macros, DDE, templates and objects from elsewhere, encryption.

Only candidates are looked into, after a look that costs microseconds: compound files, RTF, SYLK, text that carries a
packed VBA project (MHTML, Word 2003 XML, flat OPC). Plain text never goes to olevba, which takes any
text for a macro. Of OOXML the examiner gives the VBA project as a compound file of its own and the other parts one by
one (`part`).

This runs in a worker: oletools is slow on hostile input and can fail in any way. Each failure is `Unscanned`.
"""

from __future__ import annotations

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
from netinspect.scan import biff, decrypt, objects, ooxml, opendocument, rtf, stomp, vba
from netinspect.scan.contract import Category, Finding, Unscanned
from netinspect.scan.targets import is_remote

ENGINE: Final = vba.ENGINE

FINGERPRINT: Final = f"oletools {olevba.__version__}, office 2"

# What olefile raises on hostile content, and what oletools does besides. Anything else is a crash of the worker.
_DAMAGED: Final = (OSError, ValueError, LookupError, struct.error, ArithmeticError, RecursionError)
_FAILURES: Final = (
    *_DAMAGED, olevba.OlevbaBaseException, ArithmeticError, AttributeError, TypeError, AssertionError, RuntimeError,
    EOFError, NameError, zlib.error, zipfile.BadZipFile, ParseError,
)  # fmt: skip

Answer = Sequence[Finding | Unscanned]

_OBJECT_STREAMS: Final = frozenset({"\x01OLE10NATIVE", "\x01OLE10FTEXE"})
_CONTROL_STREAMS: Final = frozenset({"\x03OCXNAME", "\x03OCXDATA"})
_VBA_NAMES: Final = frozenset({"VBA", "_VBA_PROJECT", "_VBA_PROJECT_CUR"})
_TEXTS: Final = frozenset({"xml", "html", "mht", "eml", "text"})
_FLAT_MARKS: Final = (b"<?mso-application", b"pkg:package", b"schemas.microsoft.com/office/word/2003/wordml",
                      b"urn:schemas-microsoft-com:office:spreadsheet")  # fmt: skip


def scan(data: bytes, kind: str, sha256: str) -> Answer:
    """Look into one artifact; `()` when it is no candidate or nothing is in it."""
    try:
        if kind in kinds.OLES:
            return _compound(data, kind, sha256)
        if kind == "rtf":
            return rtf.scan(data, sha256)
        if kind == "sylk":
            return _sylk(data, sha256)
        if kind == "activemime":
            return _macros(data, sha256)
        if kind in _TEXTS:
            return _text(data, kind, sha256)
        if kind == "data" and biff.is_raw(data):
            return biff.read(data).findings(sha256)
    except _DAMAGED:
        return (Unscanned(ENGINE, "damaged document", sha256),)
    return ()


def part(name: str, data: bytes, sha256: str, kind: str = "") -> Sequence[Finding]:
    """Look at one member of an OOXML or ODF document, which is of `kind`."""
    return opendocument.part(name, data, sha256) if kind == "odf" else ooxml.part(name, data, sha256)


def unlock(
    data: bytes, answers: Answer, sha256: str, passwords: Sequence[str] = decrypt.STANDARD
) -> tuple[Answer, bytes]:
    """Open a document that `scan` found encrypted: what to say of it then, and its plain content (`b""`: closed)."""
    if not any(isinstance(one, Unscanned) and one.reason == "encrypted" for one in answers):
        return answers, b""
    opened = decrypt.open_document(data, passwords)
    if opened is None:
        return answers, b""
    detail = f"opened with the password {opened[1]}"[:200]
    return (Finding(ENGINE, "Encrypted.Document", "encrypted", 3, sha256, detail),), opened[0]


def _text(data: bytes, kind: str, sha256: str) -> Answer:
    found: list[Finding | Unscanned] = []
    if kind == "xml" and any(mark in data[:8192] for mark in _FLAT_MARKS):
        found += ooxml.flat(data, sha256)
    if kind == "xml" and opendocument.is_flat(data):
        found += opendocument.flat(data, sha256)
    if any(mark in data for mark in kinds.MACRO_MARKS):
        found += _macros(data, sha256)
    return found


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
        found += objects.by_class(ole, sha256)
        if not _OBJECT_STREAMS.isdisjoint(names):
            found.append(Finding(ENGINE, "OLE.Package", "embedded-object", 3, sha256))
        if not _CONTROL_STREAMS.isdisjoint(names):
            found.append(Finding(ENGINE, "OLE.ActiveX", "embedded-object", 3, sha256))
        if kind == "doc":
            found += _template(ole, sha256)
        if "DIR" in names:
            found += stomp.look(ole, sha256)
        orphans = _has_orphans(ole)
    if kind == "ppt" or orphans or not _VBA_NAMES.isdisjoint(names) or b"\0Attribut" in data:
        found += _macros(data, sha256)
    return list(dict.fromkeys(found))


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


# --- Word -----------------------------------------------------------------------------------------------------------

# Fields begin with 0x13 in the text ([MS-DOC] 2.8.25).
_DDE = re.compile(rb"\x13[ \"]{0,64}DDE(?:AUTO)?[ \"]", re.IGNORECASE)
_LINK = re.compile(rb"\x13[ ]{0,64}(?:LINK +[^ \x13-\x15]{1,80}|INCLUDETEXT|IMPORT) +\"?([^ \"\x13-\x15]{4,400})", re.I)

# [MS-DOC] 2.5.6: where the table stream has SttbfAssoc (2.9.274), whose second string names the template.
_FIB_ASSOC: Final = 0x19A


def _word(stream: bytes, sha256: str) -> list[Finding] | None:
    """Look at the fields in the text; None when the document is encrypted."""
    if len(stream) > 12 and stream[11] & 0x01:  # 2.5.2: fEncrypted
        return None
    found = []
    text = stream.replace(b"\0", b"")  # its pieces are of one or two octets a character
    if _DDE.search(text):
        found.append(Finding(ENGINE, "Word.DDE", "dde", 2, sha256))
    for link in _LINK.finditer(text):
        target = link[1].decode("latin-1")
        if is_remote(target):
            found.append(_elsewhere("Word.Link", target, sha256))
            break
    return found


def _template(ole: olefile.OleFileIO, sha256: str) -> list[Finding]:
    fib = ole.openstream("WordDocument").read(0x1A2) if ole.exists("WordDocument") else b""
    table = "1Table" if len(fib) == 0x1A2 and fib[11] & 0x02 else "0Table"
    if len(fib) < 0x1A2 or not ole.exists(table):
        return []
    at, size = struct.unpack_from("<II", fib, _FIB_ASSOC)
    stream = ole.openstream(table).read()
    strings = stream[at : at + min(size, 65_536)]
    if len(strings) < 8 or strings[:2] != b"\xff\xff":
        return []
    at = 6 + 2
    at += 2 * int.from_bytes(strings[6:8], "little")  # the first string is not used
    length = int.from_bytes(strings[at : at + 2], "little")
    target = strings[at + 2 : at + 2 + 2 * length].decode("utf-16-le", "replace")
    return [_elsewhere("Word.Template", target, sha256)] if is_remote(target) else []


def _elsewhere(signature: str, target: str, sha256: str, category: Category = "external-template") -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, target.strip()[:200])


# --- Excel, PowerPoint ----------------------------------------------------------------------------------------------


def _workbook(stream: bytes, sha256: str) -> list[Finding] | None:
    book = biff.read(stream)
    return None if book.encrypted else book.findings(sha256)


def _current_user(stream: bytes, sha256: str) -> list[Finding] | None:
    """[MS-PPT] 2.3.2: headerToken tells whether the slides are encrypted."""
    return None if stream[12:16] == b"\xdf\xc4\xd1\xf3" else []


# What each reads gives findings, or None where the stream is encrypted.
_STREAMS: Final[dict[str, Callable[[bytes, str], list[Finding] | None]]] = {
    "WORDDOCUMENT": _word, "WORKBOOK": _workbook, "BOOK": _workbook, "CURRENT USER": _current_user,
    "ENCRYPTEDPACKAGE": lambda stream, sha256: None, "EQUATION NATIVE": objects.equation, "\x01OLE": objects.link,
}  # fmt: skip

_SLK_MACRO = re.compile(rb"(?m)^O;[^\r\n]{0,200}\bE\b")
_SLK_START = re.compile(rb"(?im)^NN;[^\r\n]{0,200}N\"?auto_(?:open|close|activate)")
_SLK_FORMULA = re.compile(rb"(?im)^C;[^\r\n]{0,100}?;E([^\r\n]{1,4000})")
_SLK_DDE = re.compile(r"^[=+\-@]?'?[\w.]{1,60}'?\|[^!]{1,1000}!", re.IGNORECASE)


def _sylk(data: bytes, sha256: str) -> Answer:
    formulas = [match[1].decode("latin-1") for match in _SLK_FORMULA.finditer(data)]
    found: list[Finding] = []
    if _SLK_MACRO.search(data):
        calls = biff.text_calls("\n".join(formulas))
        found += biff.excel4("XLM.Sylk", bool(_SLK_START.search(data)), calls, sha256)
    if any(_SLK_DDE.match(formula) for formula in formulas):
        found.append(Finding(ENGINE, "Sylk.DDE", "dde", 2, sha256))
    return found

"""Excel's binary records: Excel 4 macros and what they call, DDE and OLE links, encryption ([MS-XLS], [MS-XLSB]).

Excel 4 macros are formulas in a sheet of their own. Only the sheet records of such sheets are read, and of a formula
only its function tokens: a call of EXEC, CALL or REGISTER needs no deobfuscation to be seen.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Final

from netinspect.scan.contract import Category, Finding

ENGINE: Final = "office"

RECORDS: Final = 200_000
"""Records that are read of one workbook; its globals have some thousands."""

_BOFS: Final = frozenset({0x0009, 0x0209, 0x0409, 0x0809})
_EOF, _SHEET, _NAME, _PASSWORD = 0x000A, 0x0085, 0x0018, 0x002F
_SUPBOOK, _EXTERNSHEET, _EXTERNNAMES = 0x01AE, 0x0017, frozenset({0x0023, 0x0223})
_FORMULAS: Final = frozenset({0x0006, 0x0206, 0x0406})
_MACRO_SHEET_BOF: Final = 0x0040

# [MS-XLS] 2.5.198.17 (Ftab): what starts programs, loads libraries, writes files, talks DDE.
_CALLS: Final = {
    110: "EXEC", 149: "REGISTER", 150: "CALL", 105: "INITIATE", 107: "POKE", 108: "EXECUTE",
    132: "FOPEN", 137: "FWRITELN", 138: "FWRITE", 96: "FORMULA",
}  # fmt: skip
# 2.5.198.63: PtgFuncVar is type 0x22, 0x42 or 0x62, the number of arguments, and the function, whose highest bit marks
# a command.
_FUNCTION = re.compile(rb"[\x22\x42\x62][\x00-\x1e\x80-\x9e](?=([\x69-\x9f]\x00|\x60\x80))", re.DOTALL)
_TEXT_CALLS = re.compile(
    r"\b(EXEC|REGISTER|CALL|INITIATE|POKE|EXECUTE|FOPEN|FWRITE|FWRITELN|FORMULA)(?:\.FILL)?\s*\(", re.IGNORECASE
)
# CHAR(61) is a character, and & joins: formulas that write formulas are made of these.
_TEXT_CHAR = re.compile(r"\bCHAR\s*\(\s*(\d{1,3})(?:\.0{1,4})?\s*\)", re.IGNORECASE)
_TEXT_JOIN = re.compile(r'"\s*&\s*"')
# 2.5.198.66 and 2.5.198.62: PtgInt with the code, PtgFunc with CHAR (111); PtgConcat (8) stands between two of them.
_CHAR = re.compile(rb"\x1e([\x09-\xff])\x00[\x21\x41\x61]\x6f\x00\x08?", re.DOTALL)


@dataclass(slots=True)
class Workbook:
    """What a workbook stream tells of itself."""

    sheets: int = 0
    hidden: int = 0
    starts: bool = False
    encrypted: bool = False
    dde: str = ""
    linked: str = ""
    calls: set[str] = field(default_factory=set)

    def findings(self, sha256: str) -> list[Finding]:
        """As findings about the artifact `sha256`."""
        found = []
        if self.sheets:
            detail = f"{self.sheets} macro sheets, {self.hidden} hidden"
            found = excel4("XLM.MacroSheet", self.starts, sorted(self.calls), sha256, detail)
        if self.dde:
            found.append(_finding("Excel.DDE", "dde", sha256, self.dde))
        if self.linked:
            found.append(Finding(ENGINE, "Excel.OleLink", "embedded-object", 3, sha256, self.linked[:200]))
        return found


def _finding(signature: str, category: Category, sha256: str, detail: str = "") -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, detail[:200])


def excel4(signature: str, starts: bool, calls: list[str], sha256: str, detail: str = "") -> list[Finding]:
    """The findings for an Excel 4 macro that is there."""
    found = [_finding(signature, "xlm-macro", sha256, detail)]
    if starts:
        found.append(_finding("XLM.AutoOpen", "macro-autoexec", sha256))
    if calls:
        found.append(_finding("XLM.Calls", "macro-suspicious", sha256, ", ".join(calls)))
    return found


def text_calls(text: str) -> list[str]:
    """Which of the dangerous functions a formula in text calls, or writes into another cell."""
    calls = _TEXT_CALLS.findall(text)
    if "&" in text:
        plain = _TEXT_CHAR.sub(lambda match: f'"{chr(int(match[1]) & 0xFF)}"', text)
        calls += _TEXT_CALLS.findall(_TEXT_JOIN.sub("", plain))
    return sorted({call.upper() for call in calls})


def _built_calls(tokens: bytes) -> list[str]:
    """What a formula in tokens makes of single characters."""
    codes = bytes(match[1][0] for match in _CHAR.finditer(tokens))
    return text_calls(codes.decode("latin-1")) if len(codes) > 4 else []


def _records(stream: bytes, at: int, budget: int) -> list[tuple[int, int, int]]:
    """`(type, start, end)` of the records from `at` on, up to the end of the substream."""
    records: list[tuple[int, int, int]] = []
    end = len(stream)
    while at + 4 <= end and len(records) < budget:
        kind = stream[at] | stream[at + 1] << 8
        start = at + 4
        at = start + (stream[at + 2] | stream[at + 3] << 8)
        records.append((kind, start, min(at, end)))
        if kind == _EOF:
            break
    return records


def read(stream: bytes) -> Workbook:
    """Read a workbook stream (`Workbook`, `Book`), or a file of Excel 2 to 4, which is one sheet."""
    book = Workbook()
    budget = RECORDS
    records = _records(stream, 0, budget)
    budget -= len(records)
    biff8 = True
    macros: list[int] = []
    pending = ""  # the target of a DDE or OLE link, until its names say which
    for kind, start, end in records:
        record = stream[start:end]
        if kind in _BOFS:
            biff8 = kind == 0x0809 and record[:2] != b"\x00\x05"
            if kind != 0x0809 and record[2:4] == b"\x40\x00":
                book.sheets += 1
                macros.append(0)
        elif kind == _PASSWORD:
            book.encrypted = True
            return book
        elif kind == _SHEET and len(record) > 5 and record[5] == 1:  # 2.4.28: dt
            book.sheets += 1
            book.hidden += record[4] & 3 != 0
            macros.append(int.from_bytes(record[:4], "little"))
        elif kind == _NAME and len(record) > 15:
            book.starts = book.starts or _starts(record, biff8)
        elif kind == _SUPBOOK and biff8:
            book.dde = book.dde or pending
            pending = _link(record)
        elif kind == _EXTERNSHEET and not biff8 and b"\x03" in record[2:]:
            book.dde = book.dde or _shown(record[2:])
        elif kind in _EXTERNNAMES and pending and len(record) > 1 and record[0] & 0x10:  # 2.4.105: fOleLink
            book.linked, pending = pending, ""
    book.dde = book.dde or pending
    for at in macros[:100]:
        budget -= _read_macros(stream, at, book, budget)
    return book


def _starts(record: bytes, biff8: bool) -> bool:
    """Whether a Lbl record (2.4.150) names what runs when the workbook is opened or closed."""
    at = 15 if biff8 else 14  # BIFF 8 has an octet of flags before the name
    name = record[at : at + 2 * record[3]].replace(b"\0", b"").lower()
    if record[0] & 0x20:  # fBuiltin: the name is a code; 1 Auto_Open, 2 Auto_Close, 10 and 11 (de)activation
        return record[at] in (1, 2, 10, 11)
    return b"auto_open" in name or b"auto_close" in name or b"auto_activate" in name


def _link(record: bytes) -> str:
    """The target of a SupBook (2.4.271) that is no workbook; `""` for the others."""
    if len(record) < 6 or record[2:4] in (b"\x01\x04", b"\x01\x3a"):
        return ""
    return _shown(record[5:]) if b"\x03" in record[5:] else ""  # 0x03 parts server and topic


def _shown(path: bytes) -> str:
    return path.replace(b"\0", b"").replace(b"\x03", b"|").decode("latin-1")[:200]


def _read_macros(stream: bytes, at: int, book: Workbook, budget: int) -> int:
    records = _records(stream, at, max(budget, 0))
    for kind, start, end in records:
        if kind in _FORMULAS:
            for match in _FUNCTION.finditer(stream, start + 20, end):
                call = _CALLS.get(match[1][0])
                if call:
                    book.calls.add(call)
            if stream.find(b"\x6f\x00", start + 20, end) >= 0:
                book.calls.update(_built_calls(stream[start + 20 : end]))
    return len(records)


def is_raw(data: bytes) -> bool:
    """Whether `data` is a worksheet or macro sheet of Excel 2 to 4, which is no compound file."""
    return (
        len(data) > 8 and data[0] == 0x09 and data[1] in (0, 2, 4) and data[2] in (4, 6) and data[3] == 0
        and data[6:8] in (b"\x10\x00", b"\x20\x00", b"\x40\x00", b"\x00\x01")
    )  # fmt: skip


# --- [MS-XLSB] ------------------------------------------------------------------------------------------------------

_BEGIN_SUP_BOOK: Final = 360


def xlsb_link(data: bytes) -> str:
    """`dde` or `ole` for the part of an external link that is one, `""` for the link to a workbook (2.4.186)."""
    at, seen = 0, 0
    while at < len(data) and seen < 50:
        kind = data[at]
        at += 1
        if kind & 0x80 and at < len(data):  # 2.1.4: seven bits an octet
            kind = kind & 0x7F | (data[at] & 0x7F) << 7
            at += 1
        size = shift = 0
        while at < len(data) and shift < 28:
            size |= (data[at] & 0x7F) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80:
                break
        if kind == _BEGIN_SUP_BOOK and at + 2 <= len(data):
            return {1: "dde", 2: "ole"}.get(struct.unpack_from("<H", data, at)[0], "")
        at += size
        seen += 1
    return ""


def xlsb_calls(data: bytes) -> list[str]:
    """The dangerous functions that the binary macro sheet of an XLSB calls; tokens as in XLS."""
    calls = {_CALLS.get(match[1][0], "") for match in _FUNCTION.finditer(data)}
    if b"\x6f\x00" in data:
        calls.update(_built_calls(data))
    return sorted(calls - {""})

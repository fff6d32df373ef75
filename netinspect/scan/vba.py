"""What a VBA source does, read from its text.

The text is brought into one shape first (`flatten`): continued lines joined, comments gone, lower case, `Chr(78)` and
`"Norm" & "al.dot"` replaced by the string they make. Then each behaviour is a small condition on that shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from oletools.mraptor import MacroRaptor

from netinspect.scan.contract import Category, Finding

ENGINE: Final = "office"

SOURCE_LIMIT: Final = 4_000_000
"""Characters of source that are read; the biggest honest projects have about one million."""

_CONTINUED = re.compile(r"[ \t]_[ \t]*\r?\n")
# Possessive, so that a line full of quotes costs no more than its length.
_COMMENT = re.compile(r"""^((?:[^"'\n]++|"[^"\n]*+")*+)'[^\n]*""", re.MULTILINE)
_REM = re.compile(r"(?:^|:)[ \t]*rem\b[^\n]*", re.MULTILINE)
_CHR = re.compile(r"\bchr[wb]?\$?[ \t]*\([ \t]*(?:&h([0-9a-f]{1,5})&?|([0-9]{1,6}))[ \t]*\)")
_JOIN = re.compile(r'"[ \t]*[&+][ \t]*"')
_REVERSED = re.compile(r'\bstrreverse[ \t]*\([ \t]*"([^"\n]*)"[ \t]*\)')


def _char(match: re.Match[str]) -> str:
    code = int(match[1], 16) if match[1] else int(match[2])
    return f'"{chr(code)}"' if 0x20 <= code < 0x10000 and code != 0x22 else '""'


def flatten(source: str) -> str:
    """The source in one shape, lower case."""
    text = _CONTINUED.sub(" ", source).replace("\r\n", "\n").replace("\r", "\n").lower()
    text = _REM.sub("", _COMMENT.sub(r"\1", text))
    if "chr" in text:
        text = _CHR.sub(_char, text)
    text = _JOIN.sub("", text)
    if "strreverse" in text:
        text = _JOIN.sub("", _REVERSED.sub(lambda match: f'"{match[1][::-1].lower()}"', text))
    return text


# Procedures that Office starts without being asked, and events of embedded controls that come without a click.
_AUTO = re.compile(
    r"\b(?:sub|function)[ \t]+("
    r"auto_?(?:exec|open|close|exit|new)"
    r"|document_?(?:open|close|before_?close|change|new)|newdocument"
    r"|(?:this)?workbook_(?:open|activate|close|beforeclose|deactivate)|worksheet_(?:calculate|activate)"
    r"|presentation_?(?:open|close)|onload|onslideshowpagechange|slideshow_?begin"
    r"|application_(?:startup|mapilogoncomplete|newmail|newmailex|itemsend)"
    r"|(?!userform_)\w+_(?:painted|painting|gotfocus|lostfocus|mousehover|mousemove|mouseenter|mouseleave|layout|resize"
    r"|beforenavigate2|beforescriptexecute|documentcomplete|downloadbegin|downloadcomplete|filedownload"
    r"|navigatecomplete2|navigateerror|progresschange|propertychange|setsecurelockicon|statustextchange"
    r"|titlechange|onconnecting|contentcontrolonenter)"
    r")\b"
)

_TEMPLATE = re.compile(r"\bnormaltemplate\b|\bnormal\.dotm?\b|\btemplates\(1\)")
_WRITES_CODE = re.compile(
    r"\b(?:addfromstring|addfromfile|insertlines|replaceline|organizercopy|importfrom)\b|\bvbcomponents\b[^\n]{0,200}\bimport\b"
    r"|\bmacrocopy\b|\b\.?import\b[ \t(]"
)
_PROJECT = re.compile(r"\bvbproject\b|\bvbcomponents\b|\bmacrocopy\b|\borganizercopy\b|\bcodemodule\b")
_COPIES_FILE = re.compile(r"\b(?:filecopy|saveas2?|copyfile)\b[^\n]{0,300}\bnormal\.dotm?\b")
_ADDRESS_BOOK = re.compile(
    r"\b(?:addresslists|addressentries|addressentry|getglobaladdresslist|getdefaultfolder\((?:10|olfoldercontacts)\))"
)
_OUTLOOK = re.compile(r"\boutlook\.application\b|\bmapi\.session\b|\bgetnamespace\(\"mapi\"\)")
_PROTECTION = re.compile(
    r"\bvirusprotection[ \t]*=[ \t]*(?:false|0)\b"
    r"|\bprivateprofilestring\b[^\n]{0,300}\bsecurity\"[^\n]{0,40}\"(?:level|accessvbom|vbawarnings)\""
    r"|\boffice\\[^\n\"]{1,60}\\security\\?[^\n]{0,60}\b(?:level|accessvbom|vbawarnings)\b"
    r"|\bcontrols\(\"(?:&?security\.{0,3}|&?macros\.{0,3}|&?macro)\"\)\.enabled[ \t]*=[ \t]*(?:false|0)\b"
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing a macro does."""

    signature: str
    category: Category
    severity: int
    detail: str = ""


def _replication(text: str) -> list[Behaviour]:
    """The Melissa behaviours, each by itself."""
    found = []
    template = _TEMPLATE.search(text)
    if template:
        write = _WRITES_CODE.search(text) if _PROJECT.search(text) else None
        write = write or _COPIES_FILE.search(text)
        if write:
            found.append(_replicates("Melissa.NormalTemplate", f"{template[0]}, {write[0].strip()}"))
    if _OUTLOOK.search(text):
        book = _ADDRESS_BOOK.search(text)
        if book:
            found.append(_replicates("Melissa.AddressBook", book[0]))
    off = _PROTECTION.search(text)
    if off:
        found.append(_replicates("Melissa.MacroProtection", off[0]))
    return found


def _replicates(signature: str, detail: str) -> Behaviour:
    return Behaviour(signature, "macro-replication", 1, detail[:200])


def behaviours(source: str) -> list[Behaviour]:
    """All that the source of a project shows, the existence of macros itself not counted."""
    text = flatten(source)
    found = []
    started = _AUTO.search(text)
    if started:
        found.append(Behaviour("VBA.AutoExec", "macro-autoexec", 2, started[1][:200]))
    raptor = MacroRaptor(text)
    raptor.scan()
    if started and (raptor.write or raptor.execute):
        matches = ", ".join(match for match in (raptor.write_match, raptor.execute_match) if match)
        flags = f"A{'W' if raptor.write else '-'}{'X' if raptor.execute else '-'}"
        found.append(Behaviour(f"mraptor.{flags}", "macro-suspicious", 2, matches[:200]))
    return found + _replication(text)


def findings(source: str, sha256: str) -> list[Finding]:
    """`behaviours` as findings about the artifact `sha256`."""
    return [
        Finding(ENGINE, what.signature, what.category, 1 if what.severity == 1 else 2, sha256, what.detail)
        for what in behaviours(source)
    ]

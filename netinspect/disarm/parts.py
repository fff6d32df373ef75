"""One XML part of an OOXML document without what runs: fields, formulas, links, and what leads to parts that are gone.

One walk knows the elements of Word, Excel and PowerPoint alike: what a part is follows from its elements, not from its
name or the type that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from netinspect.disarm.contract import CannotClean, Removal
from netinspect.disarm.fields import DEEPEST, Code, verdict
from netinspect.disarm.xmlcut import Element, Surgeon

# ECMA-376 part 1 (transitional) and part 1 strict.
_RELATIONSHIPS: Final = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)

# Elements that stay and lose the reference only: an empty picture or fill is a valid one.
_PICTURES: Final = frozenset({"blip", "imagedata", "fill", "stroke", "background", "snd", "sndTgt", "wavAudioFile"})
_OBJECTS: Final = frozenset({"OLEObject", "control", "oleObj", "objectEmbed", "objectLink"})
# Children of a run that say nothing in a code.
_SILENT: Final = frozenset({"rPr", "lastRenderedPageBreak", "proofErr"})
_PROGRAMS: Final = ("ppaction://program", "ppaction://macro", "ppaction://ole", "ppaction://hlinkfile")

_STARTS = re.compile(r"(?:_xlnm\.)?auto_?(?:open|close|activate|deactivate)", re.IGNORECASE)
_EXCEL4 = re.compile(
    r"\b(?:EXEC|REGISTER(?:\.ID)?|CALL|INITIATE|POKE|EXECUTE|FOPEN|FWRITE|FWRITELN|RUN|FORMULA(?:\.FILL)?|ALERT)\s*\(",
    re.IGNORECASE,
)
_STRINGS = re.compile(r"\"[^\"]*\"")
# `[1]Sheet!A1`, `'[1]My sheet'!A1`, `[1]!name`: another workbook by its number; `Table[2024]` is a column.
_OTHER_BOOK = re.compile(r"(?<![\w\]\[)])\[\d+\]")


def is_dde(formula: str) -> bool:
    """Whether a formula asks another program: `server|topic!item`. Outside of strings a bar has no other meaning."""
    return "|" in formula and "|" in _STRINGS.sub("", formula)


@dataclass(slots=True)
class _Field:
    code: Code = field(default_factory=Code)
    in_code: bool = True
    branch: Element | None = None
    spans: list[tuple[int, int, bool]] = field(default_factory=list)
    """What goes with the field, and whether it is text, which stays when the field never ends."""
    results: list[tuple[int, int, bool]] = field(default_factory=list)
    """What goes when this field is in the code of another that goes."""


class PartSurgeon(Surgeon):
    """`gone`: the ids of relationships of this part that are dropped. `no_books`: links to workbooks are dropped."""

    texts = frozenset({
        "instrText", "delInstrText", "t", "delText", "f", "definedName", "formula", "formula1", "formula2",
    })  # fmt: skip
    lists = frozenset({
        "Choice", "Fallback", "oleObjects", "controls", "hyperlinks", "definedNames", "externalReferences", "object",
        "pict", "extLst", "ext", "custDataLst",
    })  # fmt: skip

    def __init__(self, gone: Collection[str] = (), *, no_books: bool = False) -> None:
        super().__init__()
        self._gone = gone
        self._no_books = no_books
        self._fields: list[_Field] = []
        self._shared: set[str] = set()
        self._pictures: dict[int, tuple[int, int]] = {}
        self._lost_frames: dict[int, str] = {}
        self._frame_ids: dict[int, str] = {}
        self.removed: dict[Removal, None] = {}

    def _note(self, what: str, where: str = "") -> None:
        if len(self.removed) < 100:
            self.removed[Removal(what, " ".join(where.split())[:200])] = None

    # --- the walk -------------------------------------------------------------------------------------------------

    def opened(self, element: Element) -> None:
        if self._gone:
            for key, value in element.attributes.items():
                space, _, local = key.rpartition(" ")
                if space in _RELATIONSHIPS and value in self._gone:
                    self._dangling(element, local)
        look = _OPENED.get(element.name)
        if look is not None:
            look(self, element)

    def closed(self, element: Element) -> None:
        look = _CLOSED.get(element.name)
        if look is not None:
            look(self, element)

    def ended(self, element: Element, end: int) -> None:
        name = element.name
        if name == "pic":
            frame = element.above("graphicFrame")
            if frame is not None:
                self._pictures[id(frame)] = (element.start, end)
        elif name == "graphicFrame":
            self._frame_ids.pop(id(element), None)
            picture = self._pictures.pop(id(element), None)
            if self._lost_frames.pop(id(element), None) is not None:
                self._replace_frame(element, end, picture)
        elif name == "fldChar":
            self._field_char(element, end)
        elif self._fields and element.parent is not None and element.parent.name == "r":
            self._in_run(element, end)

    def finish(self) -> None:
        while self._fields:
            left = self._fields.pop()
            left.spans = [span for span in left.spans if not span[2]]
            self._settle(left)

    # --- references to what is gone -------------------------------------------------------------------------------

    def _dangling(self, element: Element, local: str) -> None:
        if element.name in _PICTURES:
            element.without.add(local)
        elif element.name == "hyperlink" and "wordprocessingml" in element.space:
            element.fate = "unwrap"
        elif element.name in ("dataSource", "headerSource", "recipientData"):
            (element.above("mailMerge") or element).fate = "cut"
        elif element.name == "sourceFileName":
            (element.above("frameset") or element).fate = "cut"
        else:
            element.fate = "cut"
            if element.name in _OBJECTS:
                self._without_object(element)

    def _without_object(self, element: Element) -> None:
        """Let the picture of an object stand where the object stood."""
        holder = element.above("object", "graphicFrame")
        if holder is None:
            return
        if holder.name == "object":
            # CT_Object and CT_Picture differ by the object and by two sizes.
            holder.rename = "pict"
            holder.without |= {"dxaOrig", "dyaOrig"}
        else:
            self._lost_frames.setdefault(id(holder), self._frame_ids.get(id(holder), ""))

    def _shape_id(self, element: Element) -> None:
        frame = element.above("graphicFrame")
        if frame is None:
            return
        if element.above("pic") is None:
            self._frame_ids.setdefault(id(frame), element.get("id"))
        elif self._lost_frames.get(id(frame)):
            element.values["id"] = self._lost_frames[id(frame)]  # it is often 0, and animations name the frame

    def _replace_frame(self, frame: Element, end: int, picture: tuple[int, int] | None) -> None:
        if picture is None:
            self.remove(frame.start, end)
            if frame.parent is not None:
                frame.parent.gone += 1
        else:  # p:pic may stand wherever p:graphicFrame may
            self.remove(frame.start, picture[0])
            self.remove(picture[1], end)

    def _alternatives(self, element: Element) -> None:
        if element.gone:  # a choice that is not there any more cannot be chosen
            element.fate = "cut"

    # --- Word -----------------------------------------------------------------------------------------------------

    def _simple_field(self, element: Element) -> None:
        found = verdict(element.get("instr"))
        if found:
            element.fate = "unwrap"
            self._note("dde" if found == "dde" else "field", element.get("instr"))
        if self._fields and self._fields[-1].in_code:
            self._fields[-1].code.add("odd")

    def _in_run(self, element: Element, end: int) -> None:
        """Something within a run and within a field."""
        current = self._fields[-1]
        if element.name == "rPr":
            return
        if not current.in_code:
            if len(self._fields) > 1:
                current.results.append((element.start, end, True))
            return
        kind = _CODES.get(element.name)
        current.spans.append((element.start, end, kind == "text"))
        if kind is not None:
            if element.above("Choice", "Fallback") is not current.branch:
                current.code.add("odd")
            current.code.add(kind, element.text)
        elif element.name in ("tab", "br", "cr"):
            current.code.add("code", " ")
        elif element.name not in _SILENT:
            current.code.add("odd")

    def _stray_code(self, element: Element) -> None:
        if not self._fields:
            element.fate = "cut"  # a code outside of a field is never shown
            self._note("dde" if verdict(element.text) == "dde" else "field", element.text)

    def _field_char(self, element: Element, end: int) -> None:
        kind = element.get("fldCharType")
        if kind == "begin":
            if self._fields and self._fields[-1].in_code:
                self._fields[-1].code.add("odd")
            if len(self._fields) >= DEEPEST:
                raise CannotClean("fields too deep")
            self._fields.append(_Field(branch=element.above("Choice", "Fallback")))
        if not self._fields:
            return
        current = self._fields[-1]
        current.spans.append((element.start, end, False))
        if kind == "separate":
            current.in_code = False
        elif kind == "end":
            self._settle(self._fields.pop())

    def _settle(self, done: _Field) -> None:
        outer = self._fields[-1] if self._fields else None
        if outer is not None and outer.in_code:
            outer.spans += done.spans + done.results
        found = done.code.active()
        if found:
            text = "".join(stretch for _, stretch in done.code.pieces)
            self._note("dde" if found == "dde" else "field", text)
            for start, end, _ in done.spans:
                self.remove(start, end)

    # --- Excel ----------------------------------------------------------------------------------------------------

    def _cell_formula(self, element: Element) -> None:
        text = element.text
        dde = is_dde(text)
        if not dde and not (self._no_books and _OTHER_BOOK.search(text)) and element.get("si") not in self._shared:
            return
        if dde:
            self._note("dde", text)
        elif text:
            self._note("link", text)
        if element.parent is not None and element.parent.name == "c":
            element.fate = "cut"  # the value stays
            if element.get("t") == "shared" and text:
                self._shared.add(element.get("si"))
        elif text:
            element.content = "#REF!"

    def _rule_formula(self, element: Element) -> None:
        if is_dde(element.text) or (self._no_books and _OTHER_BOOK.search(element.text)):
            self._note("dde" if is_dde(element.text) else "link", element.text)
            element.content = "#REF!"

    def _defined_name(self, element: Element) -> None:
        name, text = element.get("name"), element.text
        if (
            _STARTS.match(name) or _EXCEL4.search(text)
            or any(element.get(key) in ("1", "true") for key in ("function", "vbProcedure", "xlm"))
        ):  # fmt: skip
            self._note("xlm", name)
        elif is_dde(text) or (self._no_books and _OTHER_BOOK.search(text)):
            self._note("dde" if is_dde(text) else "link", name)
        else:
            return
        element.fate = "cut"

    def _connection(self, element: Element) -> None:
        for name in ("refreshOnLoad", "interval"):
            if element.get(name) not in ("", "0", "false"):
                element.without.add(name)
                self._note("refresh", element.get("name"))

    def _shape(self, element: Element) -> None:
        if element.get("macro"):
            element.values["macro"] = ""
            self._note("macro", element.get("macro"))

    # --- PowerPoint -----------------------------------------------------------------------------------------------

    def _click(self, element: Element) -> None:
        """A click that starts a program or runs a macro."""
        if element.get("action").lower().startswith(_PROGRAMS):
            element.fate = "cut"
            self._note("action", element.get("action"))

    def _verb(self, element: Element) -> None:
        if element.get("type") == "verb":  # an animation that starts an object
            (element.above("timing") or element).fate = "cut"
            self._note("action", "timing")


_CODES: Final[dict[str, Literal["code", "text", "deleted"]]] = {
    "instrText": "code", "t": "text", "delInstrText": "deleted", "delText": "deleted",
}  # fmt: skip

_OPENED: Final[dict[str, Callable[[PartSurgeon, Element], None]]] = {
    "fldSimple": PartSurgeon._simple_field, "connection": PartSurgeon._connection,
    "queryTable": PartSurgeon._connection, "sp": PartSurgeon._shape, "cxnSp": PartSurgeon._shape,
    "grpSp": PartSurgeon._shape, "pic": PartSurgeon._shape, "graphicFrame": PartSurgeon._shape,
    "hlinkClick": PartSurgeon._click, "hlinkHover": PartSurgeon._click, "hlinkMouseOver": PartSurgeon._click,
    "cmd": PartSurgeon._verb, "cNvPr": PartSurgeon._shape_id,
}  # fmt: skip
_CLOSED: Final[dict[str, Callable[[PartSurgeon, Element], None]]] = {
    "instrText": PartSurgeon._stray_code, "f": PartSurgeon._cell_formula, "formula": PartSurgeon._rule_formula,
    "formula1": PartSurgeon._rule_formula, "formula2": PartSurgeon._rule_formula,
    "definedName": PartSurgeon._defined_name, "AlternateContent": PartSurgeon._alternatives,
}  # fmt: skip

# Names of elements and attributes are written out in XML: where none of these stands, nothing is to be done. Values may
# be written in other ways.
_TELLING = re.compile(
    rb"instr|fldChar|definedName|refreshOnLoad|interval|macro\s*=|action|verb|<!DOCTYPE"
)
_FORMULA = re.compile(rb"[:<]f(?:ormula[12]?)?[\s>]")


def may_need(data: bytes, gone: Collection[str], *, no_books: bool) -> bool:
    """Whether a part (UTF-8) is worth the walk."""
    if gone or _TELLING.search(data):
        return True
    bar = no_books or b"|" in data or b"&#" in data or b"<![CDATA[" in data
    return bar and _FORMULA.search(data) is not None

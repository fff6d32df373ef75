"""OOXML documents without what runs: `clean`.

Taken out: VBA projects and what belongs to them, Excel 4 macro sheets (an empty sheet stands in their place, so that
numbers of sheets stay right), ActiveX, ribbon extensions, web add-ins, OLE objects (their picture stays), embedded
programs and unknown files, imported documents, relationships to anything elsewhere but plain hyperlinks, DDE, fields
that fetch, links to other workbooks (cells keep their values), clicks that start programs. Embedded OOXML documents
(the workbook behind a chart) are cleaned in the same way.

The type of the main part stays `macroEnabled` where it was: the mail keeps the name of the attachment, and Word and
Excel refuse a `.docm` or `.xlsm` with the main part of a `.docx` or `.xlsx`, while one without macros is ordinary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netinspect.disarm import relations, xlsb
from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.disarm.package import Package, plain
from netinspect.disarm.parts import PartSurgeon, may_need
from netinspect.disarm.relations import Relation, Relations, Types
from netinspect.disarm.xmlcut import as_utf8
from netinspect.files import kind as kinds
from netinspect.files.budget import Budget
from netinspect.limits import Limits

DEPTH: Final = 3
"""Documents in documents that are cleaned; deeper ones are dropped. A chart in a presentation in a letter makes two."""

_MAIN: Final = ("wordprocessingml", "spreadsheetml", "presentationml", "ms-word", "ms-excel", "ms-powerpoint")
_PICTURES: Final = frozenset({"png", "jpeg", "gif", "bmp", "tiff", "webp", "emf"})
# Parts that are no XML and stay, by the beginning of their type, when their content is nothing that runs or unpacks.
_BINARY: Final = (
    "image/", "audio/", "video/", "font/", "application/x-font", "application/vnd.ms-excel.",
    "application/vnd.openxmlformats-officedocument.", "application/vnd.ms-office.",
)  # fmt: skip
_INERT: Final = frozenset({"data", "text", "empty", "xml", "svg", "riff"}) | _PICTURES
_WORDS: Final = dict.fromkeys(("exe", "elf", "macho", "lnk", "script"), "program") | dict.fromkeys(
    kinds.OOXML | kinds.OLES, "object"
)
_XML_STARTS: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<")
_MACRO_SHEET: Final = (b"<macrosheet", b":macrosheet")
_WORKSHEET: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"
_EMPTY_SHEET: Final = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData/></worksheet>'
)
_SHEET_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"
_BINARY_SHEET_TYPE: Final = "application/vnd.ms-excel.worksheet"
_EXTERNAL: Final = {
    "attachedtemplate": "template", "hyperlink": "hyperlink", "image": "image", "oleobject": "object",
}  # fmt: skip


def clean(data: bytes, limits: Limits) -> Cleaned:
    """Take out of an OOXML document what runs or fetches.

    Raises:
        CannotClean: it is no such document, damaged, encrypted, ambiguous or over a limit.
    """
    return _clean(data, Budget(limits), 0)


def _clean(data: bytes, budget: Budget, depth: int) -> Cleaned:
    document = _Document(data, budget, depth)
    document.look()
    document.edit()
    if not document.removed:
        return Cleaned(data)
    return Cleaned(document.written(), tuple(document.removed))


def _is_relations(key: str) -> bool:
    """ECMA-376 part 2, 6.5.2.3: `folder/_rels/name.rels`."""
    return key.endswith(".rels") and key.rpartition("/")[0].rpartition("/")[2] == "_rels"


class _Document:
    def __init__(self, data: bytes, budget: Budget, depth: int) -> None:
        self._budget = budget
        self._depth = depth
        self.removed: dict[Removal, None] = {}
        self._package = package = Package(data, budget)
        content_types = package.members.get(relations.TYPES)
        if content_types is None:
            raise CannotClean("no office document")
        self._types = Types()
        self._types_text = as_utf8(package.content(content_types))
        self._types.run(self._types_text)
        self._links: dict[str, dict[str, Relation]] = {}
        """By the part that has them."""
        for key, member in package.members.items():
            if _is_relations(key) and not member.is_folder:
                source = relations.source_of(key)
                read = Relations(source)
                read.run(as_utf8(package.content(member)))
                self._links[source] = read.found
        self._main = self._find_main()
        self._dropped: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self._cut: dict[str, set[str]] = {}
        self._turn: dict[str, dict[str, tuple[str, str]]] = {}
        if package.loose:
            self._note("hidden data")

    def _find_main(self) -> str:
        for link in self._links.get("", {}).values():
            main = link.kind == "officedocument" and link.part in self._package.members
            if main and any(word in self._types.of(link.part) for word in _MAIN):
                return link.part
        raise CannotClean("no office document")

    def _note(self, what: str, where: str = "") -> None:
        if len(self.removed) < 1000:
            self.removed[Removal(what, where[:200])] = None

    # --- what goes ------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find the members and relationships that are dropped."""
        sheets: dict[str, None] = {}
        for links in self._links.values():
            for link in links.values():
                if link.kind in relations.MACRO_SHEETS and link.part in self._package.members:
                    sheets[link.part] = None
                elif not link.external and link.kind in relations.BANNED:
                    self._drop(link.part, relations.BANNED[link.kind])
        for key, member in list(self._package.members.items()):
            if member.is_folder or key == relations.TYPES or _is_relations(key):
                continue
            if key.endswith(".rels"):
                self._drop(key, "embedded file")  # no place for relationships
                continue
            kind = self._types.of(key)
            if "macrosheet" in kind:
                sheets[key] = None
                continue
            what = relations.by_type(kind) or relations.by_name(key)
            if what:
                self._drop(key, what)
            elif key not in self._dropped and key not in sheets:
                self._look_into(key, kind, sheets)
        for key in sheets:
            self._empty_sheet(key)
        self._drop_below()
        self._look_links()

    def _drop(self, key: str, what: str) -> None:
        if key == self._main:
            raise CannotClean("the document is an object of itself")
        if key in self._package.members and key not in self._dropped:
            self._dropped[key] = what
            self._note(what, self._package.members[key].name)

    def _look_into(self, key: str, kind: str, sheets: dict[str, None]) -> None:
        """A member that nothing speaks against but perhaps its content."""
        content = self._package.content(self._package.members[key])
        if content.lstrip(b" \t\r\n").startswith(_XML_STARTS) and not kind.startswith("image/"):
            if any(mark in content[:8192] for mark in _MACRO_SHEET):
                sheets[key] = None
            elif "xml" not in kind and kind:
                self._drop(key, "embedded file")
            return
        real = kinds.identify(content)
        if real in kinds.OOXML and self._depth < DEPTH:
            try:
                cleaned = _clean(content, self._budget, self._depth + 1)
            except CannotClean:
                self._drop(key, "object")
                return
            for removal in cleaned.removed:
                self._note(removal.what, f"{self._package.members[key].name}/{removal.where}")
            if cleaned.removed:
                self._package.put(key, cleaned.data)
        elif real not in _INERT or not (real in _PICTURES or kind.startswith(_BINARY) or not content):
            self._drop(key, _WORDS.get(real, "embedded file"))

    def _empty_sheet(self, key: str) -> None:
        self._note("xlm", self._package.members[key].name)
        self._dropped[key] = "xlm"
        ending = "bin" if key.endswith(".bin") else "xml"
        number = 1
        while f"xl/worksheets/removed{number}.{ending}" in self._package.members:
            number += 1
        name = f"xl/worksheets/removed{number}.{ending}"
        self._package.put(name, xlsb.EMPTY_SHEET if ending == "bin" else _EMPTY_SHEET)
        self._new[name] = _BINARY_SHEET_TYPE if ending == "bin" else _SHEET_TYPE
        for source, links in self._links.items():
            for link in links.values():
                if link.part == key:
                    self._turn.setdefault(source, {})[link.id] = (_WORKSHEET, f"/{name}")

    def _drop_below(self) -> None:
        """What only parts lead to that are dropped: the properties of a control, the index of a binary sheet."""
        waiting = list(self._dropped)
        while waiting:
            below = {link.part for link in self._links.get(waiting.pop(), {}).values() if link.part}
            if not below:
                continue
            held = {
                link.part for source, links in self._links.items() if source not in self._dropped
                for link in links.values() if link.kind not in relations.BANNED
            }  # fmt: skip
            for key in sorted(below - held):
                if key in self._package.members and key not in self._dropped and key != self._main:
                    self._dropped[key] = "stale"
                    waiting.append(key)

    def _look_links(self) -> None:
        for source, links in self._links.items():
            if source in self._dropped:
                continue
            cut = self._cut.setdefault(source, set())
            for link in links.values():
                if link.id in self._turn.get(source, ()):
                    continue
                if link.part in self._dropped:
                    cut.add(link.id)
                elif not link.may_stay:
                    cut.add(link.id)
                    if link.external:
                        self._note(_EXTERNAL.get(link.kind, "link"), link.target)
                    else:
                        self._note(relations.BANNED[link.kind], link.target)

    # --- edits ----------------------------------------------------------------------------------------------------

    def edit(self) -> None:
        """Edit the parts that stay."""
        no_books = "link" in self._dropped.values()
        for key in list(self._package.members):
            if self._is_part(key):
                self._edit_part(key, no_books)

    def _is_part(self, key: str) -> bool:
        member = self._package.members[key]
        return not (
            member.is_folder or key in self._dropped or key == relations.TYPES or _is_relations(key)
            or self._types.of(key).startswith("image/") or plain(member.name) in self._new
        )  # fmt: skip

    def _edit_part(self, key: str, no_books: bool) -> None:
        gone = self._cut.get(key, set())
        content = self._package.content(self._package.members[key])
        if content.lstrip(b" \t\r\n").startswith(_XML_STARTS):
            text = as_utf8(content)
            if not may_need(text, gone, no_books=no_books):
                return
            surgeon = PartSurgeon(gone, no_books=no_books)
            edited = surgeon.run(text)
            for removal in surgeon.removed:
                self._note(removal.what, f"{self._package.members[key].name}: {removal.where}")
            if edited is not text:
                self._package.put(key, edited)
        elif key.endswith(".bin") and "ms-excel" in self._types.of(key):
            self._edit_binary(key, content, gone)

    def _edit_binary(self, key: str, content: bytes, gone: set[str]) -> None:
        """A part of a binary workbook: its relationships are named by records."""
        links = self._links.get(key, {})
        if any(links[one].kind == "externallink" for one in gone):
            raise CannotClean("links of a binary workbook")
        edited, removals = xlsb.clean(content, objects=any(not links[one].external for one in gone))
        for what, where in removals:
            self._note(what, f"{self._package.members[key].name}: {where}")
        if edited is not content:
            self._package.put(key, edited)
        for one in [one for one in gone if links[one].external]:
            gone.discard(one)
            link = links[one]
            self._turn.setdefault(key, {})[one] = (link.kind, relations.INERT)

    # --- writing --------------------------------------------------------------------------------------------------

    def written(self) -> bytes:
        """The package without what was dropped."""
        self._side_effects()
        for source, links in self._links.items():
            key = relations.relationships_of(source)
            if source in self._dropped:
                self._package.drop(key)
                continue
            cut, turn = self._cut.get(source, set()), self._turn.get(source, {})
            if not cut and not turn:
                continue
            if cut >= set(links):
                self._package.drop(key)
                continue
            text = as_utf8(self._package.content(self._package.members[key]))
            self._package.put(key, Relations(source, frozenset(cut), turn).run(text))
        for key in self._dropped:
            self._package.drop(key)
        drop = frozenset(key for key in self._types.parts if key not in self._package.members)
        unused = not any(relations.by_type(self._types.of(key)) for key in self._members())
        edited = Types(drop, self._new, unused).run(self._types_text)
        if edited is not self._types_text:
            self._package.put(relations.TYPES, edited)
        return self._package.write()

    def _members(self) -> Iterator[str]:
        return (key for key, member in self._package.members.items() if not member.is_folder)

    def _side_effects(self) -> None:
        """What holds no more: the order of calculation, places in binary sheets, signatures of the document."""
        for source, links in self._links.items():
            for link in links.values():
                if link.kind in relations.STALE:
                    self._cut.setdefault(source, set()).add(link.id)
                    if link.part in self._package.members and link.part != self._main:
                        self._dropped.setdefault(link.part, "stale")

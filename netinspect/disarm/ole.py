"""Documents of Word, Excel and PowerPoint 97-2003 without what runs: `clean`.

The compound file is written anew from the streams that such a document has; VBA projects, embedded objects and controls
and all streams that are none of the document's own are left out. What is active within the document's own streams
(Excel 4 macro sheets, DDE, fields that fetch, a template elsewhere, objects and actions of slides) is changed in place.
The pictures of objects stay.
"""

from __future__ import annotations

from typing import Final

from netinspect.disarm import biff, compound, slides, worddoc
from netinspect.disarm.compound import Entry
from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.files import kind as kinds
from netinspect.limits import Limits

# Streams and storages of the documents themselves, by upper-case name; storages with what is in them.
_COMMON: Final = frozenset({
    "\x05SUMMARYINFORMATION", "\x05DOCUMENTSUMMARYINFORMATION", "\x01COMPOBJ", "\x01OLE", "MSODATASTORE",
})  # fmt: skip
_WORD: Final = _COMMON | {"WORDDOCUMENT", "0TABLE", "1TABLE", "DATA"}
_EXCEL: Final = _COMMON | {"WORKBOOK", "BOOK", "_SX_DB_CUR", "USER NAMES", "REVISION LOG", "CTLS"}
_POWERPOINT: Final = _COMMON | {"POWERPOINT DOCUMENT", "CURRENT USER", "PICTURES", "PP97_DUALSTORAGE", "TEXT_CONTENT"}

_VBA: Final = frozenset({
    "MACROS", "_VBA_PROJECT_CUR", "_VBA_PROJECT", "VBA", "PROJECT", "PROJECTWM", "PROJECTLK", "DIR", "_VBA_MACROS",
})  # fmt: skip
_ENCRYPTED: Final = frozenset({"ENCRYPTEDPACKAGE", "ENCRYPTIONINFO", "ENCRYPTEDSUMMARY", "\x06DATASPACES"})
_SIGNATURES: Final = frozenset({"_XMLSIGNATURES", "_SIGNATURES"})
# Classes that a document may be of: Word, Excel and PowerPoint since 95.
_CLASSES: Final = frozenset(
    bytes.fromhex(one) for one in (
        "00" * 16, "0609020000000000c000000000000046", "0009020000000000c000000000000046",
        "2008020000000000c000000000000046", "1008020000000000c000000000000046", "2108020000000000c000000000000046",
        "108d81649b4fcf1186ea00aa00b929e8", "118d81649b4fcf1186ea00aa00b929e8", "51ea8c497bf6cf1181c100aa0061cf5f",
    )
)  # fmt: skip
_MONIKERS: Final = (
    bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b"), bytes.fromhex("0303000000000000c000000000000046"),
    bytes.fromhex("0903000000000000c000000000000046"),
)  # fmt: skip
_OBJECTS: Final = ("OBJECTPOOL", "MBD", "LNK", "\x03", "\x01OLE10", "EQUATION", "PACKAGE", "CONTENTS")
_EDITED: Final = frozenset({"WORDDOCUMENT", "WORKBOOK", "BOOK", "POWERPOINT DOCUMENT"})
_MODULE: Final = b"\0Attribut"
"""The beginning of every packed module; programs search for it."""
_INERT: Final = frozenset({
    "data", "text", "empty", "png", "jpeg", "gif", "bmp", "tiff", "emf", "webp", "xml", "svg", "html",
})  # fmt: skip


def clean(data: bytes, limits: Limits) -> Cleaned:
    """Take out of a compound document what runs or fetches.

    Raises:
        CannotClean: it is none of Word, Excel or PowerPoint 97-2003, damaged, encrypted or over a limit.
    """
    if len(data) > limits.member_bytes:
        raise CannotClean("member_bytes")
    document = _Document(compound.read(data, limits))
    end = kinds.zip_end(data)
    if end >= 0 and end + 22 + int.from_bytes(data[end + 20 : end + 22], "little") == len(data):
        document.note("hidden data", "zip")  # to a zip program the file is an archive
    return document.cleaned(data)


class _Document:
    def __init__(self, read: compound.Compound) -> None:
        self._root = read.root
        self._removed: dict[Removal, None] = {}
        if read.orphans:
            self.note("orphan", f"{read.orphans} entries")

    def note(self, what: str, where: str = "") -> None:
        """Note what is taken out."""
        if len(self._removed) < 1000:
            shown = "".join(character if character.isprintable() else "_" for character in where)
            self._removed[Removal(what, shown[:200])] = None

    def cleaned(self, data: bytes) -> Cleaned:
        root = self._root
        names = {entry.name.upper() for entry in root.children}
        if names & _ENCRYPTED:
            raise CannotClean("encrypted")
        if "WORDDOCUMENT" in names:
            own, look = _WORD, self._word
        elif names & {"WORKBOOK", "BOOK"}:
            own, look = _EXCEL, self._excel
        elif "POWERPOINT DOCUMENT" in names:
            own, look = _POWERPOINT, self._powerpoint
        else:
            raise CannotClean("no document of Word, Excel or PowerPoint")
        self._drop(own)
        look()
        self._classes()
        if any(_MODULE in (entry.data or b"") for entry in root.children):
            raise CannotClean("macros within the document's own stream")
        if not self._removed:
            return Cleaned(data)
        self._stale()
        return Cleaned(compound.write(root), tuple(self._removed))

    # --- the tree -------------------------------------------------------------------------------------------------

    def _drop(self, own: frozenset[str]) -> None:
        """Leave in the root what a document has, and nothing below it that looks like something else."""
        kept = []
        for entry in self._root.children:
            name = entry.name.upper()
            if name in _SIGNATURES:
                kept.append(entry)  # goes only when something else does
            elif name not in own or not self._harmless(entry, name):
                self.note(_what(name), entry.name)
            else:
                kept.append(entry)
        self._root.children = kept

    def _harmless(self, entry: Entry, name: str) -> bool:
        if name == "CTLS":
            return not entry.data  # the controls of all sheets
        if name == "\x01OLE":
            return not any(moniker in (entry.data or b"") for moniker in _MONIKERS)
        if name == "PP97_DUALSTORAGE":
            return False  # the same slides for PowerPoint 95, with everything in them
        streams = list(entry.walk()) if entry.is_storage else [(entry.name, entry)]
        for path, one in streams:
            upper = path.rpartition("/")[2].upper()
            if upper in _VBA or upper.startswith(_OBJECTS) or upper.startswith("__SRP_"):
                return False
            content = one.data or b""
            if name not in _EDITED and _MODULE in content:
                return False
            if entry.is_storage and kinds.identify(content[: kinds.HEAD]) not in _INERT:
                return False
        return True

    def _classes(self) -> None:
        """What a class identifier of a storage starts is not for a document to say."""
        for path, entry in [("", self._root), *self._root.walk()]:
            if entry.clsid not in _CLASSES:
                entry.clsid = bytes(16)
                self.note("class", path or "root")

    def _stale(self) -> None:
        """Signatures of a document that is another one now."""
        self._root.children = [entry for entry in self._root.children if entry.name.upper() not in _SIGNATURES]

    def _stream(self, name: str) -> Entry | None:
        entry = self._root.child(name)
        if entry is not None and entry.is_storage:
            raise CannotClean("damaged document")
        return entry

    def _own(self, name: str) -> Entry:
        entry = self._stream(name)
        if entry is None:
            raise CannotClean("damaged document")
        return entry

    # --- the documents --------------------------------------------------------------------------------------------

    def _word(self) -> None:
        document = self._own("WordDocument")
        table = self._stream(worddoc.table_name(document.data or b""))
        streams = worddoc.clean(document.data or b"", (table.data or b"") if table is not None else b"")
        for removal in streams.removed:
            self.note(removal.what, removal.where)
        if self._removed:
            worddoc.drop_commands(streams)
        document.data = bytes(streams.document)
        if table is not None:
            table.data = bytes(streams.table)

    def _excel(self) -> None:
        for name in ("Workbook", "Book"):
            book = self._stream(name)
            if book is not None and book.data is not None:
                book.data, removed = biff.clean(book.data)
                for removal in removed:
                    self.note(removal.what, removal.where)

    def _powerpoint(self) -> None:
        user = self._stream("Current User")
        if user is not None and slides.is_encrypted(user.data or b""):
            raise CannotClean("encrypted")
        deck = self._own("PowerPoint Document")
        deck.data, removed = slides.clean(deck.data or b"")
        for removal in removed:
            self.note(removal.what, removal.where)


def _what(name: str) -> str:
    if name in _VBA or name.startswith("__SRP_"):
        return "vba"
    if name.startswith(_OBJECTS) or name == "\x01OLE":
        return "object"
    return "activex" if name == "CTLS" else "unknown stream"

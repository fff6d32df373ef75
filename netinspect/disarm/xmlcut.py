"""XML edited by place: a parser says where each element stands, and octets are cut there; all else stays as it was.

So prefixes, order and blanks survive, and memory is that of the text. A document type declaration, another encoding
than UTF-8 or UTF-16 (ECMA-376 part 2, 6.2.5) and what is not well-formed are `CannotClean`. Nothing is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from netinspect.disarm.contract import CannotClean

LONGEST: Final = 33_554_432
"""Octets of one part that is edited; a worker has 256 MB for all, and there are some copies."""
DEEPEST: Final = 512
"""Elements in elements; Word makes some dozens."""

_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]*?\?>")
_ENCODING = re.compile(rb"""(\sencoding\s*=\s*)(?:"([^"]*)"|'([^']*)')""")
_TAG = re.compile(rb"""<[^<>"'\s/]+(?:"[^"]*"|'[^']*'|[^<>"'])*>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=<>"'/]+)\s*=\s*(?:"[^"]*"|'[^']*')""")


@dataclass(slots=True, eq=False)
class Element:
    """An element while it is open, and until its parent is closed. Offsets are those of the text as it is read."""

    space: str
    name: str
    attributes: dict[str, str]
    start: int
    inner: int
    empty: bool
    parent: Element | None
    fate: str = ""
    """`cut`, `unwrap` (its tags go, its content stays) or `""`."""
    rename: str = ""
    without: set[str] = field(default_factory=set)
    """Local names of attributes that go."""
    values: dict[str, str] = field(default_factory=dict)
    """New values of attributes, by local name."""
    children: int = 0
    gone: int = 0
    text: str = ""
    content: str | None = None
    """New text instead of what is in it."""

    def get(self, name: str) -> str:
        """An attribute by its local name, in whatever namespace."""
        return next((value for key, value in self.attributes.items() if key.rpartition(" ")[2] == name), "")

    def above(self, *names: str) -> Element | None:
        """The nearest element around it that has one of these names."""
        place = self.parent
        while place is not None and place.name not in names:
            place = place.parent
        return place


def as_utf8(data: bytes) -> bytes:
    """The text of a part in UTF-8, as it is when it is so already.

    Raises:
        CannotClean: another encoding.
    """
    head = data[:4]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or head in (b"<\0?\0", b"\0<\0?"):
        if len(data) > LONGEST:
            raise CannotClean("document too long")
        codec = "utf-16" if head[0] in (0xFF, 0xFE) else "utf-16-le" if head[0] == 0x3C else "utf-16-be"
        try:
            data = data.decode(codec).encode("utf-8")
        except UnicodeError as error:
            raise CannotClean("damaged document") from error
        declared = _DECLARATION.match(data)
        if declared:
            return _ENCODING.sub(rb'\1"UTF-8"', declared[0]) + data[declared.end() :]
        return data
    declared = _DECLARATION.match(data[3:] if data.startswith(b"\xef\xbb\xbf") else data)
    encoding = _ENCODING.search(declared[0]) if declared else None
    if encoding and (encoding[2] or encoding[3] or b"").lower() not in (b"utf-8", b"utf8", b"us-ascii"):
        raise CannotClean("unknown encoding")
    if b"\0" in head:
        raise CannotClean("unknown encoding")
    return data


class Surgeon:
    """A walk over one part that notes what is to be cut. Subclasses have `opened`, `closed` and the sets below."""

    texts: Collection[str] = ()
    """Elements whose text is wanted (`Element.text`, complete when they are closed)."""
    lists: Collection[str] = ()
    """Elements that go when all of their children went: the schema wants at least one."""

    def __init__(self) -> None:
        self.data = b""
        self._edits: list[tuple[int, int, bytes]] = []
        self._open: list[Element] = []
        self._parser = expat.ParserCreate("UTF-8", namespace_separator=" ")

    # --- for subclasses ---

    def opened(self, element: Element) -> None:
        """An element begins."""

    def closed(self, element: Element) -> None:
        """An element ends: the last moment to give it a fate."""

    def finish(self) -> None:
        """All is read."""

    def remove(self, start: int, end: int) -> None:
        """Cut a stretch of the text."""
        self._edits.append((start, end, b""))

    def insert(self, element: Element, octets: bytes) -> None:
        """Put something before the content of an element that is open."""
        self._edits.append((element.inner, element.inner, octets))

    # --- the walk ---

    def run(self, data: bytes) -> bytes:
        """Walk over `data` (UTF-8) and give it edited: the same object when nothing was to be done.

        Raises:
            CannotClean: not well-formed, too deep, or with a document type.
        """
        if len(data) > LONGEST:
            raise CannotClean("document too long")
        self.data = data
        parser = self._parser
        parser.buffer_text = True
        parser.ordered_attributes = False
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        if self.texts:
            parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise CannotClean("damaged document") from error
        finally:
            # The handlers hold this object and it holds the parser.
            parser.StartElementHandler = parser.EndElementHandler = None
            parser.StartDoctypeDeclHandler = parser.CharacterDataHandler = None
        self.finish()
        return self._edited()

    def _doctype(self, *_: object) -> None:
        raise CannotClean("document type declaration")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        tag = _TAG.match(self.data, start)
        if tag is None or len(self._open) >= DEEPEST:
            raise CannotClean("damaged document")
        space, _, local = name.rpartition(" ")
        parent = self._open[-1] if self._open else None
        if parent is not None:
            parent.children += 1
        element = Element(space, local, attributes, start, tag.end(), tag[0].endswith(b"/>"), parent)
        self._open.append(element)
        self.opened(element)

    def _characters(self, text: str) -> None:
        if self._open and self._open[-1].name in self.texts:
            self._open[-1].text += text

    def _end(self, _: str) -> None:
        element = self._open.pop()
        at = element.inner if element.empty else self._parser.CurrentByteIndex
        end = at if element.empty else self.data.index(b">", at) + 1
        if element.children and element.children == element.gone and element.name in self.lists:
            element.fate = "cut"
        self.closed(element)
        if element.fate == "cut":
            self._edits.append((element.start, end, b""))
            if element.parent is None:
                raise CannotClean("nothing is left of a part")
            element.parent.gone += 1
        elif element.fate == "unwrap":
            self._edits.append((element.start, element.inner, b""))
            if not element.empty:
                self._edits.append((at, end, b""))
        elif element.rename or element.without or element.values:
            self._retag(element, at, end)
        elif element.content is not None and not element.empty:
            self._edits.append((element.inner, at, escape(element.content).encode()))
        self.ended(element, end)

    def ended(self, element: Element, end: int) -> None:
        """An element is over and ends before `end`."""

    def _retag(self, element: Element, at: int, end: int) -> None:
        tag = self.data[element.start : element.inner]

        def kept(match: re.Match[bytes]) -> bytes:
            qname = match[1].decode("utf-8", "replace")
            prefix, _, local = qname.rpartition(":")
            if prefix == "xmlns" or qname == "xmlns":
                return match[0]
            if local in element.without:
                return b""
            if local in element.values:
                return b' %s="%s"' % (match[1], escape(element.values[local]).encode())
            return match[0]

        edited = _ATTRIBUTE.sub(kept, tag)
        if element.rename:
            old = re.match(rb"<((?:[^\s/>:]+:)?)", tag)
            assert old is not None  # noqa: S101 - it began with "<"
            name = old[1] + element.rename.encode()
            edited = re.sub(rb"^<[^\s/>]+", b"<" + name.replace(b"\\", rb"\\"), edited)
            if not element.empty:
                self._edits.append((at, end, b"</" + name + b">"))
        self._edits.append((element.start, element.inner, edited))

    def _edited(self) -> bytes:
        if not self._edits:
            return self.data
        out: list[bytes | memoryview] = []
        view = memoryview(self.data)
        at = 0
        # Of two that begin at one place the longer first, for what lies in a cut is gone with it; insertions before.
        for start, end, octets in sorted(self._edits, key=lambda edit: (edit[0], edit[1] > edit[0], -edit[1])):
            if start < at:
                continue
            out += (view[at:start], octets)
            at = end
        out.append(view[at:])
        edited = b"".join(out)
        _check(edited)
        return edited


def escape(text: str) -> str:
    """A value between double quotes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _check(edited: bytes) -> None:
    """What was cut may have held the declaration of a prefix that something else uses: then nobody could read it."""
    try:
        expat.ParserCreate("UTF-8", namespace_separator=" ").Parse(edited, True)
    except expat.ExpatError as error:
        raise CannotClean("the document would not be readable without what runs in it") from error

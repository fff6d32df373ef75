"""RTF: objects, remote templates and active fields cut out of the document, group by group. Pure Python.

An RTF file is groups in groups; what is taken out is always whole groups, so all else stays octet for octet. Of an
object and of a field the result that was shown last stays (RTF 1.9.1, "Objects", "Fields").

Readers forgive much in RTF, each something else. So this one forgives nothing: what is not written as the
specification says cannot be cleaned, and somebody who hides an object behind odd syntax has hidden the document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.disarm.fields import Code
from netinspect.files.budget import Budget, OverBudget

if TYPE_CHECKING:
    from netinspect.limits import Limits

LONGEST: Final = 33_554_432
"""Octets; the reader is Python."""
_DEEPEST: Final = 1000
_TOKENS: Final = 6_000_000
_FONTS: Final = 8_000
"""Fonts in the table; a reader with 32,768 overran its memory (CVE-2023-21716)."""
_LISTED: Final = 100
_CODE: Final = 65_536
"""Characters of one field's code."""

_TOKEN: Final = re.compile(
    rb"(?P<open>\{)|(?P<close>\})|\\(?:(?P<word>[A-Za-z]+)(?P<number>-?\d+)? ?|'(?P<octet>[0-9A-Fa-f]{2})"
    rb"|(?P<symbol>[^A-Za-z']))|(?P<text>[^{}\\]+)|(?P<odd>\\'|\\\Z)",
    re.DOTALL,
)
_WORD: Final = 32
_NUMBER: Final = 10
"""Longest control word and parameter (RTF 1.9.1, "RTF Syntax")."""

# Outside of an object these mean nothing, and readers know them all the same.
_OBJECT: Final = frozenset(
    b"objdata objemb objlink objautlink objsub objpub objicemb objhtml objocx objupdate objclass objname objtime"
    b" objalias objsect objattph oleclsid".split()
)
_GROUPS: Final = {
    b"template": "template", b"datastore": "custom-data", b"mailmerge": "mail-merge", b"htmltag": "encapsulated-html",
    b"subdocument": "subdocument", b"nextfile": "linked-file", b"filetbl": "linked-file", b"ddeexec": "dde",
}  # fmt: skip
"""Destinations that go with their group."""


@dataclass(slots=True)
class _Group:
    start: int
    word: bytes = b""
    """Its destination: the first control word in it."""
    head: int = 0
    """Where that control word ends."""
    harm: str = ""
    result: tuple[int, int, int] | None = None
    """Start, end of the destination, end of the result group in an object or a field."""
    code: Code | None = None
    text: list[str] = field(default_factory=list)
    size: int = 0
    fonts: int = 0


def clean(data: bytes, limits: Limits) -> Cleaned:
    """`data` without what acts; a document that has nothing comes back as it was.

    Raises:
        CannotClean: it is not written as the specification says, or is too long.
    """
    if len(data) > LONGEST:
        raise CannotClean("document too long")
    if not data.startswith(b"{\\rtf"):
        raise CannotClean("no RTF header")
    surgery = _Surgery(data, Budget(limits))
    try:
        surgery.read()
    except OverBudget as over:
        raise CannotClean(over.reason) from over
    if not surgery.removals:
        return Cleaned(data)
    return Cleaned(surgery.result(), tuple(surgery.removals))


class _Surgery:
    """One document; `_cuts` are the stretches that go."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        self._data = data
        self._budget = budget
        self._cuts: list[tuple[int, int]] = []
        self._stack: list[_Group] = []
        self.removals: list[Removal] = []

    def read(self) -> None:
        """Go through all tokens."""
        data = self._data
        stack = self._stack
        at = 0
        for count, token in enumerate(_TOKEN.finditer(data)):
            if token.start() != at:
                raise CannotClean("malformed document")
            at = token.end()
            if not count % 4096:
                self._budget.check_time()
                if count > _TOKENS:
                    raise CannotClean("document too long")
            kind = token.lastgroup
            if kind == "open":
                if len(stack) >= _DEEPEST:
                    raise CannotClean("nested too deep")
                stack.append(_Group(token.start()))
            elif kind == "close":
                self._close(stack.pop(), at)
                if not stack:
                    break
            elif kind == "word" or kind == "number":
                self._word(token["word"], token["number"], token.start(), at)
            elif kind == "odd":
                raise CannotClean("malformed control word")
            else:
                self._content(token, str(kind))
        if stack:
            raise CannotClean("unfinished document")
        if data[at:].strip(b" \t\r\n\0"):
            self._removed("hidden-data", f"offset {at}")
            self._cuts.append((at, len(data)))

    # --- tokens -----------------------------------------------------------------------------------------------

    def _word(self, word: bytes, number: bytes | None, start: int, end: int) -> None:
        if len(word) > _WORD or (number and len(number) > _NUMBER + 1):
            raise CannotClean("malformed control word")
        here = self._stack[-1]
        word = word.lower()
        if not here.word:
            here.word, here.head = word, end
        if word == b"bin" and number and int(number):
            raise CannotClean("binary data")
        if word == b"object" or word in _OBJECT:
            self._harm("object")
        elif word in _GROUPS:
            here.harm = here.harm or _GROUPS[word]
        elif word == b"fldinst":
            here.code = here.code or Code()
        elif word == b"field":
            self._gather("", odd=True)
        elif word == b"listoverridecount" and (number or b"0") not in (b"0", b"1", b"9"):
            raise CannotClean("malformed list table")  # CVE-2012-2539, CVE-2014-1761
        elif word == b"u" and number:
            self._gather(chr(int(number) & 0xFFFF))
        elif word == b"f" and len(self._stack) > 1 and self._stack[-2].word == b"fonttbl":
            self._stack[-2].fonts += 1
            if self._stack[-2].fonts > _FONTS:
                raise CannotClean("malformed font table")
        elif word in (b"tab", b"line", b"par", b"emspace", b"enspace"):
            self._gather(" ")
        elif word in (b"ldblquote", b"rdblquote"):
            self._gather('"')

    def _content(self, token: re.Match[bytes], kind: str) -> None:
        octets = token[kind]
        if kind == "text":
            if b"\0" in octets:
                raise CannotClean("malformed document")
            self._gather(octets.decode("latin-1").replace("\r", "").replace("\n", ""))
        elif kind == "octet":
            self._gather(chr(int(octets, 16)))
        elif octets in b"\\{}":
            self._gather(octets.decode("ascii"))
        elif octets == b"~":
            self._gather(" ")

    def _gather(self, text: str, *, odd: bool = False) -> None:
        """Text of the code of a field, or of the name of a shape's property."""
        for group in reversed(self._stack):
            if group.word == b"sn" and len(group.text) < 64:
                group.text.append(text)
                return
            if group.code is not None:
                group.size += len(text) + 1
                if group.size > _CODE:
                    raise CannotClean("malformed field")
                if odd:
                    group.code.add("odd")
                else:
                    group.code.add("code", text)
                return
            if group.word in (b"fldrslt", b"field") and group is not self._stack[-1]:
                return  # what a field inside the code has itself

    def _harm(self, what: str) -> None:
        """Mark the object that is open, else the group."""
        for group in reversed(self._stack):
            if group.word == b"result":
                break  # this much of the object may stay
            if group.word == b"object":
                group.harm = what
                return
        self._stack[-1].harm = what

    # --- groups -----------------------------------------------------------------------------------------------

    def _close(self, group: _Group, end: int) -> None:
        parent = self._stack[-1] if self._stack else None
        if group.code is not None:
            self._field(group)
        if group.word in (b"result", b"fldrslt") and not group.harm:
            self._result(group, end)
        if parent is not None and group.word == b"sn" and "".join(group.text).strip().lower() == "pfragments":
            # CVE-2010-3333. The name's group and the value's are in one.
            parent.harm = parent.harm or "shape-property"
        if not group.harm:
            return
        if parent is None:
            raise CannotClean(f"{group.harm} in the document itself")
        self._removed(group.harm, f"offset {group.start}")
        if group.result is None:
            self._cuts.append((group.start, end))
            return
        start, head, stop = group.result
        self._cuts += [(group.start, start), (start + 1, head), (stop, end)]

    def _field(self, group: _Group) -> None:
        assert group.code is not None  # noqa: S101
        found = group.code.active()
        if not found:
            return
        for outer in () if group.word == b"fldrslt" else reversed(self._stack):
            if outer.word == b"field":
                outer.harm = outer.harm or found
                return
            if outer.word in (b"fldinst", b"fldrslt"):
                break
        group.harm = group.harm or found

    def _result(self, group: _Group, end: int) -> None:
        owner = b"object" if group.word == b"result" else b"field"
        for outer in reversed(self._stack):
            if outer.word == owner:
                if outer.result is None:
                    outer.result = (group.start, group.head, end)
                return
            if outer.word in (b"object", b"field"):
                return

    def _removed(self, what: str, where: str) -> None:
        if len(self.removals) < _LISTED:
            self.removals.append(Removal(what, where))

    def result(self) -> bytes:
        """The document without the cuts."""
        pieces = []
        at = 0
        for start, end in sorted(self._cuts):
            if start > at:
                pieces.append(self._data[at:start])
            at = max(at, end)
        pieces.append(self._data[at:])
        return b"".join(pieces)

"""Text from a mail as it may stand on the page: escaped, and nothing in it hides, moves or turns other text.

A name, a subject and an address are the sender's word. Characters that cannot be seen (controls, right-to-left
overrides, zero-width ones, lone surrogates) stand as their code point in a mark of their own, and so do long runs of
blanks and of combining marks: the first push the end of a name out of sight, the others cover their neighbours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from markupsafe import Markup, escape

TEXT: Final = 300
"""Characters of one text that are shown. A header line is at most 998 (RFC 5322 §2.1.1); the events have all."""
BLANKS: Final = 2
"""Blanks in a row that are shown as such; HTML would fold more of them to one."""
MARKS: Final = 2
"""Combining marks on one letter. Vietnamese and polytonic Greek need two."""


def visible(text: str, most: int = TEXT) -> Markup:
    """Give the first `most` characters as HTML."""
    left_out = len(text) - most
    if left_out > 0:
        text = text[:most]
    if text.isascii():
        shown = escape(text) if text.isprintable() and "   " not in text else _marked(text)
    else:
        # Letters that really run from right to left turn nothing but themselves.
        shown = Markup("<bdi>{}</bdi>").format(_marked(text))
    if left_out > 0:
        shown += Markup(" <b class=u>{} more characters</b>").format(left_out)
    return shown


def _marked(text: str) -> Markup:
    return Markup("").join(_runs(text))


def _runs(text: str) -> Iterator[Markup]:
    for kind, group in groupby(text, _kind):
        run = "".join(group)
        if kind == "plain" or (kind == "blank" and len(run) <= BLANKS) or (kind == "mark" and len(run) <= MARKS):
            yield escape(run)
        elif kind == "blank":
            yield Markup("<b class=u>{} blanks</b>").format(len(run))
        elif kind == "mark":
            yield escape(run[:MARKS]) + _points(run[MARKS:])
        else:
            yield _points(run)


def _points(run: Iterable[str]) -> Markup:
    return Markup("").join(Markup("<b class=u>U+{:04X}</b>").format(ord(char)) for char in run)


def _kind(char: str) -> str:
    if char.isascii():
        return "blank" if char == " " else "plain" if char.isprintable() else "hidden"
    category = unicodedata.category(char)
    if category == "Zs":
        return "blank"
    if category in ("Mn", "Me"):
        # Variation selectors and the like cannot be seen at all, though they count as marks.
        return "hidden" if _INVISIBLE_MARKS[0] <= char <= _INVISIBLE_MARKS[1] or char == "\u034f" else "mark"
    return "plain" if char.isprintable() and char not in _EMPTY else "hidden"


_INVISIBLE_MARKS: Final = ("\ufe00", "\ufe0f")
_EMPTY: Final = "\u115f\u1160\u3164\uffa0\u2800"
"""Letters and signs that are drawn as nothing (Hangul fillers, the empty Braille pattern)."""

"""What people read on a terminal: text that stays on its line and in its column, and one line that is written over."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from typing import TextIO

NARROW = 80
"""Columns where a terminal does not say how many it has."""


def printable(text: str) -> str:
    """A name from a mail is the sender's word: it must not write lines of ours, move the cursor or turn the text."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def width(text: str) -> int:
    """Columns that a printable text takes on a terminal (Unicode Standard Annex 11)."""
    return len(text) if text.isascii() else sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, columns: int) -> str:
    """Give exactly that many columns of the text: filled with blanks, or cut with an ellipsis."""
    text = printable(text)
    taken = width(text)
    if taken > columns:
        text = _cut(text, columns - 1) + "…"
        taken = width(text)
    return text + " " * (columns - taken)


def _cut(text: str, columns: int) -> str:
    if text.isascii():
        return text[: max(columns, 0)]
    taken = 0
    for at, char in enumerate(text):
        taken += _columns(char)
        if taken > columns:
            return text[:at]
    return text


def size(octets: float) -> str:
    """Octets as people say them, three digits: `812 B`, `4.31 MB` (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 999.5:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:.4g} TB"


def count(number: int, noun: str) -> str:
    """`1 mail`, `2 mails`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class StatusLine:
    """One line on a terminal that is written over; where the stream is no terminal (or not `on`) nothing is shown."""

    def __init__(self, stream: TextIO, *, on: bool = True) -> None:
        self._stream = stream
        self.on = on and stream.isatty()
        self._shown = False

    def show(self, text: Callable[[int], str]) -> None:
        """Write over what is shown; `text` is asked for at most so many columns."""
        if not self.on:
            return
        # A full line would make some terminals begin the next.
        columns = (os.get_terminal_size(self._stream.fileno()).columns or NARROW) - 1
        self._stream.write(f"\r{_cut(printable(text(columns)), columns)}\x1b[K")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Make room for a line on the same terminal."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        self._stream.write(f"netinspect: {printable(text)}\n")

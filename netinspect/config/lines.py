"""Where each key of a TOML text stands, and each character of a value: tomllib gives values but no places, and an error
without a place is a riddle.

The text has been through tomllib before, so the scanner meets valid TOML 1.0 only and needs no error handling.
"""

from __future__ import annotations

import bisect
import re
import tomllib

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'  # up to two quotes may stand before the closing three
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)


_STEP = re.compile(
    r"\\[ \t]*\r?\n[ \t\r\n]*"  # a backslash at the end of a line takes the blanks before the next word away
    r"|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\.|\r\n|.",
    re.DOTALL,
)


def locate(text: str) -> dict[KeyPath, int]:
    """Give the line (from 1) of every table, key, array element and key of an inline table."""
    return _Scanner(text).scan()


def locate_character(text: str, path: KeyPath, offset: int) -> tuple[int, int] | None:
    """Give line and column (both from 1) of a character of the string at `path`; `offset` counts in the string as read.

    None where there is no string at `path`.
    """
    scanner = _Scanner(text)
    scanner.scan()
    start, end = scanner.values.get(path, (0, 0))
    literal = text[start:end]
    if literal[:1] not in ('"', "'"):
        return None
    width = 3 if literal[:3] in ('"""', "'''") else 1
    place = start + width
    if width == 3 and text.startswith(("\n", "\r\n"), place):  # a line end right behind the quotes is not in the string
        place = text.index("\n", place) + 1
    last = end - width
    left = offset
    while place < last:
        step = _STEP.match(text, place, last) if literal[0] == '"' or text[place] == "\r" else None
        skipped = step is not None and step.group()[0] == "\\" and step.group()[-1] in " \t\r\n"
        if not left and not skipped:
            break
        left -= not skipped
        place = step.end() if step else place + 1
    line = text.count("\n", 0, place)
    return line + 1, place - (text.rfind("\n", 0, place) + 1) + 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._counts: dict[KeyPath, int] = {}
        """Arrays of tables and how many tables each has so far."""
        self._lines: dict[KeyPath, int] = {}
        self.values: dict[KeyPath, tuple[int, int]] = {}
        """Where strings, numbers and the like begin and end."""

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._peek():
            if self._take("[["):
                table = self._header(array=True)
            elif self._take("["):
                table = self._header(array=False)
            else:
                self._entry(table)
        return self._lines

    def _header(self, *, array: bool) -> KeyPath:
        line = self._line()
        keys = self._keys()
        path: KeyPath = ()
        for index, key in enumerate(keys):
            path += (key,)
            self._lines.setdefault(path, line)
            if array and index == len(keys) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path += (self._counts[path] - 1,)
        self._lines.setdefault(path, line)
        self._take("]]" if array else "]")
        return path

    def _entry(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for key in self._keys():
            path += (key,)
            self._lines.setdefault(path, line)
        self._take("=")
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._take("["):
            index = 0
            while not self._take("]"):
                self._lines[(*path, index)] = self._line()
                self._value((*path, index))
                self._take(",")
                index += 1
        elif self._take("{"):
            while not self._take("}"):
                self._entry(path)
                self._take(",")
        else:
            self._peek()
            match = _STRING.match(self._text, self._pos) or _SCALAR.match(self._text, self._pos)
            start, self._pos = self._pos, match.end() if match else len(self._text)
            self.values[path] = (start, self._pos)

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self._take("."):
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._peek()
        match = _BARE_KEY.match(self._text, self._pos)
        if match:
            self._pos = match.end()
            return match.group()
        match = _STRING.match(self._text, self._pos)
        if match is None:
            self._pos = len(self._text)
            return ""
        self._pos = match.end()
        key: str = tomllib.loads(f"key = {match.group()}")["key"]
        return key

    def _peek(self) -> bool:
        """Go to the next token; false at the end."""
        match = _BLANK.match(self._text, self._pos)
        if match:
            self._pos = match.end()
        return self._pos < len(self._text)

    def _take(self, token: str) -> bool:
        self._peek()
        found = self._text.startswith(token, self._pos)
        if found:
            self._pos += len(token)
        return found

    def _line(self) -> int:
        self._peek()
        return bisect.bisect_left(self._newlines, self._pos) + 1

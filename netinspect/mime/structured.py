"""The structured fields that say what a part is: one value and its parameters (RFC 2045, RFC 2183, RFC 2231)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from netinspect.mime.words import decode_charset, decode_words, printable, to_text, unfold

_TYPE: Final = re.compile(r"([^\s/;\"=,]++)\s*+/\s*+([^\s/;\"=,]++)")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)', re.DOTALL)
_COMMENT: Final = re.compile(r'["()\\]')
_SECTION: Final = re.compile(r"(.+?)(?:\*(\d{1,4}))?(\*)?", re.DOTALL)

# More of a structured field than any program makes; beyond it nothing is interpreted.
_FIELD: Final = 65_536
_PARAMETERS: Final = 256


def strip_comments(text: str) -> str:
    """`text` without comments (RFC 5322 §3.2.2), nested ones too; quoted strings are left alone."""
    out: list[str] = []
    depth = 0
    quoted = False
    position = 0
    skip = -1
    for mark in _COMMENT.finditer(text):
        at = mark.start()
        if at == skip:
            continue
        char = text[at]
        if char == "\\":
            skip = at + 1
        elif quoted:
            quoted = char != '"'
        elif char == '"' and not depth:
            quoted = True
        elif char == "(":
            if not depth:
                out.append(text[position:at])
            depth += 1
        elif char == ")" and depth:
            depth -= 1
            if not depth:
                position = at + 1
    if not depth:
        out.append(text[position:])
    return " ".join(out)


class Structured:
    """A field like Content-Type: one value and its parameters.

    `value` is lower case, `""` when there is none that could be read; `params` have lower-case names, sections
    joined (RFC 2231) and encoded-words undone. `boundary` is the parameter's exact octets. `problems` are anomaly
    kinds; those in `doubts` can change which parts a reader sees. `last` lets the last of equal parameters count.
    """

    __slots__ = ("_last", "boundary", "doubts", "params", "problems", "value")

    def __init__(self, raw: bytes, *, media: bool, last: bool = False) -> None:
        self._last = last
        self.params: dict[str, str] = {}
        self.boundary = b""
        self.problems: list[str] = []
        self.doubts: list[str] = []
        # Octets that are no UTF-8 travel through as escapes, so the boundary's octets come out as they went in.
        text = unfold(raw[:_FIELD]).decode("utf-8", "surrogateescape")
        if "(" in text:
            plain = strip_comments(text)
            self.value, rest = self._head(plain, media)
            self._parameters(rest)
            # QUIRK: `name=report(1).pdf` is a comment by RFC 822 and a file name to every mail program.
            loose = Structured.__new__(Structured)
            loose.params, loose.boundary, loose.problems, loose.doubts, loose._last = {}, b"", [], [], last
            loose._parameters(text)
            for key in ("name", "filename"):
                if key in loose.params and ("(" in loose.params[key] or key not in self.params):
                    self.params[key] = loose.params[key]
        else:
            self.value, rest = self._head(text, media)
            if rest:
                self._parameters(rest)

    def _head(self, text: str, media: bool) -> tuple[str, str]:
        if media:
            # QUIRK: a second colon, or a separator with nothing before it.
            text = text.lstrip(" \t;:,)")
            match = _TYPE.match(text)
            if match:
                return printable(f"{match[1]}/{match[2]}".lower()), text[match.end() :]
            head, _, rest = text.partition(";")
            return "", text if "=" in head else rest
        head, _, rest = text.partition(";")
        head = head.strip(' \t"')
        if "=" in head:  # `Content-Disposition: filename=x`, the value itself left out
            return "", text
        words = head.split()
        return printable(words[0].lower()) if words else "", rest

    def _parameters(self, text: str) -> None:
        sections: dict[str, dict[int, tuple[str, bool]]] = {}
        plain: dict[str, str] = {}
        position = 0
        for _ in range(_PARAMETERS):
            equal = text.find("=", position)
            if equal < 0:
                break
            words = text[position:equal].rpartition(";")[2].split()
            name = words[-1].lower() if words else ""
            value, position, quoted = _value(text, equal + 1)
            if not name:
                continue
            if "*" in name:
                match = _SECTION.fullmatch(name)
                if match and (match[2] or match[3]):
                    parts = sections.setdefault(match[1], {})
                    number, section = int(match[2] or 0), (value, bool(match[3]))
                    self._once(match[1], parts.setdefault(number, section)[0], value)
                    if self._last:
                        parts[number] = section
                    continue
            if name == "boundary" and not quoted and value.split() != [value]:
                # A blank cannot stand in a boundary without quotes (RFC 2046 §5.1.1).
                self._doubt("bad_parameter")
                value = value.split()[0] if value.split() else ""
            self._once(name, plain.setdefault(name, value), value)
            if self._last:
                plain[name] = value
        else:
            self.problems.append("limit_parameters")
            self._doubt("limit_parameters")
        for name, value in plain.items():
            self._set(name, value)
        for name, parts in sections.items():
            # RFC 2231 §3: sections count from 0 and come in any order. Where both forms are given, this one is meant.
            if name in plain and name == "boundary":
                self._once(name, plain[name], "")
                if self._last:
                    continue
            self._join(name, parts)

    def _once(self, name: str, first: str, value: str) -> None:
        if first != value:
            self.problems.append("duplicate_parameter")
            if name == "boundary":
                self._doubt("duplicate_parameter")

    def _doubt(self, kind: str) -> None:
        if kind not in self.doubts:
            self.doubts.append(kind)
        if kind not in self.problems:
            self.problems.append(kind)

    def _set(self, name: str, value: str) -> None:
        if name == "boundary":
            self.boundary = value.encode("utf-8", "surrogateescape")
        self.params[name] = decode_words(value)

    def _join(self, name: str, parts: dict[int, tuple[str, bool]]) -> None:
        charset = ""
        octets = b""
        for number, index in enumerate(sorted(parts)):
            value, extended = parts[index]
            if extended:
                if not number and value.count("'") >= 2:
                    charset, _, value = value.split("'", 2)
                octets += unquote_to_bytes(value.encode("utf-8", "surrogateescape"))
            else:
                octets += value.encode("utf-8", "surrogateescape")
        if name == "boundary":
            self.boundary = octets
        text = decode_charset(octets, charset) if charset else to_text(octets)
        self.params[name] = decode_words(text)


def _value(text: str, position: int) -> tuple[str, int, bool]:
    """The parameter value at `position`: itself, where the next parameter starts, whether it was quoted."""
    while position < len(text) and text[position] in " \t":
        position += 1
    if text.startswith('"', position):
        match = _QUOTED.match(text, position)
        if match:
            value = match[1]
            if "\\" in value:
                # QUIRK: only these two are escapes; a backslash in a Windows path was never escaped (RFC 2045 §5.1).
                value = value.replace('\\"', '"').replace("\\\\", "\\")
            end = text.find(";", match.end())
            if end >= 0 or "=" not in text[match.end() + 1 :]:
                between = text[match.end() + 1 : end if end >= 0 else None]
                if "=" not in between:
                    return value, end + 1 if end >= 0 else len(text), True
            # QUIRK: the semicolon between two parameters was forgotten.
            return value, match.end() + 1, True
    end = text.find(";", position)
    if end < 0:
        end = len(text)
    return text[position:end].strip(), end + 1, False


def file_name(text: str, limit: int) -> str:
    """A name as it may be kept: folders stay, control characters are replaced, the middle of a long one is cut out.

    The end stays because it decides what a name does.
    """
    name = printable(text).strip()
    if len(name) > limit > 0:
        half = (limit - 1) // 2
        name = f"{name[: limit - 1 - half]}\u2026{name[len(name) - half :]}"
    return name

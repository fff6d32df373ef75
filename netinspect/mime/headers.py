"""Header fields, and the structured ones among them that say what a part is (RFC 2045, RFC 2183, RFC 2231).

Values stay raw bytes until somebody asks: most fields of a mail are never looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from netinspect.mime.words import decode_charset, decode_words, printable, to_text, unfold

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPE: Final = re.compile(r"([^\s/;\"=,]++)\s*+/\s*+([^\s/;\"=,]++)")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*+)', re.DOTALL)
_COMMENT: Final = re.compile(r'["()\\]')
_SECTION: Final = re.compile(r"(.+?)(?:\*(\d{1,4}))?(\*)?", re.DOTALL)

_FOLD: Final = b" \t"
_MARK: Final = b"\xef\xbb\xbf"
# A DKIM signature lists names of fields with colons between; a field has a value of its kind.
_HIDDEN: Final = re.compile(
    rb"[\0-\x20]*+content-(?:type[ \t]*+:[ \t]*+[\w.-]++/|disposition[ \t]*+:[ \t]*+(?:attachment|inline)\b"
    rb"|transfer-encoding[ \t]*+:[ \t]*+(?:base64|quoted|uu|x-|yenc|binhex|binary|[78]bit))",
    re.IGNORECASE,
)

# What nearly every header consists of: spelt as it is spelt nearly always, and without another look.
_KNOWN: Final = {
    name.encode(): name
    for name in (
        "ARC-Authentication-Results",
        "ARC-Message-Signature",
        "ARC-Seal",
        "Authentication-Results",
        "Cc",
        "Content-Disposition",
        "Content-ID",
        "Content-Language",
        "Content-Transfer-Encoding",
        "Content-Type",
        "DKIM-Signature",
        "Date",
        "Delivered-To",
        "From",
        "In-Reply-To",
        "List-Id",
        "List-Unsubscribe",
        "MIME-Version",
        "Message-ID",
        "Message-Id",
        "Precedence",
        "Received",
        "References",
        "Reply-To",
        "Return-Path",
        "Sender",
        "Subject",
        "To",
        "User-Agent",
        "X-Mailer",
        "X-Priority",
    )
}
_LOWER: Final = {name: name.lower() for name in _KNOWN.values()}

# The fields that decide what a part is: these are looked for in spellings that only some programs take for them.
_DECIDING: Final = frozenset({"content-type", "content-transfer-encoding", "content-disposition"})
_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]++")
_NAMED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
_NOT_NAME: Final = bytes(set(range(256)) - set(_NAMED))
_LONG_NAME: Final = 4096

# More of a structured field than any program makes; beyond it nothing is interpreted.
_FIELD: Final = 65_536
_PARAMETERS: Final = 256


class Headers:
    """One header block: the fields in their order, names as they came, values raw with their folds.

    `get` and `get_all` take names in lower case. A value starts behind the colon and ends before the last line end.
    """

    __slots__ = ("_index", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[str, bytes]] = []
        self._index: dict[str, list[bytes]] = {}

    def add(self, name: str, value: bytes, key: str = "") -> None:
        """Append one field; `key` is what its name means, where that is not the name in lower case."""
        self.fields.append((name, value))
        key = key or _LOWER.get(name) or name.lower()
        values = self._index.get(key)
        if values is None:
            self._index[key] = [value]
        else:
            values.append(value)

    def get(self, name: str) -> bytes | None:
        """The first value under `name` (lower case)."""
        values = self._index.get(name)
        return values[0] if values else None

    def get_all(self, name: str) -> list[bytes]:
        """All values under `name` (lower case), in their order."""
        return self._index.get(name, [])

    def shorten(self) -> None:
        """Keep what says something about a part. Thousands of short fields cost many times their octets."""
        self.fields = [(name, value) for name, value in self.fields if name.lower().startswith("content-")]
        self._index = {name: values for name, values in self._index.items() if name.startswith("content-")}

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self.fields)


class HeaderBlock:
    """What a block of octets says: `headers`, and where it stops being a header.

    `junk` is the offset in the block of the first line that is no field and no continuation, -1 when there is none.
    `blank` tells that a line of nothing but blanks continued a field: some programs end the header there.
    `hidden` tells that a continuation line looks like a MIME field of its own. `mark` tells that a byte order mark
    stood in front. `overflow` is the offset of the first field beyond the limit, -1 when all fit. `odd` tells that a
    name is that of a MIME field only to forgiving programs (`deciding_field`); `strict` does not take it for one.
    """

    __slots__ = ("_strict", "blank", "headers", "hidden", "junk", "mark", "odd", "overflow")

    def __init__(self, block: bytes, limit: int, *, strict: bool = False) -> None:
        self._strict = strict
        self.odd = False
        self.headers = Headers()
        self.junk = -1
        self.blank = False
        self.hidden = False
        self.overflow = -1
        # QUIRK: files saved as "UTF-8 with BOM"; a reader that does not know it loses the first field.
        self.mark = block.startswith(_MARK)
        self._parse(block[3:] if self.mark else block, limit)
        if self.mark:
            self.junk += 3 * (self.junk >= 0)
            self.overflow += 3 * (self.overflow >= 0)

    def _parse(self, block: bytes, limit: int) -> None:
        name = meaning = ""
        torn = b""  # a line without a colon: the first half of a name, perhaps
        begin = end = offset = count = 0  # a value is cut out once, however many folds it has
        for line in block.split(b"\n"):
            start = offset
            offset += len(line) + 1
            if not line:
                continue
            known = key = ""
            if line[0] in _FOLD:
                blank = not line.strip(b" \t\r")
                if name:
                    if blank:
                        self.blank = True
                    elif b":" in line and hidden_field(line):
                        self.hidden = True
                    end = offset - 1
                    continue
                if blank:
                    continue
                colon = line.find(b":")
                if torn and colon >= 0:
                    known, key = self._name(torn + line[:colon], torn=True)
            elif (colon := line.find(b":")) > 0:
                octets = line[:colon]
                known = _KNOWN.get(octets, "")
                if not known:
                    known, key = (octets.decode(), "") if _NAME.fullmatch(octets) else self._name(octets)
            torn = b""
            if known:
                if name:
                    self.headers.add(name, block[begin:end].rstrip(b"\r"), meaning)
                if count >= limit:
                    self.overflow = start
                    return
                count += 1
                name, meaning = known, key
                begin = start + colon + 1
                end = offset - 1
                continue
            # QUIRK: mbox files and some relays leave a "From " line in front (RFC 4155).
            if line == b"\r" or (not start and line.startswith((b"From ", b">From "))):
                continue
            if self.junk < 0:
                self.junk = start
            if name:
                self.headers.add(name, block[begin:end].rstrip(b"\r"), meaning)
                name = meaning = ""
            if colon < 0 and len(line) <= _LONG_NAME:
                torn = line
        if name:
            self.headers.add(name, block[begin:end].rstrip(b"\r"), meaning)

    def _name(self, octets: bytes, *, torn: bool = False) -> tuple[str, str]:
        """A name that is not spelt as it should be: itself and what it means, `""` when it is no name."""
        meaning = deciding_field(octets)
        if meaning:
            self.odd = True
            if not self._strict:
                return octets.decode("latin-1"), meaning
        if torn or octets[0] <= 0x20:
            return "", ""
        # RFC 5322 §4.5: blanks before the colon are obsolete, not wrong.
        octets = octets.rstrip(b" \t")
        return ("", "") if b" " in octets or b"\t" in octets else (octets.decode("latin-1"), "")


def deciding_field(name: bytes) -> str:
    """The MIME field that a forgiving program takes for `name`, `""` for none.

    Comments, blanks, control characters and 8-bit octets in a name or around it are nothing to some programs.
    """
    if len(name) > _LONG_NAME:
        return ""
    for text in (name, strip_comments(name.decode("latin-1")).encode("latin-1")) if b"(" in name else (name,):
        word = text.translate(None, _NOT_NAME).decode().lower()
        if word in _DECIDING:
            return word
    return ""


def hidden_field(line: bytes) -> bool:
    """Whether a continuation line says what a MIME field says: a program that does not unfold takes it for one."""
    return line.lstrip()[:8].lower() == b"content-" and _HIDDEN.match(line) is not None


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

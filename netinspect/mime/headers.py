"""The header block: fields, their names in every spelling that some program takes for them (RFC 5322 §2.2, §4.5).

Values stay raw bytes until somebody asks: most fields of a mail are never looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from netinspect.mime.structured import strip_comments

if TYPE_CHECKING:
    from collections.abc import Iterator

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

"""TNEF, the `winmail.dat` of Exchange and Outlook: attachments, embedded messages and bodies ([MS-OXTNEF]).

    for name, content in members(data): ...

An embedded message is given as TNEF of its own (or as the OLE object that it is), not opened. Compressed RTF
([MS-OXRTFCP]) is given as RTF. Checksums are not looked at: the programs that open such files do not either.
"""

from __future__ import annotations

import codecs
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE: Final = b"\x78\x9f\x3e\x22"

_ATTRIBUTE: Final = struct.Struct("<BHHI")
_U32: Final = struct.Struct("<I")
_LEVELS: Final = (1, 2)

# [MS-OXTNEF] §2.1.3.1: the identifiers of attributes that hold something.
_BODY: Final = 0x800C
_RENDERING: Final = 0x9002
_TITLE: Final = 0x8010
_DATA: Final = 0x800F
_METAFILE: Final = 0x8011
_ATTACHMENT: Final = 0x9005
_PROPERTIES: Final = 0x9003
_CODEPAGE: Final = 0x9007

# [MS-OXPROPS]: property identifiers.
_LONG_NAME: Final = 0x3707
_SHORT_NAME: Final = 0x3704
_DISPLAY_NAME: Final = 0x3001
_CONTENT: Final = 0x3701
_TEXT: Final = 0x1000
_RTF: Final = 0x1009
_HTML: Final = 0x1013

_FIXED: Final = {1: 0, 2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 0x0A: 4, 0x0B: 4, 0x14: 8, 0x40: 8, 0x48: 16}
_STRING8: Final = 0x1E
_UNICODE: Final = 0x1F
_OBJECT: Final = 0x0D
_VARIABLE: Final = (_STRING8, _UNICODE, 0x102, _OBJECT)
_MULTIPLE: Final = 0x1000
_VALUES: Final = 100_000  # of one property list, each a step of Python

_DICTIONARY: Final = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_RTF_LIMIT: Final = 4_194_304  # octets: a step of Python for each few of them


class TnefError(ValueError):
    """The file is cut short or not what it says; what could be read was given before."""


@dataclass(slots=True)
class _Attachment:
    title: str = ""
    data: bytes = b""
    properties: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)


def members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of what is in `data`, attachments in their order, bodies when their attribute comes.

    Names may be empty. Contents are not unpacked but for compressed RTF (the first 4 MiB).

    Raises:
        TnefError: the rest cannot be read.
    """
    if not data.startswith(SIGNATURE):
        raise TnefError("no TNEF signature")
    position = 6
    size = len(data)
    codec = "cp1252"
    current: _Attachment | None = None
    broken = ""
    while position < size:
        if size - position < _ATTRIBUTE.size:
            break  # QUIRK: some writers leave a few octets at the end
        level, identifier, _, length = _ATTRIBUTE.unpack_from(data, position)
        if level not in _LEVELS:
            # Outlook stops here as well; octets that are all zero are padding.
            broken = "rubbish behind an attribute" if any(data[position : position + 4096]) else ""
            break
        start = position + _ATTRIBUTE.size
        content = data[start : start + length]
        position = start + length + 2
        if len(content) < length:
            broken = "cut short"
        if identifier == _CODEPAGE and len(content) >= 4:
            codec = _codec(_U32.unpack_from(content)[0])
        elif identifier == _RENDERING:
            if current is not None:
                yield from _attachment(current, codec)
            current = _Attachment()
        elif identifier in (_TITLE, _DATA, _METAFILE, _ATTACHMENT):
            if current is None:
                current = _Attachment()
            if identifier == _TITLE:
                current.title = _text(content, codec)
            elif identifier == _DATA:
                if current.data:  # two contents without a rendering between
                    yield from _attachment(current, codec)
                    current = _Attachment(title=current.title)
                current.data = content
            elif identifier == _METAFILE:
                yield "", content
            else:
                current.properties, complete = _properties(content)
                broken = broken or ("" if complete else "properties cut short")
        elif identifier == _BODY:
            yield "body.txt", content.rstrip(b"\0")
        elif identifier == _PROPERTIES:
            properties, complete = _properties(content)
            broken = broken or ("" if complete else "properties cut short")
            yield from _bodies(properties)
            if any(_rtf_size(value) > _RTF_LIMIT for _, value in properties.get(_RTF, ())):
                broken = broken or "RTF beyond the limit"
    if current is not None:
        yield from _attachment(current, codec)
    if broken:
        raise TnefError(broken)


def _attachment(attachment: _Attachment, codec: str) -> Iterator[tuple[str, bytes]]:
    properties = attachment.properties
    name = ""
    for identifier in (_LONG_NAME, _SHORT_NAME):
        if not name:
            name = _string(properties, identifier, codec)
    name = name or attachment.title or _string(properties, _DISPLAY_NAME, codec)
    given = False
    for kind, value in properties.get(_CONTENT, ()):
        # [MS-OXTNEF] §2.1.3.4: an object has the identifier of its interface in front.
        content = value[16:] if kind == _OBJECT else value
        if content:
            given = True
            yield name, content
    if attachment.data or not given:
        yield name, attachment.data


def _bodies(properties: dict[int, list[tuple[int, bytes]]]) -> Iterator[tuple[str, bytes]]:
    for _, value in properties.get(_TEXT, ()):
        yield "body.txt", value.rstrip(b"\0")
    for _, value in properties.get(_HTML, ()):
        yield "body.html", value.rstrip(b"\0")
    for _, value in properties.get(_RTF, ()):
        yield "body.rtf", decompress_rtf(value)


def _properties(data: bytes) -> tuple[dict[int, list[tuple[int, bytes]]], bool]:
    """Values of the variable types by property ([MS-OXTNEF] §2.1.3.4), and whether all could be read."""
    found: dict[int, list[tuple[int, bytes]]] = {}
    size = len(data)
    position = 4
    steps = 0
    try:
        (count,) = _U32.unpack_from(data)
        for _ in range(count):
            kind, identifier = struct.unpack_from("<HH", data, position)
            position += 4
            if identifier >= 0x8000:
                (named,) = _U32.unpack_from(data, position + 16)
                (length,) = _U32.unpack_from(data, position + 20)
                position += 24 + (_padded(length) if named else 0)
            single = kind & ~_MULTIPLE
            values = 1
            if kind & _MULTIPLE or single in _VARIABLE:
                (values,) = _U32.unpack_from(data, position)
                position += 4
            for _ in range(values):
                steps += 1
                if steps > _VALUES or position > size:
                    return found, False
                if single in _VARIABLE:
                    (length,) = _U32.unpack_from(data, position)
                    position += 4
                    found.setdefault(identifier, []).append((single, data[position : position + length]))
                    position += _padded(length)
                elif single in _FIXED:
                    position += _FIXED[single]
                else:
                    return found, False
    except struct.error:
        return found, False
    return found, position <= size + 3


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _string(properties: dict[int, list[tuple[int, bytes]]], identifier: int, codec: str) -> str:
    for kind, value in properties.get(identifier, ()):
        return _text(value, "utf-16-le" if kind == _UNICODE else codec)
    return ""


def _text(value: bytes, codec: str) -> str:
    return value.decode(codec, "replace").partition("\0")[0]


def _codec(page: int) -> str:
    name = {65001: "utf-8", 1200: "utf-16-le", 20127: "ascii", 28591: "latin-1", 28592: "iso8859-2"}.get(page)
    if name is None:
        name = f"cp{page}"
        try:
            codecs.lookup(name)
        except LookupError:
            return "cp1252"
    return name


def _rtf_size(data: bytes) -> int:
    return int.from_bytes(data[4:8], "little") if data[8:12] == b"LZFu" else 0


def decompress_rtf(data: bytes) -> bytes:
    """RTF as it was before compression ([MS-OXRTFCP] §3.1.3); what cannot be read ends it."""
    if len(data) < 16:
        return b""
    _, raw, magic, _ = struct.unpack_from("<IIII", data)
    if magic == 0x414C454D:
        return data[16 : 16 + raw]
    if magic != 0x75465A4C:
        return b""
    window = bytearray(_DICTIONARY.ljust(4096, b"\0"))
    write = len(_DICTIONARY)
    out = bytearray()
    limit = min(raw, _RTF_LIMIT)
    position, size = 16, len(data)
    while position < size and len(out) < limit:
        control = data[position]
        position += 1
        for bit in range(8):
            if position >= size or len(out) >= limit:
                break
            if not control & 1 << bit:
                piece = data[position : position + 1]
                position += 1
            else:
                if position + 1 >= size:
                    return bytes(out)
                token = data[position] << 8 | data[position + 1]
                position += 2
                offset, length = token >> 4, (token & 15) + 2
                if offset == write:
                    return bytes(out)
                copied = bytearray()
                for step in range(length):
                    # An octet that is written in this very run may be read in it.
                    at = (offset + step) % 4096
                    octet = window[at]
                    copied.append(octet)
                    window[(write + step) % 4096] = octet
                write = (write + length) % 4096
                out += copied
                continue
            window[write] = piece[0]
            write = (write + 1) % 4096
            out += piece
    return bytes(out[:limit])

"""Fields of one header block, changed where they stand; all other octets of the block stay.

changes = Fields(block, newline)
changes.put("Content-Transfer-Encoding", b" base64")
changes.drop("Content-MD5")
for offset, length, data in changes.edits(): ...
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from netinspect.mime.structured import file_name

_NAME: Final = 60
"""Characters of a name that are kept: percent-encoded (RFC 2231) it has to fit into one line of 998 octets."""
_NOT_IN_NAMES: Final = {ord(char): "_" for char in '/\\:*?"<>|;%='} | {
    # Characters that turn the direction of what follows: nobody needs them to find his file again.
    code: "_" for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}  # fmt: skip
ENDING: Final = ".removed.txt"


class Fields:
    """`block` is a header block as it stands, whole lines, without its blank line."""

    __slots__ = ("_block", "_changes", "_spans", "newline")

    def __init__(self, block: bytes, newline: bytes) -> None:
        self._block = block
        self.newline = newline
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._changes: dict[str, bytes | None] = {}
        offset = 0
        name = ""
        for line in block.split(b"\n"):
            start, offset = offset, min(offset + len(line) + 1, len(block))
            if line[:1] in (b" ", b"\t"):
                if name:
                    self._spans[name][-1] = (self._spans[name][-1][0], offset)
                continue
            text = line.removeprefix(b"\xef\xbb\xbf") if not start else line
            colon = text.find(b":")
            name = text[:colon].rstrip(b" \t").decode("latin-1").lower() if colon > 0 else ""
            if name:
                self._spans.setdefault(name, []).append((start, offset))

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name.lower() in self._spans

    def put(self, name: str, value: bytes) -> None:
        """One field `name`, in place of the first that is there; `value` begins with its blank."""
        self._changes[name] = value

    def drop(self, name: str) -> None:
        """No field `name`."""
        self._changes[name] = None

    def edits(self) -> list[tuple[int, int, bytes]]:
        """Offset in the block, length, new octets; what is added stands at the end of the block."""
        found: list[tuple[int, int, bytes]] = []
        added = b""
        for name, value in self._changes.items():
            line = b"" if value is None else name.encode() + b":" + value + self.newline
            for start, stop in self._spans.get(name.lower(), ()):
                found.append((start, stop - start, line))
                line = b""
            added += line
        if added:
            found.append((len(self._block), 0, added))
        return sorted(found)


def removed_name(name: str) -> str:
    """The name of the text that stands for a part called `name`."""
    kept = file_name(name, _NAME).translate(_NOT_IN_NAMES).strip(" .")
    return (kept or "part") + ENDING


def parameter(key: str, value: str) -> bytes:
    """One parameter (RFC 2045 §5.1, RFC 2231 §4), `value` without quotes, backslashes and control characters."""
    if value.isascii() and value.isprintable():
        return f'{key}="{value}"'.encode()
    return f"{key}*=utf-8''{quote(value, safe='')}".encode()

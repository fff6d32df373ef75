"""What a message is made of: `Part` is the structure, `Leaf` the content."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from netinspect.mime.headers import Headers

if TYPE_CHECKING:
    from netinspect.spool import Spool


@dataclass(slots=True)
class Part:
    """One node of the message.

    `path` is `1` for the message; the n-th part of a multipart adds `.n`, a nested message adds `.1`. What stands
    outside the parts is named: `1.preamble`, `1.epilogue` (`1.epilogue2` behind a second closing delimiter),
    `1.2.header` (lines in a header that are no fields), `1.2.uu1` (a file encoded in a text: uuencode, yEnc, BinHex),
    `1.rest` (beyond a limit). `1.2~b`, `1.2~c` are other readings of what stands there.

    `content_type` is lower case (`text/plain` when none is given, RFC 2045 §5.2), `disposition` is `attachment`,
    `inline`, another word or `""`. `encoding` is the Content-Transfer-Encoding as it was read: `7bit`, `8bit`,
    `binary`, `base64`, `quoted-printable`, `uuencode`, or the unknown word.

    `doubts` are the anomaly kinds that make the reading of this part and all below it uncertain: another mail
    program may see something else.
    """

    path: str
    headers: Headers = field(default_factory=Headers)
    content_type: str = "text/plain"
    params: dict[str, str] = field(default_factory=dict)
    disposition: str = ""
    filename: str = ""
    encoding: str = "7bit"
    children: list[Part] = field(default_factory=list)
    depth: int = 0
    """Multiparts and messages around it."""
    offset: int = 0
    """Octets of the message before its body; of the enclosing encoded body for what was found inside one."""
    source: str = ""
    """Path of the encoded message that `offset` counts in; empty for the message itself."""
    length: int = 0
    """Octets of its body as it stands in the message."""
    header_offset: int = 0
    """Where its header block begins, counted as `offset` is."""
    header_length: int = 0
    """Octets of the header block without its blank line, which stands between it and `offset`."""
    doubts: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    """File names that other programs read out of the same header, where their endings differ."""


@dataclass(slots=True)
class Leaf:
    """One content, transfer-decoded. Whoever gets it closes `content`.

    `undecoded` means: these octets may not be all that a mail program can make of the part; `why` says which
    anomaly kinds are the reason. Such a leaf is never clean by itself.
    """

    part: Part
    content: Spool
    sha256: str
    """Of the decoded octets, lower-case hex."""
    undecoded: bool
    text: bool
    """A body text, not an attachment."""
    name: str = ""
    declared: str = "text/plain"
    """The content type the sender gave."""
    why: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Where it stands: `part.path`."""
        return self.part.path

    @property
    def size(self) -> int:
        """Decoded octets."""
        return self.content.size


def reading_path(path: str, number: int) -> str:
    """Path of the `number`-th other reading (from 1) of what stands at `path`: `1.2~b`, `1.2~c`, ..., `1.2~27`."""
    return f"{path}~{chr(97 + number)}" if number < 26 else f"{path}~{number + 1}"

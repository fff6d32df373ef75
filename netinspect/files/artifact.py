"""The tree of what a message holds: one `Artifact` for each leaf, and for each thing found inside one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["CLOSED", "TRUNCATED"]


@dataclass(frozen=True, slots=True)
class Hashes:
    """Digests of one content, lower-case hex."""

    sha256: str
    sha1: str
    md5: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One content: a decoded MIME leaf, or a member found inside another artifact.

    `path` is where it stands: `1.2` for a leaf, `1.2/word/vbaProject.bin` for a member of it. `magic` is the type by
    content, a short word from `netinspect.files.kind` (`zip`, `ole`, `pdf`, `text`, `data`, ...). `state` is
    TRUNCATED when not all of it could be read.
    """

    hashes: Hashes
    size: int
    magic: str
    path: str
    name: str = ""
    declared: str = ""
    parent_sha256: str = ""
    state: State = "CLOSED"
    text: bool = False
    """A body text rather than an attachment."""

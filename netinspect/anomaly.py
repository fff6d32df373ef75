"""A malformation is a value: what was wrong and where, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layer = Literal["smtp", "mime", "file", "tcp"]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One malformation.

    `kind` is a short stable word in lower case with underscores (`bare_lf`, `line_too_long`); `layer` is where
    it was seen; `offset` counts octets from the start of the stream (smtp), the message (mime) or the file.
    """

    kind: str
    layer: Layer
    offset: int = 0
    detail: str = ""

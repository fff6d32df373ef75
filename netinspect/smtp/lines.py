"""Cut a stream into lines with bounded memory.

The line end is LF; whether a CR stands before it is the caller's question, because the answer (accept, refuse,
normalise) depends on where the line was read. A part without an LF is kept up to `keep` octets and counted beyond.
"""

from __future__ import annotations


class LineBuffer:
    """Collects one line at a time; what was cut off for length is counted in `size`.

    After `take` found an end, `line` is the line with its end (at most `keep` octets of it) and `size` its octets
    on the wire: `size > len(line)` means that the tail was thrown away.
    """

    __slots__ = ("_keep", "_part", "_partial", "line", "size")

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._part = bytearray()
        self._partial = 0
        self.line = b""
        self.size = 0

    @property
    def partial(self) -> int:
        """Octets of the line that has no end yet."""
        return self._partial

    def take(self, data: bytes, pos: int) -> int:
        """Read on in `data` from `pos`. Gives the position behind the line's end, or -1 when there is none yet."""
        end = data.find(b"\n", pos) + 1
        if not end:
            self._add(data[pos:])
            return -1
        if self._partial:
            self._add(data[pos:end])
            self.line = bytes(self._part)
            self.size = self._partial
            self.clear()
        else:
            self.size = end - pos
            self.line = data[pos : min(end, pos + self._keep)]
        return end

    def clear(self) -> None:
        """Forget the unfinished line."""
        self._part.clear()
        self._partial = 0

    def _add(self, piece: bytes) -> None:
        self._partial += len(piece)
        room = self._keep - len(self._part)
        if room > 0:
            self._part += piece[:room]

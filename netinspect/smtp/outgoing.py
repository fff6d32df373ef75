"""Content → the octets that go on the wire behind 354 (RFC 5321 §4.5.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Stuffer:
    """Dot-stuffs one message, in pieces; a piece without a dot at the start of a line is given back as it is."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        # The line end of DATA: the first line of a message may begin with a dot.
        self._last = b"\r\n"

    def feed(self, chunk: bytes) -> bytes:
        """The piece with each dot at the start of a line doubled."""
        last = self._last
        size = len(chunk)
        self._last = chunk[-2:] if size > 1 else (last + chunk)[-2:]
        if b"." not in chunk:
            return chunk
        # A CRLF-dot that begins in the octets before this piece ends within its first two.
        border = (last + chunk[:2]).find(b"\r\n.")
        if border >= 0:
            return (last + chunk).replace(b"\r\n.", b"\r\n..")[2:]
        return chunk.replace(b"\r\n.", b"\r\n..")

    def end(self) -> bytes:
        """The end-of-data, with the line end that the content lacks, if it does."""
        return b".\r\n" if self._last == b"\r\n" else b"\r\n.\r\n"


def stuff(chunks: Iterable[bytes], *, end: bool = False) -> Iterator[bytes]:
    """Dot-stuff the pieces of one message; with `end` the end-of-data follows as the last piece."""
    stuffer = Stuffer()
    for chunk in chunks:
        yield stuffer.feed(chunk)
    if end:
        yield stuffer.end()

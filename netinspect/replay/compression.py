"""Compressed captures: gzip, xz, bzip2, zstd; expanded piece by piece, so that a small file cannot fill the memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

MAGICS: Final = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd"}
"""What a compressed file begins with."""

PIECE: Final = 65_536
"""Octets of the compressed file that are looked at together."""
ZSTD_PIECE: Final = 1024
"""The same for zstd, whose decoder gives all at once: four octets can stand for 128 KiB (RFC 8878 §3.1.1.2)."""
WINDOW: Final = 134_217_728
"""Octets a decoder may need to remember. `zstd --ultra -22` and `xz -9` need 128 and 64 MiB."""


class Decoder(Protocol):
    """One compressed stream; there may be several behind each other."""

    @property
    def eof(self) -> bool:
        """Its end was reached."""

    @property
    def unused_data(self) -> bytes:
        """What stands behind the end."""

    def decompress(self, data: bytes, most: int) -> bytes:
        """Expand what was kept back and then `data`."""

    @property
    def hungry(self) -> bool:
        """It has nothing kept back."""


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, most)


class _Standard:
    """bz2 and lzma have the same methods."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._inner.decompress(data, most)


class _Zstd:
    def __init__(self) -> None:
        import zstandard  # seldom wanted, and not quick to import

        self._inner = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
        self._error = zstandard.ZstdError
        self.hungry = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, most: int) -> bytes:
        try:
            return self._inner.decompress(data)
        except self._error as error:
            raise ValueError(str(error)) from error


_DECODERS: Final[dict[str, tuple[Callable[[], Decoder], int]]] = {
    "gzip": (_Gzip, PIECE),
    "xz": (lambda: _Standard(lzma.LZMADecompressor(lzma.FORMAT_XZ, WINDOW)), PIECE),
    "bzip2": (lambda: _Standard(bz2.BZ2Decompressor()), PIECE),
    "zstd": (_Zstd, ZSTD_PIECE),
}


class Expanded:
    """The octets of a compressed file. `read` gives what is there, up to so many octets; `head` was read already.

    `damaged` is told `bad_compression` or `truncated`; what stood in front of that was given.
    """

    def __init__(
        self, method: str, read: Callable[[int], bytes], head: bytes, damaged: Callable[[str, str], None]
    ) -> None:
        self._method = method
        self._make, self._piece = _DECODERS[method]
        self._magic = next(magic for magic, name in MAGICS.items() if name == method)
        self._read = read
        self._input = head
        self._damaged = damaged
        self._decoder = self._make()
        self._over = False

    def read(self, most: int) -> bytes:
        """The next octets, about `most` of them at most; none at the end. Raises what `read` raises."""
        while not self._over:
            decoder = self._decoder
            if decoder.eof:
                self._next()
                continue
            piece = b""
            if decoder.hungry:
                piece = self._input or self._read(self._piece)
                piece, self._input = piece[: self._piece], piece[self._piece :]
                if not piece:
                    self._damaged("truncated", f"{self._method} data end in the middle")
                    break
            try:
                octets = decoder.decompress(piece, most)
            except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
                self._damaged("bad_compression", f"{self._method}: {error or 'damaged'}")
                break
            if octets:
                return octets
        self._over = True
        return b""

    def _next(self) -> None:
        """Another stream may follow (RFC 1952 §2.2), or zeros to the end of a block of a tape."""
        rest = self._decoder.unused_data + self._input
        while len(rest) < len(self._magic) and (more := self._read(self._piece)):
            rest += more
        if rest.startswith(self._magic):
            self._decoder, self._input = self._make(), rest
            return
        if rest.strip(b"\0"):
            self._damaged("bad_compression", f"{self._method}: other octets behind the end")
        self._over = True

    def chunks(self, size: int) -> Iterator[bytes]:
        """Give all octets in pieces of this size up to twice as many; only the last one is smaller."""
        pieces: list[bytes] = []
        have = 0
        while octets := self.read(size):
            for at in range(0, len(octets), size):
                pieces.append(octets[at : at + size])
                have += len(pieces[-1])
                if have >= size:
                    yield b"".join(pieces)
                    pieces.clear()
                    have = 0
        if pieces:
            yield b"".join(pieces)

"""Where octets wait: in memory up to a bound, then in a file that has no name.

A `Spool` is one content (a message, a decoded leaf). It counts against its own limit and against the `SpoolBudget`
that all spools of the process share; whichever is used up first sends it to disk. The file is unlinked from the
start, so a crash leaves nothing behind.

    spool = Spool(limits, budget, directory)
    spool.write(data)           # as often as wanted
    spool.flush()               # all octets are where they will stay; a full disk shows here at the latest
    for piece in spool.chunks(): ...
    spool.close()               # exactly once is enough, more often does no harm
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator
    from pathlib import Path

    from netinspect.limits import Limits

# Pieces below this are joined: a list of thousands of short objects costs more memory than what they hold.
_SMALL = 4096
_JOINED = 65_536


class SpoolBudget:
    """The octets that all spools together may keep in memory. Safe to use from several threads."""

    __slots__ = ("_lock", "_used", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Octets taken and not given back."""
        return self._used

    def take(self, size: int) -> bool:
        """Reserve `size` octets; False (and nothing reserved) when that is more than what is left."""
        with self._lock:
            if self._used + size > self.total:
                return False
            self._used += size
            return True

    def give(self, size: int) -> None:
        """Give back `size` octets."""
        with self._lock:
            self._used -= size


class Spool:
    """One content, appended to and then read as often as wanted.

    Written by one thread; once written it may be read by several at the same time.

    Raises:
        OSError: from `write`, `flush` and the readers when the disk takes no more; `failed` is then True and the
            content is not complete. Every later write raises again.
        ValueError: from `write` after `close`.
    """

    __slots__ = (
        "_budget",
        "_chunks",
        "_closed",
        "_directory",
        "_file",
        "_held",
        "_memory",
        "_tail",
        "_written",
        "failed",
        "size",
    )

    def __init__(self, limits: Limits, budget: SpoolBudget, directory: Path | None = None) -> None:
        self._memory = limits.spool_memory
        self._budget = budget
        self._directory = directory
        self._chunks: list[bytes] = []
        self._tail: bytearray | None = None
        self._held = 0
        self._file: io.FileIO | None = None
        self._written = 0
        self._closed = False
        self.size = 0
        """Octets written so far."""
        self.failed = False
        """A write went wrong: what is here is not all that was given."""

    # --- writing ----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Append `data`."""
        if self._closed:
            raise ValueError("the spool is closed")
        if self.failed:
            raise OSError("the spool failed before")
        size = len(data)
        if self._file is None:
            room = self.size + size <= self._memory
            if room and self._budget.take(size):
                self._held += size
            else:
                # Used up, but a file for each of ten thousand small parts would take the descriptors of the process.
                room = self.size + size <= min(_SMALL, self._memory)
            if room:
                self.size += size
                self._keep(data, size)
                return
            self._spill()
        self.size += size
        self._keep(data, size)
        if self._chunks:
            self._write_out()

    def _keep(self, data: bytes, size: int) -> None:
        tail = self._tail
        if size >= _SMALL:
            if tail:
                self._chunks.append(bytes(tail))
                self._tail = None
            self._chunks.append(data)
        elif tail is None:
            self._tail = bytearray(data)
        else:
            tail += data
            if len(tail) >= _JOINED:
                self._chunks.append(bytes(tail))
                self._tail = None

    def _spill(self) -> None:
        try:
            file = tempfile.TemporaryFile(buffering=0, dir=self._directory, prefix="netinspect-")  # noqa: SIM115
        except OSError:
            self.failed = True
            raise
        self._file = file
        self._write_out()
        self._release()

    def _write_out(self) -> None:
        """Move all joined pieces to the file; the tail may stay until `flush`."""
        if self._file is None:
            return
        descriptor = self._file.fileno()
        try:
            for chunk in self._chunks:
                view = memoryview(chunk)
                while view:  # a raw write may take less than it was given
                    done = os.write(descriptor, view)
                    self._written += done
                    view = view[done:]
        except OSError:
            self.failed = True
            raise
        self._chunks = []

    def flush(self) -> None:
        """Put everything where it stays. After this the readers cannot run into a full disk."""
        if self._tail:
            self._chunks.append(bytes(self._tail))
            self._tail = None
        if self._file is not None and self._chunks:
            self._write_out()

    # --- reading ----------------------------------------------------------------------------------------------

    @property
    def on_disk(self) -> bool:
        """Whether the content left memory."""
        return self._file is not None

    @property
    def file(self) -> io.FileIO | None:
        """The nameless file when on disk, complete; its position belongs to nobody: use `os.pread` or seek first."""
        self.flush()
        return self._file

    def fileno(self) -> int:
        """The file's descriptor.

        Raises:
            ValueError: the content is in memory.
        """
        file = self.file
        if file is None:
            raise ValueError("the spool is in memory")
        return file.fileno()

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        """Yield the content from its start in pieces of at most `size` octets. Can be called again and again."""
        self.flush()
        if self._file is None:
            for chunk in self._chunks:
                if len(chunk) <= size:
                    yield chunk
                else:
                    for start in range(0, len(chunk), size):
                        yield chunk[start : start + size]
            return
        descriptor = self._file.fileno()
        offset = 0
        while offset < self._written:
            piece = os.pread(descriptor, min(size, self._written - offset), offset)
            if not piece:
                raise OSError("the spool file is shorter than what was written")
            yield piece
            offset += len(piece)

    def getvalue(self) -> bytes:
        """The whole content as one object. In memory it is joined once and kept so."""
        if self._file is not None:
            return b"".join(self.chunks())
        self.flush()
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    # --- end --------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._held:
            self._budget.give(self._held)
            self._held = 0

    def close(self) -> None:
        """Forget the content and give its memory back to the budget."""
        if self._closed:
            return
        self._closed = True
        self._chunks = []
        self._tail = None
        self._written = 0
        if self._file is not None:
            self._file.close()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A leaf nobody closed must not eat the budget of the process for good.
        if not getattr(self, "_closed", True):
            self.close()

"""A capture given to a flow table, block by block, while others do their work in between.

What is no file is read in a thread, for it may be quiet for hours, and copied to the disk on the way: connections with
copies of octets that differ are read a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Final, TypeVar

from netinspect.errors import CaptureError
from netinspect.replay.flows import FlowTable
from netinspect.replay.source import Capture

AHEAD: Final = 16
"""Blocks of a pipe that wait while others are judged."""
PATIENCE: Final = 0.2
"""Seconds without anything from a pipe after which what was judged meanwhile is given on."""
COPIED: Final = 1_073_741_824
"""Octets of a pipe that are kept on disk for a second reading."""

_T = TypeVar("_T")


class Copy:
    """The octets of a pipe, in a file without a name, as far as they fit."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._left = COPIED
        self._file = -1
        self.whole = True
        """All of it is there."""

    def add(self, octets: bytes) -> None:
        """Append; where the disk takes no more there is no copy any longer."""
        if not self.whole:
            return
        self._left -= len(octets)
        try:
            if self._left < 0:
                raise OSError
            if self._file < 0:
                with tempfile.TemporaryFile(dir=self._folder or None, prefix="netinspect-") as file:
                    self._file = os.dup(file.fileno())
            view = memoryview(octets)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            self.whole = False
            self.close()

    @property
    def path(self) -> str:
        """Where it can be opened; empty where it cannot."""
        return f"/proc/self/fd/{self._file}" if self._file >= 0 else ""

    def close(self) -> None:
        """The file is gone."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def blocks(capture: Capture, table: FlowTable, copy: Copy | None = None) -> AsyncIterator[None]:
    """Give the capture to the table, block by block; stops after each, and where nothing comes now and then.

    Raises CaptureError: it cannot be read on.
    """
    if capture.regular:
        for _ in unfailing(capture.walk(table)):
            yield
            await asyncio.sleep(0)  # the answers of the engines come in between
        return
    if copy is not None:
        copy.add(capture.head)
    reader = _Reader(capture)
    reader.start()
    while (octets := await reader.next()) is not None:
        if octets:
            if copy is not None:
                copy.add(octets)
            capture.parse(octets, table)
        yield
    capture.parse(b"", table)
    if reader.fault is not None:
        raise reader.fault


def unfailing(source: Iterator[_T]) -> Iterator[_T]:
    """Make CaptureError of OSError: what is wrong with reading shall not be taken for what is wrong with writing."""
    try:
        yield from source
    except OSError as error:
        raise CaptureError(f"cannot be read on: {error.strerror or error}") from error


class _Reader(threading.Thread):
    """Reads what is no file. Nobody waits for the thread: its read may never come back."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(daemon=True, name="capture")
        self._chunks = unfailing(capture.chunks())
        self._ready: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.fault: CaptureError | None = None

    def run(self) -> None:
        """In the thread."""
        try:
            for octets in self._chunks:
                self._put(octets)
        except CaptureError as error:
            self.fault = error
        finally:
            self._put(None)

    def _put(self, octets: bytes | None) -> None:
        self._ready.put(octets)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants it any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def next(self) -> bytes | None:
        """The next octets, none when nothing came for a while, None at the end."""
        self._event.clear()
        if self._ready.empty():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), PATIENCE)
        else:
            await asyncio.sleep(0)
        try:
            return self._ready.get_nowait()
        except queue.Empty:
            return b""

"""`--workers N`: N processes read the same captures, each takes its share of the connections; one puts it together.

    share 0: drive ─▶ items, progress ─┐
    share 1: drive ─▶ items, progress ─┼─▶ merge by order ─▶ Output
    ...                                ┘

A connection belongs to a share by its addresses and ports, so no process needs to know what another saw. Each gives its
items in order and says how far it is; what is not before what any of them may still give goes on. So the result is the
same as that of one process.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, NamedTuple, TypeAlias

from netinspect.config import Settings
from netinspect.errors import EnvironmentFault, NetinspectError
from netinspect.replay.drive import Item, Job, Order, Sink, drive

MOST: Final = 64
"""Processes; each reads all of the captures."""
HELD: Final = 8_388_608
"""Octets of items of one process that wait for those of the others; it is not asked for more meanwhile."""
STEP: Final = 1_048_576
"""Octets of a capture after which a process gives what it has and says how far it is,"""
ITEMS: Final = 256
"""or so many items."""
_END: Final[Order] = (1 << 62, 0, 0)
_BEGIN: Final[Order] = (0, 0, 0)


class _Progress(NamedTuple):
    """The items since the last one, and how far the process is."""

    items: list[Item]
    order: Order
    octets: int


class _Failed(NamedTuple):
    capture: int
    reason: str
    warning: bool


class _Stopped(NamedTuple):
    """It ended; `fault` is a line for the user, or empty."""

    items: list[Item]
    fault: str


_Message: TypeAlias = _Progress | _Failed | _Stopped


def run(job: Job, shares: int, sink: Sink) -> None:
    """Do the job with that many processes.

    Raises:
        NetinspectError: the settings cannot be carried out; a process died.
    """
    context = multiprocessing.get_context("fork")  # what is loaded is there at once
    running: list[tuple[BaseProcess, _Share]] = []
    try:
        for number in range(shares):
            here, there = context.Pipe(duplex=False)
            part = replace(job, settings=divided(job.settings, shares), share=number, shares=shares)
            others = [here, *(share.connection for _, share in running)]
            process = context.Process(target=_child, args=(part, there, others), name=f"share {number}", daemon=True)
            process.start()
            there.close()
            running.append((process, _Share(here)))
        _merge([share for _, share in running], sink)
        for child, _ in running:
            child.join()
    finally:
        for child, share in running:
            child.terminate()
            share.connection.close()
        for child, _ in running:
            child.join()


def divided(settings: Settings, shares: int) -> Settings:
    """Give the settings of one process of several: children and memory are shared out."""
    scan, limits = settings.scan, settings.limits
    workers = max(scan.workers // shares, 1) if scan.workers else 0
    memory = max(limits.spool_memory_total // shares, limits.spool_memory)
    return replace(
        settings, scan=replace(scan, workers=workers), limits=replace(limits, spool_memory_total=memory)
    )


# --- one process ------------------------------------------------------------------------------------------------------


class _Pipe:
    """The sink in the process that judges."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._items: list[Item] = []
        self._told = 0

    def item(self, item: Item) -> None:
        self._items.append(item)

    def at(self, order: Order, octets: int) -> None:
        if not 0 <= octets - self._told < STEP or len(self._items) >= ITEMS:
            self._told = octets
            self._send(_Progress(self._items, order, octets))
            self._items = []

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        self._send(_Failed(capture, reason, warning))

    def stop(self, fault: str = "") -> None:
        self._send(_Stopped(self._items, fault))

    def _send(self, message: _Message) -> None:
        self._connection.send(message)


def _child(job: Job, connection: Connection, others: Sequence[Connection]) -> None:
    # Ctrl-C is for all of the terminal's processes; the one that puts it together ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in others:
        other.close()
    pipe = _Pipe(connection)
    try:
        asyncio.run(drive(job, pipe))
    except NetinspectError as error:
        pipe.stop(str(error))
    except BrokenPipeError:
        os._exit(1)  # whoever wanted it is gone
    else:
        pipe.stop()
    connection.close()


# --- putting together -------------------------------------------------------------------------------------------------


class _Share:
    """What came from one process and was not given on."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.items: deque[Item] = deque()
        self.held = 0
        self.floor = _BEGIN
        """Nothing that is still to come is before this."""
        self.octets = 0
        self.stopped = False

    @property
    def next(self) -> Order:
        """What comes next is not before this."""
        return self.items[0].order if self.items else self.floor

    def add(self, items: list[Item]) -> None:
        self.items.extend(items)
        self.held += sum(len(item.lines) for item in items)

    def take(self) -> Item:
        item = self.items.popleft()
        self.held -= len(item.lines)
        return item


def _merge(shares: list[_Share], sink: Sink) -> None:
    while any(not share.stopped for share in shares):
        asked = [share for share in shares if not share.stopped and share.held < HELD]
        for connection in wait([share.connection for share in asked]):
            _receive(next(share for share in asked if share.connection is connection), shares, sink)
        for item in _ready(shares):
            sink.item(item)
        floor = min(share.next for share in shares)
        if floor < _END:
            here = [share.octets for share in shares if share.floor[0] == floor[0]]
            sink.at(floor, sum(here) // len(here) if here else 0)


def _receive(share: _Share, shares: list[_Share], sink: Sink) -> None:
    try:
        message: _Message = share.connection.recv()
    except EOFError:
        raise EnvironmentFault(
            "one of the processes was killed", place="--workers", remedy="there may be too little memory for so many"
        ) from None
    match message:
        case _Progress(items, order, octets):
            share.add(items)
            share.floor, share.octets = order, octets
        case _Failed(capture, reason, warning):
            sink.failed(capture, reason, warning=warning)
        case _Stopped(items, fault):
            if fault:
                raise EnvironmentFault(fault)
            share.add(items)
            share.floor, share.stopped = _END, True


def _ready(shares: list[_Share]) -> Iterator[Item]:
    """What no process can come before with anything."""
    while True:
        first = min(shares, key=lambda share: share.next)
        if not first.items:
            return
        yield first.take()

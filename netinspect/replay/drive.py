"""One process over captures: what is judged comes out as items, in the order of the capture.

    source ▶ FlowTable ▶ Replay ▶ Item ▶ whoever puts them together (output, workers, dask)

An item is all that leaves the process that judged: the records of one verdict as they will be written, and what was
stored of it. Events, table, report and exit code are made of that, so they are the same however the work was shared.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from netinspect import records
from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.errors import CaptureError
from netinspect.inspector import Judgement
from netinspect.policy.facts import Zone
from netinspect.replay.again import SecondReading
from netinspect.replay.compare import Comparison
from netinspect.replay.engine import Outcome, Replay, zone_of, zones_of
from netinspect.replay.extract import Row, Store
from netinspect.replay.flows import FlowTable
from netinspect.replay.keylog import KeyLog
from netinspect.replay.links import Dissector
from netinspect.replay.reading import Copy, blocks, unfailing
from netinspect.replay.source import Capture, open_capture
from netinspect.replay.table import Brief, brief
from netinspect.replay.tcp import Flow
from netinspect.replay.verdict import Terms
from netinspect.terminal import count

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = 1 << 62
"""Order of what is said of a capture as a whole: behind all of its frames."""


Captures: TypeAlias = tuple[tuple[str, str], ...]
"""Path of each and the name that is shown."""
Order: TypeAlias = tuple[int, int, int]
"""Number of the capture, of the frame that completed something, first frame of its connection."""


class Item(NamedTuple):
    """The records of one verdict, or of a capture as a whole.

    `order` never decreases. `fine`: accepted, all of it looked at, nothing found but for information.
    """

    order: Order
    fine: bool
    lines: bytes
    brief: Brief | None = None
    stored: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be read, and how. Of several processes each has the same job but for `share`.

    `zones`: by the name of the interface.
    """

    settings: Settings
    captures: Captures
    zone: Zone | None = None
    zones: dict[str, Zone] = field(default_factory=dict)
    keylog: str = ""
    other: Settings | None = None
    extract: str = ""
    share: int = 0
    shares: int = 1


class Sink(Protocol):
    """Who takes what comes out."""

    def item(self, item: Item) -> None:
        """The next one in order."""

    def at(self, order: Order, octets: int) -> None:
        """All that comes from now on is not before `order`; so many octets of this capture are read."""

    def failed(self, capture: int, reason: str, *, warning: bool = False) -> None:
        """The capture could not be read, or not wholly; a warning: something in it is odd, but was read."""


async def drive(job: Job, sink: Sink, watch: Callable[[Outcome], None] | None = None) -> None:
    """Read all captures of the job. `watch` sees each outcome before it becomes an item, with all facts.

    Raises:
        NetinspectError: the settings cannot be carried out, or DIR cannot be written. A capture that cannot be read is
            told to the sink.
    """
    run = _Run(job, sink, watch)
    await run.inspector.panel.start()
    try:
        for number in range(len(job.captures)):
            await _Reading(run, number).whole()
    finally:
        await run.inspector.panel.close()


class _Run:
    """What all captures of a job share."""

    def __init__(self, job: Job, sink: Sink, watch: Callable[[Outcome], None] | None) -> None:
        self.job = job
        self.watch = watch
        self.sink = sink
        self.keys = KeyLog.load(job.keylog) if job.keylog else KeyLog()
        self.store = Store(job.extract) if job.extract else None
        self.comparison: Comparison | None = None
        if job.other is not None:
            self.comparison = Comparison(job.other, job.zone, job.zones)
        self.terms = Terms.of(job.settings)
        self._zone = zone_of(job.settings.networks, job.zone, {**zones_of(job.settings), **job.zones})
        self.inspector = inspector_of(job.settings)

    def zone(self, flow: Flow) -> Zone:
        """Where the client of a connection stands."""
        zone = self._zone(flow)
        if self.comparison is not None:
            self.comparison.see(flow, zone)
        return zone


class _Reading:
    """One capture of a job."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run = run
        self._number = number
        self._path, self._name = run.job.captures[number]
        self._dissector = Dissector()
        self._keys = run.keys.copy()

    async def whole(self) -> None:
        """Read it; what is wrong with it is told."""
        try:
            capture = _opened(self._path)
        except CaptureError as error:
            self._failed(_reason(error))
            return
        with contextlib.closing(capture):
            await self._read(capture)
            self._tell(capture)

    async def _read(self, capture: Capture) -> None:
        run = self._run
        copy = None if capture.regular else Copy(run.job.settings.spool.directory)
        with contextlib.closing(copy) if copy is not None else contextlib.nullcontext():
            replay = self._replay()
            table = FlowTable(self._dissector.dissect, mine_of(run.job.share, run.job.shares))
            await self._walk(capture, table, replay, copy)
            table.finish()
            replay.take(table)
            await replay.drain(0)
            run.sink.at((self._number, table.frames + 1, 0), capture.position)
            if table.suspects:
                await self._read_again(table, self._path if copy is None else copy.path)
        if table.frames and sum(self._unreadable().values()) == table.frames:
            self._failed("no frame could be read")

    async def _walk(self, capture: Capture, table: FlowTable, replay: Replay, copy: Copy | None) -> None:
        try:
            async for _ in blocks(capture, table, copy):
                self._learn(capture)
                replay.take(table)
                await replay.drain()
                self._run.sink.at((self._number, replay.floor, 0), capture.position)
        except CaptureError as error:
            self._failed(_reason(error))  # what was there up to here is judged
        self._learn(capture)

    async def _read_again(self, table: FlowTable, path: str) -> None:
        """Connections with copies of octets that differ, as they are when the last copy wins."""
        missing = len(table.suspects)
        with contextlib.suppress(CaptureError), contextlib.ExitStack() as stack:
            again = SecondReading(Dissector().dissect, table.suspects, self._run.job.settings.spool.directory or None)
            stack.callback(again.close)
            async for _ in blocks(stack.enter_context(_opened(path)), again):
                pass
            again.finish()
            replay = self._replay(after=table.frames + 1, mark={"tcp_reading": "last"})
            for flow, turns in unfailing(again.readings()):
                await replay.second(flow, unfailing(turns), mixed=flow.mixed)
            await replay.drain(0)
            missing = again.unread
        if missing:
            self._failed(f"{count(missing, 'connection')} with copies of octets that differ not read a second time")

    def _replay(self, *, after: int = 0, mark: dict[str, str] | None = None) -> Replay:
        run = self._run
        return Replay(
            run.inspector, run.zone, self._give, self._name, terms=run.terms, keys=self._keys, mark=mark, after=after
        )

    def _learn(self, capture: Capture) -> None:
        """Take the secrets that the capture itself has: they are for its own sessions only."""
        found = capture.keys
        for octets in found:
            self._keys.add(octets)
        found.clear()

    def _give(self, outcome: Outcome) -> None:
        run = self._run
        if run.watch is not None:
            run.watch(outcome)
        if run.comparison is not None:
            run.comparison.add(outcome)
        stored = run.store.take(outcome) if run.store is not None else ()
        fine = outcome.verdict.bare or harmless(outcome.judgement)
        made = outcome.records
        run.sink.item(Item((self._number, *outcome.order), fine, records.serialize(made), brief(made), stored))

    def _failed(self, reason: str, *, warning: bool = False) -> None:
        self._run.sink.failed(self._number, reason, warning=warning)

    def _unreadable(self) -> dict[str, int]:
        """Frames of link types that nobody here knows, by the anomaly's kind."""
        return {kind: number for kind, number in self._dissector.anomalies.items() if kind.startswith("linktype_")}

    def _tell(self, capture: Capture) -> None:
        """What is wrong with the capture as such: on record, and on stderr what kept us from reading it."""
        found = list(capture.anomalies)
        found += [(kind, times(number)) for kind, number in sorted(self._dissector.anomalies.items())]
        if self._run.job.share == 0 and found:
            when = _EPOCH + timedelta(microseconds=capture.time // 1000)
            made = [capture_record(self._name, kind, detail, when) for kind, detail in found]
            self._run.sink.item(Item((self._number, LAST, 0), True, records.serialize(made)))
        for kind, detail in capture.anomalies:
            self._failed(f"{kind.replace('_', ' ')}{f': {detail}' if detail else ''}")
        for kind, number in self._unreadable().items():
            link = kind.rpartition("_")[2]
            self._failed(f"{times(number)} a frame of link type {link}, which is not known", warning=True)


def capture_record(name: str, kind: str, detail: str, when: datetime) -> records.Record:
    """What is malformed in the file itself, of which no connection knows."""
    anomaly: dict[str, Any] = {"type": "decode", "layer": "capture", "event": kind, "offset": 0}
    if detail:
        anomaly["detail"] = detail
    return {"timestamp": records.timestamp(when), "event_type": "anomaly", "anomaly": anomaly, "pcap_filename": name}


def times(number: int) -> str:
    """`once`, `2 times`."""
    return "once" if number == 1 else f"{number} times"


def mine_of(share: int, shares: int) -> Callable[[bytes, bytes], bool] | None:
    """Which connections are of this share: by both keys, so that both directions fall to the same."""
    if shares == 1:
        return None
    digest = hashlib.blake2b  # a checksum is linear: addresses and ports that count up together fall to one share

    def mine(key: bytes, other: bytes) -> bool:
        return int.from_bytes(digest(min(key, other), digest_size=4).digest(), "big") % shares == share

    return mine


def harmless(judgement: Judgement) -> bool:
    """Accepted, all of it looked at, and no finding but for information (severity 3)."""
    facts = judgement.facts
    if judgement.decision.action != "accept" or facts.unscanned:
        return False
    return all(finding.severity == 3 for finding in facts.findings)


def _opened(path: str) -> Capture:
    """Open a capture. Raises CaptureError."""
    try:
        return open_capture(path)
    except OSError as error:
        raise CaptureError(error.strerror or str(error)) from error


def _reason(error: CaptureError) -> str:
    """Why a capture could not be read; its name is said by whoever tells it."""
    return f"{error.message}; {error.remedy}" if error.remedy else error.message

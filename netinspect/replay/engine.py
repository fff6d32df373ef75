"""One capture: flows to conversations to records, in the order of the frames that complete them.

    replay = Replay(inspector, zone, give, name, terms=Terms.of(settings), keys=keys)
    for batch in capture.batches():
        table.feed(batch)
        replay.take(table)
        await replay.drain()
    table.finish()
    replay.take(table)
    await replay.drain(0)

The order is that of (frame which completed it, first frame of its connection) and depends on the capture alone: not on
how fast the engines answer, nor on how the connections are shared out among processes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from netinspect import records
from netinspect.capture.pcapng import described_zone
from netinspect.config import Settings
from netinspect.config.schema import NetworkSettings
from netinspect.identity.domains import OurNetworks
from netinspect.inspector import Inspector, Judgement
from netinspect.policy.facts import Zone
from netinspect.replay.conversation import Conversation
from netinspect.replay.flows import FlowTable
from netinspect.replay.tcp import Flow, Turn
from netinspect.replay.verdict import STANDARD, Terms, Verdict
from netinspect.replay.wire import Decrypts

if TYPE_CHECKING:
    from netinspect.replay.keylog import KeyLog

IN_WORK: Final = 32
"""Messages in judgement at the same time: more than any number of engines has use for."""
OCTETS_IN_WORK: Final = 67_108_864
"""Octets of those. Above 4 MiB each is on disk, but engines are handed pieces of them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One verdict as it is given on: the records (one JSON object each) and what they were made of."""

    capture: str
    number: int
    judgement: Judgement
    records: list[records.Record]
    verdict: Verdict

    @property
    def order(self) -> tuple[int, int]:
        """Never less than that of any outcome before: the frame that completed it, the first one of its connection."""
        return self.number, self.verdict.first


class Replay:
    """Judges one capture. `give` gets each outcome in order; it must be done with the inspection when it returns."""

    def __init__(
        self,
        inspector: Inspector,
        zone: Callable[[Flow], Zone],
        give: Callable[[Outcome], None],
        name: str,
        *,
        terms: Terms = STANDARD,
        keys: KeyLog | None = None,
        mark: dict[str, str] | None = None,
        after: int = 0,
    ) -> None:
        """`name` is put on each record as `pcap_filename`, `mark` as it is. `keys` opens what is behind TLS.

        Nothing comes out with a number below `after`.
        """
        self._inspector = inspector
        self._zone = zone
        self._give = give
        self._mark = {"pcap_filename": name, **(mark or {})}
        self._name = name
        self._terms = terms
        self._keys = keys
        self._conversations: dict[Flow, Conversation] = {}
        self._queue: list[tuple[int, int, int, Verdict]] = []
        self._octets = 0
        self._count = 0
        self._frames = after
        """Frames there were before the batch that is taken."""

    @property
    def floor(self) -> int:
        """No outcome that comes later has a smaller number."""
        return self._queue[0][0] if self._queue else self._frames

    def take(self, table: FlowTable) -> None:
        """What a batch has brought: turns of conversations, and their ends."""
        dirty = sorted({flow for flow in table.dirty if flow.turns}, key=_first_turn)
        table.dirty.clear()
        for flow in dirty:
            self._turns(flow)
        ended = sorted(table.ended, key=_first_frame)
        table.ended.clear()
        for flow in ended:
            conversation = self._conversations.pop(flow, None)
            if conversation is not None:
                conversation.end(flow.number)
        self._frames = table.frames

    def _turns(self, flow: Flow) -> None:
        turns, flow.turns = flow.turns, []
        conversation = self._conversations.get(flow)
        if conversation is None:
            conversation = self._conversations[flow] = Conversation(
                flow, self._inspector, self._zone(flow), self._complete, self._terms, self._decryptor
            )
        for side, pieces, time, number in turns:
            conversation.turn(side, pieces, time, number)

    async def second(self, flow: Flow, turns: Iterable[Turn], *, mixed: bool = False) -> None:
        """Judge another reading of a connection; `turns` may come from disk, so they are taken one at a time.

        `mixed`: there are further readings, which nobody judges.
        """
        conversation = Conversation(
            flow, self._inspector, self._zone(flow), self._complete, self._terms, self._decryptor, mixed=mixed
        )
        for side, pieces, time, number in turns:
            conversation.turn(side, pieces, time, number)
            await self.drain()
        conversation.end(flow.number)
        await self.drain()

    def _decryptor(self) -> Decrypts:
        from netinspect.replay.keylog import KeyLog
        from netinspect.replay.tls import Decryptor  # only where there is TLS: the import costs more than most captures

        return Decryptor(self._keys if self._keys is not None else KeyLog())

    def _complete(self, verdict: Verdict) -> None:
        # What became known late (a connection that was silent for minutes and is given up) cannot come before what
        # was given on already.
        number = max(verdict.number, self._frames)
        self._count += 1
        self._octets += _octets(verdict)
        heapq.heappush(self._queue, (number, verdict.first, self._count, verdict))

    async def drain(self, most: int = IN_WORK) -> None:
        """Give on what is judged, in order, until no more than `most` are left, and not too many octets."""
        queue = self._queue
        while queue and (len(queue) > most or self._octets > OCTETS_IN_WORK or queue[0][3].judgement.done()):
            verdict = queue[0][3]
            judgement = await verdict.judgement
            number, *_ = heapq.heappop(queue)
            self._octets -= _octets(verdict)
            try:
                self._give(self._outcome(number, verdict, judgement))
            finally:
                if verdict.inspection is not None:
                    verdict.inspection.close()

    def _outcome(self, number: int, verdict: Verdict, judgement: Judgement) -> Outcome:
        made = records.transaction_records(
            judgement.facts,
            None if verdict.bare else judgement.decision,
            now=_EPOCH + timedelta(microseconds=verdict.time // 1000),
            incident_id=judgement.incident_id,
            tx_id=verdict.tx_id,
            reply=verdict.reply,
        )
        for record in made:
            record.update(self._mark)
        if verdict.gaps and not verdict.bare:
            made[-1]["verdict"]["gaps"] = verdict.gaps
        return Outcome(self._name, number, judgement, made, verdict)


def _first_turn(flow: Flow) -> tuple[int, int]:
    return flow.turns[0][3], flow.first


def _first_frame(flow: Flow) -> int:
    return flow.first


def _octets(verdict: Verdict) -> int:
    return verdict.inspection.spool.size if verdict.inspection is not None else 0


def zone_of(networks: NetworkSettings, fixed: Zone | None, interfaces: dict[str, Zone]) -> Callable[[Flow], Zone]:
    """Which side a client stands on: as told, by the interface, or by our networks; else outside."""
    ours = OurNetworks(networks.addresses)

    def zone(flow: Flow) -> Zone:
        if fixed is not None:
            return fixed
        named = interfaces.get(flow.interface.name)
        if named is not None:
            return named
        said = described_zone(flow.interface.description)  # a recording of the gateway says it itself
        if said in ("external", "internal"):
            return "external" if said == "external" else "internal"
        return "internal" if ours and flow.addresses[0] in ours else "external"

    return zone


def zones_of(settings: Settings) -> dict[str, Zone]:
    """The zones of the interfaces that the configuration's listeners name."""
    return {listener.interface: listener.zone for listener in settings.listeners if listener.interface}

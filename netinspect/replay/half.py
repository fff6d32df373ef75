"""One side of a TCP connection: its segments in any order in, its octets in their order out.

Octets wait in two places. `later`: behind a hole of their own side. `held`: in order, but the other side has to speak
first, because their sender had seen octets of it that are not here yet (acknowledgement numbers, RFC 9293 §3.4). Both
are bounded; what is missing when a bound is reached, or at the end, becomes a `Gap`. A side whose SYN was not seen
begins with the lowest octet of its first segments.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from netinspect.replay.history import LOOSE, OVERHEAD, Gap, Later, Piece, Turn, overlaps, size_of

if TYPE_CHECKING:
    from netinspect.replay.tcp import Flow
    from netinspect.smtp.events import Side

WINDOW: Final = 1_048_576
"""Octets kept behind a hole, or waiting for the other side, before the hole is given up. Mail servers announce less."""
SEGMENTS: Final = 4096
"""Segments kept so: tiny ones cost more than their octets."""
BEGIN: Final = 65_536
"""Octets of a side without SYN that wait for earlier ones: four times the window of a connection that begins."""
BEGIN_SEGMENTS: Final = 256
FAR: Final = 67_108_864
"""A sequence number further away is forged, damaged or of another connection: no window in practice reaches so far."""

MASK: Final = 0xFFFFFFFF


def signed(number: int) -> int:
    """A difference of sequence numbers as the nearer of its two meanings."""
    number &= MASK
    return number - 0x100000000 if number >= 0x80000000 else number


class Half:
    """What one side sent. Positions are counted from `first`; `octets` is that of what is given out next."""

    __slots__ = (
        "acked", "begun", "candidate", "fin", "first", "flow", "given", "held", "held_size", "hint", "kept", "later",
        "next", "octets", "peer", "reset", "seen", "side", "slow", "stray", "strays", "syn",
    )  # fmt: skip

    def __init__(self, flow: Flow, side: Side) -> None:
        self.flow = flow
        self.side = side
        self.peer: Half = self
        self.next = 0
        """Sequence number expected next."""
        self.given = 0
        """Sequence number of what is given out next; behind `next` while octets are held."""
        self.first = 0
        """Sequence number of the first octet; a guess as long as it has not `begun`."""
        self.begun = False
        self.syn = False
        """The beginning was seen, so nothing is missing in front."""
        self.seen = False
        """A frame of this side was there."""
        self.slow = True
        """Keeps the fast path in `flows` away: something waits, or is not certain."""
        self.acked = -1
        """What the other side acknowledged last; -1: nothing."""
        self.hint = -1
        """The lowest acknowledgement before it has begun."""
        self.candidate = -1
        """First sequence number of another connection that may have begun; -1: none."""
        self.fin = -1
        """Sequence number of a FIN that is not reached yet; -1: none."""
        self.reset = -1
        """Sequence number of the first RST; -1: none."""
        self.stray = -1
        self.strays = 0
        self.octets = 0
        self.later: Later | None = None
        self.held: deque[tuple[Piece, int, int]] | None = None
        """Piece, acknowledgement, time."""
        self.held_size = 0
        self.kept: deque[Turn] | None = None
        """Turns of this side that were given out, as long as `History` has them."""

    @property
    def cost(self) -> int:
        later, held = self.later, self.held
        return ((later.size + OVERHEAD * len(later.order)) if later else 0) + (
            (self.held_size + OVERHEAD * len(held)) if held else 0
        )

    # --- the beginning --------------------------------------------------------------------------------------------

    def start(self, seq: int, *, syn: bool) -> None:
        """The first octet has this sequence number."""
        later, self.later = self.later, None
        by = signed(self.first - seq)
        moved = later.moved(by) if later else None
        self.next = self.given = self.first = seq & MASK
        self.begun = True
        self.syn = syn
        if moved and moved.order:
            self.flow.shifted(self, by)
            self.later = moved
            self._follow()

    def begin(self) -> None:
        """No SYN came: the lowest octet that is there is the first, or the lowest that the other side waited for."""
        if self.begun or not (self.later or self.hint >= 0):
            return
        low = self.later.order[0] if self.later else 0
        if self.hint >= 0:
            hint = signed(self.hint - self.first)
            if not self.later or 0 < low - hint <= FAR:
                low = hint
        if self.later:
            self.flow.note("tcp_no_syn", self, 0)
        self.start(self.first + low, syn=False)

    # --- segments -------------------------------------------------------------------------------------------------

    def segment(self, seq: int, ack: int, payload: bytes) -> None:
        """Take one segment with octets. `ack` is -1 where it has none."""
        flow = self.flow
        if not self.begun:
            self._before(seq, ack, payload)
        else:
            ahead = signed(seq - self.next)
            if not -FAR <= ahead <= FAR:
                self._far(seq, payload)
                return
            if ahead < 0:
                self._repeated(-ahead, payload[:-ahead])
                if len(payload) <= -ahead:
                    return
                payload = payload[-ahead:]
                ahead = 0
            if ahead or self.later:
                self._keep(self.octets + self.held_size + ahead, payload, ack)
                self._follow()
                while (later := self.later) and (later.size > WINDOW or len(later.order) > SEGMENTS):
                    self.skip()
            else:
                self._arrive(payload, len(payload), ack, flow.last)
        flow.pump()

    def _before(self, seq: int, ack: int, payload: bytes) -> None:
        if self.later is None:
            self.first = seq
        at = signed(seq - self.first)
        if not -FAR <= at <= FAR:
            self._far(seq, payload)
            return
        self._keep(at, payload, ack)
        later = self.later
        if later and (later.size > BEGIN or len(later.order) + later.copies > BEGIN_SEGMENTS):
            self.begin()
            self.peer.begin()

    def _far(self, seq: int, payload: bytes) -> None:
        self.strays = self.strays + 1 if seq == self.stray else 1
        self.stray = (seq + len(payload)) & MASK
        self.flow.passed = True
        self.flow.note("tcp_forged_segment", self, self.octets)

    def _keep(self, at: int, payload: bytes, ack: int) -> None:
        if self.later is None:
            self.later = Later()
        for start, copy, differs in self.later.add(at, payload, ack, self.flow.last):
            self.flow.copied(self, start, copy)
            if differs:
                self.flow.conflict(self, max(start, 0))

    def _follow(self) -> None:
        """Pass on what the hole kept back."""
        later = self.later
        while later and later.order and later.order[0] == self.octets + self.held_size:
            octets, ack, time = later.pop()
            self._arrive(octets, len(octets), ack, time)
        if later and not later.order:
            self.later = None

    def skip(self) -> None:
        """Give up the first hole."""
        if self.later:
            self._lost(self.later.order[0] - self.octets - self.held_size)
            self._follow()

    def skip_to(self, ack: int) -> None:
        """The other side has seen all before `ack`: what is missing of that never comes."""
        while 0 < (missing := signed(ack - self.next)) <= FAR:
            hole = self.later.order[0] - self.octets - self.held_size if self.later else missing
            self._lost(min(hole, missing))
            self._follow()

    def finish(self) -> None:
        """Nothing more comes: what was acknowledged beyond what is here is missing."""
        if self.begun and self.acked >= 0:
            end = self.acked
            if self.fin >= 0:
                end -= signed(end - self.fin) == 1
            elif self.flow.closing or signed(end - self.next) == 1:
                end -= 1  # a FIN that was not captured
            self.skip_to(end)

    def _lost(self, size: int) -> None:
        self.flow.note("tcp_gap", self, self.octets + self.held_size)
        self._arrive(Gap(size), size, -1, self.flow.last)

    # --- in order -------------------------------------------------------------------------------------------------

    def early(self, ack: int) -> bool:
        """Its sender had seen octets of the other side that were not given out yet."""
        peer = self.peer
        return ack >= 0 and (not peer.begun or 0 < (ack - peer.given) & MASK <= FAR)

    def _arrive(self, piece: Piece, size: int, ack: int, time: int) -> None:
        self.next = (self.next + size) & MASK
        if self.held or self.early(ack):
            if self.held is None:
                self.held = deque()
            self.held.append((piece, ack, time))
            self.held_size += size
            if self.held_size > WINDOW or len(self.held) > SEGMENTS:
                self.flow.force(self)
        else:
            self._give(piece, size, time)

    def let_go(self) -> None:
        """Give out the first piece that is held."""
        if self.held:
            piece, _, time = self.held.popleft()
            size = size_of(piece)
            self.held_size -= size
            self._give(piece, size, time)

    def _give(self, piece: Piece, size: int, time: int) -> None:
        self.given = (self.given + size) & MASK
        self.octets += size
        self.flow.take(self, piece, size)
        self.flow.spoke = time

    def settle(self) -> None:
        """Whether a FIN is reached, and whether the fast path may go on."""
        peer, flow = self.peer, self.flow
        if self.fin == self.next == self.given and self.begun and not self.held and not self.later:
            self.given = (self.next + 1) & MASK  # it counts in acknowledgements only
            self.fin = -1
        waits = self.held or self.later or peer.held
        self.slow = bool(waits or not (self.begun and peer.begun and self.seen) or flow.closing)

    # --- copies ---------------------------------------------------------------------------------------------------

    def _repeated(self, known: int, payload: bytes) -> None:
        """Octets that are here already; the first of them stands `known` before `next`."""
        flow = self.flow
        if len(payload) == 1 == known and (
            signed(self.acked - self.next) >= 0 if self.acked >= 0 else payload == b"\0"
        ):
            return  # a keep-alive, whose octet means nothing (RFC 9293 §3.8.4)
        at = self.octets + self.held_size - known
        if at < 0:
            flow.note("tcp_forged_segment" if self.syn else "tcp_late_data", self, 0)
            flow.passed = True
            payload = payload[-at:]
            at = 0
        flow.copied(self, at, payload)
        end = at + len(payload)
        if end == self.octets and flow.speaker is self and flow.pieces and flow.pieces[-1] == payload:
            return  # the last segment once more
        if end > self.octets and self.held:
            lately = [piece for piece, _, _ in islice(reversed(self.held), LOOSE)]
            if at < self.octets + self.held_size - sum(map(size_of, lately)) and len(lately) < len(self.held):
                flow.unknown += 1
            self._match(lately[::-1], self.octets + self.held_size, at, payload)
        low = self.octets
        if flow.speaker is self and flow.pieces:
            low = flow.turn_start
            if end > low:
                self._match(flow.pieces, self.octets, at, payload)
        while self.kept and self.kept[0].pieces is None:
            self.kept.popleft()
        for turn in reversed(self.kept or ()):
            if low <= at or turn.pieces is None:
                break
            low = turn.start
            if end > low:
                self._match(turn.pieces, turn.start + turn.size, at, payload)
        if at < low and payload:
            flow.unknown += 1

    def _match(self, pieces: list[Piece], end: int, at: int, payload: bytes) -> None:
        for start, piece in overlaps(pieces, end, at, at + len(payload)):
            if isinstance(piece, Gap):
                self.flow.note("tcp_late_data", self, max(start, at))
                continue
            low, high = max(start, at), min(start + len(piece), at + len(payload))
            if piece[low - start : high - start] != payload[low - at : high - at]:
                self.flow.conflict(self, low)

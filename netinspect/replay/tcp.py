"""One TCP connection: segments in any order in, turns of its two sides in their order out.

A turn is what one side said until the other spoke (or a part of it): `Flow.turns` holds (side, pieces, time, number), a
piece being octets or a `Gap`. Which side comes first is not a matter of the order in the file alone (see `half`), so
both directions may be shuffled, and where one was not captured at all its gaps stand where it spoke.

The first copy of an octet wins. A later copy that differs is counted (`Flow.conflicts`), and one that cannot be
compared any more too (`Flow.unknown`). Such a flow is read a second time with the last copies (`again`). RFC 9293
§3.10.7.4 trims what is there already, but stacks differ, and who sends two copies means them to.
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from netinspect.anomaly import Anomaly
from netinspect.replay.frame import Interface
from netinspect.replay.half import FAR, MASK, Half, signed
from netinspect.replay.history import LOOSE, Gap, History, Piece, join
from netinspect.replay.history import Turn as Given
from netinspect.smtp.events import Side

TURN: Final = 262_144
"""Octets after which a turn is given out although the side still speaks."""
STRAYS: Final = 3
"""Segments far away that follow one another: another connection, whose beginning nobody saw."""
HELD: Final = 50_331_648
"""Octets (and OVERHEAD for each segment) that wait in all connections together: a sixth of the 300 MB that replay may
take. Then those that hold most give up their holes, until a quarter of it is free."""
ANOMALIES: Final = 32
TINY: Final = 256
"""Octets of a segment below which many of them are joined: they would cost a multiple of what is counted."""

FIN, SYN, RST = 1, 2, 4

Turn: TypeAlias = tuple[Side, list[Piece], int, int]
"""Side, what it said, time of the last frame of that (ns), number of the frame that ended the turn."""

__all__ = ["FAR", "MASK", "TURN", "Budget", "Flow", "Gap", "Half", "Piece", "Turn", "signed"]


class Budget:
    """What all connections of a table hold together."""

    def __init__(self, most: int = HELD, history: History | None = None) -> None:
        self.history = history or History()
        self.used = 0
        self._most = most
        self._holding: dict[Flow, None] = {}
        self._relieving = False

    def charge(self, flow: Flow, cost: int) -> None:
        """What `flow` holds now. May make connections give up their holes."""
        self.used += cost - flow.cost
        flow.cost = cost
        if not cost:
            self._holding.pop(flow, None)
            return
        self._holding[flow] = None
        if self.used > self._most and not self._relieving:
            self._relieving = True
            for one in sorted(self._holding, key=lambda one: (-one.cost, one.first)):
                one.give_up()
                if self.used <= self._most * 3 // 4:
                    break
            self._relieving = False


class Flow:
    """One connection. Whoever takes the turns empties the list."""

    __slots__ = (
        "addresses", "anomalies", "budget", "client", "closing", "conflicts", "cost", "dirty", "first", "interface",
        "keys", "last", "number", "passed", "pieces", "server", "size", "speaker", "spoke", "sure", "turn_start",
        "turns", "unknown",
    )  # fmt: skip

    def __init__(self, first: int, dirty: list[Flow], budget: Budget | None = None) -> None:
        self.dirty = dirty
        """Where a flow with turns to take announces itself."""
        self.budget = budget or Budget()
        self.keys: tuple[bytes, bytes] = (b"", b"")
        self.addresses: tuple[str, int, str, int] = ("", 0, "", 0)
        """Of client and server."""
        self.interface = Interface(0)
        self.sure = True
        """It is mail: by its port, or by what both sides said. Gives no turns before."""
        self.client = Half(self, Side.CLIENT)
        self.server = Half(self, Side.SERVER)
        self.client.peer, self.server.peer = self.server, self.client
        self.first = first
        """Number of its first frame."""
        self.last = 0
        """Time of its last frame, ns."""
        self.number = 0
        """Of its last frame."""
        self.spoke = 0
        """Time of the last frame with octets of the turn, ns."""
        self.closing = False
        """A FIN or RST was seen."""
        self.anomalies: list[Anomaly] = []
        """What was wrong with the segments: each kind once a side, which is its detail; offset of the first one."""
        self.conflicts = 0
        """Copies that differed from the first one."""
        self.unknown = 0
        """Copies of octets that are not known any more."""
        self.passed = False
        """Octets were passed over: they stand before the first one, as the SYN tells it, or too far away."""
        self.cost = 0
        self.speaker: Half = self.client
        self.pieces: list[Piece] = []
        self.size = 0
        self.turn_start = 0
        self.turns: list[Turn] = []

    # --- segments out of the ordinary -----------------------------------------------------------------------------

    def segment(self, half: Half, seq: int, ack: int, flags: int, payload: bytes) -> bool:
        """Take one segment. False: it is not of this connection but of another one with the same ports."""
        peer = half.peer
        if flags & SYN:
            seq = (seq + 1) & MASK
            if not self._syn(half, seq, ack):
                half.candidate = seq
                return not (self.closing or (ack >= 0 and ack == peer.candidate))
        elif seq == half.candidate != half.next:
            return False
        half.seen = True
        if ack >= 0:
            if not peer.begun and (peer.hint < 0 or signed(ack - peer.hint) < 0):
                peer.hint = ack
            if peer.acked < 0 or 0 < signed(ack - peer.acked) <= FAR:
                peer.acked = ack
        if flags & RST:
            payload = b""  # RFC 9293 §3.5.3: it may say why, but that is not what the side said
        if payload:
            if half.reset >= 0 and signed(seq - half.reset) >= 0:
                self.note("tcp_data_after_reset", half, half.octets)
            half.segment(seq, ack, payload)
            if half.strays >= STRAYS:
                return False
        if flags & (FIN | RST):
            self.closing = True
            if flags & FIN:
                half.fin = (seq + len(payload)) & MASK
            if flags & RST and half.reset < 0:
                half.reset = seq
        self.pump()
        return True

    def _syn(self, half: Half, start: int, ack: int) -> bool:
        """Whether this SYN may be the one that began this connection."""
        peer = half.peer
        if half.begun:
            if start != half.first and (half.syn or not 0 < signed(half.first - start) <= FAR):
                return False
            half.syn = half.syn or start == half.first
        else:
            low = signed(half.first - start) + half.later.order[0] if half.later else 0
            if not -1 <= low <= FAR:
                return False
            half.start(start, syn=True)
        if ack >= 0 and not peer.begun:
            low = signed(peer.first - ack) + peer.later.order[0] if peer.later else 0
            if -1 <= low <= FAR:
                peer.start(ack, syn=True)
        elif ack >= 0 and ack == peer.first:
            peer.syn = True
        return True

    def note(self, kind: str, half: Half, offset: int) -> None:
        """Put an anomaly on record."""
        side = half.side.value
        known = any(one.kind == kind and one.detail == side for one in self.anomalies)
        if not known and len(self.anomalies) < ANOMALIES:
            self.anomalies.append(Anomaly(kind, "tcp", offset, side))

    def conflict(self, half: Half, offset: int) -> None:
        """Two copies of an octet differ."""
        self.conflicts += 1
        self.note("tcp_overlap_conflict", half, offset)

    def copied(self, half: Half, at: int, octets: bytes) -> None:
        """Octets of which a copy is here already came (again)."""

    def shifted(self, half: Half, by: int) -> None:
        """The positions of a side, of which nothing was given out yet, were counted from a wrong beginning."""

    # --- who may speak --------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Give out what waited for the other side."""
        client, server = self.client, self.server
        moved = bool(client.held or server.held)
        while moved:
            moved = False
            for half in (client, server):
                while half.held and not half.early(half.held[0][1]):
                    half.let_go()
                    moved = True
        client.settle()
        server.settle()
        cost = client.cost + server.cost
        if cost != self.cost:
            self.budget.charge(self, cost)

    def force(self, half: Half) -> None:
        """Give out the first piece that `half` holds, whatever is missing of the other side."""
        if not half.held:
            return
        ack = half.held[0][1]
        peer = half.peer
        peer.begin()
        if not peer.held:  # else each waits for the other, which no two real peers do
            peer.skip_to(ack)
        half.let_go()

    def give_up(self) -> None:
        """Give out all that waits; what is missing becomes gaps."""
        client, server = self.client, self.server
        client.begin()
        server.begin()
        self.pump()
        both = (client, server)
        while waiting := [one for one in both if one.held] or [one for one in both if one.later]:
            half = min(waiting, key=_since)
            if half.held:
                self.force(half)
            else:
                half.skip()
            self.pump()

    # --- turns ----------------------------------------------------------------------------------------------------

    def take(self, half: Half, piece: Piece, size: int) -> None:
        """One piece in its order. Its side's `octets` are those behind it."""
        if half is not self.speaker or self.size >= TURN:
            self.flush()
            self.speaker = half
        if not self.pieces:
            self.turn_start = half.octets - size
        self.pieces.append(piece)
        self.size += size
        self.spoke = self.last

    def flush(self) -> None:
        """The turn is over."""
        if self.pieces:
            if self.sure and not self.turns:
                self.dirty.append(self)
            half, pieces = self.speaker, self.pieces
            if len(pieces) > LOOSE and self.size < TINY * len(pieces):
                pieces = join(pieces)
            self.turns.append((half.side, pieces, self.spoke, self.number))
            given = Given(self.turn_start, self.size, pieces)
            self.budget.history.add(given)
            if half.kept is None:
                half.kept = deque()
            half.kept.append(given)
            while half.kept and half.kept[0].pieces is None:
                half.kept.popleft()
            self.pieces = []
            self.size = 0

    def finish(self) -> None:
        """Nothing more comes."""
        self.give_up()
        last = self.speaker
        last.peer.finish()
        last.finish()
        for half in (self.client, self.server):
            if half.candidate >= 0:
                self.note("tcp_forged_segment", half, half.octets)
            if not half.seen:
                self.note("tcp_one_direction", half, 0)
            half.kept = None
        self.flush()


def _since(half: Half) -> int:
    """Time of what waits first."""
    if half.held:
        return half.held[0][2]
    return half.later.parts[half.later.order[0]][2] if half.later else 0

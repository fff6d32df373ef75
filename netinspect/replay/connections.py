"""All connections of a capture: which of them are mail, when one ends and when the next one begins on the same ports.

SMTP is known by its port, elsewhere by what both sides say first: a server that greets as one, or a client that says
EHLO. A connection nobody has said anything in is no more than a number in a dict, so that a flood of SYNs costs little;
one that is known to be something else is a key with None.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple

from netinspect.anomaly import Anomaly
from netinspect.replay.frame import UNKNOWN, Frame, Interface, Unknown
from netinspect.replay.tcp import FAR, MASK, Budget, Flow, Gap, Half, signed
from netinspect.smtp.events import Side

SYSTEM: Final = frozenset({25, 465, 587})
"""SMTP, SMTP over TLS, submission: below 1024, so whoever has one is the server (RFC 6335 §6), whatever a SYN says."""
PORTS: Final = SYSTEM | {2525}
"""And what hosters offer where 25 is closed."""
IDLE: Final = 900 * 10**9
"""A connection that was silent for so long (ns of the capture) is over. RFC 5321 §4.5.3.2 waits 10 minutes at most."""
CLOSED: Final = 60 * 10**9
"""The same after a FIN or RST; late copies still belong to it."""
SWEEP: Final = 10 * 10**9
FLOWS: Final = 8192
"""Connections of mail in which something was said that are open at the same time; those silent longest are ended
first. Each costs about 10 KB with its conversation."""
PASSED: Final = 200_000
"""Connections that are known to be something else (about 250 octets each)."""
OPENED: Final = 65_536
"""SYNs whose connection has said nothing yet (about 200 octets each)."""
SHARE: Final = 8
"""One in so many goes when there are too many of something: one by one each would cost a search."""
FLUSH: Final = 16_777_216
"""Octets of the capture after which turns are given out although they go on: they hold no more than this."""
UNSURE: Final = 65_536
"""Octets of a connection on another port within which it must turn out to be mail."""
SUSPECTS: Final = 4096
"""Connections that can be read a second time."""

FIN, SYN, RST, ACK = 1, 2, 4, 16
_ANSWER: Final = 1 << 32
"""In `_opened`: it is the server's side,"""
_GUESS: Final = 1 << 33
"""and not certain;"""
_SEEN: Final = 1 << 34
"""its own SYN told it."""
_NUMBER: Final = 35

GREETINGS: Final = (b"220 ", b"220-", b"554 ", b"554-", b"421 ")
HELLOS: Final = (b"EHLO ", b"HELO ", b"LHLO ")
MIDDLE: Final = (*HELLOS, b"MAIL FROM:", b"RCPT TO:<")
"""What only a client of SMTP says, in connections that began before the capture."""
PROXY: Final = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")
"""What a proxy says before its client does (PROXY protocol, versions 1 and 2)."""


class Packet(NamedTuple):
    """A TCP segment out of an unusual frame. `source` and `destination` are the octets of the addresses."""

    source: bytes
    destination: bytes
    ports: bytes
    seq: int
    ack: int
    flags: int
    payload: bytes
    anomaly: str = ""
    """What was wrong below TCP, e.g. `ip_fragment_overlap`."""
    other: Packet | None = None
    """The same segment as it is when of two copies of an IP fragment the last one counts."""


Dissect = Callable[[Frame], Packet | None]
"""What an unusual frame holds; None: no TCP, or not (yet) all of it."""


class Suspect(NamedTuple):
    """A connection in which copies of octets differ, or may: it is read a second time.

    `first` is the number of its first frame, `key` one of its directions.
    """

    first: int
    key: bytes


class Connections:
    """The connections of one capture.

    `dirty` are the flows with turns to take, `ended` those that are over; whoever drives the table empties both.
    `mine` chooses the connections to look at (both directions give the same answer), so that several processes can
    share a capture. `suspects` grows as connections end.
    """

    _trusts = False
    """All connections chosen are known to be mail."""

    def __init__(
        self, dissect: Dissect, mine: Callable[[bytes, bytes], bool] | None = None, budget: Budget | None = None
    ) -> None:
        self._dissect = dissect
        self._mine = mine
        self._budget = budget or Budget()
        self._table: dict[bytes, Half | None] = {}
        self._passed = 0
        self._opened: dict[bytes, int] = {}
        """By the key of a direction: first sequence number, whose side it is, number of the frame that told it."""
        self._unsure: dict[Flow, int] = {}
        """Connections that may be mail, and the number of their last frame when they were looked at."""
        self._swept = 0
        self._read = 0
        self.flows: dict[Flow, None] = {}
        self.dirty: list[Flow] = []
        self.ended: list[Flow] = []
        self.suspects: list[Suspect] = []
        self.frames = 0

    def finish(self) -> None:
        """The capture is over, and so are all connections."""
        self._recognise()
        for flow in list(self.flows):
            self._end(flow)

    # --- frames ---------------------------------------------------------------------------------------------------

    def _unusual(self, frame: Frame, number: int) -> None:
        packet = self._dissect(frame)
        while packet is not None:
            self._packet(packet, frame[0], frame[1], number)
            packet = packet.other

    def _packet(self, packet: Packet, time: int, interface: Interface, number: int) -> None:
        key = packet.source + packet.destination + packet.ports
        half = self._table.get(key, UNKNOWN)
        if half is None:
            if not packet.flags & SYN:
                return
            self._forget(key)
            half = UNKNOWN
        if isinstance(half, Unknown):
            found = self._unknown(key, packet.seq, packet.ack, packet.flags, packet.payload, interface, number)
            if found is None:
                return
            half = found
        flow = half.flow
        flow.last = time
        flow.number = number
        if packet.anomaly and not any(one.kind == packet.anomaly for one in flow.anomalies):
            flow.anomalies.append(Anomaly(packet.anomaly, "tcp", half.octets, half.side.value))
        self._segment(half, key, packet.seq, packet.ack, packet.flags, packet.payload)

    def _segment(self, half: Half, key: bytes, seq: int, ack: int, flags: int, payload: bytes) -> None:
        """A segment of a known connection that is not the ordinary case."""
        flow = half.flow
        if flow.segment(half, seq, ack, flags, payload):
            if flags & SYN and half.candidate == (seq + 1) & MASK:
                self._open(key, seq, ack, flags, flow.number)
            return
        # The same ports, but another connection.
        flow.client.candidate = flow.server.candidate = -1
        self._end(flow)
        if flags & SYN:
            self._open(key, seq, ack, flags, flow.number)
        if payload and not flags & RST:
            client = key == flow.keys[0]
            fresh = self._make(key, flow.keys[client], client, flow.sure, flow.interface, flow.number, seq, ack)
            fresh.flow.last, fresh.flow.number = flow.last, flow.number
            fresh.flow.segment(fresh, seq, ack, flags, payload)

    # --- connections nobody knows yet -----------------------------------------------------------------------------

    def _unknown(
        self, key: bytes, seq: int, ack: int, flags: int, payload: bytes, interface: Interface, number: int
    ) -> Half | None:
        """A connection nobody knows yet: one of mail, or one to pass over, or one that has said nothing so far."""
        if not payload or flags & RST:
            if flags & SYN or (ack >= 0 and key in self._opened):
                self._open(key, seq, ack, flags, number)
            return None
        other = reverse(key)
        if key == other or (self._mine is not None and not self._mine(key, other)):
            self._pass(key, other)
            return None
        mine, theirs = self._opened.get(key), self._opened.get(other)
        here, there = int.from_bytes(key[-4:-2]), int.from_bytes(key[-2:])
        from_client: bool | None = None
        if (here in SYSTEM) != (there in SYSTEM):
            from_client = there in SYSTEM
        elif flags & SYN:
            from_client = not flags & ACK
        elif mine is not None:
            from_client = not mine & _ANSWER
        elif theirs is not None:
            from_client = bool(theirs & _ANSWER)
        sure = (there in PORTS and from_client is not False) or (here in PORTS and from_client is not True)
        if sure:  # by the server's port: 2525 may as well be that of a client
            if from_client is None:
                from_client = there in PORTS and not (here in PORTS and payload[:3].isdigit())
        elif from_client is not True and _may_begin(payload, GREETINGS):
            from_client = False
        elif from_client is not False and payload.upper().startswith(HELLOS if mine is not None else MIDDLE):
            from_client = sure = True
        elif from_client is not False and _may_begin(payload, (*PROXY, *HELLOS)):
            from_client = True
        elif from_client is None or (mine is not None and signed(seq - mine) == 0):
            self._pass(key, other)
            return None
        # else what this side said first is still to come
        return self._make(key, other, from_client, sure, interface, number, seq, ack)

    def _flow(self, number: int) -> Flow:
        return Flow(number, self.dirty, self._budget)

    def _make(
        self,
        key: bytes,
        other: bytes,
        from_client: bool,
        sure: bool,
        interface: Interface,
        number: int,
        seq: int,
        ack: int,
    ) -> Half:
        """A connection in which something was said."""
        flow = self._flow(number)
        flow.sure = sure = sure or self._trusts
        flow.interface = interface
        flow.keys = (key, other) if from_client else (other, key)
        size = (len(key) - 4) // 2
        client, server = flow.keys[0][:size], flow.keys[0][size : 2 * size]
        ports = flow.keys[0][-4:]
        flow.addresses = (
            str(ip_address(client)), int.from_bytes(ports[:2]), str(ip_address(server)), int.from_bytes(ports[2:])
        )  # fmt: skip
        half, peer = (flow.client, flow.server) if from_client else (flow.server, flow.client)
        starts = (half, self._opened.pop(key, None), seq), (peer, self._opened.pop(other, None), ack)
        for one, opened, known in starts:
            if opened is None or (known >= 0 and not -1 <= signed(known - opened) <= FAR):
                continue
            flow.first = min(flow.first, opened >> _NUMBER)
            one.seen = bool(opened & _SEEN)
            if opened & _GUESS:
                one.hint = opened & MASK
            else:
                one.start(opened, syn=True)
        self._table[key], self._table[other] = half, peer
        self.flows[flow] = None
        if not sure:
            self._unsure[flow] = -1
        if len(self.flows) > FLOWS:
            for old in sorted(self.flows, key=lambda one: (one.last, one.first))[: FLOWS // SHARE]:
                if old is not flow:
                    self._end(old)
        return half

    def _open(self, key: bytes, seq: int, ack: int, flags: int, number: int) -> None:
        """Remember what the segments before the first words tell about the beginning of both sides."""
        opened = self._opened
        if len(opened) > OPENED:
            for old in list(opened)[: OPENED // SHARE]:
                del opened[old]
        answer = bool(flags & ACK)
        if flags & SYN:
            opened[key] = (seq + 1) & MASK | (_ANSWER if answer else 0) | _SEEN | number << _NUMBER
        else:
            answer = bool(opened[key] & _ANSWER)
        if ack >= 0:
            other = reverse(key)
            # SYN+ACK acknowledges the SYN, and nothing else; a mere ACK perhaps more.
            known = ack | (0 if answer else _ANSWER) | (0 if flags & SYN else _GUESS) | number << _NUMBER
            before = opened.get(other)
            if before is None or (flags & SYN and before & MASK != ack):
                opened[other] = known

    def _pass(self, key: bytes, other: bytes) -> None:
        self._opened.pop(key, None)
        self._opened.pop(other, None)
        self._passed += 1
        if self._passed > PASSED:
            self._passed = 0
            for known in [one for one, half in self._table.items() if half is None]:
                del self._table[known]
        self._table[key] = self._table[other] = None

    def _forget(self, key: bytes) -> None:
        self._table.pop(key, None)
        self._table.pop(reverse(key), None)

    def pass_over(self, flow: Flow) -> None:
        """It was not mail after all."""
        if self.flows.pop(flow, flow) is None:
            self._unsure.pop(flow, None)
            self._pass(*flow.keys)

    def _recognise(self) -> None:
        """Connections on other ports: mail, or not."""
        for flow, number in list(self._unsure.items()):
            if flow.number == number:
                continue
            self._unsure[flow] = flow.number
            is_mail = _is_mail(flow)
            if is_mail:
                del self._unsure[flow]
                flow.sure = True
                if flow.turns:
                    self.dirty.append(flow)
            elif is_mail is not None or flow.client.octets + flow.server.octets + flow.cost > UNSURE:
                self.pass_over(flow)

    # --- ends -----------------------------------------------------------------------------------------------------

    def _end(self, flow: Flow) -> None:
        del self.flows[flow]
        for key in flow.keys:
            self._table.pop(key, None)
        flow.finish()
        if flow in self._unsure:
            del self._unsure[flow]
            if not _is_mail(flow):
                return
            flow.sure = True
            self.dirty.append(flow)
        if (flow.conflicts or flow.unknown) and len(self.suspects) < SUSPECTS:
            self.suspects.append(Suspect(flow.first, flow.keys[0]))
        self.ended.append(flow)

    def _batch(self, first: int, last: int, octets: int) -> None:
        """A batch is done: times of its first and last frame (ns), octets of the capture that were read for it."""
        if self._unsure:
            self._recognise()
        self._read += octets
        if self._read >= FLUSH:
            self._read = 0
            for flow in self.flows:
                flow.flush()
        now = min(first, last)  # one frame with a damaged time does not end everything
        if not 0 <= now - self._swept < SWEEP:
            self._swept = now
            for flow in [one for one in self.flows if now - one.last > (CLOSED if one.closing else IDLE)]:
                self._end(flow)


def _may_begin(payload: bytes, words: tuple[bytes, ...]) -> bool:
    """Whether what one side says first is one of these words, or the beginning of one."""
    return payload.startswith(words) or (len(payload) < 5 and any(word.startswith(payload.upper()) for word in words))


def _is_mail(flow: Flow) -> bool | None:
    """Whether what was said is SMTP; None: not enough of it."""
    said = {Side.CLIENT: b"", Side.SERVER: b""}
    for side, pieces in [(one[0], one[1]) for one in flow.turns] + [(flow.speaker.side, flow.pieces)]:
        for piece in pieces:
            if len(said[side]) < 512 and not isinstance(piece, Gap):
                said[side] += piece
    server, client = said[Side.SERVER], said[Side.CLIENT]
    if server:
        if not server.startswith(GREETINGS):
            return None if _may_begin(server, GREETINGS) else False
        if b"SMTP" in server[:512].upper():
            return True
    if client.startswith(PROXY[0]):
        client = client.partition(b"\r\n")[2]
    elif client.startswith(PROXY[1]):
        client = client[16 + int.from_bytes(client[14:16]) :]
    if len(client) < 5:
        return None
    return client.upper().startswith(HELLOS)


def reverse(key: bytes) -> bytes:
    """The key of the other direction."""
    size = (len(key) - 4) // 2
    return key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]

"""The client's side of a session: every command takes a slot, and slots are answered strictly in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from netinspect.smtp.events import Command, Reply

Decide = Callable[[], Reply | None]
"""Asked once the slot is the next to be answered; None: the answer comes later."""


@dataclass(slots=True, eq=False)
class Slot:
    """One reply that the client expects."""

    command: Command | None = None
    reply: Reply | None = None
    decide: Decide | None = None
    forwarded: bool = False
    """The server answers it."""


class ClientSide:
    """Answers in order, whoever answers: the server, or we ourselves."""

    __slots__ = ("_slots", "_tell")

    def __init__(self, tell: Callable[[Reply, Command | None], None]) -> None:
        self._slots: deque[Slot] = deque()
        self._tell = tell

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def waits_for_server(self) -> bool:
        """A command was sent on and is not answered."""
        return any(slot.forwarded and slot.reply is None for slot in self._slots)

    @property
    def next(self) -> Slot:
        """The slot that is answered next."""
        return self._slots[0]

    @property
    def unanswered(self) -> bool:
        """Replies are still due."""
        return bool(self._slots)

    def open(self, command: Command | None, reply: Reply | None = None, decide: Decide | None = None) -> Slot:
        """A new slot behind all others."""
        slot = Slot(command, reply, decide)
        self._slots.append(slot)
        return slot

    def answer(self, slot: Slot, reply: Reply) -> None:
        """The reply of one slot is known; tell what can be told now."""
        slot.reply = reply
        self.drain()

    def drain(self) -> None:
        """Tell the client all replies that are known and due."""
        slots = self._slots
        while slots:
            slot = slots[0]
            if slot.reply is None and slot.decide is not None:
                decide, slot.decide = slot.decide, None
                slot.reply = decide()
            if slot.reply is None:
                return
            if slots and slots[0] is slot:  # else: answering ended the session
                slots.popleft()
                self._tell(slot.reply, slot.command)

    def clear(self) -> None:
        """The session is over."""
        self._slots.clear()

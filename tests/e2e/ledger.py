"""What each client was told against what arrived.

    told 2xx                 arrived exactly once, byte for byte
    told 4xx or 5xx          did not arrive; only exception: the server stored it and its reply was lost (counted apart)
    told nothing             the client left or the connection broke: it will try again, so it may have arrived, at most
                             once (tests that demand more say so)

A message that arrived and that nobody sent is a fault as well.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.e2e.clients import Told
from tests.e2e.server import Arrived


@dataclass
class Balance:
    """Messages by how they ended."""

    delivered: int = 0
    refused: int = 0
    """5xx, not arrived."""
    deferred: int = 0
    """4xx, not arrived."""
    reply_lost: int = 0
    """4xx, but the server had stored it and died before it said so: the sender tries again (RFC 5321 §6.1)."""
    untold: int = 0
    """No reply reached the client and nothing arrived."""
    untold_arrived: int = 0
    """No reply reached the client and the message arrived."""


@dataclass
class Ledger:
    _sent: dict[str, bytes] = field(default_factory=dict)
    _told: dict[str, Told] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, token: str, data: bytes, told: Told) -> Told:
        """Note what a client sent and what it was told in the end."""
        with self._lock:
            assert token not in self._told, f"{token} was used twice"
            self._sent[token] = data
            self._told[token] = told
        return told

    def codes(self) -> Counter[int]:
        with self._lock:
            return Counter(told.code for told in self._told.values())

    def balance(self, arrived: list[Arrived]) -> Balance:
        """Compare; AssertionError names every message for which the books do not agree."""
        count = Counter(item.token for item in arrived)
        lost = {item.token for item in arrived if item.reply_lost}
        faults = [f"{token!r}: arrived, but nobody sent it" for token in count if token not in self._told]
        result = Balance()
        for token, told in self._told.items():
            times, code = count[token], told.code
            if times > 1:
                faults.append(f"{token}: arrived {times} times ({told})")
            elif 200 <= code < 300:
                result.delivered += 1
                if not times:
                    faults.append(f"{token}: acknowledged and lost ({told})")
            elif code and times and token in lost and code < 500:
                result.reply_lost += 1
            elif code and times:
                faults.append(f"{token}: refused to the client and delivered ({told})")
            elif code >= 500:
                result.refused += 1
            elif code:
                result.deferred += 1
            elif times:
                result.untold_arrived += 1
            else:
                result.untold += 1
        for item in arrived:
            if item.data != self._sent.get(item.token, item.data):
                faults.append(f"{item.token}: arrived changed")
        assert not faults, "\n".join(faults)
        return result

"""A semaphore that counts octets: how much big content may be in work at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class ByteGate:
    """First come, first served. A content bigger than `total` gets through alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        """Octets in work."""
        return self.total - self._free

    async def acquire(self, size: int) -> None:
        """Wait until `size` octets are free and take them; give them back with `release`."""
        size = min(size, self.total)
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        turn = asyncio.get_running_loop().create_future()
        entry = (size, turn)
        self._waiting.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was let in at the moment it gave up.
                self._free += size
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(entry)
            self._let_in()
            raise

    def release(self, size: int) -> None:
        """Give back what `acquire` took for the same `size`."""
        self._free += min(size, self.total)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)

"""When the mails were: a histogram that stays small however long the capture is, and its bars for the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

BARS: Final = 96
"""On the page: a bar is then some 10 pixels wide on a usual screen."""
CELLS: Final = 4096
"""Kept while counting, for each action."""

_SECOND: Final = 1000
_DAY: Final = 86_400_000
_GRAIN: Final = (
    *(1, 10, 100, 1000, 5000, 30_000, 300_000, 1_800_000, 21_600_000),
    *(_DAY, 30 * _DAY, 360 * _DAY, 3600 * _DAY),
)
"""Milliseconds of a cell; each is a multiple of the one before, so that coarser cells are sums of finer ones."""
_WIDTHS: Final = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(seconds * _SECOND for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)),
    *(hours * 3600 * _SECOND for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 5, 10, 30, 90, 180, 360, 1080, 3600, 36_000)),
)
"""Milliseconds of a bar: what people count in."""

_UNITS: Final = ((_DAY, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"), (1, "millisecond"))

GROUPS: Final = {
    "": "accepted",
    "accept": "accepted",
    "tag": "changed",
    "disarm": "changed",
    "quarantine": "held",
    "tempfail": "deferred",
    "reject": "refused",
    "drop": "refused",
}
"""What has a colour of its own; nothing is decided about a transaction that was reset, and an action
that nobody knows counts as deferred."""
ORDER: Final = ("accepted", "changed", "held", "deferred", "refused")


@dataclass(slots=True)
class Bar:
    """`start`: ms since 1970; `first`: the number of the first mail on the page, -1 where there is none."""

    start: int
    counts: dict[str, int] = field(default_factory=dict)
    first: int = -1

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars from left to right, each `width` milliseconds; `high` is the largest sum. Empty times have a bar too."""

    width: int
    bars: list[Bar]
    high: int

    @property
    def unit(self) -> str:
        """The width in words."""
        for size, word in _UNITS:
            if self.width % size == 0:
                number = self.width // size
                return f"one {word}" if number == 1 else f"{number} {word}s"
        raise AssertionError(self.width)


class Histogram:
    """Counts by time and group. Times may come in any order."""

    def __init__(self) -> None:
        self._cells: dict[int, dict[str, int]] = {}
        self._level = 0

    def count(self, time: int, action: str) -> None:
        grain = _GRAIN[self._level]
        cell = self._cells.setdefault(time - time % grain, {})
        group = GROUPS.get(action, "deferred")
        cell[group] = cell.get(group, 0) + 1
        while len(self._cells) > CELLS and self._level + 1 < len(_GRAIN):
            self._coarser()

    def _coarser(self) -> None:
        self._level += 1
        grain = _GRAIN[self._level]
        before, self._cells = self._cells, {}
        for start, counts in before.items():
            _sum(self._cells.setdefault(start - start % grain, {}), counts)

    @property
    def span(self) -> tuple[int, int]:
        """Of the first and the last cell."""
        return (min(self._cells), max(self._cells)) if self._cells else (0, 0)

    def chart(self, shown: list[tuple[int, int]]) -> Chart:
        """Make the bars. `shown` are time and number of the mails on the page, in the order of the page."""
        first, last = self.span
        width = self._width(first, last)
        bars = [Bar(start) for start in range(first - first % width, last + 1, width)] if self._cells else []
        for start, counts in self._cells.items():
            _sum(bars[(start - bars[0].start) // width].counts, counts)
        for time, number in shown:
            index = (time - bars[0].start) // width
            # Sessions stand together on the page, so its order is not wholly that of the time.
            if 0 <= index < len(bars) and (bars[index].first < 0 or number < bars[index].first):
                bars[index].first = number
        return Chart(width, bars, max((bar.total for bar in bars), default=0))

    def _width(self, first: int, last: int) -> int:
        grain = _GRAIN[self._level]
        for width in _WIDTHS:
            if width % grain == 0 and (last - first) // width + 2 <= BARS:
                return width
        return _WIDTHS[-1]


def _sum(into: dict[str, int], counts: dict[str, int]) -> None:
    for group, number in counts.items():
        into[group] = into.get(group, 0) + number


def clock(time: int) -> tuple[str, str]:
    """Give date and time of day (UTC, with milliseconds)."""
    try:
        moment = datetime.fromtimestamp(time // 1000, UTC)
    except (ValueError, OSError, OverflowError):
        return "", ""  # a damaged capture may name the year 60,000
    return moment.strftime("%Y-%m-%d"), f"{moment:%H:%M:%S}.{time % 1000:03}"

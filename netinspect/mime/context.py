"""What all levels of one message share: limits, counters, anomalies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from netinspect.anomaly import Anomaly

if TYPE_CHECKING:
    from collections.abc import Callable

    from netinspect.limits import Limits
    from netinspect.spool import Spool

# One kind says the same thing each time; a message made of nothing else must not fill the records.
_SAME_KIND: Final = 64


class Context:
    """One message's account."""

    __slots__ = ("_kinds", "anomalies", "doubtful", "last", "limits", "names", "new_spool", "parts", "strict")

    def __init__(
        self, limits: Limits, new_spool: Callable[[], Spool], *, last: bool = False, strict: bool = False
    ) -> None:
        self.limits = limits
        self.new_spool = new_spool
        self.anomalies: list[Anomaly] = []
        self.parts = 0
        self.last = last
        """Where a field or a parameter is given twice, the last one counts (`netinspect.mime.readings`)."""
        self.strict = strict
        """A field counts only under its exact name."""
        self.doubtful = False
        """Something was seen that may hide parts from this parser: the message is to be read in other ways too."""
        self.names: list[str] = []
        """File names in wire order."""
        self._kinds: dict[str, set[int]] = {}

    def anomaly(self, kind: str, offset: int, detail: str = "") -> None:
        """Record a malformation, once for a place, and each kind a limited number of times."""
        places = self._kinds.get(kind)
        if places is None:
            places = self._kinds[kind] = set()
        if len(places) < _SAME_KIND and offset not in places:
            places.add(offset)
            self.anomalies.append(Anomaly(kind, "mime", offset, detail))

    def another_part(self) -> bool:
        """Count one part; False when there are too many."""
        self.parts += 1
        return self.parts <= self.limits.mime_parts

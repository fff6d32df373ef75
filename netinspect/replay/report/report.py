"""Collects verdicts and writes the page.

`Report` keeps of each verdict the HTML of its entry, so memory is what the page will be, and that is bounded: where
not all fit, the entries of which there is least to say are left out first, and the page says how many.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from netinspect.anomaly import Anomaly
from netinspect.errors import EnvironmentFault
from netinspect.replay.report import digest
from netinspect.replay.report.page import templates
from netinspect.replay.report.sums import Sums
from netinspect.replay.report.timeline import Histogram

if TYPE_CHECKING:
    from netinspect.replay.engine import Outcome

MAILS: Final = 10_000
"""Entries on the page. Chromium 156 opens that many in two seconds of processor time and filters them in half a one."""
OCTETS: Final = 14_000_000
"""All entries together; with the tables the page is then below 15 MB."""


class Report:
    """The verdicts of a replay, or of a file of event records, for people."""

    def __init__(self, *, mails: int = MAILS, octets: int = OCTETS) -> None:
        self._most = mails
        self._room = octets
        self._page = templates()
        self._sums = Sums()
        self._histogram = Histogram()
        # (interest, -number, session, time, HTML): the top of the heap is what is left out next.
        self._kept: list[tuple[int, int, int, int, bytes]] = []
        self._size = 0
        self.left_out = 0
        """Verdicts that are counted and have no entry."""
        self.unreadable = 0
        """Lines of events that were no records."""

    def add(self, outcome: Outcome) -> None:
        """Add one verdict of a replay; nothing of it is held."""
        self.add_records(outcome.records, capture=outcome.capture, connection=outcome.verdict.first)

    def add_records(self, records: Iterable[Mapping[str, Any]], *, capture: str = "", connection: int = 0) -> None:
        """Add the records of one transaction, or those about a capture itself.

        `connection` tells sessions between the same ports apart.
        """
        records = list(records)
        about_capture = digest.capture_anomalies(records)
        if about_capture is not None:
            self._sums.malformed(capture, about_capture)
            return
        mail = digest.read(records, capture)
        session, new = self._sums.session(mail, connection)
        self._sums.count(mail, new)
        if mail.time:
            self._histogram.count(mail.time, mail.action)
        number = self._sums.entries
        if self.left_out and self._kept and mail.interest <= self._kept[0][0]:
            self.left_out += 1  # it would be the first to go: four fifths of the work are saved
            return
        html = self._page.mail(mail, number, session, new)
        heapq.heappush(self._kept, (mail.interest, -number, session, mail.time, html))
        self._size += len(html)
        while self._kept and (len(self._kept) > self._most or self._size > self._room):
            self._size -= len(heapq.heappop(self._kept)[-1])
            self.left_out += 1

    def add_events(self, lines: Iterable[bytes]) -> None:
        """Add what a file of event records holds; a transaction's records stand together and end with the verdict."""
        together: list[dict[str, Any]] = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # also octets that are no UTF-8
                record = None
            except RecursionError:
                record = None
            if not isinstance(record, dict):
                self.unreadable += bool(line.strip())
                continue
            if together and _transaction(record) != _transaction(together[0]):
                self.add_records(together)
                together = []
            together.append(record)
            if record.get("event_type") == "verdict":
                self.add_records(together)
                together = []
        if together:
            self.add_records(together)

    def add_capture(self, name: str, size: int = -1, anomalies: Iterable[Anomaly] = ()) -> None:
        """Name a capture that was read, also one without mail. `size` in octets; `anomalies` are those of the file."""
        self._sums.capture(name).size = size
        self._sums.malformed(name, (f"{one.kind} {one.detail}".rstrip() for one in anomalies))

    def write(self, path: str, *, now: datetime, version: str) -> None:
        """Write the page, wholly or not at all. A file of that name is replaced; only its owner may read the new one.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        kept = sorted(self._kept, key=lambda one: (one[2], -one[1]))
        values = {
            "sums": self._sums,
            "chart": self._histogram.chart([(time, -number) for _, number, _, time, _ in kept]),
            "span": self._histogram.span,
            "captures": list(self._sums.captures.values()),
            "kept": len(kept),
            "left_out": self.left_out,
            "unreadable": self.unreadable,
            "made": now.astimezone(UTC),
            "version": version,
        }
        try:
            with _replacing(path) as file:
                file.writelines(self._page.whole((html for *_, html in kept), values))
        except OSError as error:
            reason = error.strerror or str(error)
            raise EnvironmentFault(f"the report cannot be written: {reason}", place=path) from error


def _transaction(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in ("pcap_filename", "file", "flow_id", "tx_id", "tcp_reading", "timestamp"))


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of the old one when all went well; a device or a pipe is written to as it is."""
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    handle, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=folder)
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise

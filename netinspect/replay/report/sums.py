"""What is counted over all verdicts, also over those that the page has no room for. Memory is bounded: `KEYS`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from netinspect.replay.report.digest import ACTIONS, Mail

KEYS: Final = 20_000
"""Different hosts, senders or files that are counted, each; some 10 MB for all tables. Later ones are summed up."""
ROWS: Final = 100
"""Rows of a table on the page."""
ANOMALIES: Final = 20
"""Shown of one capture."""
SESSIONS: Final = 65_536
"""Sessions whose number is remembered: as many as one client can have with one server at a time."""


@dataclass(slots=True)
class Tally:
    """One row of a table."""

    sessions: int = 0
    mails: int = 0
    recipients: int = 0
    stopped: int = 0
    findings: int = 0
    unseen: int = 0

    def count(self, mail: Mail, new_session: bool) -> None:
        """Add one verdict."""
        self.sessions += new_session
        self.mails += mail.message
        self.recipients += len(mail.recipients)
        self.stopped += mail.stopped
        self.findings += sum(alert.severity < 3 for alert in mail.alerts)
        self.unseen += bool(mail.unscanned or mail.skipped)

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """The order of a table: what needs a look first."""
        return self.stopped, self.findings, self.unseen, self.mails


@dataclass(slots=True)
class FileTally:
    """One content, by its SHA-256."""

    name: str = ""
    magic: str = ""
    size: int = 0
    mails: int = 0
    recipients: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    """Category and signature, and the severity."""

    @property
    def weight(self) -> tuple[int, int, int]:
        return -min(self.findings.values(), default=4), self.mails, self.recipients


@dataclass(slots=True)
class CategoryTally:
    """One category of findings."""

    findings: int = 0
    mails: int = 0
    worst: int = 3

    @property
    def weight(self) -> tuple[int, int]:
        return -self.worst, self.mails


class _Weighted(Protocol):
    @property
    def weight(self) -> tuple[int, ...]:
        """The larger, the further up."""


_Row = TypeVar("_Row", bound=_Weighted)


class Table(Generic[_Row]):
    """Rows by key. What comes after `KEYS` keys is not told apart any more: `others` counts how often that was."""

    def __init__(self, make: Callable[[], _Row]) -> None:
        self._make = make
        self.rows: dict[str, _Row] = {}
        self.others = 0

    def row(self, key: str) -> _Row:
        """The row of that key, or one that nobody sees."""
        row = self.rows.get(key)
        if row is not None:
            return row
        row = self._make()
        if len(self.rows) < KEYS:
            self.rows[key] = row
        else:
            self.others += 1
        return row

    def top(self) -> list[tuple[str, _Row]]:
        """The rows of the page, the weightiest first; among equals in the order of the keys."""
        return sorted(self.rows.items(), key=lambda item: (*(-part for part in item[1].weight), item[0]))[:ROWS]

    @property
    def left_out(self) -> int:
        """Rows that are counted and not on the page."""
        return max(0, len(self.rows) - ROWS)


@dataclass(slots=True)
class Capture:
    """One capture: what it was and what came of it. `size` in octets, -1 where nobody knows."""

    name: str
    size: int = -1
    anomalies: list[str] = field(default_factory=list)
    more: int = 0
    """Anomalies that are not listed."""
    tally: Tally = field(default_factory=Tally)
    first: int = 0
    last: int = 0
    """Milliseconds since 1970 of the first and the last verdict."""


class Sums:
    """All of it."""

    def __init__(self) -> None:
        self.all = Tally()
        self.actions: Counter[str] = Counter()
        self.entries = 0
        self.differing = 0
        """Decided differently by the other policy."""
        self.harmless = 0
        self.clients: Table[Tally] = Table(Tally)
        self.servers: Table[Tally] = Table(Tally)
        self.senders: Table[Tally] = Table(Tally)
        self.files: Table[FileTally] = Table(FileTally)
        self.categories: Table[CategoryTally] = Table(CategoryTally)
        self.coverage: Counter[str] = Counter()
        self.unseen: Counter[str] = Counter()
        self.engines: dict[tuple[str, str], None] = {}
        self.captures: dict[str, Capture] = {}
        self.gaps = 0
        self._sessions: OrderedDict[tuple[str, str], tuple[int, int, int]] = OrderedDict()
        self._numbers = 0

    def session(self, mail: Mail, connection: int) -> tuple[int, bool]:
        """Give the number of the mail's session, from 1, and whether it is a new one.

        `connection` is what tells sessions between the same ports apart (the first frame); where it is not known (0),
        a transaction that counts backwards begins a new one.
        """
        key = (mail.capture, mail.flow)
        known = self._sessions.pop(key, None)
        new = known is None or known[1] != connection or (not connection and mail.tx_id < known[2])
        if new or known is None:
            self._numbers += 1
            number = self._numbers
        else:
            number = known[0]
        self._sessions[key] = (number, connection, mail.tx_id)
        if len(self._sessions) > SESSIONS:
            self._sessions.popitem(last=False)
        return number, new

    def capture(self, name: str) -> Capture:
        """Give what is known of the capture of that name; of more than `KEYS` together."""
        if name not in self.captures and len(self.captures) >= KEYS:
            name = "(others)"
        return self.captures.setdefault(name, Capture(name))

    def by_action(self) -> list[tuple[str, int]]:
        """How many verdicts of each action: the known ones in their order, then any others."""
        order = {action: place for place, action in enumerate(ACTIONS)}
        return sorted(self.actions.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))

    def malformed(self, name: str, anomalies: Iterable[str]) -> None:
        """Note what is wrong with a capture itself."""
        capture = self.capture(name)
        for one in anomalies:
            if len(capture.anomalies) < ANOMALIES:
                capture.anomalies.append(one)
            else:
                capture.more += 1

    def count(self, mail: Mail, new_session: bool) -> None:
        """Add one verdict."""
        self.entries += 1
        self.actions[mail.action] += 1
        self.harmless += mail.action == "accept" and mail.interest < 2
        self.differing += bool(mail.other)
        self.gaps += mail.gaps
        tallies = [self.all, self.clients.row(mail.client), self.servers.row(mail.server)]
        if mail.sender is not None:
            tallies.append(self.senders.row(mail.sender))
        capture = self.capture(mail.capture)
        capture.first = min(capture.first, mail.time) if capture.tally.sessions else mail.time
        capture.last = max(capture.last, mail.time)
        for tally in (*tallies, capture.tally):
            tally.count(mail, new_session)
        self._files(mail)
        found = Counter(alert.category for alert in mail.alerts)
        for category, worst in mail.marks:
            row = self.categories.row(category)
            row.findings += found[category]
            row.mails += 1
            row.worst = min(row.worst, worst)
        for key, value in mail.coverage.items():
            self.coverage[key] += value
        for reason in mail.unseen:
            if reason in self.unseen or len(self.unseen) < ROWS:
                self.unseen[reason] += 1
        for engine in mail.engines:
            if len(self.engines) < ROWS:
                self.engines[engine] = None

    def _files(self, mail: Mail) -> None:
        found: dict[str, dict[str, int]] = {}
        for alert in mail.alerts:
            if alert.sha256:
                found.setdefault(alert.sha256, {})[f"{alert.category}: {alert.signature}"] = alert.severity
        seen: set[str] = set()
        for node in mail.artifacts:
            # Ordinary contents are not worth a row, and would fill the table.
            if node.sha256 in seen or node.sha256 not in found:
                continue
            seen.add(node.sha256)
            row = self.files.row(node.sha256)
            row.name, row.magic, row.size = row.name or node.name, node.magic, node.size
            row.mails += 1
            row.recipients += len(mail.recipients)
            for what, severity in found[node.sha256].items():
                if what in row.findings or len(row.findings) < 8:
                    row.findings[what] = severity

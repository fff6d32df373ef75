"""What the terminal shows, from the records alone: one line or a few for each verdict, sums at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, TextIO

from netinspect.records import Record
from netinspect.terminal import count, fit, printable

WIDE: Final = 132
"""Columns from which on a verdict takes one line."""
PIPED: Final = 200
"""Columns where the table does not go to a terminal."""
LEAST: Final = 40

_RED, _YELLOW = "\x1b[1;31m", "\x1b[33m"
_COLOURS: Final = {
    "reject": _RED, "drop": _RED, "quarantine": _RED, "tempfail": _YELLOW, "disarm": _YELLOW, "tag": _YELLOW,
}  # fmt: skip
_TIME: Final = 8
_VERDICT: Final = 10
_CHANGE: Final = 23
_HOSTS: Final = 33
"""Two IPv4 addresses and an arrow."""


class Brief(NamedTuple):
    """What is shown of one verdict. `verdict` is the action, with `→` and another one where `--policy` changes it."""

    timestamp: str
    action: str
    verdict: str
    hosts: str
    people: str
    subject: str
    why: str
    mail: bool
    unscanned: bool
    categories: tuple[str, ...]


def brief(records: Sequence[Record]) -> Brief | None:
    """Make it of the records of one verdict; None: there is none among them."""
    if not records or records[-1]["event_type"] != "verdict":
        return None
    last = records[-1]
    verdict = last["verdict"]
    first = records[0]
    smtp = first if first["event_type"] == "smtp" else {}
    return Brief(
        last["timestamp"],
        verdict["action"],
        f"{verdict['action']} → {verdict['other']['action']}" if verdict.get("changed") else verdict["action"],
        f"{last['src_ip']} → {last['dest_ip']}",
        _people(smtp.get("smtp", {})),
        smtp.get("email", {}).get("subject", ""),
        _why(verdict),
        "email" in smtp,
        bool(verdict["unscanned"]),
        tuple(dict.fromkeys(one["alert"]["category"] for one in records if one["event_type"] == "alert")),
    )


class Table:
    """Writes rows as they come."""

    def __init__(self, out: TextIO, columns: int, *, compared: bool = False, coloured: bool = False) -> None:
        self._out = out
        self._coloured = coloured
        self._columns = max(columns, LEAST)
        self._verdict = _CHANGE if compared else _VERDICT
        self._date = ""
        self._begun = False

    def heading(self, capture: str) -> None:
        """The rows that follow are of this capture."""
        self._head()
        self._out.write(f"{printable(capture)}:\n")
        self._date = ""

    def _head(self) -> None:
        if not self._begun:
            self._begun = True
            self._line("TIME", "VERDICT", "CLIENT → SERVER", "FROM → TO", "SUBJECT", "WHY")

    def row(self, brief: Brief) -> None:
        """One verdict."""
        self._head()
        date, _, time = brief.timestamp.partition("T")
        if date != self._date:
            self._date = date
            self._out.write(f"{date} (UTC)\n")
        self._line(time[:_TIME], brief.verdict, brief.hosts, brief.people, brief.subject, brief.why)

    def _line(self, time: str, verdict: str, hosts: str, people: str, subject: str, reason: str) -> None:
        action = fit(verdict, self._verdict)
        if self._coloured:
            action = f"{_COLOURS.get(verdict.rpartition(' ')[2], '')}{action}\x1b[0m"
        head = f"{fit(time, _TIME)}  {action}  "
        room = self._columns - _TIME - self._verdict - 4
        if self._columns >= WIDE:
            room -= _HOSTS + 6
            first = room * 2 // 5
            second = (room - first) * 2 // 5
            text = f"{fit(hosts, _HOSTS)}  {fit(people, first)}  {fit(subject, second)}  "
            self._write(f"{head}{text}{fit(reason, room - first - second)}")
            return
        self._write(f"{head}{fit(people, room)}")
        indent = " " * (_TIME + 2)
        room = self._columns - len(indent)
        first = min(_HOSTS, room * 3 // 5)
        self._write(f"{indent}{fit(hosts, first)}  {fit(subject, room - first - 2)}")
        if reason:
            self._write(f"{indent}{fit(reason, room)}")

    def _write(self, line: str) -> None:
        self._out.write(line.rstrip() + "\n")


def _people(smtp: Record) -> str:
    if "mail_from" not in smtp:
        return f"HELO {smtp['helo']}" if "helo" in smtp else ""
    to = [one.strip("<>") for one in smtp["rcpt_to"]]
    return f"{smtp['mail_from'].strip('<>') or '<>'} → {', '.join(to)}"


def _why(verdict: Record) -> str:
    """The reason in a few words: of the other configuration where that changes something."""
    if verdict.get("changed"):
        return str(verdict["other"]["reason"] or verdict["reason"])
    reason = str(verdict["reason"])
    if not reason and verdict["unscanned"]:
        reason = f"not looked at: {', '.join(verdict['unscanned'])}"
    return reason


class Sums:
    """What stands under the table."""

    def __init__(self) -> None:
        self.mails = 0
        self.verdicts: Counter[str] = Counter()
        self.categories: Counter[str] = Counter()
        self.unscanned = 0
        self.changes: Counter[str] = Counter()

    def add(self, brief: Brief) -> None:
        """One more verdict."""
        self.mails += brief.mail
        self.verdicts[brief.action] += 1
        self.unscanned += brief.unscanned
        self.categories.update(brief.categories)
        if brief.verdict != brief.action:
            self.changes[brief.verdict] += 1

    def lines(self, other: str = "") -> list[str]:
        """Lines for people; `other` names the other configuration."""
        total = self.verdicts.total()
        lines = [f"{count(self.mails, 'mail')}, {count(total, 'verdict')}: {_listed(self.verdicts) or 'none'}"]
        if self.categories:
            lines.append(f"found: {_listed(self.categories)}")
        if self.unscanned:
            lines.append(f"not wholly looked at: {self.unscanned}")
        if other:
            changed = self.changes.total()
            text = f"with {other}: {changed} would change"
            lines.append(f"{text}: {_listed(self.changes)}" if changed else text)
        return [printable(line) for line in lines]


def _listed(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items(), key=lambda one: (-one[1], one[0])))

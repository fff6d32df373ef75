"""The index of what was extracted: the same rows as JSON (one row a line in one array) and as CSV.

Both are written beside the ones that are there and take their place at the end, so they are whole at any time. Rows of
earlier runs are kept but for those of captures that are read again. Nothing is held in memory.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from netinspect.errors import EnvironmentFault
from netinspect.replay.extract import Row, writing

JSON, CSV = "index.json", "index.csv"

COLUMNS: Final = (
    "stored", "kind", "sha256", "size", "name", "magic", "path", "mail_sha256", "parent_sha256", "verdict", "rules",
    "unscanned", "findings", "mail_from", "rcpt_to", "subject", "timestamp", "src_ip", "dest_ip", "flow_id", "tx_id",
    "incident_id", "pcap_filename",
)  # fmt: skip
"""Of the CSV. `stored` is the place in the folder; empty for a content inside another file (`parent_sha256`), which is
stored as a whole."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula when it comes from a CSV file."""


class Index:
    """Appends rows; `close` puts the files in their place. One command at a time."""

    def __init__(self, folder: str, captures: Sequence[str]) -> None:
        """Begin with the rows that are there but for those of `captures`.

        Raises EnvironmentFault: the folder cannot be written, is in use, or has an index of something else.
        """
        self._folder = Path(folder)
        self._again = frozenset(captures) - {"-"}
        self._rows = 0
        with writing(folder), contextlib.ExitStack() as stack:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EnvironmentFault("is in use", place=folder, remedy="wait for the other replay") from None
            self._json: IO[str] = stack.enter_context(self._open(JSON))
            self._csv: IO[str] = stack.enter_context(self._open(CSV))
            self._table = csv.writer(self._csv, lineterminator="\n")
            self._table.writerow(COLUMNS)
            for row in self._before():
                self._add(row)
            self._stack = stack.pop_all()

    def _open(self, name: str) -> IO[str]:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW, 0o600)

        return open(self._folder / f".{name}.new", "w", encoding="utf-8", newline="", opener=opener)

    def _before(self) -> Iterator[Row]:
        """The rows of earlier runs. Its own lines are known by their shape: one row each."""
        path = self._folder / JSON
        if not path.exists():
            return
        with open(path, encoding="utf-8") as file:
            try:
                if file.readline().strip() != "[":
                    raise ValueError
                for line in file:
                    text = line.strip().rstrip(",")
                    if text and text != "]":
                        row = json.loads(text)
                        if row["pcap_filename"] not in self._again:
                            yield row
            except (ValueError, KeyError, TypeError):
                remedy = "name another folder or move it away"
                raise EnvironmentFault("is no index of netinspect", place=str(path), remedy=remedy) from None

    def add(self, row: Row) -> None:
        """One more. Raises EnvironmentFault."""
        with writing(str(self._folder)):
            self._add(row)

    def _add(self, row: Row) -> None:
        self._json.write(f"{',' if self._rows else '['}\n{json.dumps(row)}")
        self._table.writerow([_cell(row.get(column, "")) for column in COLUMNS])
        self._rows += 1

    def close(self) -> None:
        """Put both files in their place. Raises EnvironmentFault."""
        with writing(str(self._folder)), self._stack:
            self._json.write("\n]\n" if self._rows else "[\n]\n")
            for name, file in ((JSON, self._json), (CSV, self._csv)):
                file.close()
                os.replace(self._folder / f".{name}.new", self._folder / name)


def _cell(value: Any) -> str:
    text = "; ".join(str(one) for one in value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

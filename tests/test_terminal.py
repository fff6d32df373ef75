"""Text that stays in its column and on its line."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.terminal import StatusLine, fit, printable, size, width


@given(st.text(), st.integers(1, 40))
def test_a_cell_is_as_wide_as_it_was_asked_for(text: str, columns: int) -> None:
    cell = fit(text, columns)
    assert width(cell) == columns
    assert cell.isprintable()


@pytest.mark.parametrize(
    ("text", "cell"),
    [("abc", "abc   "), ("abcdefg", "abcde…"), ("日本語", "日本語"), ("日本語々", "日本… "), ("a\u202eb\n", "a\\u20…")],
)
def test_what_does_not_fit_ends_in_an_ellipsis(text: str, cell: str) -> None:
    assert fit(text, 6) == cell


@given(st.text())
def test_no_name_moves_the_cursor(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (340_454_097, "340 MB"), (999_600, "1 MB"), (4.31e9, "4.31 GB")],
)
def test_octets_have_three_digits(octets: float, text: str) -> None:
    assert size(octets) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def test_a_line_that_stays_takes_the_place_of_the_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((10, 20)))
    stream = Terminal()
    line = StatusLine(stream)
    line.show(lambda columns: "a" * 3 * columns)
    line.say("done\x1b")
    assert stream.getvalue() == "\r" + "a" * 9 + "\x1b[K\r\x1b[K" + "netinspect: done\\x1b\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_nothing_is_shown_where_it_is_off(stream: io.StringIO) -> None:
    line = StatusLine(stream, on=False)
    line.show(lambda columns: "a")
    line.clear()
    assert stream.getvalue() == ""

"""Dot-stuffing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.smtp.data import BodyReader
from netinspect.smtp.events import Event
from netinspect.smtp.outgoing import Stuffer, stuff
from tests.smtp.conversations import content


@pytest.mark.parametrize(
    ("plain", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n"),
        (b"no line end", b"no line end\r\n.\r\n"),
        (b"a.\r\nb", b"a.\r\nb\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
    ],
)
def test_content_is_stuffed_and_ended(plain: bytes, wire: bytes) -> None:
    assert b"".join(stuff([plain], end=True)) == wire
    assert b"".join(stuff([plain[i : i + 1] for i in range(len(plain))], end=True)) == wire


@given(
    st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"..", b"\r\n."]).map(bytes), max_size=20),
    st.integers(1, 5),
)
def test_stuffing_in_pieces_is_undone_by_reading(words: list[bytes], size: int) -> None:
    plain = b"".join(words)
    wire = b"".join(stuff([plain[i : i + size] for i in range(0, len(plain), size)], end=True))
    assert wire == b"".join(stuff([plain], end=True))
    reader = BodyReader(dots=True, limit=1000, normalize=False)
    events: list[Event] = []
    assert reader.feed(wire, 0, events) == len(wire)
    assert content(events) in (plain, plain + b"\r\n")


def test_a_piece_without_dots_is_given_back_as_it_is() -> None:
    piece = b"text\r\n" * 100
    assert Stuffer().feed(piece) is piece

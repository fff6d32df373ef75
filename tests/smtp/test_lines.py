"""The line buffer."""

from __future__ import annotations

from netinspect.smtp.lines import LineBuffer


def test_lines_are_cut_at_lf() -> None:
    buffer = LineBuffer(100)
    data = b"one\r\ntwo\nthr"
    end = buffer.take(data, 0)
    assert (end, buffer.line) == (5, b"one\r\n")
    end = buffer.take(data, end)
    assert (end, buffer.line) == (9, b"two\n")
    assert buffer.take(data, end) == -1
    assert buffer.partial == 3
    assert buffer.take(b"ee\nfour", 0) == 3
    assert (buffer.line, buffer.size, buffer.partial) == (b"three\n", 6, 0)


def test_memory_is_bounded_and_the_rest_is_counted() -> None:
    buffer = LineBuffer(4)
    for _ in range(1000):
        assert buffer.take(b"abcdefgh", 0) == -1
    assert buffer.partial == 8000
    assert buffer.take(b"\n", 0) == 1
    assert (buffer.line, buffer.size) == (b"abcd", 8001)
    buffer.take(b"abcdefgh\n", 0)
    assert (buffer.line, buffer.size) == (b"abcd", 9)

"""The MIME measurement compares two that read the same."""

from __future__ import annotations

from tests.bench.decode import NAME, message, mime, ours


def test_the_figure_says_how_many_times_as_fast() -> None:
    (figure,) = mime(200_000, 1)
    assert (figure.name, figure.target, figure.at_least) == (NAME, 10, True)
    assert figure.value is not None
    assert figure.value > 0


def test_the_message_has_a_text_and_an_attachment() -> None:
    assert len(ours(message(10_000))) == 2

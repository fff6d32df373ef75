"""The body reader against a slow model of it that looks at one line at a time."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netinspect.anomaly import Anomaly
from netinspect.smtp.data import BodyReader
from netinspect.smtp.events import Event, MessageData
from netinspect.smtp.newlines import LONE_DOT
from netinspect.smtp.outgoing import stuff
from tests.smtp.conversations import MANY, SMUGGLING, content

LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)")
BODIES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"x", b"\r\n.", b"..", b"\r\n.x"]), max_size=24
).map(b"".join)


def read(raw: bytes, *, normalize: bool = False, limit: int = 10_000) -> tuple[BodyReader, list[Event]]:
    reader = BodyReader(dots=True, limit=limit, normalize=normalize)
    out: list[Event] = []
    reader.feed(raw, 0, out)
    return reader, out


def end_of_data(raw: bytes) -> int:
    """Where the content ends; the first line counts as one behind a CRLF."""
    return (b"\r\n" + raw).find(b"\r\n.\r\n")


def lines(raw: bytes) -> list[bytes]:
    return LINE.findall(raw[: end_of_data(raw)])


def model(raw: bytes, *, normalize: bool) -> bytes:
    result = b""
    crlf_before = True
    for line in lines(raw):
        text = line.rstrip(b"\r\n") if normalize else line
        lone = line.rstrip(b"\r\n") == b"."
        # Behind a bare line end there is no line to unstuff, unless bare line ends are made line ends.
        if text.startswith(b".") and (not lone if normalize else crlf_before):
            text = text[1:]
        result += text + (b"\r\n" if normalize else b"")
        crlf_before = line.endswith(b"\r\n")
    return result


@given(body=BODIES, normalize=st.booleans())
@example(body=b"\n.\r\n.", normalize=True)
@MANY
def test_content_is_that_of_the_model(body: bytes, normalize: bool) -> None:
    raw = body + b"\r\n.\r\n"
    reader, events = read(raw, normalize=normalize)
    assert reader.ended
    assert content(events) == model(raw, normalize=normalize)
    assert reader.size == len(content(events))


@given(body=BODIES)
@MANY
def test_what_is_not_told_as_smuggling_is_safe_to_send_on(body: bytes) -> None:
    reader, events = read(body + b"\r\n.\r\n")
    wire = b"\r\n" + b"".join(stuff([content(events)], end=True))
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    if not reader.smuggling:
        assert not LONE_DOT.search(wire)
        assert not LONE_DOT.search(wire.replace(b"\0", b""))


@given(body=BODIES)
@MANY
def test_normalised_content_has_no_line_end_but_crlf(body: bytes) -> None:
    reader, events = read(body + b"\r\n.\r\n", normalize=True)
    wire = b"\r\n" + b"".join(stuff([content(events)], end=True))
    assert wire.count(b"\r\n") == wire.count(b"\n") == wire.count(b"\r")
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    if not reader.smuggling:
        assert wire.replace(b"\0", b"").find(b"\r\n.\r\n") == len(wire.replace(b"\0", b"")) - 5


@pytest.mark.parametrize(("name", "octets"), SMUGGLING.items())
def test_each_smuggling_sequence_has_its_name_and_place(name: str, octets: bytes) -> None:
    reader, events = read(b"first" + octets + b"x\r\n.\r\n")
    told = [event for event in events if isinstance(event, Anomaly) and event.kind == "smuggling"]
    closing = len(octets) - len(octets.rstrip(b"\r\n"))
    assert told == [Anomaly("smuggling", "smtp", len(b"first" + octets) - closing, name)]
    assert reader.smuggling
    assert reader.ended


@pytest.mark.parametrize(("name", "octets"), SMUGGLING.items())
def test_normalising_disarms_all_but_the_ones_with_a_nul(name: str, octets: bytes) -> None:
    reader, events = read(b"first" + octets + b"x\r\n.\r\n", normalize=True)
    told = {event.kind: event.detail for event in events if isinstance(event, Anomaly)}
    if "NUL" in name:
        assert told["smuggling"] == name
        assert reader.smuggling
    else:
        assert told["normalized_newline"] == name
        assert "smuggling" not in told
        assert not reader.smuggling
        assert content(events) == b"first\r\n.\r\nx\r\n"


def test_smuggling_is_told_before_the_piece_that_holds_it() -> None:
    _, events = read(b"first\n.\nsecond\r\n.\r\n")
    names = [event.kind if isinstance(event, Anomaly) else "data" for event in events]
    assert names == ["bare_lf", "smuggling", "data"]


@pytest.mark.parametrize("body", [b"", b"text\r\n", b"a.b\r\n..\r\n...\r\n", b"\r\n\r\n", b". .\r\n", b"x.\r\n.y\r\n"])
def test_a_clean_body_has_no_anomaly(body: bytes) -> None:
    _, events = read(body + b".\r\n")
    assert not [event for event in events if isinstance(event, Anomaly)]


def test_each_kind_of_malformation_is_told_once_with_its_first_offset() -> None:
    _, events = read(b"a\rb\nc\rd\n\0\0\r\n.\r\n")
    assert [event for event in events if isinstance(event, Anomaly)] == [
        Anomaly("bare_cr", "smtp", 1),
        Anomaly("bare_lf", "smtp", 3),
        Anomaly("nul", "smtp", 8),
    ]


def test_content_above_the_limit_is_counted_and_thrown_away() -> None:
    reader, events = read(b"12345\r\n6789\r\n.\r\n", limit=8)
    assert content(events) == b"12345\r\n6"
    assert (reader.size, reader.truncated) == (13, True)
    reader, events = read(b"12345\r\n.\r\n", limit=7)
    assert (content(events), reader.size, reader.truncated) == (b"12345\r\n", 7, False)


def test_reading_stops_behind_the_end_of_data() -> None:
    reader = BodyReader(dots=True, limit=100, normalize=False)
    out: list[Event] = []
    assert reader.feed(b"ab\r\n.", 0, out) == 5
    assert reader.feed(b"\r\nQUIT\r\n", 5, out) == 2
    assert out == [MessageData(b"ab\r\n")]

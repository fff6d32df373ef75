"""What is offered to a client."""

from __future__ import annotations

import pytest

from netinspect.smtp.ehlo import filter_ehlo
from netinspect.smtp.events import Reply


def offered(*rows: str, size: int = 1000, starttls: bool = False, chunking: bool = False) -> tuple[str, ...]:
    reply = Reply(250, ("mx.example at your service", *rows), b"")
    result = filter_ehlo(reply, size=size, offer_starttls=starttls, offer_chunking=chunking)
    lines = result.raw.decode().split("\r\n")
    assert lines.pop() == ""
    assert [line[:4] for line in lines] == ["250-"] * (len(lines) - 1) + ["250 "]
    assert tuple(line[4:] for line in lines) == result.lines
    assert result.lines[0] == "mx.example at your service"
    return result.lines[1:]


def test_known_extensions_stay_in_order() -> None:
    rows = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "HELP", "VRFY", "EXPN")
    assert offered(*rows) == rows


@pytest.mark.parametrize(
    "row",
    [
        "BINARYMIME",
        "BURL imap",
        "XCLIENT NAME ADDR",
        "XFORWARD",
        "X-EXPS GSSAPI",
        "DELIVERBY 10",
        "FUTURERELEASE 1 2",
        "REQUIRETLS",
        "",
        " ",
    ],
)
def test_what_cannot_be_inspected_or_is_not_known_goes(row: str) -> None:
    assert offered("HELP", row, "DSN") == ("HELP", "DSN")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("SIZE 500", "SIZE 500"),
        ("SIZE 5000", "SIZE 1000"),
        ("SIZE 0", "SIZE 1000"),
        ("SIZE", "SIZE 1000"),
        ("size x", "SIZE 1000"),
    ],
)
def test_size_is_the_smaller_one(row: str, expected: str) -> None:
    assert offered(row) == (expected,)


def test_starttls_and_chunking_stay_only_if_wanted() -> None:
    assert offered("STARTTLS", "CHUNKING") == ()
    assert offered("STARTTLS", "CHUNKING", starttls=True) == ("STARTTLS",)
    assert offered("STARTTLS", "chunking", chunking=True) == ("CHUNKING",)
    assert offered("HELP", starttls=True, chunking=True) == ("HELP",)


def test_auth_loses_mechanisms_that_seal_the_session() -> None:
    assert offered("AUTH PLAIN gssapi LOGIN SCRAM-SHA-256-PLUS", "AUTH=PLAIN LOGIN", "AUTH GSSAPI") == (
        "AUTH PLAIN LOGIN",
        "AUTH=PLAIN LOGIN",
    )


def test_a_refusal_is_passed_on() -> None:
    reply = Reply(502, ("no",), b"502 no\r\n")
    assert filter_ehlo(reply, size=1, offer_starttls=False, offer_chunking=False) is reply

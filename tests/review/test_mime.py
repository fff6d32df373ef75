"""Readings that a mail program has and the parser has not. `email` of the standard library is the other reader."""

from __future__ import annotations

import base64
import email
import tracemalloc

import pytest

from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser
from netinspect.spool import Spool, SpoolBudget

PAYLOAD = b"a file that somebody wants to run"
ENCODED = base64.b64encode(PAYLOAD)
HEAD = b"From: a@b.test\r\nMIME-Version: 1.0\r\n"
MIXED = HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n'
FILE = b"Content-Type: application/octet-stream; name=e.com\r\nContent-Transfer-Encoding: base64\r\n\r\n"


def leaves_of(raw: bytes) -> list[Leaf]:
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    return [*parser.feed(raw), *parser.close()]


@pytest.mark.parametrize(
    "raw",
    [
        MIXED + b"\r--b\r" + FILE.replace(b"\r\n", b"\r") + ENCODED + b"\r--b--\r\r\n--b--\r\n",
        MIXED + b"x\r--b\r\n" + FILE + ENCODED + b"\r\n--b--\r\n",
    ],
    ids=["all-cr", "cr-before-delimiter"],
)
def test_a_part_behind_bare_carriage_returns_is_seen_or_doubted(raw: bytes) -> None:
    # Python takes a CR alone for a line end, and it is not the only one.
    others = [part.get_payload(decode=True) for part in email.message_from_bytes(raw).walk()]
    assert PAYLOAD in others
    assert any(leaf.undecoded or PAYLOAD in leaf.content.getvalue() for leaf in leaves_of(raw))


def test_a_fragment_of_a_message_is_not_taken_for_the_whole() -> None:
    # RFC 2046 §5.2.2: a reader joins the fragments; no engine ever sees the content.
    raw = HEAD + b"Content-Type: message/partial; id=x; number=1; total=2\r\n\r\n" + FILE + ENCODED[:20] + b"\r\n"
    assert any(leaf.undecoded for leaf in leaves_of(raw))


def test_header_fields_of_parts_do_not_multiply_the_message_in_memory() -> None:
    part = b"--b\r\n" + b"a:\n" * 4900 + b"\r\nx\r\n"
    raw = MIXED + part * 12 + b"--b--\r\n"
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    tracemalloc.start()
    try:
        kept = []
        for start in range(0, len(raw), 65_536):
            kept += parser.feed(raw[start : start + 65_536])
        kept += parser.close()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 4 * len(raw)

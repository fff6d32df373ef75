"""MIME alone, without a network: decoding and hashing a big attachment, beside Python's `email`."""

from __future__ import annotations

import base64
import email
import hashlib
import random
import time
from collections.abc import Callable

from netinspect.limits import Limits
from netinspect.mime import Leaf, MimeParser
from netinspect.spool import Spool, SpoolBudget
from tests.bench.report import Figure

NAME = "decode + hash of a 25 MB base64 attachment, times as fast as Python's email"
SIZE = 25_000_000
_READ = 65_536


def message(size: int) -> bytes:
    """A mail of about `size` octets, nearly all of it one attachment."""
    content = random.Random(1).randbytes(size // 78 * 57)
    head = (
        b"From: a@example.org\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/zip; name=a.zip\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head + base64.encodebytes(content).replace(b"\n", b"\r\n") + b"--b--\r\n"


def ours(raw: bytes) -> list[str]:
    """SHA-256 of the leaves, the octets coming as they come from a socket."""
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    leaves: list[Leaf] = []
    for at in range(0, len(raw), _READ):
        leaves += parser.feed(raw[at : at + _READ])
    leaves += parser.close()
    for leaf in leaves:
        leaf.content.close()
    return [leaf.sha256 for leaf in leaves]


def standard_library(raw: bytes) -> list[str]:
    """The same with `email`."""
    digests = []
    for part in email.message_from_bytes(raw).walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            digests.append(hashlib.sha256(content).hexdigest())
    return digests


def _cpu(work: Callable[[bytes], list[str]], raw: bytes, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work(raw)
        best = min(best, time.process_time() - start)
    return best


def mime(size: int = SIZE, rounds: int = 3) -> list[Figure]:
    """One figure. The two have to agree on what they decoded."""
    raw = message(size)
    if ours(raw)[1:] != standard_library(raw)[1:]:
        raise AssertionError("the two do not read the same attachment")
    mine, theirs = _cpu(ours, raw, rounds), _cpu(standard_library, raw, rounds)
    note = f"{mine * 1000:.0f} ms against {theirs * 1000:.0f} ms of CPU"
    return [Figure(NAME, theirs / mine, "", 10, at_least=True, note=note)]

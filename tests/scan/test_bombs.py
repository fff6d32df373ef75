"""Bombs in a real worker: it lives, it answers that it could not look, and its memory stays below the bound."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import re
import time
from pathlib import Path

import pytest

from netinspect.limits import Limits
from netinspect.samples import archives
from netinspect.scan.pool import LeafRequest, WorkerPool, WorkerSettings
from tests.files import made

BOUND = 256_000_000


def _nested() -> bytes:
    level = archives.zip_bomb(60_000_000)
    return archives.make_zip({f"{number}.zip": level + bytes([number]) for number in range(16)})


def _patchy(size: int) -> bytes:
    """Below the ratio that gives a bomb away."""
    chance = random.Random(1)
    return b"".join(chance.randbytes(1000) + bytes(90_000) for _ in range(size // 91_000))


def _mail(content: bytes) -> bytes:
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Disposition: attachment; filename=a.bin\r\n"
    return head + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(content).replace(b"\n", b"\r\n")


def _inside(content: bytes, times: int) -> bytes:
    """In archives that do not pack, but for the outermost: each level is there as a whole."""
    for level in range(times):
        content = archives.make_zip({f"{level}.zip": content}, 8 if level == times - 1 else 0)
    return content


BOMBS = {
    "gzip": lambda: gzip.compress(bytes(150_000_000), 6),
    "zip": lambda: archives.zip_bomb(120_000_000),
    "lying zip": lambda: archives.lying_bomb(120_000_000),
    "nested zip": _nested,
    "many members": lambda: archives.make_zip({str(number): b"" for number in range(11_000)}),
    "7z": lambda: made.packed({"zeros": bytes(110_000_000)}, "SevenZip", fast=True),
    "patchy zip": lambda: archives.make_zip({f"{n}.bin": _patchy(70_000_000) + bytes([n]) for n in range(3)}),
    "patchy 7z": lambda: made.packed(
        {f"{n}.bin": _patchy(30_000_000) + bytes([n]) for n in range(7)}, "SevenZip", fast=True
    ),
    "mail in a zip": lambda: archives.make_zip({"a.eml": _mail(_patchy(70_000_000))}),
    "tar in gzip": lambda: archives.make_gzip(archives.make_tar({"a.bin": _patchy(90_000_000)})),
    "zips in a zip": lambda: _inside(archives.make_zip({"a.bin": _patchy(64_000_000)}, 0), 2),
    "page": lambda: b"<html><script>atob('" + b"QUJD" * 5_000_000 + b"')</script>",
}


def peak_of(process: int) -> int:
    """Octets that were resident at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text("ascii"))
    return int(found[1]) * 1024 if found else 0


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_bounded_memory_and_time_and_is_not_clean(bomb: str) -> None:
    data = BOMBS[bomb]()

    async def run() -> tuple[list[str], int, float]:
        pool = WorkerPool(Limits(), WorkerSettings(count=1))
        await pool.start()
        try:
            (worker,) = pool.pids
            begun = time.monotonic()
            (answer,) = await pool.examine([LeafRequest(data, name="bomb", path="1", sha256="0" * 64)])
            seconds = time.monotonic() - begun
            return [one.reason for one in answer.unscanned], peak_of(worker), seconds
        finally:
            await pool.close()

    reasons, peak, seconds = asyncio.run(run())
    assert reasons
    assert not {"died", "timeout", "busy"}.intersection(reasons)
    assert 0 < peak < BOUND
    assert seconds < 25

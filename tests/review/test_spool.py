"""What an attacker can do to the spools of everybody."""

from __future__ import annotations

import os

from netinspect.limits import Limits
from netinspect.mime import MimeParser
from netinspect.spool import Spool, SpoolBudget


def test_many_small_parts_do_not_take_a_descriptor_each_when_memory_is_used_up() -> None:
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    budget.take(limits.spool_memory_total)  # a few slow clients in the middle of big messages
    parser = MimeParser(limits, lambda: Spool(limits, budget))
    before = len(os.listdir("/proc/self/fd"))
    leaves = parser.feed(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 500 + b"--b--\r\n"
    )
    leaves += parser.close()
    opened = len(os.listdir("/proc/self/fd")) - before
    for leaf in leaves:
        leaf.content.close()
    assert opened < 50  # one mail of 60 KB may have 10,000 parts; RLIMIT_NOFILE is 1024 on most machines

"""A mail inside something else than a mail: an `.eml` in an archive, an MHTML page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netinspect.files.budget import Budget, Member, OverBudget, Report
from netinspect.mime import Leaf, MimeParser
from netinspect.spool import Spool, SpoolBudget


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield its leaves. Raises OverBudget."""
    # In memory only: a worker may write no file.
    most = min(budget.octets, budget.spare // 2)  # a leaf is there twice while its pieces are joined
    limits = replace(budget.limits, spool_memory=most, mime_parts=min(budget.limits.mime_parts, 1000))
    room = SpoolBudget(most)
    parser = MimeParser(limits, lambda: Spool(limits, room))
    try:
        leaves = [*parser.feed(data), *parser.close()]
    except OSError as error:
        parser.discard()
        raise OverBudget("archive_bytes" if most == budget.octets else "archive_held") from error
    report.anomalies += parser.anomalies[:100]
    leaves.reverse()
    while leaves:  # taken from the list, so that each is freed when it was looked at
        yield _member(leaves.pop(), budget, report)


def _member(leaf: Leaf, budget: Budget, report: Report) -> Member:
    content = leaf.content.getvalue()
    leaf.content.close()
    if leaf.undecoded:
        report.could_not("part not decoded")
    return Member(leaf.name or leaf.path, budget.take(content))

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
    limits = replace(budget.limits, spool_memory=budget.octets, mime_parts=min(budget.limits.mime_parts, 1000))
    room = SpoolBudget(budget.octets)
    parser = MimeParser(limits, lambda: Spool(limits, room))
    try:
        leaves = [*parser.feed(data), *parser.close()]
    except OSError as error:
        parser.discard()
        raise OverBudget("archive_bytes") from error
    report.anomalies += parser.anomalies[:100]
    for leaf in leaves:
        yield _member(leaf, budget, report)


def _member(leaf: Leaf, budget: Budget, report: Report) -> Member:
    content = leaf.content.getvalue()
    leaf.content.close()
    if leaf.undecoded:
        report.could_not("part not decoded")
    return Member(leaf.name or leaf.path, budget.take(content))

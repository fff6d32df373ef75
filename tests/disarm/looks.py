"""What our own scan says of a content: the rules, the unpackers, the office engine."""

from __future__ import annotations

import functools

from netinspect.limits import Limits
from netinspect.scan.contract import Examination
from netinspect.scan.examine import Examiner
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine


@functools.cache
def _examiner() -> Examiner:
    return Examiner(Limits(), RuleEngine(load_sources()))


def examine(data: bytes) -> Examination:
    return _examiner().examine(data)


def signatures(data: bytes) -> set[str]:
    return {finding.signature for finding in examine(data).findings}

"""Puts the pipeline together from the settings; every front end starts here, so that all judge alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from netinspect.config import Settings
from netinspect.errors import EnvironmentFault
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector
from netinspect.policy.rules import Policy
from netinspect.scan.clamd import ClamdEngine
from netinspect.scan.digests import DigestsOnly
from netinspect.scan.hashes import HashLists
from netinspect.scan.panel import Panel
from netinspect.scan.plaintext import PlainText
from netinspect.scan.pool import WorkerPool, WorkerSettings
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine
from netinspect.scan.wire import OPENED


def panel_of(settings: Settings) -> Panel:
    """The engines that the settings ask for, not started yet. Raises `EngineError` for a bad list."""
    scan, limits = settings.scan, settings.limits
    disarm = any(rule.action == "disarm" for rule in settings.policy.rules)
    asked = WorkerSettings(scan.workers, scan.rules_dir, office=scan.office, rules=scan.rules, disarm=disarm)
    if scan.clamd:
        asked = replace(asked, opened=OPENED)
    workers = WorkerPool(limits, asked) if scan.workers else DigestsOnly()
    clamd = ClamdEngine(scan.clamd, limits, scan.clamd_timeout) if scan.clamd else None
    hashes = HashLists.load(scan.hash_block, scan.hash_allow) if scan.hash_block or scan.hash_allow else None
    # An administrator's rules may be slow: those run in the workers only, where time is limited.
    plain = None if scan.rules_dir else PlainText(RuleEngine(load_sources("")) if scan.rules else None)
    return Panel(limits, workers, clamd, hashes, plain=plain, worker_engines=tuple(_worker_engines(settings)))


def _worker_engines(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and version of what looks in the workers; unpacking alone finds nothing and is not among them."""
    if settings.scan.office:
        yield "office", version("oletools")
    if settings.scan.rules:
        yield "rules", version("yara-x")


def without_engines(settings: Settings) -> Settings:
    """The same settings with nothing that looks into contents: they are named and hashed, and no process is started."""
    scan = replace(
        settings.scan, clamd="", office=False, rules=False, rules_dir="", hash_block=(), hash_allow=(), workers=0
    )
    return replace(settings, scan=scan)


def inspector_of(settings: Settings) -> Inspector:
    """The whole pipeline; `inspector.panel` is to be started and closed by the caller.

    Raises:
        EnvironmentFault: there is no folder for the spool. Only large messages would notice, each with a 451.
        EngineError: as `panel_of`.
    """
    spool = Path(settings.spool.directory) if settings.spool.directory else None
    if spool is not None and not spool.is_dir():
        raise EnvironmentFault("is no folder", place=str(spool), remedy="make it or set directory in [spool]")
    return Inspector(
        settings.limits,
        panel_of(settings),
        Policy.from_settings(settings.policy, quarantine_answer=settings.quarantine.answer),
        Identity(settings.networks),
        spool,
    )

"""Puts the pipeline together from the settings; every front end starts here, so that all judge alike."""

from __future__ import annotations

from pathlib import Path

from netinspect.config import Settings
from netinspect.identity.zone import Identity
from netinspect.inspector import Inspector
from netinspect.policy.rules import Policy
from netinspect.scan.clamd import ClamdEngine
from netinspect.scan.hashes import HashLists
from netinspect.scan.panel import Panel
from netinspect.scan.pool import WorkerPool, WorkerSettings


def panel_of(settings: Settings) -> Panel:
    """The engines that the settings ask for, not started yet. Raises `EngineError` for a bad list."""
    scan, limits = settings.scan, settings.limits
    workers = WorkerPool(limits, WorkerSettings(scan.workers, scan.rules_dir, office=scan.office, rules=scan.rules))
    clamd = ClamdEngine(scan.clamd, limits, scan.clamd_timeout) if scan.clamd else None
    hashes = HashLists.load(scan.hash_block, scan.hash_allow) if scan.hash_block or scan.hash_allow else None
    return Panel(limits, workers, clamd, hashes)


def inspector_of(settings: Settings) -> Inspector:
    """The whole pipeline; `inspector.panel` is to be started and closed by the caller."""
    return Inspector(
        settings.limits,
        panel_of(settings),
        Policy.from_settings(settings.policy, quarantine_answer=settings.quarantine.answer),
        Identity(settings.networks),
        Path(settings.spool.directory) if settings.spool.directory else None,
    )

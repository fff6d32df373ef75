"""Tasks that end the Dask worker they run in, for `test_dask`. The workers import this by its name."""

from __future__ import annotations

import os
from pathlib import Path

from netinspect.replay.dask import Told, task
from netinspect.replay.drive import Job

VICTIM = "2.pcap"


def once(job: Job, version: str) -> Told:
    """The first worker that gets the victim dies."""
    path = job.captures[0][0]
    mark = Path(f"{path}.died")
    if path.endswith(VICTIM) and not mark.exists():
        mark.touch()
        os._exit(9)
    return task(job, version)


def always(job: Job, version: str) -> Told:
    """Each worker that gets the victim dies."""
    if job.captures[0][0].endswith(VICTIM):
        os._exit(9)
    return task(job, version)

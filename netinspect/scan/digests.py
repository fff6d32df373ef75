"""What a content is by its octets, name and digests: all that is said of one where no worker looks into it.

With `workers = 0` (and no clamd) this is the whole answer, made in the process itself; nothing is unpacked or parsed,
the artifacts are the leaves of the message only, and coverage says that nothing was scanned. A content on an allow list
is described in the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from typing import Final

from netinspect.anomaly import Anomaly
from netinspect.disarm.contract import Cleaned
from netinspect.files.artifact import Artifact, Hashes
from netinspect.files.kind import identify
from netinspect.scan import names
from netinspect.scan.contract import Examination, Unscanned
from netinspect.scan.plaintext import Content, TextLeaf
from netinspect.scan.pool import LeafRequest

log = logging.getLogger(__name__)

ASIDE: Final = 4_194_304
"""Octets from which on the digests are made in a thread: 2 ms/MB would keep the other sessions waiting. Below, a thread
gains nothing where several processes share the processors."""
ENGINE: Final = "digests"


class DigestsOnly:
    """Stands where the pool of workers would, with no process behind it."""

    fingerprint: Final = "digests 1"

    async def start(self) -> None:
        """Nothing is to be started."""

    async def close(self) -> None:
        """Nothing is to be stopped."""

    async def examine(self, leaves: Sequence[LeafRequest], /) -> list[Examination]:
        """Describe each leaf. Never raises for what is in them."""
        return [await describe(leaf, leaf.data) for leaf in leaves]

    async def disarm(self, content: bytes | Content, name: str = "", declared: str = "", /) -> Cleaned | str:
        """Cleaning needs a worker."""
        return "no worker"


async def allowed(leaf: TextLeaf) -> Examination:
    """An allow-listed leaf: on record as what it is, and that it was let through by its digest."""
    answer = await describe(leaf, leaf.content)
    return answer if answer.unscanned else Examination(
        answer.artifacts, anomalies=(Anomaly("allow_listed", "file", 0, leaf.sha256),)
    )


async def describe(leaf: TextLeaf | LeafRequest, content: bytes | Content) -> Examination:
    """The examination of a leaf that nobody looks into; one whose octets cannot be read is `Unscanned`."""
    try:
        if not isinstance(content, bytes):
            if content.size >= ASIDE:
                return await asyncio.to_thread(_described, leaf, content)
            content = content.getvalue()
        return _look(leaf, content)
    except OSError:
        log.exception("a content could not be read")
        reason = Unscanned(ENGINE, "content unreadable", leaf.sha256)
        size = len(content) if isinstance(content, bytes) else content.size
        artifact = Artifact(
            Hashes(leaf.sha256, "", ""), size, "data", leaf.path, leaf.name, leaf.declared, "", "TRUNCATED", leaf.text
        )
        return Examination((artifact,), unscanned=(reason,))


def _described(leaf: TextLeaf | LeafRequest, content: Content) -> Examination:
    return _look(leaf, content.getvalue())


def _look(leaf: TextLeaf | LeafRequest, data: bytes) -> Examination:
    kind = identify(data, leaf.name)
    sha256 = leaf.sha256 or hashlib.sha256(data).hexdigest()
    # SHA-1 and MD5 name a content in other people's lists; nothing here trusts them.
    hashes = Hashes(
        sha256,
        hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )
    itself = Artifact(hashes, len(data), kind, leaf.path, leaf.name, leaf.declared, text=leaf.text)
    return Examination((itself,), names.findings(leaf.name, kind, sha256))

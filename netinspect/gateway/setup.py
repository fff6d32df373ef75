"""Builds what a gateway needs from the settings, and takes it down again."""

from __future__ import annotations

from pathlib import Path

from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.errors import ConfigError
from netinspect.gateway.recorder import Recorder
from netinspect.gateway.services import Listener, Services
from netinspect.records import RecordWriter
from netinspect.store.quarantine import Quarantine


def listeners_of(settings: Settings) -> list[Listener]:
    """The listeners of the settings. Raises `ConfigError` when there is none."""
    found = [
        Listener(item.name, item.zone, item.listen.host, item.listen.port, item.mode == "transparent", item.upstream)
        for item in settings.listeners
    ]
    if not found:
        raise ConfigError("no [[listener]]", remedy="`netinspect config init` writes a file with two")
    return found


class Engines:
    """Engines, inspector and record of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.inspector = inspector_of(settings)
        self.writer = RecordWriter(settings.records.file, fsync=settings.records.fsync)
        quarantine = Quarantine(Path(settings.quarantine.directory)) if settings.quarantine.directory else None
        self.recorder = Recorder(settings.record, settings.limits) if settings.record.directory else None
        self.services = Services(settings, self.inspector, self.writer, quarantine, self.recorder)

    async def start(self) -> None:
        """Start workers and connect to scanners."""
        await self.inspector.panel.start()

    async def close(self) -> None:
        """Stop them."""
        await self.inspector.panel.close()
        self.writer.close()
        if self.recorder is not None:
            self.recorder.close()

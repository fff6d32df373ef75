"""netinspect.toml → frozen, validated settings.

The file is found by `-c` or the environment's NETINSPECT_CONFIG; without either the embedded defaults hold. What may
stand in it is in `schema` and `rules`, how it is read in `file`.

    settings = load(Path("netinspect.toml"))
    print(render(settings))
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from netinspect.config.file import read, read_text
from netinspect.config.rules import DEFAULT_RULES, FieldError, PolicySettings, RuleSettings, When
from netinspect.config.schema import (
    FirewallSettings,
    GatewaySettings,
    HostPort,
    ListenerSettings,
    NetworkSettings,
    QuarantineSettings,
    RecorderSettings,
    RecordSettings,
    ScanSettings,
    Settings,
    SpoolSettings,
)
from netinspect.config.text import render, template
from netinspect.errors import ConfigError

__all__ = [
    "DEFAULT_RULES",
    "VARIABLE",
    "FieldError",
    "FirewallSettings",
    "GatewaySettings",
    "HostPort",
    "ListenerSettings",
    "NetworkSettings",
    "PolicySettings",
    "QuarantineSettings",
    "RecordSettings",
    "RecorderSettings",
    "RuleSettings",
    "ScanSettings",
    "Settings",
    "SpoolSettings",
    "When",
    "default_settings",
    "find",
    "load",
    "problems",
    "read_text",
    "render",
    "template",
]

VARIABLE = "NETINSPECT_CONFIG"


def default_settings() -> Settings:
    """Give what holds without a file."""
    return Settings()


def find(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Path | None:
    """Give the file to read: `path`, else the one the environment names, else none."""
    return path or (Path(env[VARIABLE]) if env.get(VARIABLE) else None)


def load(path: Path | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        ConfigError: the first mistake of the file, with file, line, key and remedy.
    """
    file = find(path, env)
    if file is None:
        return default_settings()
    settings, mistakes = read(file)
    if mistakes:
        raise mistakes[0]
    return settings


def problems(path: Path | None = None, env: Mapping[str, str] = os.environ) -> list[ConfigError]:
    """Give all mistakes of the file in the order of its lines (for `config check`)."""
    file = find(path, env)
    return read(file)[1] if file else []

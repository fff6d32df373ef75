"""The files of rules: the package's own and those of an administrator's folder.

The parent reads them, the workers compile them (`rules`): so all workers, also one that is started later, have the same
set, and a file that is broken in the meantime changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from netinspect.errors import EngineError


@dataclass(frozen=True, slots=True)
class RuleSource:
    """One rule file; `origin` is its path, for errors."""

    origin: str
    text: str


def load_sources(folder: str = "") -> tuple[RuleSource, ...]:
    """Read the package's rules and all `*.yar` and `*.yara` in `folder` (`""`: none), in the order of their names.

    Raises EngineError when the folder or a file of it cannot be read.
    """
    shipped = resources.files("netinspect.scan") / "rules"
    files: list[Any] = sorted((f for f in shipped.iterdir() if f.name.endswith(".yar")), key=lambda f: f.name)
    if folder:
        root = Path(folder)
        if not root.is_dir():
            raise EngineError("the folder of rules does not exist", place=folder, remedy="make it or change rules_dir")
        files += sorted(path for path in root.iterdir() if path.suffix in (".yar", ".yara"))
    sources = []
    for path in files:
        try:
            sources.append(RuleSource(str(path), path.read_text("utf-8")))
        except OSError as error:
            raise EngineError(f"the rule file cannot be read: {error.strerror}", place=str(path)) from error
        except UnicodeDecodeError as error:
            raise EngineError("the rule file is not UTF-8", place=str(path)) from error
    return tuple(sources)


def digest(sources: Sequence[RuleSource]) -> str:
    """A short fingerprint of a set of rules; it changes when any text does."""
    whole = hashlib.sha256()
    for source in sources:
        text = source.text.encode("utf-8")
        whole.update(len(text).to_bytes(8, "big") + text)
    return whole.hexdigest()[:16]

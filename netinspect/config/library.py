"""The library that evaluates expressions (common-expression-language), without the command line that comes with it.

Its package imports a terminal program of its own, which costs 23 MB and a third of a second in every process and puts
some thirty modules into the gateway that nobody asks for. What is used is the compiled part alone: 5 MB, 30 ms.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

_COMMAND_LINE = "cel.cli"


def load() -> Any:
    """Give the module with `compile`, `evaluate` and `Context`. It is loaded on the first call."""
    if "cel" in sys.modules:
        return sys.modules["cel"]
    # A module that is there already is not imported; afterwards the place is free again for whoever wants the real one.
    sys.modules[_COMMAND_LINE] = types.ModuleType(_COMMAND_LINE)
    try:
        return importlib.import_module("cel")
    finally:
        del sys.modules[_COMMAND_LINE]

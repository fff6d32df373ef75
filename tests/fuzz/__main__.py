"""Fuzz one target with atheris: `make fuzz TARGET=mime SECONDS=60`, or `python -m tests.fuzz TARGET [SECONDS]`.

The corpus grows in `.fuzz/TARGET`; what raised is kept there as `crash-...`. Exit: 0 nothing found, other: found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["netinspect"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [SECONDS]")
    name = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    folder = Path(".fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    longest = max(map(len, SEEDS[name]))  # what is longer than -max_len is cut, and a compound file has a few sectors
    bounds = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", f"-max_len={max(8192, longest * 2)}"]
    options = [*bounds, "-print_final_stats=1", f"-artifact_prefix={folder}/", str(folder)]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()

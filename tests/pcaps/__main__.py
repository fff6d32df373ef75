"""`python -m tests.pcaps record [NAME…]`, `derive`, `compare`, `expect`: what `make pcaps` and its kin do."""

from __future__ import annotations

import json
import sys

from tests.pcaps import derived, expectation
from tests.pcaps.derived import DERIVED
from tests.pcaps.scenes import SCENES
from tests.pcaps.stage import CONFIG, stage

HEAD = """\
# Captures

One folder a behaviour: `capture.*`, `expected.json` (the records that `netinspect replay` writes of it, without times
and versions) and what it shows. All of it is inert test material of the project's own.

    netinspect -c pcaps/netinspect.toml replay pcaps/*/capture.*

`make test` compares all of them, `make pcaps` (as root) records them anew in namespaces and says where the gateway that
was recorded and the replay disagree, `make pcaps-expected` takes what replay says now for what is expected.

"""


def record(names: list[str]) -> int:
    """Record the scenes; says where the gateway had another opinion than the replay of what it did."""
    expectation.FOLDER.mkdir(exist_ok=True)
    expectation.GATEWAY.mkdir(exist_ok=True)
    expectation.CONFIG.write_text(CONFIG)
    with stage() as on:
        for name, (play, text) in SCENES.items():
            if names and name not in names:
                continue
            path = expectation.FOLDER / name / "capture.pcap"
            play(on, path)
            how = "recorded by `make pcaps` on the outside interface of the gateway"
            how = how.replace("outside", "inside") if name == "spoofed-inside" else how
            readme = f"# {name}\n\n{text}\n\nHow it was made: {how} (tests/pcaps/scenes.py).\n"
            (path.parent / "README.md").write_text(readme)
            if on.events[name]:
                gateway = json.dumps([expectation.stable(one) for one in on.events[name]])
                (expectation.GATEWAY / f"{name}.json").write_text(gateway)
            print(f"{name}: {path.stat().st_size} octets, {len(on.events[name])} records")
    derived.make()
    index()
    return 1 if expectation.compare_all() else 0


def index() -> None:
    """pcaps/README.md: every folder with its text."""
    texts = {name: text for name, (_, text) in SCENES.items()} | {name: text for name, (_, text, _) in DERIVED.items()}
    lines = [f"- `{name}`: {text}" for name, text in sorted(texts.items())]
    (expectation.FOLDER / "README.md").write_text(HEAD + "\n".join(lines) + "\n")


def main() -> int:
    what, *names = sys.argv[1:] or ["help"]
    if what == "record":
        return record(names)
    if what == "derive":
        derived.make()
        index()
    elif what == "compare":
        return 1 if expectation.compare_all() else 0
    elif what == "expect":
        expectation.write()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the gateway beside its peers on this machine: `make bench`, or `python -m tests.bench [--quick]`.

All in one run and on loopback: Postfix's smtp-sink as the mail server, clamd with a database of two signatures,
mitmdump as a bare TCP relay, clamsmtp as Debian ships it, and netinspect. The loads of one scenario are interleaved
and their medians taken, since machines are noisy; CPU time from /proc stands beside wall time.

The table goes to stdout, progress to stderr. Exit: 0 measured (targets met or missed), 2 something could not be.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.bench import peers, proc, replay, report, scenarios
from tests.bench.peers import BenchError, Missing

_FILES = 16_384
_WORST_LOAD = 1.0


def _raise_file_limit() -> None:
    """Two descriptors a session in the gateway: the usual 1,024 is not enough; children inherit this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _measure(results: report.Results, options: argparse.Namespace) -> None:
    sizes = scenarios.QUICK if results.quick else scenarios.FULL
    with tempfile.TemporaryDirectory(prefix="netinspect-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # clamsmtp and smtp-sink run as users of their own
        if options.only in ("", "replay"):
            replay.measure(folder, results)
        if options.only == "replay":
            return
        sink = stack.enter_context(peers.sink(folder))
        try:
            clamd = stack.enter_context(peers.clamd(folder))
        except Missing as error:
            scenarios.say(str(error))
            clamd = None
        bench = scenarios.Bench(folder, sizes, sink, clamd, results)
        if options.files_only:
            scenarios.run_files(bench, options.corpus)
        else:
            scenarios.run_all(bench, not options.peers_only, options.corpus)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="one round, few messages, 20 seconds: not for quoting")
    parser.add_argument("--peers-only", action="store_true", help="measure the sink, mitmdump and clamsmtp only")
    parser.add_argument("--files-only", action="store_true", help="measure what needs no network only")
    parser.add_argument("--only", choices=["", "replay", "gateway"], default="", help="measure this part only")
    parser.add_argument("--corpus", metavar="DIR", type=Path, help="benign documents to use: a corpus, or any folder")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures and every single run to FILE")
    options = parser.parse_args()
    _raise_file_limit()
    where = report.machine()
    if where["load_average"] > _WORST_LOAD:
        scenarios.say(f"load average is {where['load_average']:.1f}: this machine is busy with something else")
    results = report.Results(quick=options.quick)
    start, (ticks, stolen) = time.monotonic(), proc.machine_ticks()
    try:
        _measure(results, options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    results.seconds = time.monotonic() - start
    now, now_stolen = proc.machine_ticks()
    results.stolen = (now_stolen - stolen) / max(1, now - ticks)
    print(report.markdown(results, where))
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(results, where), indent=1) + "\n")
    return 0 if results.complete else 2


if __name__ == "__main__":
    sys.exit(main())

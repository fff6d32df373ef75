"""What is measured: each scenario drives loads and gives figures; the targets are those of the gateway's issue.

No message is sent twice unless a scenario is about that: a stock hands out serial numbers, so neither a cache of the
gateway nor one of clamd helps by accident.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median

from tests.bench import decode, files, messages, peers, proc
from tests.bench.load import Plan, Tally, hold_idle, send
from tests.bench.messages import Message
from tests.bench.peers import BenchError, Server
from tests.bench.report import Figure, Results, Run

GATEWAY = "netinspect"
GATEWAY_ALONE = "netinspect without clamd"
_SETTLE = 0.2
_LOAD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is sent."""

    rounds: int
    text: int
    text_slow: int
    """To the peers, which are slower."""
    docx: int
    pdf: int
    latency: int
    idle: int
    big: int


FULL = Sizes(rounds=3, text=1_000, text_slow=300, docx=200, pdf=24, latency=10, idle=1_000, big=50)
QUICK = Sizes(rounds=1, text=400, text_slow=120, docx=60, pdf=6, latency=4, idle=200, big=6)


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One run: the folder, the sink and clamd that all servers share, and the results so far."""

    def __init__(self, folder: Path, sizes: Sizes, sink: Server, clamd: Server | None, results: Results) -> None:
        self.folder = folder
        self.sizes = sizes
        self.sink = sink
        self.clamd = clamd
        self.results = results
        self._serials = count(1)
        self._names = count(1)

    def stock(self, build: Callable[[int], Message], number: int) -> list[Message]:
        """Messages that were not used before."""
        return [build(next(self._serials)) for _ in range(number)]

    def scanner(self) -> Server:
        if self.clamd is None:
            raise BenchError("clamd is not installed: apt-get install clamav-daemon")
        return self.clamd

    def send(self, who: Server, plan: Plan, expect: str = "250") -> Tally:
        """Send a load; BenchError unless every message got the expected reply: other figures would mean nothing."""
        try:
            tally = send(plan)
        except TimeoutError:
            raise BenchError(f"{who.name}: the load did not end in time; its log: {who.last_words()}") from None
        who.sent += tally.done
        if problems := tally.problems(expect):
            raise BenchError(f"{who.name}: {problems}; its log: {who.last_words()}")
        return tally

    def measure(self, who: Server, load: str, plan: Plan, turn: int) -> Run:
        """Send a load and note CPU and times beside it."""
        clamd_before = self.clamd.cpu_ms() if self.clamd else 0.0
        before = who.cpu_ms()
        tally = self.send(who, plan)
        time.sleep(_SETTLE)  # workers and records may be a moment behind the reply
        used = who.cpu_ms() - before
        clamd_used = self.clamd.cpu_ms() - clamd_before if self.clamd else 0.0
        done = tally.done
        run = Run(
            who=who.name,
            load=load,
            round=turn,
            messages=done,
            rate=tally.rate,
            cpu_ms=used / done,
            clamd_ms=clamd_used / done,
            client_ms=tally.cpu * 1000 / done,
            reply_ms=median(tally.reply_ms),
            replies=dict(tally.replies),
        )
        self.results.runs.append(run)
        numbers = f"CPU {run.cpu_ms:.2f} ms, clamd {run.clamd_ms:.2f} ms, client {run.client_ms:.2f} ms"
        say(f"  {load}, {who.name}: {run.rate:.0f} a second, {numbers}, reply after {run.reply_ms:.1f} ms")
        return run

    @contextmanager
    def gateway(self, scanner: Server | None, name: str = GATEWAY) -> Iterator[Server]:
        """A fresh gateway that has shown that it scans, and has judged a few mails of each kind (warm)."""
        home = self.folder / f"gateway{next(self._names)}"
        home.mkdir()
        with peers.gateway(home, self.sink.port, scanner, name) as server:
            self.send(server, Plan(server.port, self.stock(messages.eicar_zip, 1), 1), expect="550")
            if scanner is not None:
                self.send(server, Plan(server.port, self.stock(messages.marked, 1), 1), expect="550")
            self.send(server, Plan(server.port, self.stock(messages.text_10k, 30), 30, 10))
            self.send(server, Plan(server.port, self.stock(messages.docx_100k, 3), 3))
            yield server

    def medians(self, who: str, load: str) -> Run:
        run = self.results.medians(who, load)
        if run is None:
            raise BenchError(f"{who} was not measured with {load}")
        return run

    def attempt(self, names: list[str], scenario: Callable[[], list[Figure]]) -> None:
        """Run a scenario; when it cannot be measured its figures say so and the others go on."""
        say(f"{names[0]} …")
        try:
            self.results.figures += scenario()
        except BenchError as error:
            say(f"  could not be measured: {error}")
            self.results.figures += [Figure(name, None, note=str(error)) for name in names]


TEXT = "10 KB text, 10 connections"
DOCX = "100 KB, docx, new attachment"
DOCX_SEEN = "100 KB, docx, attachment seen before"
PDF = "2 MB, PDF, new attachment"
PDF_SEEN = "2 MB, PDF, attachment seen before"

TEXT_FIGURES = [
    "10 KB text: gateway CPU a message",
    "10 KB text: messages a second, times mitmdump as a bare TCP relay",
    "10 KB text: messages a second, times clamsmtp as shipped",
]


def text(
    bench: Bench,
    gateway: Server | None,
    alone: Server | None,
    relay: Server | BenchError,
    clamsmtp: Server | BenchError,
) -> list[Figure]:
    """10 KB text, one message a connection; the servers in turn, another one first in each round."""
    sizes = bench.sizes
    turns = [(peer, sizes.text_slow) for peer in (relay, clamsmtp) if isinstance(peer, Server)]
    turns += [(own, sizes.text) for own in (gateway, alone, bench.sink) if own is not None]
    for turn in range(sizes.rounds):
        at = turn % len(turns)
        for who, number in turns[at:] + turns[:at]:
            mails = bench.stock(messages.text_10k, number)
            bench.measure(who, TEXT, Plan(who.port, mails, number, connections=10, seconds=_LOAD_SECONDS), turn)
    if gateway is None:
        return []
    ours = bench.medians(gateway.name, TEXT)
    figures = [Figure(TEXT_FIGURES[0], ours.cpu_ms, "ms", 1.2, note=f"clamd apart: {ours.clamd_ms:.2f} ms")]
    for name, peer, target in ((TEXT_FIGURES[1], relay, 2.5), (TEXT_FIGURES[2], clamsmtp, 3.0)):
        if isinstance(peer, BenchError):
            figures.append(Figure(name, None, note=str(peer)))
            continue
        theirs = bench.medians(peer.name, TEXT)
        note = f"{ours.rate:.0f} against {theirs.rate:.0f} a second"
        figures.append(Figure(name, ours.rate / theirs.rate, "times", target, at_least=True, note=note))
    return figures


DOCX_FIGURES = ["100 KB with a macro-free docx: gateway CPU a message", "100 KB, the docx seen before: gateway CPU"]


def docx(bench: Bench, gateway: Server, alone: Server | None) -> list[Figure]:
    """Documents without macros: each one new, then one that was seen before."""
    number = bench.sizes.docx
    for turn in range(bench.sizes.rounds):
        for who in (gateway, alone):
            if who is not None:
                mails = bench.stock(messages.docx_100k, number)
                bench.measure(who, DOCX, Plan(who.port, mails, number, connections=10, seconds=_LOAD_SECONDS), turn)
        known = bench.stock(messages.docx_100k, 1)
        bench.send(gateway, Plan(gateway.port, known, 1))
        plan = Plan(gateway.port, known, number, connections=10, seconds=_LOAD_SECONDS)
        bench.measure(gateway, DOCX_SEEN, plan, turn)
    new, seen = bench.medians(gateway.name, DOCX), bench.medians(gateway.name, DOCX_SEEN)
    return [
        Figure(DOCX_FIGURES[0], new.cpu_ms, "ms", 4.0, note=f"clamd apart: {new.clamd_ms:.1f} ms"),
        Figure(DOCX_FIGURES[1], seen.cpu_ms, "ms", note=f"clamd apart: {seen.clamd_ms:.1f} ms"),
    ]


PDF_FIGURES = [
    "2 MB attachment: gateway CPU a message",
    "2 MB: final dot to its reply, times a bare clamd INSTREAM of the message",
    "2 MB, the same attachment seen before: gateway CPU a message",
]


def pdf(bench: Bench, gateway: Server) -> list[Figure]:
    """2 MB mails: CPU with new attachments, time at one connection beside bare INSTREAM, CPU with a known one."""
    clamd, sizes = bench.scanner(), bench.sizes
    whole, answer, ours = [], [], []
    for turn in range(sizes.rounds):
        mails = bench.stock(messages.pdf_2m, sizes.pdf)
        bench.measure(gateway, PDF, Plan(gateway.port, mails, sizes.pdf, connections=4, seconds=_LOAD_SECONDS), turn)
        # In turn, message for message, each with bytes that clamd has not seen: it remembers what was clean.
        for number in range(sizes.latency):
            bare, own = bench.stock(messages.pdf_2m, 2)
            if number % 2:
                ours.append(_reply_ms(bench, gateway, own))
            took, waited, said = peers.instream_ms(clamd, bare)
            if said != b"stream: OK\0":
                raise BenchError(f"clamd said {said!r} to a harmless message")
            whole.append(took)
            answer.append(waited)
            if not number % 2:
                ours.append(_reply_ms(bench, gateway, own))
        known = bench.stock(messages.pdf_2m, 1)
        bench.send(gateway, Plan(gateway.port, known, 1))
        plan = Plan(gateway.port, known, sizes.pdf * 2, connections=4, seconds=_LOAD_SECONDS)
        bench.measure(gateway, PDF_SEEN, plan, turn)
    new, seen = bench.medians(gateway.name, PDF), bench.medians(gateway.name, PDF_SEEN)
    note = (
        f"{median(ours):.0f} ms against {median(whole):.0f} ms for the whole INSTREAM "
        f"({median(answer):.0f} ms from its last octet); {len(ours)} each, one connection"
    )
    return [
        Figure(PDF_FIGURES[0], new.cpu_ms, "ms", 20.0, note=f"clamd apart: {new.clamd_ms:.0f} ms"),
        Figure(PDF_FIGURES[1], median(ours) / median(whole), "times", 1.2, note=note),
        Figure(PDF_FIGURES[2], seen.cpu_ms, "ms", 5.0, note=f"clamd apart: {seen.clamd_ms:.1f} ms"),
    ]


def _reply_ms(bench: Bench, gateway: Server, message: Message) -> float:
    return bench.send(gateway, Plan(gateway.port, [message], 1)).reply_ms[0]


def idle(bench: Bench) -> list[Figure]:
    """Memory of sessions that said EHLO and then nothing, in a fresh gateway."""
    number, seen = bench.sizes.idle, []
    with bench.gateway(bench.scanner()) as gateway:
        before = proc.memory(gateway.pid)

        def look() -> None:
            seen.append((proc.memory(gateway.pid), proc.established(bench.sink.port)))

        try:
            tally = hold_idle(gateway.port, number, look)
        except TimeoutError:
            raise BenchError(f"{number} sessions were not open within 60 s: {gateway.last_words()}") from None
        if tally.errors:
            raise BenchError(f"{number} idle sessions: {dict(tally.errors)} {tally.samples}")
    after, upstream = seen[0]
    each = (after.total - before.total) / number / 1000
    rss = (after.rss - before.rss) / number / 1000
    note = f"growth of Pss after EHLO; Rss {rss:.1f} KB; {upstream} connections to the server open"
    return [Figure(idle_name(number), each, "KB", 40.0, note=note)]


def idle_name(number: int) -> str:
    return f"{number:,} idle sessions: memory of each"


def big(bench: Bench) -> list[Figure]:
    """Memory with many 20 MB messages at once, in a fresh gateway; the peak of samples every 100 ms."""
    number = bench.sizes.big
    mails = bench.stock(messages.big_20m, number)
    with bench.gateway(bench.scanner()) as gateway:
        before = proc.memory(gateway.pid)
        plan = Plan(gateway.port, mails, number, connections=number, seconds=20, timeout=120)
        with proc.PeakMemory(gateway.pid) as peak:
            tally = send(plan)
        gateway.cpu_ms()  # it is still alive
    growth = (peak.peak.total - before.total) / 1e6
    refused = tally.problems()
    note = f"peak of Pss and in-memory files over {before.total / 1e6:.0f} MB; {tally.wall:.0f} s"
    if refused:
        raise BenchError(f"grew by {growth:.0f} MB, but {refused}")
    return [Figure(big_name(number), growth, "MB", 150.0, note=note)]


def big_name(number: int) -> str:
    return f"{number} concurrent 20 MB messages: growth of the gateway's memory"


RECORDS = "messages without a verdict on record, or judged unscanned"


def records(gateway: Server) -> list[Figure]:
    """Nothing was quick because it was not done: every message sent has its verdict, and none says unscanned."""
    verdicts = unscanned = 0
    path = gateway.records
    if path is None or not path.exists():
        raise BenchError("no records were written")
    with path.open() as lines:
        for line in lines:
            record = json.loads(line)
            if record["event_type"] == "verdict":
                verdicts += 1
                unscanned += bool(record["verdict"].get("unscanned"))
    note = f"{gateway.sent:,} sent, {verdicts:,} verdicts, {unscanned} unscanned"
    return [Figure(RECORDS, max(0, gateway.sent - verdicts) + unscanned, "", 0, note=note)]


def _try(stack: ExitStack, server: AbstractContextManager[Server]) -> Server | BenchError:
    """Start a server that others do not need; the reason when it is not there."""
    try:
        return stack.enter_context(server)
    except BenchError as error:
        say(f"  not there: {error}")
        return error


def _scanned(
    bench: Bench, server: Callable[[Server], AbstractContextManager[Server]], stack: ExitStack
) -> Server | BenchError:
    """Start a server that needs clamd."""
    return BenchError("needs clamd") if bench.clamd is None else _try(stack, server(bench.clamd))


def run_files(bench: Bench, corpus: Path | None) -> None:
    """What needs no network. `corpus`: a folder with benign documents; None: some of our own making."""
    bench.attempt([decode.NAME], decode.mime)
    rounds = bench.sizes.rounds
    bench.attempt([files.DOCUMENTS], lambda: files.documents(bench.folder, bench.clamd, corpus, rounds))
    bench.attempt([files.BOMB], files.bombs)


def run_all(bench: Bench, with_gateway: bool, corpus: Path | None = None) -> None:
    """All scenarios in turn. Without the gateway only its peers are measured."""
    if with_gateway:
        run_files(bench, corpus)
    with ExitStack() as stack:
        relay = _try(stack, peers.mitmdump(bench.folder, bench.sink.port))
        clamsmtp = _scanned(bench, lambda clamd: peers.clamsmtp(bench.folder, bench.sink.port, clamd), stack)
        if not with_gateway:
            bench.attempt(["the peers"], lambda: text(bench, None, None, relay, clamsmtp))
            return
        started = _scanned(bench, bench.gateway, stack)
        if isinstance(started, BenchError):
            memory = [idle_name(bench.sizes.idle), big_name(bench.sizes.big)]
            names = [*TEXT_FIGURES, *DOCX_FIGURES, *PDF_FIGURES, RECORDS, *memory]
            bench.results.figures += [Figure(name, None, note=str(started)) for name in names]
            bench.attempt(["the peers"], lambda: text(bench, None, None, relay, clamsmtp))
            return
        gateway = started
        without = _try(stack, bench.gateway(None, GATEWAY_ALONE))
        alone = without if isinstance(without, Server) else None
        bench.attempt(TEXT_FIGURES, lambda: text(bench, gateway, alone, relay, clamsmtp))
        bench.attempt(DOCX_FIGURES, lambda: docx(bench, gateway, alone))
        bench.attempt(PDF_FIGURES, lambda: pdf(bench, gateway))
        bench.attempt([RECORDS], lambda: records(gateway))
    bench.attempt([idle_name(bench.sizes.idle)], lambda: idle(bench))
    bench.attempt([big_name(bench.sizes.big)], lambda: big(bench))

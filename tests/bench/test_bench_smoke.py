"""The harness itself: what it reads from /proc, what it sends, and that it can measure a server."""

from __future__ import annotations

import email
import email.policy
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bench import messages, peers, proc
from tests.bench.load import Plan, hold_idle, send
from tests.bench.messages import Message
from tests.bench.report import Figure, Results, Run, markdown

BUILDERS = [
    (messages.text_10k, 9_000, 11_000),
    (messages.docx_100k, 90_000, 110_000),
    (messages.pdf_2m, 1_900_000, 2_200_000),
    (messages.eicar_zip, 1_000, 5_000),
    (messages.big_20m, 19_900_000, 20_100_000),
]


@pytest.fixture(scope="module")
def sink() -> Iterator[peers.Server]:
    with tempfile.TemporaryDirectory() as name, peers.own_sink(Path(name)) as server:
        yield server


def attachment(message: Message) -> bytes:
    parsed = email.message_from_bytes(b"".join(message), policy=email.policy.default)
    part = next(iter(parsed.iter_attachments()))
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def test_stat_is_read_rightly_when_the_name_has_blanks_and_parentheses() -> None:
    text = "42 (a) b (c d) S 7 42 42 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 5 6 7 8"
    assert proc.parse_stat(text) == proc.Stat(pid=42, parent=7, ticks=11 + 22 + 33 + 44)


def test_cpu_of_a_child_counts_while_it_runs_and_after_it_has_ended() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    before = proc.cpu_ms(os.getpid())
    with subprocess.Popen([sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in [stat.pid for stat in proc.tree(os.getpid())]
        running = proc.cpu_ms(os.getpid()) - before
        child.communicate(b"\n")
    ended = proc.cpu_ms(os.getpid()) - before
    assert running >= 290
    assert ended >= running


def test_a_process_that_is_gone_is_an_error_and_not_zero() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    with pytest.raises(ProcessLookupError):
        proc.cpu_ms(child.pid)
    with pytest.raises(ProcessLookupError):
        proc.memory(child.pid)


def test_memory_counts_what_is_used_and_what_lies_in_a_memfd() -> None:
    program = (
        "import mmap, os\n"
        "print(flush=True); input()\n"
        "block = mmap.mmap(-1, 1 << 25, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "for _ in range(512): block.write(b'x' * (1 << 16))\n"
        "spool = os.memfd_create('spool')\n"
        "for _ in range(128): os.write(spool, bytes(1 << 16))\n"
        "print(flush=True); input()\n"
        "block.close(); os.close(spool)\n"
        "print(flush=True); input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        before = proc.memory(child.pid)
        with proc.PeakMemory(child.pid, every=0.01) as peak:
            for _ in range(2):
                child.stdin.write(b"\n")
                child.stdin.flush()
                child.stdout.readline()
                seen = peak.samples
                until = time.monotonic() + 5
                while peak.samples < seen + 2 and time.monotonic() < until:
                    time.sleep(0.01)
        after = proc.memory(child.pid)
        child.communicate(b"\n")
    assert peak.peak.files - before.files == 1 << 23
    assert peak.peak.pss - before.pss >= 1 << 25
    assert after.total - before.total < 1 << 23


@pytest.mark.parametrize(("build", "least", "most"), BUILDERS)
def test_messages_have_their_size_and_no_line_that_needs_a_dot(
    build: Callable[[int], Message], least: int, most: int
) -> None:
    raw = b"".join(build(1))
    assert least <= len(raw) <= most
    assert raw.endswith(b"\r\n")
    assert b"\n." not in raw
    assert raw.count(b"\n") == raw.count(b"\r\n") == raw.count(b"\r")


@pytest.mark.parametrize("build", [build for build, _, _ in BUILDERS])
def test_the_same_number_gives_the_same_message_and_another_one_another(build: Callable[[int], Message]) -> None:
    assert build(3) == build(3)
    assert b"".join(build(3)) != b"".join(build(4))


def test_documents_share_no_image_and_no_text_and_have_no_macros() -> None:
    first, second = (zipfile.ZipFile(io.BytesIO(attachment(messages.docx_100k(n)))) for n in (1, 2))
    assert first.testzip() is None
    assert "word/document.xml" in first.namelist()
    assert not [name for name in first.namelist() if "vba" in name.lower()]
    for name in ("word/document.xml", "word/media/image1.png"):
        assert first.read(name) != second.read(name)


def test_big_messages_share_their_bytes_and_differ_in_their_hash() -> None:
    one, two = messages.big_20m(1), messages.big_20m(2)
    assert one[2] is two[2]
    assert hashlib.sha256(attachment(one)).digest() != hashlib.sha256(attachment(two)).digest()


def test_eicar_comes_out_of_its_zip() -> None:
    package = zipfile.ZipFile(io.BytesIO(attachment(messages.eicar_zip(1))))
    assert package.read("eicar.com") == messages.eicar()
    assert len(messages.eicar()) == 68


def test_load_measures_a_server_directly(sink: peers.Server) -> None:
    mails = [messages.text_10k(n) for n in range(40)]
    before = sink.cpu_ms()
    tally = send(Plan(sink.port, mails, 40, connections=4, seconds=10))
    assert tally.problems() == ""
    assert tally.replies == {"250": 40}
    assert len(tally.reply_ms) == len(tally.session_ms) == 40
    assert 0 < max(tally.reply_ms) < 10_000
    assert tally.rate > 0
    assert sink.cpu_ms() >= before


def test_load_sends_several_messages_a_connection_and_big_ones_in_pieces(sink: peers.Server) -> None:
    mails = [messages.big_20m(1), messages.pdf_2m(1), messages.text_10k(1)]
    tally = send(Plan(sink.port, mails, 6, connections=2, per_connection=2, seconds=10))
    assert tally.problems() == ""
    assert len(tally.session_ms) == 3


def test_idle_sessions_are_open_while_one_looks_and_closed_after(sink: peers.Server) -> None:
    seen: list[int] = []
    tally = hold_idle(sink.port, 25, lambda: seen.append(proc.established(sink.port)))
    assert not tally.errors
    assert seen == [25]


def test_a_server_that_refuses_is_a_problem_in_words() -> None:
    with tempfile.TemporaryDirectory() as name, peers.own_sink(Path(name)) as server:
        plan = Plan(server.port, [(b"Subject: x\r\n\r\n",)], 2, recipient="x>\r\nHUH <", seconds=5)
        tally = send(plan)
    assert tally.replies.total() == 0
    assert "502" in tally.problems()


def test_a_load_without_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Plan(1, [(b"x",)], 10_000_000)


def test_missed_met_and_not_measured_are_three_things() -> None:
    figures = [
        Figure("a", 1.0, "ms", 1.2),
        Figure("b", 1.3, "ms", 1.2),
        Figure("c", 2.4, "times", 2.5, at_least=True),
        Figure("d", None, note="why"),
    ]
    assert [figure.verdict for figure in figures] == ["met", "missed", "missed", "not measured"]
    results = Results(quick=False, figures=figures)
    for turn, cpu in enumerate((1.0, 9.0, 2.0)):
        results.runs.append(Run("x", "y", turn, 10, 100.0, cpu, 0.0, 0.1, 1.0, {"250": 10}))
    medians = results.medians("x", "y")
    assert medians is not None
    assert (medians.cpu_ms, medians.messages, medians.replies) == (2.0, 30, {"250": 30})
    assert not results.complete
    where = {"cores": 2, "cpu": "c", "kernel": "k", "python": "3", "load_average": 0.0}
    table = markdown(results, {**where, "packages": {"mitmproxy": "12", "uvloop": "0"}})
    assert "| b | 1.30 ms | ≤ 1.20 ms | missed |" in table
    assert "| c | 2.40 times | ≥ 2.50 times | missed |" in table

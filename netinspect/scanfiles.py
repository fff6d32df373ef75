"""`netinspect scan`: mails and files judged as they would be at the gateway, with the same records.

A few files are in work at a time, for the engines are other processes; what is printed stands in the order of the
arguments. No file is held in memory as a whole: pieces go into a spool, and one that is larger than a message may be
is refused unread, as the gateway does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from netinspect import records
from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.inspector import Inspection, Inspector, Judgement, incident_id
from netinspect.policy.decision import Decision, Disarmed
from netinspect.policy.facts import SessionFacts
from netinspect.policy.rules import decide
from netinspect.scan.contract import Unscanned
from netinspect.smtp.events import Envelope, MessageEnd
from netinspect.terminal import StatusLine, printable

INBOUND = SessionFacts(zone="external", src_ip="0.0.0.0", src_port=0, dest_ip="0.0.0.0", dest_port=25)  # noqa: S104
"""A file has no connection: it is judged as inbound mail."""

FINE, FOUND, FAILED = 0, 1, 2
"""Exit codes."""

PIECE = 262_144
"""Octets read at a time."""
HEAD = 8192
"""Octets that decide whether it is a mail."""

MAIL_FIELDS = (b"received:", b"message-id:", b"mime-version:", b"from:", b"subject:")
MAIL_NAMES = (".eml", ".mbox", ".mime", ".msg.txt")

_NEXT_MAIL = re.compile(rb"\n\r?\nFrom [^\n]*[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d")
"""The line that stands between two mails of an mbox (RFC 4155, appendix A)."""
_NEXT_MAIL_SPAN = 512

PROGRESS_AFTER = 1.0
"""Seconds; a short run needs no progress."""
PROGRESS_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be read."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.reason}"


def run(settings: Settings, names: Sequence[str], *, as_json: bool, out: TextIO, err: TextIO) -> int:
    """Judge the files and all files in folders; give the exit code.

    Records or a readable summary go to `out`; what could not be read, and on a terminal the progress, to `err`.
    """
    show = _json if as_json else _readable
    return asyncio.run(_run(settings, names, show, out, _Progress(err)))


async def _run(
    settings: Settings,
    names: Sequence[str],
    show: Callable[[Judgement, str], str],
    out: TextIO,
    progress: _Progress,
) -> int:
    inspector = inspector_of(settings)
    worst = FINE
    work: deque[tuple[str, asyncio.Task[Judgement | Failure]]] = deque()

    def report(name: str, answer: Judgement | Failure) -> None:
        nonlocal worst
        progress.clear()
        if isinstance(answer, Failure):
            progress.say(str(answer))
            worst = FAILED
        else:
            out.write(show(answer, name))
            progress.done(name)
            worst = max(worst, FINE if harmless(answer) else FOUND)

    async def finish(most: int) -> None:
        """Wait until no more than `most` are in work."""
        while len(work) > most:
            name, task = work[0]
            answer = await task
            work.popleft()
            report(name, answer)

    await inspector.panel.start()
    try:
        for item in files(names):
            if isinstance(item, Failure):
                report(item.name, item)
            elif is_regular(item):
                await finish(2 * settings.scan.workers)
                work.append((item, asyncio.create_task(judge_path(inspector, item))))
            else:
                # Reading it may take any time, and the time of what is in work would run out meanwhile.
                await finish(0)
                if item == "-" and sys.stdin.isatty():
                    progress.say("reads what is typed; Ctrl-D at the start of a line ends it")
                report(item, await judge_path(inspector, item))
        await finish(0)
    finally:
        progress.clear()
        for _, task in work:
            task.cancel()
        await asyncio.gather(*(task for _, task in work), return_exceptions=True)
        await inspector.panel.close()
    return worst


async def judge_path(inspector: Inspector, name: str) -> Judgement | Failure:
    """Judge the file of that name; `-` is standard input. What is no regular file is read to its end first."""
    try:
        if is_regular(name):
            with open(name, "rb") as file:  # noqa: ASYNC230 - a piece of a local file
                return await judge_file(inspector, name, file)
        with _collected(inspector, name) as copy:
            return await judge_file(inspector, name, copy)
    except OSError as error:
        return Failure(name, error.strerror or str(error))


def _collected(inspector: Inspector, name: str) -> BinaryIO:
    """What comes from a pipe, a terminal or a device, in a file of our own; not much more than is looked at."""
    limits = inspector.limits
    with _interruptible():
        folder = str(inspector.spool_directory) if inspector.spool_directory else None
        copy = cast("BinaryIO", tempfile.SpooledTemporaryFile(limits.spool_memory, dir=folder))  # noqa: SIM115 - given on
        try:
            with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
                while copy.tell() <= limits.message_size and (piece := file.read(PIECE)):
                    copy.write(piece)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
    return copy


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a read that waits for somebody; the loop's own handler would only note it for later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # noted just before
            raise KeyboardInterrupt
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def files(names: Sequence[str]) -> Iterator[str | Failure]:
    """Give the files that are named and, sorted, those in folders that are named; links to folders are not followed."""
    for name in names:
        if name == "-" or not os.path.isdir(name):
            yield name
            continue
        failed: list[OSError] = []
        for folder, below, found in os.walk(name, onerror=failed.append):
            below.sort()
            for path in sorted(os.path.join(folder, file) for file in found):
                # A pipe, socket or device that lies about in a folder is no file that anybody meant.
                if is_regular(path):
                    yield path
        for error in failed:
            yield Failure(str(error.filename or name), error.strerror or str(error))


def is_regular(name: str) -> bool:
    """Whether reading it cannot wait for anybody."""
    try:
        return name != "-" and stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return name != "-"  # opening it fails at once and says why


async def judge_file(inspector: Inspector, name: str, file: BinaryIO) -> Judgement:
    """Judge one file: a mail as a mail, anything else as the only attachment of one.

    Raises:
        OSError: it cannot be read.
    """
    head = file.read(PIECE)
    pieces = _Pieces(file, head, inspector.limits.message_size)
    inspection = inspector.begin(INBOUND)
    try:
        if looks_like_mail(name, head):
            for piece in pieces:
                inspection.feed(piece)
                await asyncio.sleep(0)  # the answers of the engines about other files come in between
        else:
            inspection.take_file(Path(name).name, pieces)
        inspection.end(Envelope(), MessageEnd(pieces.size))
        if pieces.too_large:
            return _too_large(inspection)
        judgement = await inspection.judge()
    finally:
        inspection.close()
    if pieces.mails > 1:
        return _only_the_first(judgement, inspector)
    return judgement


class _Pieces:
    """A file in pieces, up to `limit` octets; counts the mails of an mbox on the way."""

    def __init__(self, file: BinaryIO, head: bytes, limit: int) -> None:
        self._file = file
        self._head = head
        self._limit = limit
        self._mbox = head.startswith(b"From ")
        self.size = 0
        self.too_large = False
        self.mails = 1

    def __iter__(self) -> Iterator[bytes]:
        piece, before = self._head, b""
        while piece:
            self.size += len(piece)
            if self.size > self._limit:
                self.too_large = True
                return
            if self._mbox:
                # The end of the piece before, without what was counted there already.
                self.mails += len(_NEXT_MAIL.findall(before + piece))
                before = (before + piece)[-_NEXT_MAIL_SPAN:]
                before = before[max((found.end() for found in _NEXT_MAIL.finditer(before)), default=0) :]
            yield piece
            piece = self._file.read(PIECE)


def _too_large(inspection: Inspection) -> Judgement:
    """The gateway's answer to a message over the limit (RFC 1870 §6.3)."""
    limit = inspection.limits.message_size
    facts = inspection.facts_without_scan(f"larger than message_size ({limit} octets)")
    decision = Decision("reject", "message over the size limit", 552, "5.3.4", "Message too big", rules=("limits",))
    return Judgement(facts, decision, incident_id(facts))


def _only_the_first(judgement: Judgement, inspector: Inspector) -> Judgement:
    """An mbox is read as one mail, so nobody has looked into the others."""
    missing = Unscanned("netinspect", "mbox of several mails, only the first was looked at")
    facts = replace(judgement.facts, unscanned=(*judgement.facts.unscanned, missing))
    decision = decide(facts, inspector.policy)
    if decision.action == "disarm":  # what came of that stands in the judgement already
        decision = judgement.decision
    return replace(judgement, facts=facts, decision=decision)


def looks_like_mail(name: str, data: bytes) -> bool:
    """A mail by its name, or by a header field that only mails have in the first lines."""
    if name.lower().endswith(MAIL_NAMES):
        return True
    head = data[:HEAD]
    first = head.split(b"\n", 1)[0]
    colon = first.find(b":")
    if head.startswith(b"From "):
        return True
    if colon <= 0 or not first[:colon].replace(b"-", b"").isalnum():
        return False
    lower = b"\n" + head.lower()
    return any(b"\n" + field in lower for field in MAIL_FIELDS)


def harmless(judgement: Judgement) -> bool:
    """Accepted, all of it looked at, and no finding but for information (severity 3)."""
    facts = judgement.facts
    if judgement.decision.action != "accept" or facts.unscanned:
        return False
    return all(finding.severity == 3 for finding in facts.findings)


# --- what is printed --------------------------------------------------------------------------------------------


def _json(judgement: Judgement, name: str) -> str:
    made = records.transaction_records(
        judgement.facts,
        judgement.decision,
        now=datetime.now(UTC),
        incident_id=judgement.incident_id,
        tx_id=0,
        reply="",
    )
    name = os.fsencode(name).decode("utf-8", "replace")
    for record in made:
        record["file"] = name
    return records.serialize(made).decode()


def _readable(judgement: Judgement, name: str) -> str:
    facts, decision = judgement.facts, judgement.decision
    lines = [f"{name}: {decision.action}" + (f" ({decision.reason})" if decision.reason else "")]
    found = {item.sha256: [f for f in facts.findings if f.sha256 == item.sha256] for item in facts.findings}
    for artifact in facts.artifacts:
        depth = artifact.path.count("/") + 1
        label = artifact.name or ("(text)" if artifact.text else "(no name)")
        place = artifact.path.rpartition("/")[2]
        lines.append(f"{'  ' * depth}{place} {label} [{artifact.magic}, {artifact.size} octets]")
        here = found.pop(artifact.hashes.sha256, ())
        lines += [f"{'  ' * (depth + 1)}! {f.category}: {f.signature} ({f.engine})" for f in here]
    lines += [f"  ! {f.category}: {f.signature} ({f.engine})" for rest in found.values() for f in rest]
    # Many parts may share one reason.
    lines += dict.fromkeys(f"  ? not looked at: {u.engine}: {u.reason}" for u in facts.unscanned)
    lines += [line for one in decision.disarmed for line in _disarmed(one)]
    lines += [f"  ~ {a.kind} at {a.offset} {a.detail}".rstrip() for a in facts.anomalies]
    return "".join(f"{printable(line)}\n" for line in lines)


def _disarmed(one: Disarmed) -> Iterator[str]:
    """What disarming takes out of one part."""
    label = f"{one.path} {one.filename}".rstrip()
    if one.replaced:
        yield f"  - {label}: replaced by a text ({', '.join(one.removed)})"
    else:
        yield f"  - {label}: disarmed"
        yield from (f"      {what}" for what in one.removed)


class _Progress:
    """How many files are done, on a terminal's stderr; elsewhere nothing."""

    def __init__(self, err: TextIO) -> None:
        self._line = StatusLine(err)
        self._files = 0
        self._next = time.monotonic() + PROGRESS_AFTER
        self.clear = self._line.clear
        self.say = self._line.say

    def done(self, name: str) -> None:
        """One more file is judged."""
        self._files += 1
        now = time.monotonic()
        if self._line.on and now >= self._next:
            self._next = now + PROGRESS_EVERY
            self._line.show(lambda columns: f"netinspect: {self._files} files, {name}")

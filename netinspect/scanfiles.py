"""`netinspect scan`: mails and files judged as they would be at the gateway, with the same records."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from netinspect import records
from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.inspector import Inspector, Judgement
from netinspect.policy.facts import SessionFacts
from netinspect.smtp.events import Envelope, MessageEnd

INBOUND = SessionFacts(zone="external", src_ip="0.0.0.0", src_port=0, dest_ip="0.0.0.0", dest_port=25)  # noqa: S104
"""A file has no connection: it is judged as inbound mail."""

PIECE = 262_144

MAIL_FIELDS = (b"received:", b"message-id:", b"mime-version:", b"from:", b"subject:")


def run(settings: Settings, names: Sequence[str], *, as_json: bool, out: TextIO) -> int:
    """Judge the files; returns the exit code. Records or a readable summary go to `out`."""
    return asyncio.run(_run(settings, names, as_json, out))


async def _run(settings: Settings, names: Sequence[str], as_json: bool, out: TextIO) -> int:
    inspector = inspector_of(settings)
    panel = inspector.panel
    worst = 0
    await panel.start()
    try:
        for name in names:
            try:
                data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()  # noqa: ASYNC240 - nothing else runs
            except OSError as error:
                print(f"netinspect: {name}: {error.strerror}", file=sys.stderr)
                worst = 2
                continue
            judgement = await judge_file(inspector, name, data)
            if as_json:
                out.write(_json(judgement, name))
            else:
                out.write(_readable(judgement, name))
            if judgement.decision.action != "accept" or judgement.facts.unscanned or judgement.facts.findings:
                worst = max(worst, 1)
    finally:
        await panel.close()
    return worst


async def judge_file(inspector: Inspector, name: str, data: bytes) -> Judgement:
    """Judge one file: a mail as a mail, anything else as the only attachment of one."""
    inspection = inspector.begin(INBOUND)
    try:
        if not looks_like_mail(name, data):
            inspection.take_file(Path(name).name, data)
        else:
            for start in range(0, len(data), PIECE):
                inspection.feed(data[start : start + PIECE])
        inspection.end(Envelope(), MessageEnd(len(data)))
        return await inspection.judge()
    finally:
        inspection.close()


def looks_like_mail(name: str, data: bytes) -> bool:
    """A mail by its name, or by a header field that only mails have in the first lines."""
    if name.lower().endswith((".eml", ".mbox", ".mime", ".msg.txt")):
        return True
    head = data[:8192]
    first = head.split(b"\n", 1)[0]
    colon = first.find(b":")
    if head.startswith(b"From "):
        return True
    if colon <= 0 or not first[:colon].replace(b"-", b"").isalnum():
        return False
    lower = b"\n" + head.lower()
    return any(b"\n" + field in lower for field in MAIL_FIELDS)


def _json(judgement: Judgement, name: str) -> str:
    made = records.transaction_records(
        judgement.facts,
        judgement.decision,
        now=datetime.now(UTC),
        incident_id=judgement.incident_id,
        tx_id=0,
        reply="",
    )
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
    lines += [f"  ? not looked at: {u.engine}: {u.reason}" for u in facts.unscanned]
    lines += [f"  ~ {a.kind} at {a.offset} {a.detail}".rstrip() for a in facts.anomalies]
    return "\n".join(lines) + "\n"

"""Verdicts for a report to look at: the project's own sample mails, judged by its own inspector.

    python -m tests.replay.report_sample FILE.html [COPIES]

With COPIES a page of that many verdicts, made from those few.
"""

from __future__ import annotations

import asyncio
import copy
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from netinspect import __version__, config, records
from netinspect.anomaly import Anomaly
from netinspect.assembly import inspector_of
from netinspect.inspector import Inspector, Judgement
from netinspect.policy.facts import SessionFacts, Zone
from netinspect.replay.report import Report
from netinspect.samples import archives, mails, office, tricks
from netinspect.smtp.events import Envelope, MessageEnd

START = datetime(2026, 11, 20, 8, 58, 7, 250_000, tzinfo=UTC)

OUTSIDE = "203.0.113.{}"
MAILS: list[tuple[Zone, str, str, tuple[str, ...], bytes]] = [
    ("external", OUTSIDE.format(7), "alice@outside.example", ("bob@inside.example",), mails.clean_mail()),
    (
        "external",
        OUTSIDE.format(7),
        "alice@outside.example",
        ("bob@inside.example", "carol@inside.example"),
        mails.mail(
            subject="Photos from the summer",
            attachment=b"\x89PNG\r\n\x1a\n" + bytes(900),
            name="lake.png",
            declared="image/png",
        ),
    ),
    ("external", OUTSIDE.format(90), "billing@invoices.example", ("bob@inside.example",), mails.eicar_mail()),
    (
        "external",
        OUTSIDE.format(90),
        "billing@invoices.example",
        ("carol@inside.example", "dan@inside.example", "eve@inside.example"),
        mails.eicar_mail(),
    ),
    (
        "external",
        "2001:db8:1::25",
        "mallory@lists.example",
        tuple(f"user{n}@inside.example" for n in range(50)),
        mails.macro_mail(),
    ),
    (
        "external",
        "2001:db8:1::25",
        "mallory@lists.example",
        ("bob@inside.example",),
        mails.mail(subject="Important message from Mallory", attachment=office.melissa_docm(), name="list.docm"),
    ),
    ("external", OUTSIDE.format(66), "carol@inside.example", ("bob@inside.example",), mails.internal_sender_mail()),
    ("internal", "10.0.4.17", "carol@inside.example", ("bob@inside.example",), mails.internal_sender_mail()),
    ("external", OUTSIDE.format(66), "x@smuggler.example", ("bob@inside.example",), mails.smuggling_mail()),
    (
        "external",
        OUTSIDE.format(23),
        "fax@office.example",
        ("dan@inside.example",),
        mails.mail(subject="Fax \u202egpj.exe", attachment=tricks.shortcut(), name="scan\u202efdp.lnk"),
    ),
    (
        "external",
        OUTSIDE.format(23),
        "fax@office.example",
        ("dan@inside.example",),
        mails.mail(subject="Report", attachment=tricks.package_rtf(), name="report.rtf", declared="application/rtf"),
    ),
    (
        "external",
        OUTSIDE.format(41),
        "",
        ("bob@inside.example",),
        mails.mail(subject="Undelivered Mail Returned to Sender"),
    ),
    (
        "external",
        OUTSIDE.format(41),
        "hr@agency.example",
        ("dan@inside.example",),
        mails.mail(
            subject="Bewerbung: Lebenslauf",
            attachment=archives.encrypted_zip("cv.docm"),
            name="Lebenslauf.zip",
            declared="application/zip",
        ),
    ),
    (
        "external",
        OUTSIDE.format(12),
        "accounts@supplier.example",
        ("eve@inside.example",),
        mails.mail(
            subject="Prices", attachment=tricks.xlm_xls(), name="prices.xls", declared="application/vnd.ms-excel"
        ),
    ),
    (
        "external",
        OUTSIDE.format(12),
        "accounts@supplier.example",
        ("eve@inside.example",),
        mails.mail(
            subject="Prices, again",
            attachment=archives.make_zip(
                {
                    "old/prices.zip": archives.make_zip(
                        {"prices.docx": office.template_docx(), "readme.txt": b"see the other file\n"}
                    )
                }
            ),
            name="prices.zip",
            declared="application/zip",
        ),
    ),
    (
        "internal",
        "10.0.4.23",
        "dan@inside.example",
        ("alice@outside.example",),
        mails.mail(subject="Re: Minutes of the meeting"),
    ),
    (
        "external",
        OUTSIDE.format(7),
        "alice@outside.example",
        ("bob@inside.example",),
        mails.mail(subject="نسخة من المحضر"),
    ),
]


async def judged() -> list[list[records.Record]]:
    """The records of all of `MAILS`, in order."""
    settings = config.default_settings()
    inspector = inspector_of(replace(settings, networks=replace(settings.networks, domains=("inside.example",))))
    await inspector.panel.start()
    try:
        return [await _one(inspector, number) for number in range(len(MAILS))]
    finally:
        await inspector.panel.close()


async def _one(inspector: Inspector, number: int) -> list[records.Record]:
    zone, client, sender, recipients, message = MAILS[number]
    # The second of two from the same client in a row came in the same session.
    again = number > 0 and MAILS[number - 1][1] == client
    port = 40_000 + number - again
    facts = SessionFacts(
        zone,
        client,
        port,
        "192.0.2.25",
        25,
        flow_id=port,
        helo=f"mx{port % 7}.{sender.partition('@')[2] or 'outside.example'}",
    )
    judgement = await _judge(inspector, facts, sender, recipients, message)
    decision = judgement.decision
    made = records.transaction_records(
        judgement.facts,
        decision,
        now=START + timedelta(seconds=211 * number - 60 * again),
        incident_id=judgement.incident_id,
        tx_id=int(again),
        reply=f"{decision.code} {decision.enhanced} {decision.text or 'Ok'}".replace("{id}", judgement.incident_id),
    )
    for record in made:
        record["pcap_filename"] = "edge-2026-11-20.pcapng"
    return made


async def _judge(
    inspector: Inspector, facts: SessionFacts, sender: str, recipients: tuple[str, ...], message: bytes
) -> Judgement:
    refused = inspector.identity.check_mail_from(facts, sender)
    if refused is not None:
        return inspector.judge_session(facts, refused, sender)
    inspection = inspector.begin(facts)
    try:
        inspection.feed(message)
        smuggling = b"\n.\r\n" in message
        inspection.end(Envelope(mail_from=sender, recipients=list(recipients)), MessageEnd(len(message), smuggling))
        return await inspection.judge()
    finally:
        inspection.close()


def many(made: list[list[records.Record]], number: int) -> Iterator[list[records.Record]]:
    """That many verdicts of the same few mails at other times from other hosts; mostly the harmless ones."""
    chance = random.Random(4)
    harmless = [one for one in made if one[-1]["verdict"]["action"] == "accept"]
    for count in range(number):
        one: list[records.Record] = copy.deepcopy(chance.choice(made if chance.random() < 0.2 else harmless))
        late = timedelta(seconds=count * 7 + chance.gauss(0, 2000))
        fresh: dict[str, Any] = {
            "timestamp": records.timestamp(START + late),
            "flow_id": count,
            "src_ip": f"198.51.{100 + count % 40}.{chance.randrange(250)}",
        }
        for record in one:
            record |= fresh
        yield one


def report(made: list[list[records.Record]], copies: int = 0) -> Report:
    page = Report()
    page.add_capture("edge-2026-11-20.pcapng", 41_943_040, [Anomaly("truncated_block", "tcp", 41_943_000)])
    page.add_capture("quiet.pcap", 24)
    for one in many(made, copies) if copies else made:
        page.add_records(one)
    return page


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    report(asyncio.run(judged()), int(rest[0]) if rest else 0).write(name, now=datetime.now(UTC), version=__version__)

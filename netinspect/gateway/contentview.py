"""A readable view of SMTP for mitmweb and mitmproxy: commands and replies as text, a mail as header, parts and text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mitmproxy import contentviews
from mitmproxy.flow import Flow

from netinspect.files.kind import identify
from netinspect.gateway.show import KEY, SHOWN
from netinspect.limits import Limits
from netinspect.mime.parser import MimeParser
from netinspect.mime.part import Leaf
from netinspect.mime.summary import MailSummary
from netinspect.spool import Spool, SpoolBudget

NAME = "SMTP"
TEXT = 20_000
"""Octets of body text shown."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def readable(data: bytes) -> str:
    """A command, a reply, or a whole mail as text for people. Never raises for any input."""
    if b"\n\r\n" not in data and b"\n\n" not in data:
        return _printable(data)
    limits = Limits()
    budget = SpoolBudget(limits.spool_memory_total)
    parser = MimeParser(limits, lambda: Spool(limits, budget, None))
    leaves = [*parser.feed(data), *parser.close()]
    mail = parser.mail or MailSummary()
    lines = [
        f"From:       {_line(mail.from_)}",
        f"To:         {_line(', '.join(mail.to))}",
        f"Subject:    {_line(mail.subject)}",
        f"Message-ID: {_line(mail.message_id)}",
        "",
        *(_described(leaf) for leaf in leaves),
    ]
    if len(data) >= SHOWN:
        lines.append(f"(of this message only the first {SHOWN} octets are kept for display)")
    else:  # of a message that was cut off they would only say that
        for anomaly in parser.anomalies:
            lines.append(f"anomaly: {anomaly.kind} at {anomaly.offset} {_line(anomaly.detail)}".rstrip())
    for leaf in leaves:
        if leaf.text and leaf.content.size:
            lines += ["", f"--- {leaf.path}", _printable(leaf.content.getvalue()[:TEXT])]
        leaf.content.close()
    return "\n".join(lines)


def _described(leaf: Leaf) -> str:
    name = f' "{_line(leaf.name)}"' if leaf.name else ""
    kind = identify(leaf.content.getvalue(), leaf.name)
    doubt = ", not sure: " + ", ".join(leaf.why) if leaf.why else ""
    return f"part {leaf.path}: {_line(leaf.declared)}{name}, {leaf.size} octets, looks like {kind}{doubt}"


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else REPLACEMENT for char in text)


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
    return "".join(char if char.isprintable() or char in "\n\t" else REPLACEMENT for char in text)


def _ours(flow: Flow | None) -> bool:
    return flow is not None and KEY in flow.metadata


if hasattr(contentviews, "Contentview"):  # mitmproxy 12

    class SmtpContentview(contentviews.Contentview):
        """The view of mitmproxy 12."""

        name = NAME

        def prettify(self, data: bytes, metadata: contentviews.Metadata) -> str:
            """Text for people."""
            return readable(data)

        def render_priority(self, data: bytes, metadata: contentviews.Metadata) -> float:
            """Chosen by itself for our sessions only."""
            return 2 if _ours(metadata.flow) else -1

else:  # mitmproxy 11

    class SmtpContentview(contentviews.View):  # type: ignore[no-redef,name-defined,misc]  # mitmproxy 12 has no View
        """The view of mitmproxy 11."""

        name = NAME

        def __call__(self, data: bytes, **_: Any) -> tuple[str, Iterator[list[tuple[str, str]]]]:
            """A title and lines of styled text."""
            return NAME, ([("text", line)] for line in readable(data).split("\n"))

        def render_priority(self, data: bytes, *, flow: Flow | None = None, **_: Any) -> float:
            """Chosen by itself for our sessions only."""
            return 2 if _ours(flow) else -1


def register() -> None:
    """Make the view known to mitmproxy, once."""
    try:
        contentviews.add(SmtpContentview())
    except ValueError:
        return  # it is known already: the addon was loaded twice in one process

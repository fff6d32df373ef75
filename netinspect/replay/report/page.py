"""HTML from templates. Every value is escaped by Jinja2 (autoescape) or by `visible`; only the files beside this one
are taken as they are."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from netinspect.replay.report import digest
from netinspect.replay.report.digest import Mail
from netinspect.replay.report.timeline import GROUPS, ORDER, clock
from netinspect.replay.report.visible import visible

_HERE: Final = files("netinspect.replay.report")

BLOCK: Final = 50
"""Entries in one list. Browsers pass over the layout of a block that is not in sight; to let them do so for each of ten
thousand entries by itself is slow (Chromium 156: ten seconds and more to hide them, so half a one)."""

_MAILS: Final = "<!-- mails -->"
"""Where the entries come in; nothing escaped can look like it."""


def _source(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def octets(size: int) -> str:
    """A size for people, binary units."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def number(value: int) -> str:
    """With thin blanks between thousands: no language reads them as a decimal point."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def endpoint(host: str, port: int) -> str:
    """An address with its port, IPv6 in brackets (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address(path: str) -> str:
    """An address of the envelope without its brackets; the null sender keeps them."""
    inner = path[1:-1] if path.startswith("<") and path.endswith(">") else path
    return inner or "<>"


def percent(part: int, whole: int) -> str:
    """A share that says 100 only where it is all, and 0 only where it is nothing."""
    if part == whole or not whole:
        return "100 %"
    share = 100 * part / whole
    return "< 0.1 %" if 0 < share < 0.1 else f"{min(share, 99.9):.1f} %"


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_source),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible, "octets": octets, "number": number, "clock": clock, "address": address,
    }  # fmt: skip
    environment.globals |= {
        "endpoint": endpoint, "percent": percent, "GROUPS": GROUPS, "ORDER": ORDER,
        "LINES": digest.LINES, "ARTIFACTS": digest.ARTIFACTS, "ACTIONS": digest.ACTIONS,
    }  # fmt: skip
    return environment


class Page:
    """The compiled templates. Nothing of a report is kept here: see `templates`."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._mail = self._environment.get_template("mail.html")
        self._page = self._environment.get_template("page.html")

    def mail(self, mail: Mail, number: int, session: int, new_session: bool) -> bytes:
        """Give one entry of the list."""
        roots, loose = digest.tree(mail)
        text = self._mail.render(
            mail=mail, number=number, session=session, new_session=new_session, roots=roots, loose=loose
        )
        return text.encode()

    def whole(self, mails: Iterable[bytes], values: Mapping[str, Any]) -> Iterator[bytes]:
        """Give the page in pieces."""
        style, script = _source("page.css"), _source("page.js")
        policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        ours = {"style": Markup(style), "script": Markup(script)}  # noqa: S704 - files of this package
        before, _, after = self._page.render(**values, **ours, policy=policy).partition(_MAILS)
        yield before.encode()
        for count, mail in enumerate(mails):
            if count % BLOCK == 0:
                yield b"</ol><ol class=b>" if count else b"<ol class=b>"
            yield mail
        yield b"</ol>"
        yield after.encode()


@functools.cache
def templates() -> Page:
    """Compile them once, however many reports there are."""
    return Page()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

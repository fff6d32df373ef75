"""Which cleaner takes which file. Runs in a worker: the cleaners parse hostile octets with C or slow code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from netinspect.disarm.contract import CannotClean, Cleaned
from netinspect.files import kind as kinds

if TYPE_CHECKING:
    from netinspect.limits import Limits

_PAGES: Final = (".htm", ".html", ".xhtml", ".shtml", ".xht", ".mhtml")
_MAYBE_PAGES: Final = frozenset({"text", "xml", "html", "script"})
_OFFICE_XML: Final = (b"mso-application", b"wordDocument", b"pkg:package")
_HEAD: Final = 4096
# The first element decides: a drawing with a script in it looks like a page as well.
_DRAWING: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s++|<\?[^>]*+>|<!--(?:[^-]++|-(?!->))*+-->|<![^->][^>\[]*+>)*+<(?:[\w.-]{1,40}:)?svg[\s/>]",
    re.IGNORECASE,
)


def load() -> None:
    """Load the libraries, before the worker gives up what loading needs."""
    from netinspect.disarm import html, ole, ooxml, pdf, rtf, svg  # noqa: F401
    from netinspect.files import pdf as opened

    opened.load()
    html.load()


def clean(data: bytes, *, name: str, limits: Limits, declared: str = "") -> Cleaned:
    """`data` without what runs in it, by its true type. `name` and `declared` (the content type that the sender gave)
    only tell whether a text is a page.

    Raises:
        CannotClean: it is of no type that can be cleaned, or this one cannot be; the text says why.
    """
    kind = kinds.identify(data, name)
    # Only what is used is loaded: the gateway's process imports this module and none of these.
    if kind in kinds.OOXML or (kind == "xml" and any(mark in data[:_HEAD] for mark in _OFFICE_XML)):
        from netinspect.disarm import ooxml

        return ooxml.clean(data, limits)
    if kind in kinds.OLES:
        from netinspect.disarm import ole

        return ole.clean(data, limits)
    if kind == "pdf":
        from netinspect.disarm import pdf

        return pdf.clean(data, limits)
    if kind == "rtf":
        from netinspect.disarm import rtf

        return rtf.clean(data, limits)
    if kind in ("svg", "html") and _DRAWING.match(data[:_HEAD]) and not _is_page(name, declared):
        from netinspect.disarm import svg

        return svg.clean(data, limits)
    if kind in ("html", "svg") or (kind in _MAYBE_PAGES and _is_page(name, declared)):
        if kinds.carries(data):
            raise CannotClean("an archive behind the page")
        from netinspect.disarm import html

        return html.clean(data)
    raise CannotClean(f"no cleaner for {kind}")


def _is_page(name: str, declared: str) -> bool:
    return declared in ("text/html", "application/xhtml+xml") or name.lower().rstrip(" .").endswith(_PAGES)

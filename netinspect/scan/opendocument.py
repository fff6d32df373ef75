"""OpenDocument: Basic and script macros and what starts them, DDE, parts and templates from elsewhere.

In a package each part comes by its name (`part`), in the flat form all of them are one file (`flat`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

from netinspect.scan import vba
from netinspect.scan.contract import Category, Finding
from netinspect.scan.targets import is_remote

ENGINE: Final = "office"

PARTS: Final = frozenset({"content.xml", "styles.xml", "meta.xml", "settings.xml"})
"""Parts that are looked into, beside those of the macros."""

_LIBRARIES: Final = ("script-lb.xml", "script-lc.xml")
# Events that come without a click (OpenDocument 1.2 part 1, 19.426, and LibreOffice's own).
_EVENT = re.compile(r"<(?:\w+:)?event-listener\b([^>]{0,4000})>")
_SCRIPT_URL = re.compile(r"(?:vnd\.sun\.star\.script|macro|service|vnd\.sun\.star\.pkg):", re.IGNORECASE)
_BY_ITSELF = re.compile(
    r"event-name\s*=\s*[\"'](?:dom:(?:load|unload|DOMFocusIn|mouseover|change)|office:(?:start-app|load|new|create"
    r"|load-finished|view-created|print|save|focus|title-changed|prepare-(?:unload|close))|on-?(?:load|open|focus)"
    r"|form:[a-z-]{1,40})",
    re.IGNORECASE,
)
# DDE as a field, as a link of a table, as a formula. LibreOffice's own links name itself as the server.
_DDE = re.compile(r"\bdde-application\s*=\s*[\"'](?!soffice[\"'])([^\"']{1,200})", re.IGNORECASE)
_DDE_FORMULA = re.compile(
    r"\bformula\s*=\s*[\"'][^\"'<>]{0,400}?\bDDE\s*\(\s*(?:&quot;|&apos;|\")?(?!soffice)([^;,&<>]{1,100})",
    re.IGNORECASE,
)
# What is fetched when the document is opened; pictures and hyperlinks are not among it.
_FETCHES = re.compile(
    r"<(?:\w+:)?(section-source|object|object-ole|plugin|applet|floating-frame|table-source|cell-range-source|template"
    r"|subtable-source|database-table|master-page)\b[^>]{0,2000}?\bhref\s*=\s*(?:\"([^\"]{1,2000})\"|'([^']{1,2000})')",
    re.IGNORECASE,
)
_MODULE = re.compile(r"<(?:\w+:)?(?:module|source-code)\b[^>]{0,2000}>([^<]*)<")
# What Basic there has of its own to start programs with.
_STARTS = re.compile(r"\bshell[ \t]*\(|\bshell[ \t]+\"|systemshellexecute|createunoservice\(\"com\.sun\.star\.system|"
                     r"\bimport[ \t]+(?:os|subprocess|ctypes|socket|urllib)\b|\b(?:os\.(?:system|popen)|subprocess\.)|"
                     r"java\.lang\.runtime|powershell|cmd\.exe|/bin/sh", re.IGNORECASE)  # fmt: skip


def part(name: str, data: bytes, sha256: str) -> Sequence[Finding]:
    """Look at one member of the document `sha256`."""
    low = name.replace("\\", "/").lstrip("/").lower()
    if low.startswith(("basic/", "scripts/", "dialogs/")) and not low.endswith(_LIBRARIES):
        return _module(name, data.decode("utf-8", "replace"), sha256)
    if low.rpartition("/")[2] in PARTS:
        return _look(data.decode("utf-8", "replace"), sha256)
    return ()


def is_flat(data: bytes) -> bool:
    """Whether an XML file is a whole document."""
    return b"urn:oasis:names:tc:opendocument:xmlns:office" in data[:8192]


def flat(data: bytes, sha256: str) -> list[Finding]:
    """Look at a flat document (`.fodt`, `.fods`)."""
    document = data.decode("utf-8", "replace")
    found = list(_look(document, sha256))
    for module in _MODULE.finditer(document):
        found += _module("", module[1], sha256)
    return list(dict.fromkeys(found))


def _module(name: str, source: str, sha256: str) -> list[Finding]:
    found = [Finding(ENGINE, "Odf.Macro", "macro", 3, sha256, name[:200])]
    if len(source) > vba.SOURCE_LIMIT:
        return found
    text = html.unescape(source)
    found += vba.findings(text, sha256)
    started = _STARTS.search(text)
    if started:
        found.append(_finding("Odf.MacroStarts", "macro-suspicious", sha256, started[0]))
    return found


def _look(document: str, sha256: str) -> list[Finding]:
    found = []
    if "event-listener" in document:
        for event in _EVENT.finditer(document):
            if _SCRIPT_URL.search(event[1]) and _BY_ITSELF.search(event[1]):
                found.append(_finding("Odf.Event", "macro-autoexec", sha256, event[1]))
                break
    if "DDE" in document or "dde-" in document:
        link = _DDE.search(document) or _DDE_FORMULA.search(document)
        if link:
            found.append(_finding("Odf.DDE", "dde", sha256, link[1]))
    if "href" in document:
        for one in _FETCHES.finditer(document):
            target = html.unescape(one[2] or one[3] or "")
            if is_remote(target):
                found.append(_finding("Odf.Link", "external-template", sha256, target))
                break
    return found


def _finding(signature: str, category: Category, sha256: str, detail: str) -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, detail.strip()[:200])

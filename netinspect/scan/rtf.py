"""RTF: templates and documents fetched from elsewhere, DDE fields, and the objects that are embedded.

RTF is taken apart by `oletools.rtfobj` (in `files.rtf`, once for both rooms), which knows how Word reads broken and
disguised object data; it is slow where there is much text (a second for a megabyte) and runs only where there is an
object.
"""

from __future__ import annotations

import io
import re
import struct
from typing import Final

import olefile

from netinspect.files import rtf
from netinspect.scan import names, objects
from netinspect.scan.contract import Category, Finding, Unscanned
from netinspect.scan.targets import is_remote

ENGINE: Final = "office"

OBJECTS: Final = 200
"""Embedded objects that are looked into."""

_TEMPLATE = re.compile(rb"\\\*[\s]*\\template(?![a-z])\s*([^{}]{1,2000})[{}]", re.IGNORECASE)
_FIELD = re.compile(rb"\\fldinst(?![a-z])(.{0,2000})", re.IGNORECASE | re.DOTALL)
# A control word; behind an escaped backslash it would be text about RTF.
_OBJECT = re.compile(rb"(?<!\\)(?:\\\\)*\\(objdata|objocx|objupdate|objautlink)(?![a-z])", re.IGNORECASE)
_EQUATION = re.compile(rb"\\objclass\s*Equation\b", re.IGNORECASE)
_GROUP_TEXT = re.compile(r"\\\*|\\[a-z]+-?\d* ?|[{}\r\n]", re.IGNORECASE)
_DDE = re.compile(r"^[\s\"]*DDE(?:AUTO)?[\s\"]", re.IGNORECASE)
_FETCHES = re.compile(r"^[\s\"]*(?:LINK\s+\S+|INCLUDETEXT|IMPORT)\s+\"?([^\s\"]{4,400})", re.IGNORECASE)
_ESCAPE = re.compile(r"\\'([0-9a-f]{2})|\\u(-?\d{1,5}) ?\??|\\(\\)", re.IGNORECASE)


def _unescape(text: str) -> str:
    def char(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        if match[2]:
            return chr(int(match[2]) & 0xFFFF)
        return "\0"  # a backslash, which begins no control word any more

    return _ESCAPE.sub(char, text)


def scan(data: bytes, sha256: str) -> list[Finding | Unscanned]:
    """Look into one RTF document."""
    found: list[Finding | Unscanned] = []
    for match in _TEMPLATE.finditer(data):
        target = _plain(match[1]).strip()
        if is_remote(target):
            found.append(_finding("Rtf.Template", "external-template", sha256, target))
            break
    for number, match in enumerate(_FIELD.finditer(data)):
        if number >= 20_000:
            found.append(Unscanned(ENGINE, "too many fields", sha256))
            break
        one = _field(_plain(_up_to_end(match[1])), sha256)
        if one is not None:
            found.append(one)
            break
    words = {match[1].lower() for match in _OBJECT.finditer(data)}
    if b"objdata" in words or b"objocx" in words:
        found += _objects(data, sha256)
        if b"objupdate" in words or b"objautlink" in words:
            found = [_sooner(one) for one in found]
    return found


def _plain(octets: bytes) -> str:
    return _GROUP_TEXT.sub("", _unescape(octets.decode("latin-1"))).replace("\0", "\\")


def _up_to_end(octets: bytes) -> bytes:
    """The rest of the group that `octets` begin in."""
    depth = 1
    for match in re.finditer(rb"[{}]", octets):
        depth += 1 if match[0] == b"{" else -1
        if not depth:
            return octets[: match.start()]
    return octets


def _field(text: str, sha256: str) -> Finding | None:
    if _DDE.match(text):
        return _finding("Rtf.DDE", "dde", sha256, text)
    fetched = _FETCHES.match(text)
    if fetched and is_remote(fetched[1]):
        return _finding("Rtf.Link", "external-template", sha256, fetched[1])
    return None


def _sooner(one: Finding | Unscanned) -> Finding | Unscanned:
    """An equation or link that is loaded without a click, which no word processor writes for an equation."""
    if isinstance(one, Finding) and one.signature in ("OLE.Equation", "Rtf.Equation", "OLE.UrlLink", "OLE.Link"):
        return Finding(one.engine, one.signature, "exploit", 2, one.sha256, one.detail)
    return one


def _objects(data: bytes, sha256: str) -> list[Finding | Unscanned]:
    found: list[Finding | Unscanned] = [Finding(ENGINE, "Rtf.Object", "embedded-object", 3, sha256)]
    if _EQUATION.search(data):
        found.append(Finding(ENGINE, "Rtf.Equation", "embedded-object", 3, sha256))
    if len(data) > rtf.LONGEST:
        return [*found, Unscanned(ENGINE, "document too long", sha256)]
    told = rtf.objects(data, keep=True)
    if told.damaged:
        found.append(Unscanned(ENGINE, "damaged document", sha256))
    for one in told.found[:OBJECTS]:
        if not one.is_ole:
            continue
        name = (one.class_name or b"").decode("latin-1").strip("\0 ").upper()
        if name in objects.EQUATION_NAMES:
            found.append(Finding(ENGINE, "Rtf.Equation", "embedded-object", 3, sha256))
        elif name in ("OLE2LINK", "HTMLFILE", "SCRIPTLETFILE"):
            found.append(_finding(f"Rtf.{name.title()}", "exploit", sha256))
        if one.is_package:
            file_name = _text(one.filename) or _text(one.src_path)
            found += names.findings(file_name, "data", sha256, nested=True)
        content = one.oledata or b""
        if content.startswith(olefile.MAGIC):
            found += _compound(content, sha256)
        elif name in objects.EQUATION_NAMES:
            found += objects.equation(content, sha256)
    if len(told.found) > OBJECTS:
        found.append(Unscanned(ENGINE, "too many objects", sha256))
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value or "")


def _compound(content: bytes, sha256: str) -> list[Finding]:
    try:
        with olefile.OleFileIO(io.BytesIO(content)) as ole:
            found = objects.by_class(ole, sha256)
            for path in ole.listdir():
                name = path[-1].upper()
                if name == "EQUATION NATIVE":
                    found += objects.equation(ole.openstream(path).read(), sha256)
                elif name == "\x01OLE":
                    found += objects.link(ole.openstream(path).read(), sha256)
            return found
    except (OSError, ValueError, LookupError, struct.error, ArithmeticError, RecursionError):
        return []  # broken on purpose as often as not; the object itself is on record


def _finding(signature: str, category: Category, sha256: str, detail: str = "") -> Finding:
    return Finding(ENGINE, signature, category, 2, sha256, detail.strip()[:200])

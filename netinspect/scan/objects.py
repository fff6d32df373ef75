"""Embedded objects: by class what a document carries, and whether an equation is one of those that run code.

Class identifiers stand in the directory entries of compound files ([MS-CFB] 2.6.1), monikers in the stream `\\x01Ole`
([MS-OLEDS] 2.3.3).
"""

from __future__ import annotations

import re
import struct
from typing import Final, Literal

import olefile

from netinspect.scan.contract import Category, Finding

ENGINE: Final = "office"

_Meaning = tuple[str, Category, Literal[1, 2, 3]]

_CLASSES: Final[dict[str, _Meaning]] = {
    "0002CE02-0000-0000-C000-000000000046": ("OLE.Equation", "embedded-object", 3),
    "0003000C-0000-0000-C000-000000000046": ("OLE.Package", "embedded-object", 3),
    "0003000D-0000-0000-C000-000000000046": ("OLE.Package", "embedded-object", 3),
    "F20DA720-C02F-11CE-927B-0800095AE340": ("OLE.Package", "embedded-object", 3),
    "00000300-0000-0000-C000-000000000046": ("OLE.Link", "embedded-object", 3),
    # What runs script or has no business in a document.
    "25336920-03F9-11CF-8FD0-00AA00686F13": ("OLE.HtmlFile", "exploit", 2),
    "3050F4D8-98B5-11CF-BB82-00AA00BDCE0B": ("OLE.HtmlApplication", "exploit", 1),
    "06290BD0-48AA-11D2-8432-006008C3FBFC": ("OLE.Scriptlet", "exploit", 1),
    "06290BD2-48AA-11D2-8432-006008C3FBFC": ("OLE.Scriptlet", "exploit", 1),
    "06290BD3-48AA-11D2-8432-006008C3FBFC": ("OLE.Scriptlet", "exploit", 1),
    "ECABAFC9-7F19-11D2-978E-0000F8757E2A": ("OLE.SoapMoniker", "exploit", 1),
    "EAB22AC3-30C1-11CF-A7EB-0000C05BAE0B": ("OLE.WebBrowser", "exploit", 2),
    "8856F961-340A-11D0-A96B-00C04FD705A2": ("OLE.WebBrowser", "exploit", 2),
    "A08A033D-1A75-4AB6-A166-EAD02F547959": ("OLE.OtkLoader", "exploit", 1),  # CVE-2015-1641
    "D27CDB6E-AE6D-11CF-96B8-444553540000": ("OLE.Flash", "exploit", 2),
    "BDD1F04B-858B-11D1-B16A-00C0F0283628": ("OLE.ListView", "embedded-object", 2),  # CVE-2012-0158
    "996BF5E0-8044-4650-ADEB-0B013914E99C": ("OLE.ListView", "embedded-object", 2),
    "1EFB6596-857C-11D1-B16A-00C0F0283628": ("OLE.TabStrip", "embedded-object", 2),  # CVE-2012-1856
    "C74190B6-8589-11D1-B16A-00C0F0283628": ("OLE.TreeView", "embedded-object", 2),
}

EQUATION_NAMES: Final = frozenset({"EQUATION.2", "EQUATION.3", "EQUATION"})

_FACE_NAME: Final = 40
"""Octets that Equation Editor 3 has for the name of a font (CVE-2017-11882, CVE-2018-0802)."""
# MTEF font record: tag 8, typeface, style, and a name that ends with NUL.
_FONT = re.compile(rb"\x08..([^\x00]{%d,})" % _FACE_NAME, re.DOTALL)

_URL_MONIKER: Final = bytes.fromhex("e0c9ea79f9bace118c8200aa004ba90b")
_FILE_MONIKER: Final = bytes.fromhex("0303000000000000c000000000000046")
_REMOTE: Final = re.compile(r"(?:https?|ftp|file|mhtml|script|ms-[a-z-]+):[^\0]{1,300}|\\\\[^\\\0][^\0]{1,300}", re.I)


def by_class(ole: olefile.OleFileIO, sha256: str) -> list[Finding]:
    """What the classes of the storages say, each once."""
    found: dict[str, Finding] = {}
    for entry in ole.direntries:
        if entry is None or not entry.clsid:
            continue
        meaning = _CLASSES.get(entry.clsid.upper())
        if meaning is not None and meaning[0] not in found:
            found[meaning[0]] = Finding(ENGINE, *meaning, sha256)
    return list(found.values())


def equation(native: bytes, sha256: str) -> list[Finding]:
    """Look at an equation: EQNOLEFILEHDR (28 octets, where it is there), MTEF header (5), records."""
    start = 28 if len(native) > 33 and struct.unpack_from("<H", native)[0] == 28 else 0
    if _FONT.search(native[start + 5 : start + 600]):
        return [Finding(ENGINE, "Equation.FontName", "exploit", 1, sha256)]
    return []


def link(stream: bytes, sha256: str) -> list[Finding]:
    """Look at the stream `\\x01Ole`: a link to an address is fetched when the document is opened (CVE-2017-0199)."""
    at = stream.find(_URL_MONIKER)
    if at < 0:
        at = stream.find(_FILE_MONIKER)
        if at < 0:
            return []
    rest = stream[at + 16 : at + 4096]
    for text in (rest.decode("utf-16-le", "ignore"), rest[1:].decode("utf-16-le", "ignore"), rest.decode("latin-1")):
        target = _REMOTE.search(text)
        if target:
            return [Finding(ENGINE, "OLE.UrlLink", "external-template", 2, sha256, target[0][:200])]
    return []

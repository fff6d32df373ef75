"""What a name says of a content, and where the two disagree: programs, double extensions, names that are turned round.

Windows takes the type of a file from the end of its name, people from what they see of it. A finding is given where the
name is that of a program (`banned-type`) and where name, picture of the name and content tell different stories
(`disguised-type`). Runs in a worker, once for every leaf and every member of an archive.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from netinspect.files import kind as kinds
from netinspect.scan.contract import Category, Finding

ENGINE: Final = "names"

_Severity = Literal[1, 2, 3]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a double click on Windows runs, and nobody sends by mail in good faith (the mail programs of the same maker
# refuse these too).
_PROGRAMS: Final = _words(
    "exe scr pif com cpl msi msp mst msc msix appx appinstaller bat cmd ps1 ps1xml psc1 psd1 psm1 vb vbe vbs vbscript"
    " js jse ws wsc wsf wsh wsb sct shb shs hta lnk scf reg inf ins isp chm hlp jar jnlp gadget application"
    " appref-ms xll xlam wll diagcab settingcontent-ms library-ms search-ms searchconnector-ms theme themepack"
    " website mad maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz ade adp ops pcd prg prf"
    " bgi cnt der fxp grp hpj its ksh mcf msh msh1 msh2 mshxml osd plg printerexport pst tmp udl url vsmacros vsw"
    " xbap xnk dll sys ocx drv cdxml pyz pyzw deskthemepack iqy oqy rqy slk symlink one onepkg"
)
# Of those, what is sent honestly now and then: on record, and for the policy to judge.
_HONEST: Final = _words(
    "tmp url der cnt mat mar mag mas inf jar theme mdb pst plg prg prf grp website xlam iqy oqy rqy slk its"
    " one onepkg symlink osd mau msh ops hlp ins dll sys ocx drv mda mdt mdw adp ade"
)
# Inside an archive scripts are as often source code as they are droppers; what they do is for the rules.
_SOURCES: Final = _words("js bat cmd ps1 psm1 psd1 vb com reg ksh")
_IMAGES: Final = _words("iso img vhd vhdx udf daa")
"""A double click mounts them, and the mark "from the internet" does not reach what is in them."""

_SHOWN: Final = _words(
    "pdf doc docx docm xls xlsx xlsm ppt pptx rtf odt ods odp txt csv htm html xml jpg jpeg png gif bmp tif tiff webp"
    " mp3 mp4 avi mov wav wmv mpg mpeg zip rar 7z gz eml msg ics vcf"
)
"""What people open without fear: the first of two extensions."""
_PACKED: Final = _words("zip rar 7z gz bz2 xz z zst lz lzma ace arj cab tgz lzh")
_VOLUME = re.compile(
    r"\.(?:zip|rar|7z|tar|t?gz|t?bz2?|t?xz|ace|arj|cab|iso|exe)\.\d{3}$|\.part\d{1,4}\.(?:rar|zip|7z)$|\.[rz]\d\d$"
)
"""Parts of an archive that was split: only the first begins as one does."""
_ARCHIVES: Final = _PACKED | _words(
    "zipx alz egg lzip lrz lzo zoo arc sit sitx sea br zpaq paq8l uha uc2 pea wim swm esd cpio tbz2 txz tlz tzst cbr"
    " cbz"
)
"""Names under which an unpacker is started, whatever the octets are."""
_UNPACKS_TO_PROGRAM: Final = _words("exe scr pif bat cmd vbs vbe jse wsf hta lnk cpl msi")

_RUNS: Final = {
    "exe": _words("exe scr com pif cpl dll ocx sys drv ax mui efi xll wll tsp acm node pyd fon fot ime"),
    "lnk": frozenset({"lnk"}),
    "elf": frozenset(),
    "macho": frozenset(),
    "class": frozenset({"class"}),
    "msi": _words("msi msp mst pcp"),
    "chm": frozenset({"chm"}),
}
"""Kinds that run, and the names under which they do not pretend to be anything else."""
_BANNED_KINDS: Final = frozenset({"exe", "lnk", "msi", "chm"})

_PICTURES: Final = frozenset({"png", "jpeg", "gif", "bmp", "tiff", "webp", "emf", "svg"})
_LOOKS: Final = {
    "pdf": frozenset({"pdf"}),
    "jpg": _PICTURES, "jpeg": _PICTURES, "png": _PICTURES, "gif": _PICTURES, "bmp": _PICTURES, "webp": _PICTURES,
}  # fmt: skip
_HEAVY: Final = kinds.ZIPS | kinds.OLES | kinds.ARCHIVES | {"rtf", "html", "script"}
"""Kinds that are opened by something else than a viewer when they come under the name of a picture or a PDF."""

# UAX #9: overrides, and the embedding and isolate that start right-to-left; the plain marks (U+200E) are honest.
_TURNED = re.compile("[\u202b\u202d\u202e\u2067]")
# U+202E in UTF-8 as a zip without the UTF-8 flag shows it (code page 437), and as Latin-1 does.
_TURNED_BADLY = re.compile("\u0393\u00c7[\u00ab\u00a1\u00ac]|\u00e2\u0080[\u00ab\u00ad\u00ae]")
_CLASS_ID = re.compile(r"\.\{[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\}$")
_BLANKS = re.compile(r"[\s\u00a0\u2000-\u200d\u2800\u3000_.]{12,}\.?[a-z0-9]{1,10}$")
_UNKNOWN: Final = _PICTURES - {"svg"} | {"data"}
_NO_PROGRAM_CONTENT: Final = frozenset({"html", "xml", "eml", "mht", "pdf", "zip"}) | _PICTURES


def findings(name: str, kind: str, sha256: str, *, nested: bool = False) -> tuple[Finding, ...]:
    """What is wrong with `name` for a content of `kind`; `nested`: it was found inside another content."""
    if not name:
        if kind in _BANNED_KINDS and not nested:
            return (_finding(f"Type.{kind}", "banned-type", 2, sha256, ""),)
        return ()
    told = _spoken(name)
    ends = told.rpartition(".")
    extension = ends[2] if ends[1] else ""
    found: list[Finding] = []
    shown = name[:200]
    if _TURNED.search(name) or (nested and _TURNED_BADLY.search(name)):
        found.append(_finding("Name.RightToLeft", "disguised-type", 2, sha256, shown))
    if _CLASS_ID.search(told):
        found.append(_finding("Name.ClassId", "disguised-type", 2, sha256, shown))
    if extension in _PROGRAMS and not (extension == "com" and kind in _NO_PROGRAM_CONTENT):
        found += _program(told, extension, kind, sha256, shown, nested)
    elif extension in _IMAGES:
        found.append(_finding(f"Name.{extension}", "banned-type", 3, sha256, shown))
    elif extension in _PACKED and ends[0].rpartition(".")[2] in _UNPACKS_TO_PROGRAM:
        found.append(_finding("Name.PackedProgram", "disguised-type", 2, sha256, shown))
    elif "\0" in name:
        found += findings(name.partition("\0")[2], kind, sha256, nested=nested)
    runs_as = _RUNS.get(kind)
    if runs_as is not None:
        found += _running(kind, extension, runs_as, sha256, shown, nested)
    elif kind in _HEAVY and extension in _LOOKS:
        found.append(_finding("Type.NotAsNamed", "disguised-type", 3, sha256, f"{kind} as {shown}"[:200]))
    return tuple(found)


def claims_archive(name: str, kind: str) -> bool:
    """Whether the name starts an unpacker on a content that is none we know: parts of a split archive, rare formats."""
    if "." not in name or kind not in _UNKNOWN:
        return False
    told = _spoken(name)
    return told.rpartition(".")[2] in _ARCHIVES or _VOLUME.search(told) is not None


def _spoken(name: str) -> str:
    """The name as Windows takes it: no folders, no stream behind it, no dots and blanks at its end, lower case."""
    if "/" in name or "\\" in name:
        name = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = name.partition("\0")[0]
    if "::$" in name:
        name = name.partition("::$")[0]
    return name.rstrip(" .\t\r\n\u00a0").lower()


def _program(told: str, extension: str, kind: str, sha256: str, shown: str, nested: bool) -> list[Finding]:
    severity: _Severity = 3 if extension in _HONEST or (nested and extension in _SOURCES) else 2
    inner = told.rpartition(".")[0].rpartition(".")[2].strip()
    if severity == 2 or extension in ("js", "com", "bat", "cmd", "ps1", "jar", "url"):
        if inner in _SHOWN and "." in told[: -len(extension) - 1]:
            return [_finding("Name.DoubleExtension", "disguised-type", 2, sha256, shown)]
        if _BLANKS.search(told):
            return [_finding("Name.Blanks", "disguised-type", 2, sha256, shown)]
    return [_finding(f"Name.{extension}", "banned-type", severity, sha256, shown)]


def _running(
    kind: str, extension: str, runs_as: frozenset[str], sha256: str, shown: str, nested: bool
) -> list[Finding]:
    if extension in _SHOWN:
        return [_finding(f"Type.{kind}", "disguised-type", 2, sha256, shown)]
    if kind in _BANNED_KINDS and extension not in _PROGRAMS and not (nested and extension in runs_as):
        return [_finding(f"Type.{kind}", "banned-type", 2, sha256, shown)]
    return []


def _finding(signature: str, category: Category, severity: _Severity, sha256: str, detail: str) -> Finding:
    return Finding(ENGINE, signature, category, severity, sha256, detail)

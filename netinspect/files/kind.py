"""What a content is, by its octets and never by its name. One short word, cheap enough to ask of every part.

Words: `zip docx docm xlsx xlsm xlsb pptx pptm odf jar` `ole doc xls ppt msg msi` `pdf xdp fdf rtf` `gzip bzip2 xz zstd
lzip 7z rar tar cab arj ar cpio iso chm`, disk images (`DISKS`) and what nothing opens (`NOT_UNPACKED`) `exe elf macho
class lnk` `png jpeg gif bmp tiff webp emf` `html xml svg mht eml script sylk activemime` `text data empty`.
"""

from __future__ import annotations

from typing import Final

HEAD: Final = 1024
"""Octets from the start that decide about most contents."""

ZIP_TAIL: Final = 65_557
"""The end record of a zip and the longest comment behind it (APPNOTE 4.3.16)."""

OOXML: Final = frozenset({"docx", "docm", "xlsx", "xlsm", "xlsb", "pptx", "pptm"})
ZIPS: Final = frozenset({"zip", "odf", "jar"}) | OOXML
OLES: Final = frozenset({"ole", "doc", "xls", "ppt", "msg", "msi"})
DISKS: Final = frozenset({
    "vhd", "vhdx", "vmdk", "vdi", "qcow", "gpt", "mbr", "apm", "fat", "ntfs", "ext", "hfs", "apfs", "dmg", "squashfs",
    "cramfs",
})  # fmt: skip
NOT_UNPACKED: Final = frozenset({
    "alz", "ace", "egg", "lz4", "zoo", "arc", "stuffit", "lrzip", "lzop", "zpaq", "snappy", "installshield", "uha",
    "daa", "kwaj", "freearc", "rar1", "uc2", "squeeze", "gca", "yz1", "kgb", "pack200",
})  # fmt: skip
"""Archives that nothing here opens."""
ARCHIVES: Final = DISKS | NOT_UNPACKED | {
    "gzip", "bzip2", "xz", "zstd", "7z", "rar", "tar", "cab", "arj", "lzh", "ar", "cpio", "iso", "chm", "z", "lzma",
    "wim", "xar", "rpm", "mslz", "lzip",
}  # fmt: skip
"""What holds other files and is no zip, no compound file and no document."""

MACRO_MARKS: Final = (b"QWN0aXZlTWltZ", b"0M8R4KGxGuE", b"ActiveMime")
"""A packed VBA project inside text: ActiveMime in base64, a compound file in base64, ActiveMime as it is."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK00PK\x03\x04", "zip"),
    (b"PK\x07\x08PK\x03\x04", "zip"),  # APPNOTE 8.5.5: the first part of one that was split
    (_OLE, "ole"),
    (b"%PDF-", "pdf"),
    (b"{\\rt", "rtf"),  # Word takes any header that begins so
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"MSCF\0\0\0\0", "cab"),
    (b"\x60\xea", "arj"),
    (b"\x1f\x9d", "z"),
    (b"\x5d\0\0", "lzma"),
    (b"MSWIM\0\0\0", "wim"),
    (b"xar!\0", "xar"),
    (b"\xed\xab\xee\xdb", "rpm"),
    (b"hsqs", "squashfs"),
    (b"conectix", "vhd"),
    (b"vhdxfile", "vhdx"),
    (b"KDMV", "vmdk"),
    (b"QFI\xfb", "qcow"),
    (b"SZDD\x88\xf0\x27\x33", "mslz"),
    (b"CWS", "swf"),
    (b"ZWS", "swf"),
    (b"ALZ\x01", "alz"),
    (b"EGGA", "egg"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"LZIP\x01", "lzip"),
    (b"StuffIt (c)1997-", "stuffit"),
    (b"SIT!", "stuffit"),
    (b"LRZI\0", "lrzip"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (b"7kSt\xa0\x31", "zpaq"),
    (b"zPQ", "zpaq"),
    (b"\xff\x06\0\0sNaPpY", "snappy"),
    (b"ISc(", "installshield"),
    (b"\x13\x5d\x65\x8c", "installshield"),
    (b"UHA", "uha"),
    (b"DAA\0", "daa"),
    (b"KWAJ\x88\xf0\x27\xd1", "kwaj"),
    (b"SZ \x88\xf0\x27\x33\xd1", "kwaj"),
    (b"ArC\x01", "freearc"),
    (b"RE~^", "rar1"),
    (b"UC2\x1a", "uc2"),
    (b"HLSQZ", "squeeze"),
    (b"GCAX", "gca"),
    (b"yz01", "yz1"),
    (b"KGB_arch -", "kgb"),
    (b"\xca\xfe\xd0\x0d", "pack200"),
    (b"\x1a", "arc"),
    (b"\x45\x3d\xcd\x28", "cramfs"),
    (b"%FDF-", "fdf"),
    (b"\x78\x9f\x3e\x22", "tnef"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", "onenote"),
    (b"\x3f\xdd\x9a\x10\x1b\x91\xf5\x49\xa5\xd0\x17\x91\xed\xc8\xae\xd8", "onenote"),
    *((bytes((0x50 + low, 0x2A, 0x4D, 0x18)), "zstd") for low in range(16)),  # RFC 8878 §3.1.2: skippable first
    (b"!<arch>\n", "ar"),
    (b"070701", "cpio"),
    (b"070707", "cpio"),
    (b"\xc7\x71", "cpio"),
    (b"\x71\xc7", "cpio"),
    (b"ITSF", "chm"),
    (b"MZ", "exe"),
    (b"\x7fELF", "elf"),
    (b"\xfe\xed\xfa\xce", "macho"),
    (b"\xfe\xed\xfa\xcf", "macho"),
    (b"\xce\xfa\xed\xfe", "macho"),
    (b"\xcf\xfa\xed\xfe", "macho"),
    (b"\xca\xfe\xba\xbe", "class"),
    (b"L\x00\x00\x00\x01\x14\x02\x00", "lnk"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"RIFF", "riff"),
    (b"\x01\x00\x00\x00", "emf"),
    (b"ActiveMime", "activemime"),
    (b"#!", "script"),
    (b"ID;P", "sylk"),
)

_BY_FIRST: Final[dict[int, tuple[tuple[bytes, str], ...]]] = {
    first: tuple(pair for pair in _MAGIC if pair[0][0] == first) for first in {magic[0] for magic, _ in _MAGIC}
}

_TEXT_OCTETS = bytes(octet for octet in range(256) if octet >= 0x20 or octet in b"\t\n\r\f\x08\x1b")
_NOT_TEXT = bytes(octet for octet in range(256) if octet not in _TEXT_OCTETS)

_HTML_TAGS = (b"<html", b"<!doctype html", b"<head", b"<body", b"<script", b"<table", b"<div", b"<meta", b"<title")


def identify(data: bytes, name: str = "") -> str:
    """Name the type of `data`. `name` is not believed and only kept for callers that have nothing else."""
    if not data:
        return "empty"
    for magic, kind in _BY_FIRST.get(data[0], ()):
        if data.startswith(magic):
            known = _refine(data, kind)
            if known:
                return known
    head = data[:HEAD]
    if data[2:4] == b"-l" and data[6:7] == b"-" and data[4:5] in b"hzp":
        return "lzh"
    if data[7:14] == b"**ACE**":
        return "ace"
    if data[20:24] == b"\xdc\xa7\xc4\xfd":
        return "zoo"
    if len(data) >= 512:
        if data[257:262] == b"ustar" or _is_old_tar(data):
            return "tar"
        disk = _disk(data)
        if disk:
            return disk
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _markup(head[2:].replace(b"\0", b"")) or "text"
    if head.translate(None, _TEXT_OCTETS):
        at = head.find(b"%PDF-")
        return "pdf" if at >= 0 else "data"
    return _markup(head) or ("pdf" if b"%PDF-" in head else "text")


def _is_old_tar(data: bytes) -> bool:
    """A tar from before the magic: the first header's checksum is right (POSIX ustar, `chksum`)."""
    told = data[148:154].strip(b" \0")
    if not told or told.translate(None, b"01234567") or data[0] < 0x20:
        return False
    return int(told, 8) == sum(data[:148]) + 8 * 0x20 + sum(data[156:512])


def _disk(data: bytes) -> str:
    """File systems and disk images, which begin with anything."""
    if data[510:512] == b"\x55\xaa":
        if data[3:7] == b"NTFS":
            return "ntfs"
        if data[54:57] == b"FAT" or data[82:87] == b"FAT32":
            return "fat"
        if data[512:520] == b"EFI PART":
            return "gpt"
        if all(data[at] in (0, 0x80) for at in (446, 462, 478, 494)) and any(data[450:510:16]):
            return "mbr"
    if data[0x8001:0x8006] in (b"CD001", b"BEA01"):
        return "iso"
    if data[-512:-508] == b"koly":
        return "dmg"
    if data[-512:-504] == b"conectix":
        return "vhd"
    if data[0x40:0x44] == b"\x7f\x10\xda\xbe":
        return "vdi"
    if data[:2] == b"ER" and data[512:514] == b"PM":
        return "apm"
    if data[32:36] == b"NXSB":
        return "apfs"
    if data[1080:1082] == b"\x53\xef" and data[1028:1032] != bytes(4):  # s_magic behind a count of blocks
        return "ext"
    return "hfs" if data[1024:1028] in (b"H+\0\4", b"HX\0\5") else ""


# With each an octet that texts do not have: looking for one octet costs a tenth of looking for several.
_APPENDED = (
    (b"\xbc", b"7z\xbc\xaf\x27\x1c"), (b"\x1a", b"Rar!\x1a\x07"), (b"\0", b"MSCF\0\0\0\0"),
    (b"\xde", b"\xef\xbe\xad\xdeNullsoftInst"),
)  # fmt: skip


def carries_archive(data: bytes) -> bool:
    """Whether another archive than a zip may stand behind the start: a self-extractor, a polyglot."""
    return any(rare in data and data.find(magic, 1) >= 0 for rare, magic in _APPENDED)


def carries(data: bytes) -> bool:
    """Whether any archive may stand behind the start."""
    return zip_end(data) >= 0 or carries_archive(data)


_SIGNS = (b"ase64", b"ASE64", b"atob", b"Blob", b"Uint8", b"harCode", b"escape(")
_MARKUP = frozenset({"html", "svg", "script", "xml", "text"})
_EMPTY = frozenset({"text", "png", "jpeg", "gif", "bmp", "tiff", "webp", "emf", "data", "empty"})


def has_code(data: bytes) -> bool:
    """Whether a page or a script may make a file out of text."""
    return any(sign in data for sign in _SIGNS)


def may_hold(data: bytes, kind: str, *, body: bool) -> bool:
    """Whether there may be anything inside: cheap, asked of every part of every mail. `body`: a text to be read."""
    if kind in _EMPTY or kind in _MARKUP or (body and kind == "eml"):
        return carries(data) or (kind in _MARKUP and not (body and kind == "text") and has_code(data))
    return True


def zip_end(data: bytes) -> int:
    """Where the end record of a zip begins, -1 if there is none; also behind other content, which makes a polyglot."""
    start = max(0, len(data) - ZIP_TAIL)
    # One octet is found at a tenth of the price, and texts do not have it.
    return data.rfind(b"PK\x05\x06", start) if data.find(b"\x05", start) >= 0 else -1


def _refine(data: bytes, kind: str) -> str:
    """Tell apart what shares a magic; `""` when the magic was too short to mean anything here."""
    if kind == "zip":
        return _zip_kind(data)
    if kind == "ole":
        return _ole_kind(data)
    if kind == "riff":
        return "webp" if data[8:12] == b"WEBP" else ""
    if kind == "emf":
        return "emf" if data[40:44] == b" EMF" else ""
    if kind == "bmp":
        # "BM" also begins words: the header's reserved octets are zero and the pixels start early.
        return "bmp" if len(data) > 26 and data[6:10] == b"\0\0\0\0" else ""
    if kind == "exe":
        # "MZ" also begins words. What Windows starts as a program has zero octets in its first 64.
        return "exe" if b"\0" in data[:64] else ""
    if kind == "class":
        return "class" if data[4:6] == b"\0\0" and data[6:8] >= b"\0\x2d" else "macho"
    if kind == "lzma":
        # Five octets of properties, then the size: unknown (all ones) or a sane one.
        size = data[5:13]
        return "lzma" if len(data) > 13 and (size == b"\xff" * 8 or size[5:] == b"\0\0\0") else ""
    if kind == "swf":
        return "swf" if len(data) > 3 and 0 < data[3] < 64 else ""
    if kind == "bzip2":
        return "bzip2" if data[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90") else ""
    if kind == "arc":
        # Mark, method, a name of the IBM PC's that ends with NUL within 13 octets.
        name = data[2:15].partition(b"\0")
        named = name[1] and len(name[0]) > 1 and name[0].isascii()
        return "arc" if len(data) > 15 and 1 <= data[1] <= 11 and named else ""
    if kind == "stuffit":
        return "stuffit" if data[:4] != b"SIT!" or data[10:14] == b"rLau" else ""
    if kind in ("uha", "zpaq", "gca", "yz1"):  # words begin so too
        return kind if b"\0" in data[:64] else ""
    if kind == "arj":
        return "arj" if len(data) > 10 and data[10] == 2 else ""
    return kind


def _zip_kind(data: bytes) -> str:
    if data.startswith(b"mimetypeapplication/vnd.oasis.opendocument", 30):
        return "odf"
    end = zip_end(data)
    if end < 0 or len(data) < end + 22:
        return "zip"
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    directory = data[max(0, end - size) : end]
    if b"[Content_Types].xml" not in directory:
        if b"META-INF/manifest.xml" in directory and b"content.xml" in directory:
            return "odf"  # office programs do not ask for the mark at the start
        return "jar" if b"META-INF/MANIFEST.MF" in directory else "zip"
    for folder, plain, with_macro in ((b"word/", "docx", "docm"), (b"xl/", "xlsx", "xlsm"), (b"ppt/", "pptx", "pptm")):
        if folder in directory:
            if b"xl/workbook.bin" in directory:
                return "xlsb"
            return with_macro if b"vbaProject.bin" in directory else plain
    return "zip"


# Names of streams as a directory entry holds them.
_OLE_STREAMS = tuple(
    (name.encode("utf-16-le"), kind)
    for name, kind in (
        ("__properties_version1.0", "msg"),
        ("WordDocument", "doc"),
        ("Workbook\0", "xls"),
        ("Book\0", "xls"),
        ("PowerPoint Document", "ppt"),
    )
)
# [MS-CFB] 2.6.1: the root entry's class is at 80 of the first directory sector.
_MSI_CLASS = bytes.fromhex("84100c0000000000c000000000000046")


def _ole_kind(data: bytes) -> str:
    """Look into the first directory sectors only; a compound file that keeps its names elsewhere is `ole`."""
    shift = int.from_bytes(data[30:32], "little")
    if shift not in (9, 12):
        return "ole"
    start = (int.from_bytes(data[48:52], "little") + 1) << shift
    directory = data[start : start + 8192]
    if directory[80:96] == _MSI_CLASS:
        return "msi"
    for name, kind in _OLE_STREAMS:
        if name in directory:
            return kind
    return "ole"


def _markup(head: bytes) -> str:
    """Kinds that are text; `""` for plain text."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\f")
    first = start[:1]
    if first == b"<":
        low = start.lower()
        if b"urn:oasis:names:tc:opendocument:xmlns:office" in low and b"<html" not in low:
            return "xml"  # its own names begin like those of pages: `<script:`
        if low.startswith(_HTML_TAGS) or b"<html" in low or b"<script" in low:
            return "html"
        if b"ns.adobe.com/xdp" in low:
            return "xdp"
        if b"<svg" in low:
            return "svg"
        return "xml" if low.startswith((b"<?xml", b"<?mso", b"<w:", b"<pkg:")) else "html"
    if start.startswith(b"ID;P"):
        return "sylk"
    if first == b"{" and start.startswith(b"{\\rt"):
        return "rtf"
    if b":" in start[:64]:
        return _mail_kind(start)
    return ""


_MAIL_FIELDS = (b"received:", b"return-path:", b"from:", b"mime-version:", b"message-id:", b"date:", b"delivered-to:",
                b"content-type:", b"x-mailer:", b"to:", b"subject:")  # fmt: skip


def _mail_kind(start: bytes) -> str:
    low = start.lower()
    if not low.startswith(_MAIL_FIELDS):
        return ""
    if low.count(b"\n", 0, 512) < 2:
        return ""
    fields = sum(b"\n" + field in low for field in _MAIL_FIELDS)
    if fields < 1:
        return ""
    return "mht" if b"multipart/related" in low and b"received:" not in low else "eml"

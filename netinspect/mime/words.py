"""Text in header fields: unfolding, raw 8-bit, encoded-words (RFC 2047), charsets.

Everything here takes any bytes and gives text; nothing raises for what a mail holds.
"""

from __future__ import annotations

import binascii
import re
from encodings.aliases import aliases
from typing import Final

import pybase64

_WORD: Final = re.compile(r"=\?([!-<>@-~]{1,64})\?([bBqQ])\?([^?]*)\?=")

# An encoded-word's content is decoded to bytes first, so a control character is possible in it.
_CONTROL: Final = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)} | {
    code: "\ufffd" for code in range(0xD800, 0xE000)
}
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Only text codecs by name: `codecs.lookup` keeps every unknown name for ever and would also give zlib or punycode.
_NOT_TEXT: Final = frozenset(
    ("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs")
)
_CODECS: Final[dict[str, str]] = {
    **{alias: codec for alias, codec in aliases.items() if codec not in _NOT_TEXT},
    **{codec: codec for codec in aliases.values() if codec not in _NOT_TEXT},
    **{name: name for name in ("koi8_u", "koi8_t", "cp874", "cp720", "cp737", "cp856", "cp1006", "utf_8_sig")},
    "gb_18030": "gb18030",
    "ks_c_5601_1987": "cp949",
    "x_sjis": "cp932",
    "x_gbk": "gbk",
    "x_mac_roman": "mac_roman",
    "unicode_1_1_utf_7": "utf_7",
}


def unfold(raw: bytes) -> bytes:
    """Field body on one line, without blanks around it (RFC 5322 §2.2.3)."""
    if b"\n" in raw:
        raw = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    return raw.strip(b" \t\r\n")


def to_text(raw: bytes) -> str:
    """UTF-8 where it is (RFC 6532), else latin-1, which takes any octet."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def decode_charset(raw: bytes, charset: str) -> str:
    """`raw` in `charset`; a charset nobody knows or octets that are none of it are read as `to_text` does."""
    # RFC 2231 §5: a language may stand behind a star.
    name = charset.partition("*")[0].strip().lower().replace("-", "_").replace(" ", "_")
    codec = _CODECS.get(name) or _CODECS.get(name.replace(":", "_").replace(".", "_"))
    if codec is None:
        return to_text(raw)
    try:
        return raw.decode(codec)
    except (UnicodeError, ValueError):
        pass
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw.decode(codec, "replace")
    return raw.decode()


def decode_words(text: str) -> str:
    """Undo encoded-words wherever they stand, also where RFC 2047 §5 does not allow them: mail programs do.

    Blanks between two words are dropped (§6.2). Neighbours in one charset are joined before the charset is undone,
    because programs cut multi-octet characters in two (§5 (3) forbids it).
    """
    if "=?" not in text:
        return text
    out: list[str] = []
    charset, pending = "", b""
    position = 0
    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        position = word.end()
        name = word[1].lower()
        if pending and (between.strip(" \t\r\n") or name != charset):
            out.append(decode_charset(pending, charset))
            if between.strip(" \t\r\n"):
                out.append(between)
            pending = b""
        elif between and not pending and (not charset or between.strip(" \t\r\n")):
            out.append(between)
        charset = name
        pending += _word_octets(word[2], word[3])
    if pending:
        out.append(decode_charset(pending, charset))
    out.append(text[position:])
    return "".join(out)


def _word_octets(encoding: str, content: str) -> bytes:
    data = content.encode("utf-8", "surrogateescape").replace(b"\r", b"")
    if encoding in "qQ":
        return binascii.a2b_qp(data, header=True)
    data = data.replace(b" ", b"").rstrip(b"=")
    try:
        return pybase64.b64decode(data + b"=" * (-len(data) % 4))
    except binascii.Error:
        return data


def field_text(raw: bytes, limit: int) -> str:
    """A field body as a reader would see it, at most `limit` characters, control characters replaced."""
    # A character may take many octets as an encoded-word; what is far beyond the limit cannot show.
    text = decode_words(unfold(raw[: limit * 16]).decode("utf-8", "surrogateescape"))
    return printable(text)[:limit]


def printable(text: str) -> str:
    """`text` with control characters replaced by U+FFFD; octets that were no UTF-8 become latin-1.

    Characters that change the direction of text stay: to hide a name's end behind one is a finding of its own.
    """
    if text.isprintable():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = to_text(text.encode("utf-8", "surrogateescape")) if _only_escapes(text) else text
    return text.translate(_CONTROL) if _CONTROLS.search(text) else text


def _only_escapes(text: str) -> bool:
    return not any("\ud800" <= char < "\udc80" or "\udcff" < char <= "\udfff" for char in text)

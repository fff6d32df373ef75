"""The mail written anew: some parts get other octets, everything else stays as it came, octet for octet.

The strategy: what has to change is a list of edits over the octets of the message (where, how many, what instead),
made from the parser's structure. The message itself is only streamed past: once for the header blocks that are to be
edited, once for the result.

    if protection(root, leaves): ...                      # signed: not to be altered
    edits = plan(root, leaves, {"1.2": Replacement(octets)}, message.chunks)
    for piece in rewritten(message.chunks(), edits): ...  # rewritten_size(message.size, edits) octets

A part inside an encoded message (base64 over a message/rfc822) has no octets of its own in the mail: `target_of` says
which part has to be replaced as a whole instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from netinspect.disarm.encode import encoded
from netinspect.disarm.mimefields import Fields, parameter, removed_name

if TYPE_CHECKING:
    from netinspect.mime.part import Leaf, Part

Reason = Literal["signed", "ambiguous", "encoded", "missing"]


class CannotRewrite(Exception):
    """The mail cannot be altered and stay the mail it was.

    `reason` is `signed` (a signature or encryption), `ambiguous` (programs differ in where this part is), `encoded`
    (the part stands in an encoded message: replace `target_of(path)`) or `missing` (no such part).
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Edit:
    """`length` octets of the message at `offset` become `data`."""

    offset: int
    length: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Replacement:
    """The new content of a part. `notice`: it is a text in UTF-8 in place of the part, and the header says so."""

    data: bytes
    notice: bool = False


def plan(
    root: Part,
    leaves: Sequence[Leaf],
    replacements: Mapping[str, Replacement],
    chunks: Callable[[], Iterable[bytes]],
) -> list[Edit]:
    """The edits that put `replacements` (by path) in the place of parts, in their order.

    `root` and `leaves` are what `MimeParser` gave for the message whose octets `chunks` yields. In memory are the new
    bodies and the header blocks of the parts.

    Raises:
        CannotRewrite: nothing may be altered, or one of the parts cannot be.
    """
    if not replacements:
        return []
    scheme = protection(root, leaves)
    if scheme:
        raise CannotRewrite("signed", scheme)
    parts = {part.path: part for part in walk(root)}
    why = {leaf.path: leaf.why for leaf in leaves}
    targets = [_target(path, parts, why) for path in replacements]
    targets.sort(key=lambda part: part.offset)
    size, spans = _read(targets, chunks())
    edits: list[Edit] = []
    for part, (block, behind) in zip(targets, spans, strict=True):
        edits += _edits(part, replacements[part.path], block, behind, last=part.offset + part.length == size)
    return edits


def _target(path: str, parts: Mapping[str, Part], why: Mapping[str, tuple[str, ...]]) -> Part:
    part = parts.get(path)
    if part is None or path not in why:
        # Other readings, texts outside the parts, files in a text: their octets belong to something else as well.
        base = path.partition("~")[0]
        if base == path and path not in why:
            raise CannotRewrite("missing", path)
        raise CannotRewrite("ambiguous", path)
    if part.source:
        raise CannotRewrite("encoded", path)
    # What is wrong with the body alone (`why` without `doubts`) is gone with the body.
    blank = part.offset - part.header_offset - part.header_length
    if part.doubts or part.other_names or "no_parts" in why[path] or blank not in (1, 2):
        raise CannotRewrite("ambiguous", path)
    return part


def _read(targets: Sequence[Part], chunks: Iterable[bytes]) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Octets of the message; of each target its header block and the first octets behind its body."""
    wanted: list[tuple[int, int]] = []
    for part in targets:
        end = part.offset + part.length
        wanted += [(part.header_offset, part.header_offset + part.header_length), (end, end + 2)]
    found = [bytearray() for _ in wanted]
    at = 0
    first = 0
    for chunk in chunks:
        stop = at + len(chunk)
        for index in range(first, len(wanted)):
            begin, end = wanted[index]
            if begin >= stop:
                break
            if end > at:
                found[index] += chunk[max(begin - at, 0) : end - at]
            elif index == first:
                first += 1
        at = stop
    octets = [bytes(one) for one in found]
    return at, list(zip(octets[::2], octets[1::2], strict=True))


def _edits(part: Part, replacement: Replacement, block: bytes, behind: bytes, *, last: bool) -> list[Edit]:
    newline = b"\r\n" if part.offset - part.header_offset - part.header_length == 2 else b"\n"
    fields = Fields(block, newline)
    own = "base64" if replacement.notice else part.encoding
    encoding, body = encoded(replacement.data, own, newline=newline, last=last)
    if not last and not behind.startswith((b"\n", b"\r\n")):
        body += newline  # the part had no body at all: the delimiter stands right behind its header
    if replacement.notice:
        _announce(fields, part)
    if encoding != part.encoding:
        fields.put("Content-Transfer-Encoding", b" " + encoding.encode())
    fields.drop("Content-MD5")  # RFC 1864: of the content that was
    if part.depth == 0 and not fields.has("MIME-Version"):
        fields.put("MIME-Version", b" 1.0")
    edits = [Edit(part.header_offset + at, length, data) for at, length, data in fields.edits()]
    return [*edits, Edit(part.offset, part.length, body)]


def _announce(fields: Fields, part: Part) -> None:
    """The fields of a text in place of `part`."""
    fold = b";" + fields.newline + b" "
    kind = b" text/plain; charset=utf-8"
    disposition = b" attachment" if part.disposition == "attachment" else b" inline"
    if part.filename or part.disposition == "attachment":
        name = removed_name(part.filename)
        kind += fold + parameter("name", name)
        disposition += fold + parameter("filename", name)
    fields.put("Content-Type", kind)
    fields.put("Content-Disposition", disposition)


def rewritten(chunks: Iterable[bytes], edits: Sequence[Edit]) -> Iterator[bytes]:
    """The octets of the message with the edits made."""
    waiting = iter(edits)
    edit = next(waiting, None)
    at = 0
    skip = 0  # octets that an edit still takes away
    for chunk in chunks:
        start = 0
        size = len(chunk)
        while True:
            gone = min(skip, size - start)
            start += gone
            skip -= gone
            if skip or edit is None or edit.offset > at + size:
                break
            stop = edit.offset - at
            if stop == size and edit.length:
                break  # its octets begin with the next chunk
            if stop > start:
                yield chunk[start:stop]
                start = stop
            if edit.data:
                yield edit.data
            skip = edit.length
            edit = next(waiting, None)
        if start < size:
            yield chunk[start:] if start else chunk
        at += size
    while edit is not None:
        if edit.data:
            yield edit.data
        edit = next(waiting, None)


def rewritten_size(size: int, edits: Iterable[Edit]) -> int:
    """Octets of the message of `size` octets with the edits made."""
    return size + sum(len(edit.data) - edit.length for edit in edits)


# --- what may be altered at all -----------------------------------------------------------------------------------


def walk(root: Part) -> Iterator[Part]:
    """`root` and all parts below it."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += reversed(part.children)


def target_of(root: Part, path: str) -> str:
    """The path of what has to be replaced when `path` is: itself, or the outermost encoded message it stands in."""
    parts = {part.path: part for part in walk(root)}
    here = path.partition("~")[0]
    while here and here not in parts:
        here = here.rpartition(".")[0]  # what is no part of the tree stands in one
    part = parts.get(here)
    if part is None or not part.source:
        return path
    while part.source:
        source = parts.get(part.source)
        if source is None:
            return path
        part = source
    return part.path


_SMIME: Final = frozenset({
    "application/pkcs7-mime", "application/x-pkcs7-mime", "application/pkcs7-signature",
    "application/x-pkcs7-signature",
})  # fmt: skip
_OPENPGP: Final = frozenset({"application/pgp-encrypted", "application/pgp-signature", "application/pgp"})
_NAMES: Final = {".p7m": "smime", ".p7s": "smime", ".p7z": "smime", ".pgp": "openpgp", ".gpg": "openpgp"}
_ARMOUR: Final = re.compile(rb"(?:\A|[\r\n])[ \t]{0,8}-----BEGIN PGP (?:SIGNED MESSAGE|MESSAGE|SIGNATURE)")
_ARMOUR_IN_PAGE: Final = re.compile(rb"-----BEGIN PGP (?:SIGNED MESSAGE|MESSAGE|SIGNATURE)")
_OVERLAP: Final = 64


def protection(root: Part, leaves: Iterable[Leaf]) -> str:
    """How the message is signed or encrypted, if any part of it is: then it is never altered (RFC 1847 §2.1).

    `smime`, `openpgp`, `signed` for another multipart/signed or multipart/encrypted, else `""`.
    """
    listed = list(leaves)
    for part in (*walk(root), *(leaf.part for leaf in listed)):
        scheme = _scheme(part)
        if scheme:
            return scheme
    return "openpgp" if any(_armoured(leaf) for leaf in listed) else ""


def _scheme(part: Part) -> str:
    kind = part.content_type
    if kind in ("multipart/signed", "multipart/encrypted"):
        protocol = part.params.get("protocol", "").lower()
        return "openpgp" if "pgp" in protocol else "smime" if "pkcs7" in protocol else "signed"
    if kind in _SMIME:
        return "smime"
    if kind in _OPENPGP:
        return "openpgp"
    return _NAMES.get(part.filename[-4:].lower(), "")


def _armoured(leaf: Leaf) -> bool:
    """Whether an OpenPGP message stands in a text (RFC 9580 §6.2, §7)."""
    if not (leaf.text or leaf.declared.startswith("text/") or leaf.name[-4:].lower() in (".asc", ".sig")):
        return False
    # What is only quoted in a reply has a `>` in front, which in a page may be the end of a tag.
    pattern = _ARMOUR_IN_PAGE if leaf.declared == "text/html" else _ARMOUR
    last = b""
    for chunk in leaf.content.chunks():
        if (b"BEGIN PGP" in chunk or b"BEGIN PGP" in last + chunk[:_OVERLAP]) and pattern.search(last + chunk):
            return True
        last = (last + chunk)[-_OVERLAP:] if len(chunk) < _OVERLAP else chunk[-_OVERLAP:]
    return False


_DKIM: Final = ("dkim-signature", "arc-seal", "arc-message-signature", "domainkey-signature")


def has_dkim(root: Part) -> bool:
    """Whether the message has a signature of a domain (RFC 6376, RFC 8617), which no longer verifies once it is
    altered."""
    return any(root.headers.get(name) is not None for name in _DKIM)

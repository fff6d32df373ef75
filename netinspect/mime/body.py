"""Collecting one body: transfer-decoding, spool and SHA-256 in one go, and what is found in it at its end."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netinspect.mime.describe import DECODED, IDENTITY
from netinspect.mime.embedded import BINHEX, embedded_files
from netinspect.mime.encodings import Base64Decoder, Decoder, QuotedPrintableDecoder
from netinspect.mime.part import Leaf, Part, reading_path
from netinspect.mime.structured import file_name
from netinspect.mime.uu import UuBegin, UuEnd, UuEvent, UuScanner, bare_lines

if TYPE_CHECKING:
    from netinspect.mime.context import Context
    from netinspect.spool import Spool

_EMPTY: Final = hashlib.sha256().hexdigest()
# Programs take a uuencoded file out of any text, and a text may call itself anything that is not a file.
_UU_TYPES: Final = ("text/", "message/")
_FILES: Final = frozenset({"uuencode", "yenc", "binhex"})  # encodings that frame a file and name it
_FIELD: Final = re.compile(rb"\n[\0-\x20]{0,4}[Cc]ontent-[TtDd]", re.IGNORECASE)
_PREFIX: Final = 8  # octets before a delimiter that do not show
_INVISIBLE: Final = bytes(range(0x21)) + b"\x7f\xa0\xc2\xe2\x80\x8b\xef\xbb\xbf"
_MARK: Final = 16  # longer than the mark of a BinHex file


class Content:
    """Octets on their way into a spool, hashed as they pass. The spool is made with the first octet."""

    __slots__ = ("_context", "_hash", "spool")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.spool: Spool | None = None

    def write(self, data: bytes) -> None:
        """Append."""
        if self.spool is None:
            if not data:
                return
            self.spool = self._context.new_spool()
            self._hash = hashlib.sha256(data)
        else:
            self._hash.update(data)
        self.spool.write(data)

    def finish(self) -> tuple[Spool, str]:
        """The complete spool and the SHA-256."""
        if self.spool is None:
            return self._context.new_spool(), _EMPTY
        self.spool.flush()
        return self.spool, self._hash.hexdigest()

    def discard(self) -> None:
        """Throw away."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None


class Body:
    """The body of one leaf.

    `outside` marks text between the parts: blank, it is nothing at all. `why` collects what makes the decoded
    octets doubtful.
    """

    __slots__ = (
        "_bare_cr", "_content", "_context", "_decoder", "_keep", "_last", "_marks", "_prefixed",
        "outside", "part", "why",
    )  # fmt: skip

    def __init__(
        self, part: Part, context: Context, *, outside: bool = False, marks: tuple[bytes, ...] = ()
    ) -> None:
        self.part = part
        self.outside = outside
        self.why: list[str] = []
        self._context = context
        self._content = Content(context)
        self._decoder: Decoder | None = None
        self._last = b"\n"
        self._bare_cr = self._prefixed = False
        # A base64 body names what is not of its alphabet in any case.
        self._marks = () if part.encoding == "base64" else marks
        self._keep = max([len(mark) for mark in marks]) + _PREFIX + 1 if marks else 0
        if part.encoding == "base64":
            self._decoder = Base64Decoder()
        elif part.encoding == "quoted-printable":
            self._decoder = QuotedPrintableDecoder()

    def write(self, data: bytes) -> None:
        """Take the next octets of the body as they stand in the message."""
        part = self.part
        part.length += len(data)
        if self._marks:
            self._delimiters(data)
        if self._decoder is not None:
            data = self._decoder.feed(data)
        self._content.write(data)

    def _delimiters(self, data: bytes) -> None:
        """Look for what may be a delimiter to others: one behind a CR alone, or behind octets that do not show."""
        if b"--" in data or b"-" in self._last:
            text = self._last + data
            # To some readers a CR alone ends a line: then there may be a delimiter.
            self._bare_cr = self._bare_cr or b"\r--" in text
            for mark in self._marks:
                at = -1 if self._prefixed else text.find(mark)
                while at >= 0:
                    line = text[max(0, at - _PREFIX - 1) : at].rpartition(b"\n")
                    if line[1] and line[2] and not line[2].strip(_INVISIBLE):
                        self._prefixed = True
                        break
                    at = text.find(mark, at + 2)
        keep = self._keep
        self._last = data[-keep:] if len(data) >= keep else (self._last + data)[-keep:]

    def discard(self) -> None:
        """Throw away what was collected."""
        self._content.discard()

    def finish(self) -> list[Leaf]:
        """End of the body: its leaf, and one for each uuencoded file in it. The first is the part itself."""
        part = self.part
        decoder = self._decoder
        if decoder is not None:
            self._content.write(decoder.finish())
            for kind in sorted(decoder.problems):
                self.why.append(kind)
                self._context.anomaly(kind, part.offset)
        if self._bare_cr:
            self.why.append("bare_cr")
            self._context.anomaly("bare_cr", part.offset)
        if self._prefixed:
            self.why.append("boundary_prefix")
            self._context.anomaly("boundary_prefix", part.offset)
        if self.outside:
            if self._blank():
                self._content.discard()
                return []
            self._hidden_part()
        content, digest = self._content.finish()
        leaf = Leaf(
            part=part,
            content=content,
            sha256=digest,
            undecoded=False,
            text=is_text(part),
            name=part.filename,
            declared=part.content_type,
        )
        leaves = [leaf]
        if part.encoding in _FILES or (part.content_type.startswith(_UU_TYPES) and content.size):
            self._embedded(leaf, leaves)
        if not part.headers.fields and not self.outside and leaf.content.size:
            self._late_header(leaf.content)
        why = tuple(dict.fromkeys((*part.doubts, *self.why))) if self.why else part.doubts
        if part.encoding not in IDENTITY and part.encoding not in DECODED and "unknown_encoding" not in why:
            why = (*why, "unknown_encoding")
        leaf.why = why
        leaf.undecoded = bool(why)
        if part.other_names:
            leaves += [alias(leaf, name, number) for number, name in enumerate(part.other_names, 1)]
        return leaves

    def _late_header(self, content: Spool) -> None:
        """A blank line in front of the header: programs that skip it see another part."""
        for chunk in content.chunks(_MARK):
            if chunk.lstrip()[:8].lower() == b"content-":
                self._context.anomaly("late_header", self.part.offset)
                self._context.doubtful = True
            return

    def _hidden_part(self) -> None:
        """Text that no program shows, with the header of a part in it."""
        if self._content.spool is None or self._context.doubtful:
            return
        last = b""
        for chunk in self._content.spool.chunks():
            if _FIELD.search(last + chunk[:_MARK]) or _FIELD.search(chunk):
                self._context.anomaly("part_outside", self.part.offset)
                self._context.doubtful = True
                return
            last = chunk[-_MARK:]

    def _blank(self) -> bool:
        spool = self._content.spool
        return spool is None or not any(chunk.strip() for chunk in spool.chunks())

    def _embedded(self, leaf: Leaf, leaves: list[Leaf]) -> None:
        """Take the files out of a text; a part that is encoded as one is what its first file holds."""
        encoding = self.part.encoding
        scanner = UuScanner()
        files = UuFiles(self._context, self.part)
        marked = False
        last = b""
        try:
            for chunk in leaf.content.chunks():
                files.take(scanner.feed(chunk))
                marked = marked or BINHEX in chunk or (bool(last) and BINHEX in last + chunk[:_MARK])
                last = chunk[-_MARK:]
            files.take(scanner.finish())
            if marked or scanner.begins:
                for file in embedded_files(leaf.content.getvalue(), self._context.limits.message_size):
                    files.add(file.name, file.data, broken=file.broken, over=file.over)
            if encoding == "uuencode" and not files.leaves:
                # QUIRK: the lines alone, without `begin` and `end`.
                data = bare_lines(leaf.content.getvalue())
                if data:
                    files.add("", data, broken=True)
        except OSError:
            files.discard()
            leaf.content.close()
            raise
        if scanner.overflow or files.overflow:
            self.why.append("limit_uuencode")
            self._context.anomaly("limit_uuencode", self.part.offset)
        found = files.leaves
        if encoding in _FILES:
            if not found:
                self.why.append("uu_broken")
                self._context.anomaly("uu_broken", self.part.offset, "no block")
                return
            # The part is what its first block holds. Text around the blocks is not what the encoding announced.
            first = found.pop(0)
            leaf.content.close()
            leaf.content, leaf.sha256 = first.content, first.sha256
            leaf.name = leaf.name or first.name
            leaf.text = leaf.text and not leaf.name
            self.why.extend(first.why)
            if encoding == "uuencode" and scanner.outside and "uu_broken" not in first.why:
                self.why.append("uu_outside")
                self._context.anomaly("uu_outside", self.part.offset)
        leaves.extend(found)


class UuFiles:
    """Makes leaves of the files that are found in one part."""

    __slots__ = ("_content", "_context", "_name", "_part", "leaves", "overflow")

    def __init__(self, context: Context, part: Part) -> None:
        self._context = context
        self._part = part
        self._content: Content | None = None
        self._name = ""
        self.leaves: list[Leaf] = []
        self.overflow = False

    def take(self, events: list[UuEvent]) -> None:
        """The next events, in their order."""
        for event in events:
            if isinstance(event, UuBegin):
                if self._context.another_part():
                    self._content = Content(self._context)
                    self._name = file_name(event.name, self._context.limits.name_length)
                else:
                    self.overflow = True
            elif isinstance(event, UuEnd):
                if self._content is not None:
                    self._close(broken=event.broken)
            elif self._content is not None:
                self._content.write(event)

    def _close(self, *, broken: bool) -> None:
        assert self._content is not None  # noqa: S101
        content, digest = self._content.finish()
        self._content = None
        part = Part(
            path=f"{self._part.path}.uu{len(self.leaves) + 1}",
            content_type="application/octet-stream",
            filename=self._name,
            encoding="uuencode",
            depth=self._part.depth + 1,
            offset=self._part.offset,
            doubts=self._part.doubts,
        )
        if self._name:
            self._context.names.append(self._name)
        why = part.doubts
        if broken:
            why = (*why, "uu_broken")
            self._context.anomaly("uu_broken", part.offset)
        self.leaves.append(
            Leaf(
                part=part,
                content=content,
                sha256=digest,
                undecoded=bool(why),
                text=False,
                name=self._name,
                declared="",
                why=why,
            )
        )

    def add(self, name: str, data: bytes, *, broken: bool, over: bool = False) -> None:
        """One whole file."""
        self.overflow = self.overflow or over
        if not self._context.another_part():
            self.overflow = True
            return
        self._content = Content(self._context)
        self._name = file_name(name, self._context.limits.name_length)
        self._content.write(data)
        self._close(broken=broken)

    def discard(self) -> None:
        """Throw away everything."""
        if self._content is not None:
            self._content.discard()
        for leaf in self.leaves:
            leaf.content.close()


def alias(leaf: Leaf, name: str, number: int) -> Leaf:
    """The same content under another name. The spool is shared: it may be closed with either."""
    why = tuple(dict.fromkeys((*leaf.why, "name_ambiguous")))
    return Leaf(
        part=replace(leaf.part, path=reading_path(leaf.path, number), filename=name, other_names=()),
        content=leaf.content,
        sha256=leaf.sha256,
        undecoded=True,
        text=False,
        name=name,
        declared=leaf.declared,
        why=why,
    )


def is_text(part: Part) -> bool:
    """A body text rather than an attachment: text, without a name, not put aside as an attachment."""
    return part.content_type.startswith("text/") and not part.filename and part.disposition != "attachment"

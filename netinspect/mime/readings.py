"""Every reading of an ambiguous message: what other mail programs would take out of it.

The parser reads a message in one way. Where it met something that a reasonable program reads in another (a field
given twice, a boundary in an odd form, base64 with rubbish), the message is read again, and every content that the
first reading did not have is a leaf of its own, at `PATH~b`, `PATH~c`, ...

    leaves += other_readings(parser, leaves, message)

Four ways, cheapest first:

    the body again    the same part under other decoders (`netinspect.mime.alternatives`)
    the last one      the whole message where the last of two equal fields or parameters counts
    the exact name    the whole message where a field counts only under its exact name
    carved            the parts without regard to any boundary (`netinspect.mime.carve`)

An ordinary message has no doubts and is not read again. The number of other readings is bounded
(`Limits.mime_readings`): what is beyond is named as `limit_readings`, and the message then counts as not looked at.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from netinspect.mime.alternatives import decoded, decodings
from netinspect.mime.body import is_text
from netinspect.mime.carve import Carved, Steps, carve
from netinspect.mime.context import Context
from netinspect.mime.describe import IDENTITY, MESSAGES, describe, encodings_named
from netinspect.mime.headers import Headers
from netinspect.mime.names import ending
from netinspect.mime.parser import MimeParser
from netinspect.mime.part import Leaf, Part, reading_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from netinspect.spool import Spool

# Doubts that are about a name, or about what is not in the message at all: reading again finds nothing.
_NOT_AGAIN: Final = frozenset({"name_ambiguous", "partial", "external_body"})
_TWICE: Final = frozenset({"duplicate_header", "duplicate_parameter", "boundary_form", "bad_parameter"})
_CONTAINERS: Final = ("multipart/", "message/")
_OF_ONE: Final = 12  # readings of one part
# Octets that all readings of a message may look at: some for every message, and so many times the message.
_WORK: Final = 16_777_216
_WORK_TIMES: Final = 14
_LOOK: Final = 1024  # what a look costs besides, in octets
_SLOW: Final = 6  # quoted-printable takes so many times what base64 takes


def other_readings(parser: MimeParser, leaves: Sequence[Leaf], message: Spool) -> list[Leaf]:
    """Leaves of other readings, for a parser that was closed and all the leaves it gave.

    A leaf here has `readings_differ` in `why` when it is an attachment, `reading` when it is a text.

    Raises:
        OSError: a spool cannot take more; what was made is closed.
    """
    if not ambiguous(parser, leaves):
        return []
    readings = _Readings(parser.context, leaves)
    try:
        readings.read(message.getvalue())
    except OSError:
        readings.discard()
        raise
    return readings.leaves


def ambiguous(parser: MimeParser, leaves: Sequence[Leaf]) -> bool:
    """Whether there may be other readings."""
    if parser.context.doubtful:
        return bool(leaves)
    for leaf in leaves:
        for why in leaf.why:
            if why not in _NOT_AGAIN and not why.startswith("limit"):
                return True
    return False


class _Readings:
    """What is known, and what was found besides."""

    __slots__ = ("_context", "_done", "_known", "_numbers", "_over", "_primary", "_work", "leaves")

    def __init__(self, context: Context, leaves: Sequence[Leaf]) -> None:
        self._context = context
        self._primary = leaves
        self._known: dict[str, set[str]] = {}
        for leaf in leaves:
            self._known.setdefault(leaf.sha256, set()).add(ending(leaf.name))
        self._numbers: dict[str, int] = {}
        for leaf in leaves:
            path, tilde, _ = leaf.path.partition("~")
            if tilde:
                self._numbers[path] = self._numbers.get(path, 0) + 1
        self._over = False
        self._done: set[tuple[str, int, int, str]] = set()
        self._work = 0
        self.leaves: list[Leaf] = []

    def discard(self) -> None:
        """Throw away what was made."""
        for leaf in self.leaves:
            leaf.content.close()
        self.leaves.clear()

    def read(self, message: bytes) -> None:
        """All readings of one message, and of the encoded messages in it."""
        self._work = _WORK + _WORK_TIMES * len(message)
        self._read_one(message, "")
        encoded = {leaf.part.source for leaf in self._primary} - {""}
        for leaf in self._primary:
            if leaf.path in encoded:
                self._read_one(leaf.content.getvalue(), leaf.path)
        kinds = {anomaly.kind for anomaly in self._context.anomalies}
        if not _TWICE.isdisjoint(kinds) and self._may(message, self._primary[0].part):
            self._whole(message, Context(self._context.limits, self._context.new_spool, last=True))
        if "field_name_form" in kinds and self._may(message, self._primary[0].part):
            self._whole(message, Context(self._context.limits, self._context.new_spool, strict=True))

    def _may(self, raw: bytes, part: Part, weight: int = 1) -> bool:
        """Pay for one more look at `raw`; False when there was enough work."""
        self._work -= len(raw) * weight + _LOOK
        if self._work < 0 and not self._over:
            self._limit(part)
        return not self._over

    def _read_one(self, raw: bytes, source: str) -> None:
        mine = [leaf for leaf in self._primary if leaf.part.source == source and "~" not in leaf.path]
        # Lines of a length that fits nothing show in one part and not in the next, as the sum happens to be.
        lines = any("base64_padding" in leaf.why for leaf in mine)
        for leaf in mine:
            if leaf.why or (lines and leaf.part.encoding == "base64"):
                self._body_again(raw, leaf, lines=lines)
        if self._may(raw, self._primary[0].part):
            self._carved(raw, mine, source)

    # --- ways -------------------------------------------------------------------------------------------------

    def _body_again(self, message: bytes, leaf: Leaf, *, lines: bool) -> None:
        part = leaf.part
        if not part.length:
            return
        raw = message[part.offset : part.offset + part.length]
        self._done.add((part.source, part.offset, part.offset + part.length, part.encoding))
        why = (*leaf.why, "base64_padding") if lines else leaf.why
        if part.content_type in MESSAGES and part.encoding not in IDENTITY and self._may(raw, part):
            # RFC 2046 §5.2.1 allows a message no encoding: who keeps to that reads what stands there.
            self._container(part, leaf.path, raw)
        self._decodings(raw, part, leaf.path, why, again=True)

    def _decodings(self, raw: bytes, part: Part, path: str, why: Iterable[str], *, again: bool = False) -> None:
        """`raw` under every encoding that the header names and in every way to undo it.

        `again` tells that it was decoded before, and that `why` names all that was wrong.
        """
        fields = part.headers.get_all("content-transfer-encoding")
        names = list(dict.fromkeys(name for field in fields for name in encodings_named(field)))
        if len({field.strip().lower() for field in fields}) > 1 or "unknown_encoding" in why:
            names.append("7bit")
        if "unknown_encoding" in why:
            names += ["base64", "quoted-printable", "uuencode"]
        if part.encoding not in names:
            names.append(part.encoding)
        count = 0
        for name in dict.fromkeys(names):
            if not self._may(raw, part):
                return
            data, problems = b"", set(why)
            if name != part.encoding or not again:
                data, problems = decoded(raw, name, self._context.limits.message_size)
            if name != part.encoding and not (name == "base64" and "unknown_encoding" in why and problems):
                count += self._add(part, path, data)
            if name != part.encoding and name != "base64":
                continue
            for other in decodings(raw, name, problems.union(why)):
                if count >= _OF_ONE or not self._may(raw, part, 1 if name == "base64" else _SLOW):
                    return
                if other is None:
                    self._limit(part)
                    return
                count += self._add(part, path, other)

    def _whole(self, message: bytes, context: Context) -> None:
        """The message once more, as `context` says."""
        parser = MimeParser.again(context)
        found: list[Leaf] = []
        try:
            found += parser.feed(message)
            found += parser.close()
            while found:
                leaf = found.pop(0)
                try:
                    if "~" not in leaf.path:
                        self._add(leaf.part, leaf.path, leaf.content.getvalue(), name=leaf.name)
                finally:
                    leaf.content.close()
        except OSError:
            parser.discard()
            for leaf in found:
                leaf.content.close()
            raise

    def _carved(self, message: bytes, mine: Sequence[Leaf], source: str) -> None:
        root = f"{source}.1" if source else "1"
        places = sorted((leaf.part.offset, leaf.path) for leaf in mine)
        offsets = [offset for offset, _ in places]
        steps = Steps()
        for carved in carve(message, steps):
            at = bisect_right(offsets, carved.start) - 1
            path = places[at][1] if at >= 0 else root
            self._carved_part(message, carved, path, source)
            if self._over:
                return
        if steps.left < 0:
            self._limit(self._primary[0].part)

    def _carved_part(self, message: bytes, carved: Carved, path: str, source: str) -> None:
        context = Context(self._context.limits, self._context.new_spool)
        part = Part(path=path, headers=Headers(), offset=carved.start)
        for name, value in carved.fields:
            part.headers.add(name, value)
        describe(part, context, digest=False)
        if part.content_type.startswith(_CONTAINERS) and part.encoding in IDENTITY:
            return  # its parts are carved for themselves
        for start in (carved.start, carved.junk):
            if not 0 <= start < carved.stop or (source, start, carved.stop, part.encoding) in self._done:
                continue
            raw = message[start : carved.stop]
            if not self._may(raw, part):
                return
            data, problems = decoded(raw, part.encoding, context.limits.message_size)
            if part.content_type.startswith(_CONTAINERS):
                self._container(part, path, data)
                continue
            self._add(part, path, data)
            if problems or part.doubts:
                self._decodings(raw, part, path, part.doubts)

    def _container(self, part: Part, path: str, data: bytes) -> None:
        """A multipart or message that was encoded: its parts are found in what was decoded."""
        message = data
        if part.content_type not in MESSAGES:
            message = b"Content-Type: " + part.headers.get_all("content-type")[0].strip() + b"\r\n\r\n" + data
        parser = MimeParser.again(Context(self._context.limits, self._context.new_spool))
        for leaf in [*parser.feed(message), *parser.close()]:
            try:
                # QUIRK: scripts declare multiparts quoted-printable that are not, and hardly anybody decodes those.
                soft = part.encoding == "quoted-printable"
                self._add(leaf.part, path, leaf.content.getvalue(), name=leaf.name, soft=soft)
            finally:
                leaf.content.close()

    # --- result -----------------------------------------------------------------------------------------------

    def _add(self, part: Part, path: str, data: bytes, name: str | None = None, *, soft: bool = False) -> int:
        """One content of another reading: 1 when it is new, 0 when it is known or nothing."""
        if not data.strip() or self._over:
            return 0
        name = part.filename if name is None else name
        digest = hashlib.sha256(data).hexdigest()
        endings = self._known.get(digest)
        what = ending(name)
        if endings is not None and (not what or what in endings):
            return 0
        if len(self.leaves) >= self._context.limits.mime_readings:
            self._limit(part)
            return 0
        self._known.setdefault(digest, set()).add(what)
        text = is_text(part) and not name
        content = self._context.new_spool()
        try:
            content.write(data)
            content.flush()
        except OSError:
            content.close()
            raise
        base = path.partition("~")[0]
        number = self._numbers[base] = self._numbers.get(base, 0) + 1
        where = reading_path(base, number)
        kind = "reading" if text or soft else "readings_differ"
        self._context.anomaly(kind, part.offset, where)
        if name and name not in self._context.names:
            self._context.names.append(name)
        self.leaves.append(
            Leaf(
                part=Part(
                    path=where,
                    headers=part.headers,
                    content_type=part.content_type,
                    params=part.params,
                    disposition=part.disposition,
                    filename=part.filename,
                    encoding=part.encoding,
                    depth=part.depth,
                    offset=part.offset,
                    doubts=part.doubts,
                ),
                content=content,
                sha256=digest,
                undecoded=True,
                text=text,
                name=name,
                declared=part.content_type,
                why=(kind,),
            )
        )
        return 1

    def _limit(self, part: Part) -> None:
        self._over = True
        self._context.anomaly("limit_readings", part.offset)
        leaf = (self.leaves or self._primary)[-1]
        leaf.why = (*leaf.why, "limit_readings")
        leaf.undecoded = True

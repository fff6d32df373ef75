"""The incremental parser: octets of a message in, leaves out.

The strategy: octets wait in one buffer only as long as they may mean two things. A header block waits for its blank
line, a body for the start of its last line when that may become a delimiter; all else goes on to the body's decoder
at once. Two states, each a method that says whether it could go on:

    _header    a header block: ends with a blank line, at a delimiter, at a limit, at the end
    _body      the body of a leaf, or the text before, between and after the parts of a multipart

A nested message that is not encoded is only another header block (RFC 2046 §5.2.1). One that is encoded (which RFC
2045 §6.4 forbids and programs read) is decoded into a spool and then parsed by a parser of its own.

    parser = MimeParser(limits, new_spool)
    for data in pieces:
        for leaf in parser.feed(data): ...
    for leaf in parser.close(): ...
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netinspect.mime.body import Body
from netinspect.mime.boundaries import Boundaries, Delimiter
from netinspect.mime.context import Context
from netinspect.mime.describe import IDENTITY, MESSAGES, describe
from netinspect.mime.headers import HeaderBlock
from netinspect.mime.part import Leaf, Part
from netinspect.mime.summary import MailSummary, summarise

if TYPE_CHECKING:
    from collections.abc import Callable

    from netinspect.anomaly import Anomaly
    from netinspect.limits import Limits
    from netinspect.spool import Spool

# Less than this is not worth a call of the decoder; a delimiter is still seen at once.
_WORTHWHILE: Final = 16_384
_SLICE: Final = 65_536
# Fields of a part that are kept whatever they say; beyond, only those of MIME.
_FIELDS: Final = 64
# Encoded messages in encoded messages: each level costs the whole message once more.
_ENCODED_LEVELS: Final = 8


class MimeParser:
    """One message. How it was cut into pieces changes nothing but the moment a leaf comes out.

    Raises:
        OSError: from `feed` and `close` when a spool cannot take more. Then call `discard`.
        ValueError: from `feed` after `close`.
    """

    __slots__ = (
        "_base",
        "_block",
        "_body_now",
        "_boundaries",
        "_buffer",
        "_closed",
        "_context",
        "_digest",
        "_encoded",
        "_leaves",
        "_looked",
        "_part",
        "_position",
        "_searched",
        "_state",
        "_summary",
        "root",
    )

    def __init__(self, limits: Limits, new_spool: Callable[[], Spool]) -> None:
        self._start(Context(limits, new_spool), Part(path="1"), 0)

    @classmethod
    def again(cls, context: Context) -> MimeParser:
        """A parser for another reading, with an account that says how to read."""
        return cls._nested(context, Part(path="1"), 0)

    @classmethod
    def _nested(cls, context: Context, root: Part, encoded: int) -> MimeParser:
        parser = cls.__new__(cls)
        parser._start(context, root, encoded)
        return parser

    def _start(self, context: Context, root: Part, encoded: int) -> None:
        self.root = root
        self._context = context
        self._encoded = encoded
        self._buffer = bytearray()
        self._base = 0  # octets of the message before the buffer
        self._position = 0  # first octet in the buffer that was not dealt with
        self._block = 0  # start of the header block
        self._looked = 0  # no blank line begins before this
        self._searched = 0  # no delimiter begins before this
        self._boundaries = Boundaries()
        self._part = root
        self._digest = False
        self._body_now: Body | None = None
        # A function and no bound method: that would be a cycle, and all of the message's parts wait for the collector.
        self._state = MimeParser._header
        self._leaves: list[Leaf] = []
        self._summary: MailSummary | None = None
        self._closed = False

    # --- for the caller ---------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The message's account, for those who read it in other ways (`netinspect.mime.readings`)."""
        return self._context

    @property
    def anomalies(self) -> list[Anomaly]:
        """What was malformed so far. Offsets count octets of the message."""
        return self._context.anomalies

    @property
    def mail(self) -> MailSummary | None:
        """The header as a reader would see it; None until it is complete. Attachments are those seen so far."""
        if self._summary is None:
            if self._part is self.root and self._body_now is None and not self._closed:
                return None
            self._summary = summarise(self.root.headers, self._context.limits)
        names = self._context.names
        return replace(self._summary, attachments=tuple(names)) if names else self._summary

    def feed(self, data: bytes) -> list[Leaf]:
        """Take the next octets; return the leaves that are complete now, in wire order."""
        if self._closed:
            raise ValueError("the parser is closed")
        if len(data) <= 2 * _SLICE:
            self._buffer += data
            return self._run(final=False)
        # A search costs what is in the buffer: many parts in one big piece would cost its square.
        leaves: list[Leaf] = []
        view = memoryview(data)
        try:
            for start in range(0, len(data), _SLICE):
                self._buffer += view[start : start + _SLICE]
                leaves += self._run(final=False)
        except OSError:
            self._leaves += leaves
            raise
        return leaves

    def close(self) -> list[Leaf]:
        """End of the message: return the rest. A second call returns nothing."""
        if self._closed:
            return []
        leaves = self._run(final=True)
        self._closed = True
        for entry in reversed(self._boundaries.stack):
            if not entry.closed:
                self._context.anomaly("missing_close_boundary", entry.part.offset)
        return leaves

    def discard(self) -> None:
        """Throw away what was not returned yet. For a message that is not wanted any more."""
        self._closed = True
        self._buffer.clear()
        if self._body_now is not None:
            self._body_now.discard()
            self._body_now = None
        for leaf in self._leaves:
            leaf.content.close()
        self._leaves = []

    def _run(self, *, final: bool) -> list[Leaf]:
        while self._state(self, final=final):
            pass
        leaves, self._leaves = self._leaves, []
        # One octet stays: the LF before the next line may be that of a delimiter.
        done = self._position - 1
        if done > 0:
            del self._buffer[:done]
            self._base += done
            self._position = 1
            self._block -= done
            self._looked -= done
            self._searched -= done
        return leaves

    # --- states -----------------------------------------------------------------------------------------------

    def _header(self, *, final: bool) -> bool:
        buffer = self._buffer
        start = self._block
        limit = start + self._context.limits.header_bytes
        end = after = -1
        head = buffer[start : start + 2]
        if head[:1] == b"\n":
            end, after = start, start + 1
        elif head == b"\r\n":
            end, after = start, start + 2
        elif len(head) < 2 and not final:
            return False
        else:
            end, after = self._blank_line(limit)
        if self._boundaries.stack:
            stop = min(end, limit) if end >= 0 else limit
            found = self._boundaries.search(buffer, max(self._searched, start - 1), stop, final=final)
            self._suspects()
            if isinstance(found, Delimiter):
                # The part ended before its blank line; the body, if there is one, is looked for from here.
                if found.start > start:
                    self._context.anomaly("delimiter_in_header", self._base + found.start + 1)
                    self._context.doubtful = True
                return self._described(start, found.start + 1, found.start + 1, blank_line=False)
            if found is not None and end < 0:
                self._searched = found.start
                return False
            unfinished = self._boundaries.unfinished(buffer, start - 1)
            self._searched = unfinished if unfinished >= 0 else max(len(buffer) - 1, start - 1)
        if end < 0 and len(buffer) < limit + 3 and not final:
            return False
        if 0 <= end <= limit:
            return self._described(start, end, after, blank_line=True)
        if len(buffer) > limit:
            self._doubt("limit_header_bytes")
            return self._described(start, limit, limit, blank_line=True)
        return self._described(start, len(buffer), len(buffer), blank_line=False)

    def _blank_line(self, limit: int) -> tuple[int, int]:
        """Where the header block ends and where the body starts, (-1, -1) while no blank line is there."""
        buffer = self._buffer
        crlf = buffer.find(b"\n\r\n", self._looked, limit + 3)
        bare = buffer.find(b"\n\n", self._looked, crlf + 1 if crlf >= 0 else limit + 2)
        # The next part goes on from here: many parts without a blank line would cost the square of the buffer.
        if bare >= 0:
            self._looked = bare
            return bare + 1, bare + 2
        if crlf >= 0:
            self._looked = crlf
            return crlf + 1, crlf + 3
        self._looked = max(self._looked, min(len(buffer) - 2, limit))
        return -1, -1

    def _body(self, *, final: bool) -> bool:
        buffer = self._buffer
        body = self._body_now
        if body is None:  # after the end
            return False
        position = self._position
        size = len(buffer)
        if not self._boundaries.stack:
            if position < size:
                body.write(bytes(memoryview(buffer)[position:size]))
                self._position = size
            if final:
                self._finish_body()
            return False
        found = self._boundaries.search(buffer, max(self._searched, position - 1), size, final=final)
        self._suspects()
        if isinstance(found, Delimiter):
            self._write(body, found.start)
            self._finish_body(found)
            self._delimiter(found)
            return True
        if final:
            self._write(body, size, whole=True)
            self._finish_body()
            return False
        held = found.start if found is not None else self._boundaries.unfinished(buffer, position - 1)
        self._searched = held if held >= 0 else size
        safe = held if held >= 0 else size
        if safe - position >= _WORTHWHILE:
            self._write(body, safe)
        return False

    def _write(self, body: Body, stop: int, *, whole: bool = False) -> None:
        """Hand the octets before `stop` to the body; a CR right before it waits, or belongs to the delimiter."""
        start = self._position
        if not whole and stop > start and self._buffer[stop - 1] == 0x0D:
            stop -= 1
        if stop > start:
            body.write(bytes(memoryview(self._buffer)[start:stop]))
            self._position = stop

    # --- what happens between the states ----------------------------------------------------------------------

    def _suspects(self) -> None:
        suspects = self._boundaries.suspects
        if suspects:
            for at in suspects:
                self._context.anomaly("boundary_suffix", self._base + at + 1)
            suspects.clear()
            self._doubt("boundary_suffix")

    def _doubt(self, kind: str) -> None:
        if self._body_now is not None:
            if kind not in self._body_now.why:
                self._body_now.why.append(kind)
        elif kind not in self._part.doubts:
            self._part.doubts = (*self._part.doubts, kind)
        if kind.startswith("limit_"):
            self._context.anomaly(kind, self._base + self._position)

    def _described(self, start: int, end: int, after: int, *, blank_line: bool) -> bool:
        """The header block of the current part is complete: find out what it is and go on with its body."""
        part, context = self._part, self._context
        block = bytes(self._buffer[start:end])
        parsed = HeaderBlock(block, context.limits.header_count, strict=context.strict)
        part.headers = parsed.headers
        if parsed.overflow >= 0:
            self._doubt("limit_header_count")
        if parsed.blank:
            # RFC 5322 §4.2 allows it, programs differ on whether the header ends there.
            context.anomaly("blank_continuation", self._base + start)
            self._doubt("blank_continuation")
        if parsed.hidden:
            context.anomaly("hidden_field", self._base + start)
            self._doubt("hidden_field")
        if parsed.odd:
            context.anomaly("field_name_form", self._base + start)
            self._doubt("field_name_form")
        if parsed.mark:
            context.anomaly("byte_order_mark", self._base + start)
        if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
            # RFC 5322 §2.3 forbids it; to some programs a CR alone is a line end.
            context.anomaly("bare_cr", self._base + start)
            self._doubt("bare_cr")
        junk = block[parsed.junk :] if parsed.junk >= 0 else b""
        if junk:
            context.anomaly("bad_header_line", self._base + start + parsed.junk)
            if not blank_line:
                # No blank line at all: what is no field is the body.
                after, junk = start + parsed.junk, b""
            else:
                self._doubt("bad_header_line")
        part.offset = self._base + after
        part.header_offset = self._base + start
        part.header_length = min(end, after) - start
        self._position = after
        self._searched = after - 1
        boundary = describe(part, context, digest=self._digest)
        if part is not self.root and len(part.headers) > _FIELDS:
            part.headers.shorten()
        if junk:
            self._aside(part, "header", junk)
        container = bool(boundary) or (part.content_type in MESSAGES and part.encoding in IDENTITY)
        if container and part.depth >= context.limits.mime_depth:
            self._doubt("limit_mime_depth")
            container = False
        if not container:
            self._body_now = Body(part, context, marks=self._boundaries.marks)
        elif boundary:
            self._boundaries.push(part, boundary)
            self._body_now = Body(
                self._pseudo(part, "preamble"), context, outside=True, marks=self._boundaries.marks
            )
        else:
            return self._child(part, 1, digest=False)
        self._state = MimeParser._body
        return True

    def _child(self, parent: Part, number: int, *, digest: bool) -> bool:
        """Start the header block of a new part; what is beyond the number of parts is one unread leaf."""
        if not self._context.another_part():
            self._rest(parent)
            return True
        part = Part(
            path=f"{parent.path}.{number}",
            depth=parent.depth + 1,
            offset=self._base + self._position,
            doubts=parent.doubts,
            source=parent.source,
        )
        parent.children.append(part)
        self._part = part
        self._digest = digest
        self._body_now = None
        self._block = self._position
        self._looked = max(self._looked, self._position)
        self._searched = self._position - 1
        self._state = MimeParser._header
        return True

    def _rest(self, parent: Part) -> None:
        """There are too many parts: what follows is one unread leaf."""
        part = self._pseudo(parent, "rest")
        part.content_type = "application/octet-stream"
        self._context.anomaly("limit_mime_parts", self._base + self._position)
        part.doubts = (*part.doubts, "limit_mime_parts")
        self._boundaries = Boundaries()
        self._body_now = Body(part, self._context)
        self._state = MimeParser._body

    def _delimiter(self, found: Delimiter) -> None:
        boundaries, context = self._boundaries, self._context
        for entry in boundaries.cut(found.level):
            if not entry.closed:
                context.anomaly("missing_close_boundary", entry.part.offset)
        entry = boundaries.stack[found.level]
        at = self._base + found.start + 1
        self._position = min(found.end + 1, len(self._buffer))
        self._searched = self._position - 1
        if entry.closed:
            # RFC 2046 §5.1.1: what follows the closing delimiter is to be ignored; not everybody does.
            context.anomaly("boundary_after_close", at)
        if found.closing:
            boundaries.close(found.level)
            entry.ends += 1
            if entry.ends > 1 and not context.another_part():
                self._rest(entry.part)
                return
            epilogue = "epilogue" if entry.ends == 1 else f"epilogue{entry.ends}"
            self._body_now = Body(
                self._pseudo(entry.part, epilogue), context, outside=True, marks=boundaries.marks
            )
            self._state = MimeParser._body
            return
        entry.parts += 1
        self._child(entry.part, entry.parts, digest=entry.part.content_type == "multipart/digest")

    def _finish_body(self, found: Delimiter | None = None) -> None:
        body = self._body_now
        if body is None:
            return
        part = body.part
        if body.outside and part.path.endswith(".preamble"):
            innermost = len(self._boundaries.stack) - 1
            if found is None or found.closing or found.level != innermost:
                # A multipart without a part: what it holds may be shown as text, or taken for anything.
                body.why.append("no_parts")
                self._context.anomaly("no_parts", part.offset)
        leaves = body.finish()
        self._body_now = None
        self._leaves += leaves
        if leaves and part.content_type in MESSAGES and not body.outside and part.encoding not in IDENTITY:
            self._encoded_message(leaves[0])

    def _encoded_message(self, leaf: Leaf) -> None:
        """Parse what was decoded as a message of its own; its leaves follow the decoded file itself."""
        part, context = leaf.part, self._context
        if self._encoded >= _ENCODED_LEVELS or part.depth >= context.limits.mime_depth:
            kind = "limit_mime_depth"
            context.anomaly(kind, part.offset)
        elif not context.another_part():
            kind = "limit_mime_parts"
            context.anomaly(kind, part.offset)
        else:
            root = Part(path=f"{part.path}.1", depth=part.depth + 1, doubts=leaf.why, source=part.path)
            part.children.append(root)
            nested = MimeParser._nested(context, root, self._encoded + 1)
            try:
                for chunk in leaf.content.chunks():
                    self._leaves += nested.feed(chunk)
                self._leaves += nested.close()
            except OSError:
                nested.discard()
                raise
            return
        leaf.why = (*leaf.why, kind)
        leaf.undecoded = True

    def _aside(self, part: Part, what: str, data: bytes) -> None:
        """Make a leaf of octets that no part holds."""
        body = Body(self._pseudo(part, what), self._context, outside=True)
        body.write(data)
        body.part.length = 0  # it is not what stands at the part's offset
        self._leaves += body.finish()

    @staticmethod
    def _pseudo(part: Part, what: str) -> Part:
        return Part(
            path=f"{part.path}.{what}",
            depth=part.depth + 1,
            offset=part.offset,
            doubts=part.doubts,
            source=part.source,
        )

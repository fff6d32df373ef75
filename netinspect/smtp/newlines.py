"""Line ends that are not CRLF, and what can be hidden behind them (RFC 5321 §2.3.8, CVE-2023-51764 and its kin).

Strategy: almost every message is clean, so the question "is there any bare CR, bare LF or NUL" must cost one fast
pass. `io.IncrementalNewlineDecoder` answers it in C (0.4 ms/MB, half of what counting CR, LF and CRLF costs; a
regular expression costs 18 ms/MB). Only a message that is not clean pays for looking closer, and from then on every
piece of it is looked at.

The caller never cuts a region between CR and LF, nor behind a dot that stands at the start of a line.
"""

from __future__ import annotations

import io
import re

from netinspect.anomaly import Anomaly

_BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_NEWLINE = re.compile(rb"[\r\n]")
_NULS = re.compile(rb"\0\0+")

# A lone dot of which one line end at least is not CRLF. CRLF.CRLF itself is end-of-data in DATA and legal in BDAT.
LONE_DOT = re.compile(rb"(?:(\r\n)\.(?=(\n|\r(?!\n)))|((?<!\r)\n|\r)\.(?=(\r\n|\n|\r)))")
# A NUL beside the dot: servers that drop NULs see a lone dot there. Runs of NUL are made one NUL before. A dot in
# front of that is taken away with the stuffing, and what is left is the same again.
_NUL_DOT = re.compile(rb"(\r\n|\n|\r)(\.?\0\.\0?|\.\0)(?=(\r\n|\n|\r))")

_NAMES = {b"\r\n": "CRLF", b"\n": "LF", b"\r": "CR"}
_CONTEXT = 6
"""Octets of the past that can belong to a lone dot whose closing line end is still to come: CR LF . NUL . NUL."""


class Newlines:
    """Watches the line ends of one message; tells each kind of malformation once, with its first offset.

    `dirty` is set with the first octet that is not clean and stays. `smuggling` is set by a lone dot that some
    server could take for end-of-data. When the caller normalises newlines, a lone dot is made harmless and told as
    `normalized_newline` instead; with a NUL beside it, it stays smuggling.
    """

    __slots__ = ("_decoder", "_normalize", "_told", "_view", "dirty", "smuggling")

    def __init__(self, *, normalize: bool) -> None:
        self._decoder = io.IncrementalNewlineDecoder(None, translate=False)
        self._normalize = normalize
        self._told: set[str] = set()
        self._view = b""
        self.dirty = False
        self.smuggling = False

    def check(self, past: bytes, region: bytes, offset: int) -> list[Anomaly]:
        """Look at the next `region` of the message, which begins at `offset` of the stream.

        `past` are the two octets before it. The anomalies come in the order of their offsets. A smuggling anomaly
        stands at the line end that closes the lone dot.
        """
        if not self.dirty:
            # `final`: a CR at the region's end is no half of a CRLF.
            self._decoder.decode(region.decode("latin-1"), final=True)
            if self._decoder.newlines in ("\r\n", None) and b"\0" not in region:
                return []
            self.dirty = True
            self._view = past
        return self._look(region, offset)

    def _look(self, region: bytes, offset: int) -> list[Anomaly]:
        found: list[Anomaly] = []
        nul = region.find(b"\0")
        if nul >= 0 and "nul" not in self._told:
            found.append(self._tell("nul", offset + nul))
        pairs = region.count(b"\r\n")
        if "bare_lf" not in self._told and region.count(b"\n") != pairs:
            match = _BARE_LF.search(region)
            if match:
                found.append(self._tell("bare_lf", offset + match.start()))
        if "bare_cr" not in self._told and region.count(b"\r") != pairs:
            match = _BARE_CR.search(region)
            if match:
                found.append(self._tell("bare_cr", offset + match.start()))

        past = len(self._view)
        view = self._view + region
        if nul >= 0:
            view = _NULS.sub(b"\0", view)
        if b"." in view:
            self._lone_dots(view, past, region, offset, found)
        # One more, to tell an LF from the second half of a CRLF.
        self._view = view[-_CONTEXT - 1 :]
        if len(found) > 1:
            found.sort(key=lambda anomaly: (anomaly.offset, anomaly.kind))
        return found

    def _lone_dots(self, view: bytes, past: int, region: bytes, offset: int, found: list[Anomaly]) -> None:
        hits: list[tuple[int, str, str]] = []
        # A dot that begins earlier has been looked at together with its closing line end.
        oldest = max(0, past - _CONTEXT)
        lone_kind = "normalized_newline" if self._normalize else "smuggling"
        if lone_kind not in self._told and _may_hold(view):
            lone = LONE_DOT.search(view, oldest)
            if lone:
                before, after = (lone[1], lone[2]) if lone[1] else (lone[3], lone[4])
                hits.append((lone.end(), lone_kind, f"{_NAMES[before]}.{_NAMES[after]}"))
        if "smuggling" not in self._told and b"\0" in view:
            hidden = _NUL_DOT.search(view, oldest)
            if hidden:
                middle = hidden[2].replace(b"\0", b" NUL ").decode()
                hits.append((hidden.end(), "smuggling", _NAMES[hidden[1]] + middle + _NAMES[hidden[3]]))
        for position, kind, detail in sorted(hits):
            if kind not in self._told:
                if kind == "smuggling":
                    self.smuggling = True
                # Newlines keep their number when runs of NUL shrink, so they carry the position over.
                nth = view.count(b"\r", past, position) + view.count(b"\n", past, position)
                found.append(self._tell(kind, offset + _nth_newline(region, nth), detail))

    def _tell(self, kind: str, offset: int, detail: str = "") -> Anomaly:
        self._told.add(kind)
        return Anomaly(kind, "smtp", offset, detail)


def _may_hold(view: bytes) -> bool:
    """Whether a lone dot is possible; spares most dirty messages the slow search."""
    return b"\n.\n" in view or b"\n.\r" in view or b"\r.\r" in view or b"\r.\n" in view


def _nth_newline(region: bytes, nth: int) -> int:
    for index, match in enumerate(_NEWLINE.finditer(region)):
        if index == nth:
            return match.start()
    return len(region)


def to_crlf(data: bytes) -> bytes:
    """Every line end a CRLF; `data` begins and ends between lines or inside one, never between CR and LF."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

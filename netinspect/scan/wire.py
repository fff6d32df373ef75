"""Frames between the pool and a worker, and the reading of what a worker says.

    frame    = length of the JSON (4 octets, little endian), length of the octets behind it (4), JSON, octets
    settings = {"limits": {...}, "rules": [[origin, text], ...], "office": bool, "faults": bool, ...}
    ready    = {"fingerprint": text, "confined": [text, ...]} or {"error": [message, place, remedy]}
    job      = [[size, descriptor or -1, name, declared, path, sha256, text], ...]; octets of the -1 ones in order
    answer   = [retire, [[artifacts, findings, unscanned, anomalies], ...]]; where a password opened something the
               fifth is [[sha256, size or -1 for "too much"], ...], and its octets stand behind in order

    job      = {"clean": [size, descriptor or -1, name, declared]}; octets of one with -1
    answer   = [retire, [[what, where], ...]]; octets of the cleaned file; or [retire, why it cannot be cleaned]

A worker handles hostile octets, so what it answers is not trusted: JSON only, bounded, each field checked.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, cast, get_args

from netinspect.anomaly import Anomaly, Layer
from netinspect.disarm.contract import Cleaned, Removal
from netinspect.files.artifact import Artifact, Hashes, State
from netinspect.scan.contract import Category, Examination, Finding, Opened, Unscanned

Octets: TypeAlias = bytes | bytearray | memoryview

HEADER: Final = struct.Struct("<II")

OPENED: Final = 33_554_432
"""Octets of what passwords opened that come back with one answer, for clamd; beyond it that is unscanned by clamd."""

ANSWER_LIMIT: Final = 16_777_216
"""Octets of one answer: `examine.LISTED` artifacts with long names for each leaf of a batch fit in."""

MAX_DESCRIPTORS: Final = 8
"""Descriptors that travel with one job (the kernel takes 253)."""

REMOVALS: Final = 1000
"""Removals of one file that are listed, as `examine.LISTED` bounds its lists."""
_WHAT: Final = 64
_WHERE: Final = 300
"""Characters of the two fields of a removal; `_WHERE` also of the reason why a file cannot be cleaned."""

_CATEGORIES: Final = frozenset(get_args(Category))
_LAYERS: Final = frozenset(get_args(Layer))
_STATES: Final = frozenset(get_args(State))

_FIELD: Final = "a field that cannot be"

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class BadAnswer(Exception):
    """A worker answered something that is no answer."""


def frame(value: Any, *octets: Octets) -> list[Octets]:
    """One frame as the pieces to send, `octets` uncopied."""
    text = _encode(value).encode("ascii")
    size = sum(memoryview(piece).nbytes for piece in octets)
    return [HEADER.pack(len(text), size) + text, *octets]


def load(text: Octets) -> Any:
    """Read the JSON of a frame. Raises BadAnswer."""
    try:
        return json.loads(str(text, "ascii"))
    except (ValueError, RecursionError) as error:
        raise BadAnswer("no JSON") from error


def pack(examination: Examination) -> list[Any]:
    """An examination as plain lists."""
    packed = [
        [
            [a.hashes.sha256, a.hashes.sha1, a.hashes.md5, a.size, a.magic, a.path, a.name, a.declared, a.parent_sha256,
             a.state, a.text] for a in examination.artifacts
        ],
        [[f.engine, f.signature, f.category, f.severity, f.sha256, f.detail] for f in examination.findings],
        [[u.engine, u.reason, u.sha256] for u in examination.unscanned],
        [[a.kind, a.layer, a.offset, a.detail] for a in examination.anomalies],
    ]  # fmt: skip
    if examination.opened:
        packed.append([[one.sha256, -1 if one.data is None else len(one.data)] for one in examination.opened])
    return packed


def read_answer(text: Octets, asked: Sequence[str], octets: Octets = b"") -> tuple[bool, list[Examination]]:
    """Whether the worker retires, and one examination for each SHA-256 in `asked`. Raises BadAnswer.

    `octets` are those behind the JSON: what passwords opened, for all examinations one after the other.
    """
    try:
        retire, examinations = load(text)
        if len(examinations) != len(asked):
            raise BadAnswer("another number of answers than questions")
        rest = _Rest(octets)
        found = [unpack(packed, sha256, rest) for packed, sha256 in zip(examinations, asked, strict=True)]
        _require(not rest.left)
        return retire is True, found
    except (TypeError, ValueError) as error:
        raise BadAnswer("not the shape of an answer") from error


class _Rest:
    """Octets that are given out piece by piece."""

    __slots__ = ("_at", "_view")

    def __init__(self, octets: Octets) -> None:
        self._view = memoryview(octets)
        self._at = 0

    @property
    def left(self) -> int:
        """Octets that nobody has taken."""
        return len(self._view) - self._at

    def take(self, size: int) -> bytes:
        """The next octets. Raises BadAnswer."""
        _require(size <= self.left)
        self._at += size
        return bytes(self._view[self._at - size : self._at])


def unpack(packed: Any, sha256: str, rest: _Rest | None = None) -> Examination:
    """Check one examination, which must be about `sha256` (`""`: any). Raises BadAnswer, TypeError or ValueError."""
    artifacts, findings, unscanned, anomalies, *more = packed
    _require(len(more) <= 1)
    opened = more[0] if more else ()
    known = tuple([_artifact(*row) for row in artifacts])
    if not known or (sha256 and known[0].hashes.sha256 != sha256):
        raise BadAnswer("an answer about something else")
    if not findings and not unscanned and not anomalies and not opened:
        return Examination(known)
    return Examination(
        known,
        tuple([_finding(*row) for row in findings]),
        tuple([_unscanned(*row) for row in unscanned]),
        tuple([_anomaly(*row) for row in anomalies]),
        tuple([_opened(rest or _Rest(b""), *row) for row in opened]),
    )


def pack_cleaned(cleaned: Cleaned) -> list[list[str]]:
    """The removals as plain lists; the octets follow the frame. What is listed is bounded, what is removed is not."""
    return [[one.what[:_WHAT], one.where[:_WHERE]] for one in cleaned.removed[:REMOVALS]]


def pack_reason(reason: str) -> str:
    """Why a file cannot be cleaned."""
    return reason[:_WHERE]


def read_cleaned(text: Octets, octets: Octets) -> tuple[bool, Cleaned | str]:
    """Whether the worker retires, and the cleaned file or why there is none. Raises BadAnswer."""
    try:
        retire, answer = load(text)
        if type(answer) is str:
            _require(len(answer) <= _WHERE and not len(octets))
            return retire is True, answer or "no reason given"
        _require(type(answer) is list and len(answer) <= REMOVALS)
        return retire is True, Cleaned(bytes(octets), tuple([_removal(*row) for row in answer]))
    except (TypeError, ValueError) as error:
        raise BadAnswer("not the shape of an answer") from error


def _removal(what: Any, where: Any) -> Removal:
    _require(type(what) is type(where) is str and len(what) <= _WHAT and len(where) <= _WHERE)
    return Removal(what, where)


def _require(good: bool) -> None:
    if not good:
        raise BadAnswer(_FIELD)


def _is_hex(value: Any, length: int) -> bool:
    # `fromhex` skips blanks and takes upper case; the length and `lower` rule both out. It raises ValueError.
    return type(value) is str and len(value) == length == 2 * len(bytes.fromhex(value)) and value == value.lower()


def _artifact(
    sha256: Any, sha1: Any, md5: Any, size: Any, magic: Any, path: Any, name: Any, declared: Any, parent: Any,
    state: Any, text: Any,
) -> Artifact:  # fmt: skip
    if not (
        _is_hex(sha256, 64) and _is_hex(sha1, 40) and _is_hex(md5, 32) and type(size) is int and size >= 0
        and type(magic) is str and type(path) is str and type(name) is str and type(declared) is str
        and (parent == "" or _is_hex(parent, 64)) and state in _STATES and type(text) is bool
    ):  # fmt: skip
        raise BadAnswer(_FIELD)
    return Artifact(Hashes(sha256, sha1, md5), size, magic, path, name, declared, parent, state, text)


def _finding(engine: Any, signature: Any, category: Any, severity: Any, sha256: Any, detail: Any) -> Finding:
    _require(
        type(engine) is type(signature) is type(detail) is str and category in _CATEGORIES
        and type(severity) is int and 1 <= severity <= 3 and (sha256 == "" or _is_hex(sha256, 64))
    )  # fmt: skip
    return Finding(engine, signature, cast("Category", category), cast("Any", severity), sha256, detail)


def _unscanned(engine: Any, reason: Any, sha256: Any) -> Unscanned:
    _require(type(engine) is type(reason) is str and (sha256 == "" or _is_hex(sha256, 64)))
    return Unscanned(engine, reason, sha256)


def _opened(rest: _Rest, sha256: Any, size: Any) -> Opened:
    _require(_is_hex(sha256, 64) and type(size) is int and size >= -1)
    return Opened(sha256, None if size < 0 else rest.take(size))


def _anomaly(kind: Any, layer: Any, offset: Any, detail: Any) -> Anomaly:
    _require(type(kind) is type(detail) is str and layer in _LAYERS and type(offset) is int)
    return Anomaly(kind, layer, offset, detail)

"""Objects that 7-Zip's library calls: a stream of input, takers of members, a password.

Each is a pointer to a table of functions, as `sevenzip` says. The library gets addresses; `living` finds our object to
each, and holds it until the archive is closed.
"""

from __future__ import annotations

import ctypes
import io
import uuid
from collections.abc import Callable
from ctypes import POINTER, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

S_OK: Final = 0
_E_ABORT, _E_NOINTERFACE, _E_INVALIDARG = -0x7FFFBFFC, -0x7FFFBFFE, -0x7FF8FFA9
E_OUTOFMEMORY: Final = -0x7FF8FFF2


def _iid(group: int, number: int) -> bytes:
    return uuid.UUID(f"23170f69-40c1-278a-0000-00{group:02x}00{number:02x}0000").bytes_le


_UNKNOWN = uuid.UUID("00000000-0000-0000-c000-000000000046").bytes_le
_IN_STREAM, _SEQ_IN, _SEQ_OUT = _iid(3, 3), _iid(3, 1), _iid(3, 2)
OPEN_CALLBACK, _EXTRACT_CALLBACK, _PROGRESS, PASSWORD = _iid(6, 0x10), _iid(6, 0x20), _iid(0, 5), _iid(5, 0x10)
IN_ARCHIVE, SET_PROPERTIES = _iid(6, 0x60), _iid(6, 0x03)


class Texts(Protocol):
    """What is used of the library."""

    def text(self, text: str, /) -> int | None: ...


living: dict[int, Any] = {}
"""Our objects by the address the library knows them by."""

Prototype: TypeAlias = Callable[[Callable[..., int]], Any]
"""Makes of a function one that the library can call."""

_QUERY: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, POINTER(c_void_p))
_COUNT: Prototype = ctypes.CFUNCTYPE(c_uint32, c_void_p)
_READ: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, c_uint32, POINTER(c_uint32))
_SEEK: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, c_uint32, POINTER(c_uint64))
_TWO: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, c_void_p)
_TOTAL: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64)
_DONE: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p)
_STREAM: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint32, POINTER(c_void_p), c_int32)
_NUMBER: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int32)
_TEXT: Prototype = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(c_void_p))


@_QUERY
def _query(this: int, iid: int, out: Any) -> int:
    wanted = ctypes.string_at(iid, 16)
    answer = living[this].interfaces().get(wanted, 0)
    out[0] = answer or None
    return S_OK if answer else _E_NOINTERFACE


@_COUNT
def _reference(this: int) -> int:
    return 1  # we hold them ourselves until the archive is closed


@_READ
def _read(this: int, target: int, size: int, done: Any) -> int:
    stream = living[this]
    count = max(0, min(size, stream.size - stream.at))
    if count:
        ctypes.memmove(target, stream.address + stream.at, count)
        stream.at += count
    if done:
        done[0] = count
    return S_OK


@_SEEK
def _seek(this: int, offset: int, origin: int, position: Any) -> int:
    stream = living[this]
    at = offset + (0, stream.at, stream.size)[origin] if origin < 3 else -1
    if at < 0:
        return _E_INVALIDARG
    stream.at = at
    if position:
        position[0] = at
    return S_OK


@_TWO
def _progress_of_open(this: int, files: int, octets: int) -> int:
    return S_OK


@_TOTAL
def _total(this: int, total: int) -> int:
    return S_OK


@_DONE
def _completed(this: int, done: int) -> int:
    return S_OK


@_READ
def _write(this: int, source: int, size: int, done: Any) -> int:
    if done:
        done[0] = size
    return int(living[this].write(source, size))


@_STREAM
def _get_stream(this: int, index: int, out: Any, mode: int) -> int:
    out[0] = living[this].begin(index) if mode == 0 else None
    return S_OK


@_NUMBER
def _prepare(this: int, mode: int) -> int:
    return S_OK


@_NUMBER
def _result(this: int, result: int) -> int:
    return int(living[this].end(result))


@_TEXT
def _ask_password(this: int, out: Any) -> int:
    asker = living[this]
    asker.asked = True
    if asker.password is None:
        return _E_ABORT
    out[0] = asker.library.text(asker.password)
    return S_OK


def _table(*functions: Any) -> Any:
    return (c_void_p * len(functions))(*(ctypes.cast(function, c_void_p) for function in functions))


_IN_TABLE = _table(_query, _reference, _reference, _read, _seek)
_OUT_TABLE = _table(_query, _reference, _reference, _write)
OPEN_TABLE = _table(_query, _reference, _reference, _progress_of_open, _progress_of_open)
_EXTRACT_TABLE = _table(_query, _reference, _reference, _total, _completed, _get_stream, _prepare, _result)
_PASSWORD_TABLE = _table(_query, _reference, _reference, _ask_password)


class Object:
    """What the library sees is one pointer, to the table."""

    def __init__(self, table: Any, *iids: bytes) -> None:
        self._pointer = c_void_p(ctypes.addressof(table))
        self.here = ctypes.addressof(self._pointer)
        self._iids = dict.fromkeys((_UNKNOWN, *iids), self.here)
        living[self.here] = self

    def interfaces(self) -> dict[bytes, int]:
        return self._iids

    def also(self, iid: bytes, other: Object) -> None:
        """Answer for another interface with another object."""
        self._iids[iid] = other.here

    def forget(self) -> None:
        living.pop(self.here, None)


class Input(Object):
    def __init__(self, data: bytes) -> None:
        super().__init__(_IN_TABLE, _IN_STREAM, _SEQ_IN)
        self._data = data
        self.address = ctypes.cast(ctypes.c_char_p(data), c_void_p).value or 0
        self.size = len(data)
        self.at = 0


class Asker(Object):
    def __init__(self, library: Texts, password: str | None) -> None:
        super().__init__(_PASSWORD_TABLE, PASSWORD)
        self.library = library
        self.password = password
        self.asked = False


@dataclass(slots=True)
class Extracted:
    """One member as it came out. `over` is true when it was bigger than its room: `data` is empty then."""

    index: int
    data: bytes
    result: int
    over: bool


class Output(Object):
    """Takes the members of one call; `rooms` says how many octets each may have."""

    def __init__(self, rooms: dict[int, int], total: int) -> None:
        super().__init__(_EXTRACT_TABLE, _EXTRACT_CALLBACK, _PROGRESS)
        self._sink = Object(_OUT_TABLE, _SEQ_OUT)
        living[self._sink.here] = self
        self._rooms = rooms
        self._left = total
        self._index = -1
        self._buffer = io.BytesIO()
        self._size = 0
        self.exhausted = False
        self.members: list[Extracted] = []

    def begin(self, index: int) -> int | None:
        if index not in self._rooms:
            return None
        self._index, self._size = index, 0
        self._buffer = io.BytesIO()
        return self._sink.here

    def write(self, source: int, size: int) -> int:
        self._left -= size
        if self._left < 0:
            self.exhausted = True
            return _E_ABORT
        room = self._rooms[self._index]
        if self._size <= room:
            self._size += size
            if self._size > room:
                self._buffer = io.BytesIO()
            else:
                try:
                    self._buffer.write(ctypes.string_at(source, size))
                except MemoryError:  # an exception cannot pass through the library
                    self.exhausted = True
                    self._buffer = io.BytesIO()
                    return E_OUTOFMEMORY
        return S_OK

    def end(self, result: int) -> int:
        if self._index >= 0:
            over = self._size > self._rooms[self._index]
            if not self.exhausted:
                # Shares the buffer's octets as long as nobody writes: no copy.
                self.members.append(Extracted(self._index, self._buffer.getvalue(), result, over))
            self._index = -1
            self._buffer = io.BytesIO()
        return S_OK

    def forget(self) -> None:
        living.pop(self._sink.here, None)
        super().forget()



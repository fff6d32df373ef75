"""7-Zip's library through its own binary interface: open an archive in memory, list it, extract under bounds.

The library (LGPL, its RAR part under the unRAR restriction) comes with the package pybit7z. The package's own classes
are not used: they give a member only when all of it is in memory, and a mail gateway has to stop it before. So this is
the one adapter to the interface 7-Zip documents in `CPP/7zip/Archive/IArchive.h`, `IStream.h`, `IPassword.h` and
`PropID.h`: objects are a pointer to a table of functions, the first three of each table are IUnknown's.

All of this runs in the worker. What comes out is counted as it comes out; a member above its room is thrown away while
it is read, and the reading is stopped when the room of all is used up.
"""

from __future__ import annotations

import ctypes
import importlib.util
import io
import itertools
import uuid
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_S_OK, _S_FALSE = 0, 1
_E_ABORT, _E_NOINTERFACE, _E_INVALIDARG, _E_OUTOFMEMORY = -0x7FFFBFFC, -0x7FFFBFFE, -0x7FF8FFA9, -0x7FF8FFF2

_PATH, _IS_DIR, _SIZE, _PACKED, _SOLID, _ENCRYPTED, _METHOD = 3, 6, 7, 8, 13, 15, 22
_VERSION, _INTERFACE = 1, 0  # NModulePropID
_VT_BSTR, _VT_BOOL, _VT_UI4, _VT_UI8, _VT_I4, _VT_I8 = 8, 11, 19, 21, 3, 20

OK: Final = 0
UNSUPPORTED: Final = 1
"""Results of one member (NExtract::NOperationResult). Those above 1 are kinds of damage; 9 is a wrong password."""
WRONG_PASSWORD: Final = 9

FORMATS: Final[dict[str, int]] = {
    "zip": 0x01, "rar4": 0x03, "arj": 0x04, "z": 0x05, "lzh": 0x06, "7z": 0x07, "cab": 0x08, "nsis": 0x09, "lzma": 0x0A,
    "zstd": 0x0E, "vhdx": 0xC4, "vmdk": 0xC8, "vdi": 0xC9, "qcow": 0xCA, "gpt": 0xCB, "rar5": 0xCC, "squashfs": 0xD2,
    "mslz": 0xD5, "swf": 0xD8, "ntfs": 0xD9, "fat": 0xDA, "mbr": 0xDB, "vhd": 0xDC, "udf": 0xE0, "xar": 0xE1,
    "hfs": 0xE3, "dmg": 0xE4, "compound": 0xE5, "wim": 0xE6, "iso": 0xE7, "chm": 0xE9, "rpm": 0xEB, "ar": 0xEC,
    "cpio": 0xED,
}  # fmt: skip
"""The last octet of each format's class (`DLL/…/Guid.txt` of 7-Zip)."""


class CannotOpen(Exception):
    """7-Zip does not take this for an archive of that format, or cannot read it. It never leaves `files`."""

    def __init__(self, reason: str, *, encrypted: bool = False) -> None:
        super().__init__(reason)
        self.encrypted = encrypted
        """The list of members itself is closed: a password is missing or wrong."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry. `size` and `packed` are what the archive says, None where it does not."""

    index: int
    name: str
    size: int | None
    packed: int | None
    solid: bool
    encrypted: bool
    method: str


class _Variant(Structure):
    _fields_ = (("kind", c_uint16), ("reserved", c_uint16 * 3), ("value", c_uint64))


def _iid(group: int, number: int) -> bytes:
    return uuid.UUID(f"23170f69-40c1-278a-0000-00{group:02x}00{number:02x}0000").bytes_le


_UNKNOWN = uuid.UUID("00000000-0000-0000-c000-000000000046").bytes_le
_IN_STREAM, _SEQ_IN, _SEQ_OUT = _iid(3, 3), _iid(3, 1), _iid(3, 2)
_OPEN_CALLBACK, _EXTRACT_CALLBACK, _PROGRESS, _PASSWORD = _iid(6, 0x10), _iid(6, 0x20), _iid(0, 5), _iid(5, 0x10)
_IN_ARCHIVE, _SET_PROPERTIES = _iid(6, 0x60), _iid(6, 0x03)

# --- our objects, which the library calls ----------------------------------------------------------------------------

_living: dict[int, Any] = {}
"""Our objects by the address the library knows them by."""

_QUERY = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, POINTER(c_void_p))
_COUNT = ctypes.CFUNCTYPE(c_uint32, c_void_p)
_READ = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, c_uint32, POINTER(c_uint32))
_SEEK = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int64, c_uint32, POINTER(c_uint64))
_TWO = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p, c_void_p)
_TOTAL = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64)
_DONE = ctypes.CFUNCTYPE(c_int32, c_void_p, c_void_p)
_STREAM = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint32, POINTER(c_void_p), c_int32)
_NUMBER = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int32)
_TEXT = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(c_void_p))


@_QUERY
def _query(this: int, iid: int, out: Any) -> int:
    wanted = ctypes.string_at(iid, 16)
    answer = _living[this].interfaces().get(wanted, 0)
    out[0] = answer or None
    return _S_OK if answer else _E_NOINTERFACE


@_COUNT
def _reference(this: int) -> int:
    return 1  # we hold them ourselves until the archive is closed


@_READ
def _read(this: int, target: int, size: int, done: Any) -> int:
    stream = _living[this]
    count = max(0, min(size, stream.size - stream.at))
    if count:
        ctypes.memmove(target, stream.address + stream.at, count)
        stream.at += count
    if done:
        done[0] = count
    return _S_OK


@_SEEK
def _seek(this: int, offset: int, origin: int, position: Any) -> int:
    stream = _living[this]
    at = offset + (0, stream.at, stream.size)[origin] if origin < 3 else -1
    if at < 0:
        return _E_INVALIDARG
    stream.at = at
    if position:
        position[0] = at
    return _S_OK


@_TWO
def _progress_of_open(this: int, files: int, octets: int) -> int:
    return _S_OK


@_TOTAL
def _total(this: int, total: int) -> int:
    return _S_OK


@_DONE
def _completed(this: int, done: int) -> int:
    return _S_OK


@_READ
def _write(this: int, source: int, size: int, done: Any) -> int:
    if done:
        done[0] = size
    return int(_living[this].write(source, size))


@_STREAM
def _get_stream(this: int, index: int, out: Any, mode: int) -> int:
    out[0] = _living[this].begin(index) if mode == 0 else None
    return _S_OK


@_NUMBER
def _prepare(this: int, mode: int) -> int:
    return _S_OK


@_NUMBER
def _result(this: int, result: int) -> int:
    return int(_living[this].end(result))


@_TEXT
def _ask_password(this: int, out: Any) -> int:
    asker = _living[this]
    asker.asked = True
    if asker.password is None:
        return _E_ABORT
    out[0] = asker.library.text(asker.password)
    return _S_OK


def _table(*functions: Any) -> Any:
    return (c_void_p * len(functions))(*(ctypes.cast(function, c_void_p) for function in functions))


_IN_TABLE = _table(_query, _reference, _reference, _read, _seek)
_OUT_TABLE = _table(_query, _reference, _reference, _write)
_OPEN_TABLE = _table(_query, _reference, _reference, _progress_of_open, _progress_of_open)
_EXTRACT_TABLE = _table(_query, _reference, _reference, _total, _completed, _get_stream, _prepare, _result)
_PASSWORD_TABLE = _table(_query, _reference, _reference, _ask_password)


class _Object:
    """What the library sees is one pointer, to the table."""

    def __init__(self, table: Any, *iids: bytes) -> None:
        self._pointer = c_void_p(ctypes.addressof(table))
        self.here = ctypes.addressof(self._pointer)
        self._iids = dict.fromkeys((_UNKNOWN, *iids), self.here)
        _living[self.here] = self

    def interfaces(self) -> dict[bytes, int]:
        return self._iids

    def also(self, iid: bytes, other: _Object) -> None:
        """Answer for another interface with another object."""
        self._iids[iid] = other.here

    def forget(self) -> None:
        _living.pop(self.here, None)


class _Input(_Object):
    def __init__(self, data: bytes) -> None:
        super().__init__(_IN_TABLE, _IN_STREAM, _SEQ_IN)
        self._data = data
        self.address = ctypes.cast(ctypes.c_char_p(data), c_void_p).value or 0
        self.size = len(data)
        self.at = 0


class _Asker(_Object):
    def __init__(self, library: Library, password: str | None) -> None:
        super().__init__(_PASSWORD_TABLE, _PASSWORD)
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


class _Output(_Object):
    """Takes the members of one call; `rooms` says how many octets each may have."""

    def __init__(self, rooms: dict[int, int], total: int) -> None:
        super().__init__(_EXTRACT_TABLE, _EXTRACT_CALLBACK, _PROGRESS)
        self._sink = _Object(_OUT_TABLE, _SEQ_OUT)
        _living[self._sink.here] = self
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
                    return _E_OUTOFMEMORY
        return _S_OK

    def end(self, result: int) -> int:
        if self._index >= 0:
            over = self._size > self._rooms[self._index]
            if not self.exhausted:
                # Shares the buffer's octets as long as nobody writes: no copy.
                self.members.append(Extracted(self._index, self._buffer.getvalue(), result, over))
            self._index = -1
            self._buffer = io.BytesIO()
        return _S_OK

    def forget(self) -> None:
        _living.pop(self._sink.here, None)
        super().forget()


# --- the library's objects, which we call ----------------------------------------------------------------------------


def _method(this: int, slot: int, *types: Any) -> Callable[..., int]:
    table = c_void_p.from_address(this).value or 0
    address = c_void_p.from_address(table + slot * ctypes.sizeof(c_void_p)).value or 0
    function = ctypes.CFUNCTYPE(c_int32, c_void_p, *types)(address)
    return lambda *values: int(function(this, *values))


class Archive:
    """One opened archive. Close it: the library holds pointers into `data` until then."""

    def __init__(self, library: Library, data: bytes, form: str, password: str | None = None) -> None:
        """Open `data` as `form`, a key of `FORMATS`.

        Raises:
            CannotOpen: it is none, it is damaged, or its list is encrypted.
        """
        self._library = library
        self._this = library.create(FORMATS[form])
        self._input = _Input(data)
        self._asker = _Asker(library, password)
        callback = _Object(_OPEN_TABLE, _OPEN_CALLBACK)
        callback.also(_PASSWORD, self._asker)
        opened = False
        try:
            self._one_thread(form)
            start = c_uint64(0)
            code = _method(self._this, 3, c_void_p, c_void_p, c_void_p)(
                self._input.here, ctypes.addressof(start), callback.here
            )
            opened = code == _S_OK
            if not opened:
                raise CannotOpen("memory" if code == _E_OUTOFMEMORY else "damaged archive", encrypted=self._asker.asked)
        finally:
            callback.forget()
            if not opened:
                self.close()

    def _one_thread(self, form: str) -> None:
        """No threads: a worker may start none, and they would multiply the memory."""
        pointer = c_void_p()
        iid = ctypes.create_string_buffer(_SET_PROPERTIES, 16)
        if _method(self._this, 0, c_void_p, c_void_p)(ctypes.addressof(iid), ctypes.addressof(pointer)):
            return
        setter = pointer.value or 0
        names = ("mt", "mtf") if form == "7z" else ("mt",)
        values = (_Variant * 2)(_Variant(_VT_UI4, (c_uint16 * 3)(), 1), _Variant(_VT_BOOL, (c_uint16 * 3)(), 0))
        array = (ctypes.c_wchar_p * len(names))(*names)
        _method(setter, 3, c_void_p, c_void_p, c_uint32)(ctypes.addressof(array), ctypes.addressof(values), len(names))
        _method(setter, 2)()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back; more than once is once."""
        if self._this:
            _method(self._this, 4)()  # Close
            _method(self._this, 2)()  # Release
            self._this = 0
        self._input.forget()
        self._asker.forget()

    def __len__(self) -> int:
        count = c_uint32()
        code = _method(self._this, 5, c_void_p)(ctypes.addressof(count))
        return count.value if code == _S_OK else 0

    def items(self) -> list[Item]:
        """All entries that are files."""
        get = _method(self._this, 6, c_uint32, c_uint32, c_void_p)
        found = []
        for index in range(len(self)):
            if self._property(get, index, _IS_DIR):
                continue
            name, size, packed = (self._property(get, index, which) for which in (_PATH, _SIZE, _PACKED))
            method = self._property(get, index, _METHOD)
            found.append(
                Item(
                    index, name if isinstance(name, str) else "", size if isinstance(size, int) else None,
                    packed if isinstance(packed, int) else None, bool(self._property(get, index, _SOLID)),
                    bool(self._property(get, index, _ENCRYPTED)), method if isinstance(method, str) else "",
                )
            )  # fmt: skip
        return found

    def _property(self, get: Callable[..., int], index: int, which: int) -> str | int | None:
        variant = _Variant()
        if get(index, which, ctypes.addressof(variant)) != _S_OK:
            return None
        return self._library.value(variant)

    def extract(self, rooms: dict[int, int], total: int) -> tuple[list[Extracted], bool]:
        """Extract the members `rooms` names, each up to that many octets, all that is unpacked up to `total`.

        Gives what came out, and whether all could be tried. What came out of one with a result other than OK is what
        could be read of it.
        """
        output = _Output(rooms, total)
        output.also(_PASSWORD, self._asker)
        try:
            indices = sorted(rooms)
            array = (c_uint32 * len(indices))(*indices)
            code = _method(self._this, 7, c_void_p, c_uint32, c_int32, c_void_p)(
                ctypes.addressof(array), len(indices), 0, output.here
            )
        finally:
            output.forget()
        return output.members, code == _S_OK and not output.exhausted

    @property
    def asked(self) -> bool:
        """Whether a password was asked for."""
        return self._asker.asked


class Library:
    """The loaded library. `version` is 7-Zip's, such as `26.04`."""

    def __init__(self, path: str) -> None:
        """Load it. Raises OSError when that fails or its interface is another one."""
        self._lib = ctypes.CDLL(path)
        self._lib.SysAllocStringLen.restype = c_void_p
        self._lib.SysAllocStringLen.argtypes = (ctypes.c_wchar_p, c_uint32)
        if self._module(_INTERFACE):
            raise OSError(f"{path}: its objects have a destructor in their tables")
        number = self._module(_VERSION)
        self.version = f"{number >> 16}.{number & 0xFFFF:02}"

    def _module(self, which: int) -> int:
        variant = _Variant()
        self._lib.GetModuleProp(c_uint32(which), ctypes.byref(variant))
        return int(variant.value)

    def create(self, number: int) -> int:
        """A new reader of one format; an address."""
        of_class = uuid.UUID(f"23170f69-40c1-278a-1000-000110{number:02x}0000").bytes_le
        pointer = c_void_p()
        code = self._lib.CreateObject(of_class, _IN_ARCHIVE, ctypes.byref(pointer))
        if code or not pointer.value:
            raise CannotOpen("unknown format")
        return pointer.value

    def text(self, text: str) -> int | None:
        """A string that the library frees."""
        # Characters outside the BMP take one wchar_t here.
        address = self._lib.SysAllocStringLen(text, len(text))
        return int(address) if address else None

    def value(self, variant: _Variant) -> str | int | None:
        """What a variant holds; the variant is cleared."""
        kind = variant.kind
        if kind == _VT_BSTR:
            try:
                found = ctypes.wstring_at(variant.value) if variant.value else ""
            except ValueError:  # no code point
                found = "?"
            found = found.encode("utf-8", "replace").decode("utf-8")
            self._lib.VariantClear(ctypes.byref(variant))
            return found
        if kind == _VT_BOOL:
            return int(variant.value & 0xFFFF != 0)
        if kind in (_VT_UI4, _VT_I4):
            return int(variant.value & 0xFFFFFFFF)
        if kind in (_VT_UI8, _VT_I8):
            return int(variant.value)
        return None


_loaded: list[Library | None] = []


def library() -> Library | None:
    """The library, loaded once; None where there is none. Load it before the worker gives up opening files."""
    if not _loaded:
        found: Library | None = None
        for path in _places():
            try:
                found = Library(str(path))
                break
            except (OSError, AttributeError):
                continue  # built for something else: the next one
        _loaded.append(found)
    return _loaded[0]


def _places() -> Sequence[Path]:
    spec = importlib.util.find_spec("pybit7z")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return list(itertools.chain.from_iterable(sorted(folder.glob("lib7zip.*")) for folder in folders))

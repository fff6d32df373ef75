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
import itertools
import uuid
from collections.abc import Callable, Sequence
from ctypes import Structure, c_int32, c_uint16, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from netinspect.files.callbacks import (
    E_OUTOFMEMORY,
    IN_ARCHIVE,
    OPEN_CALLBACK,
    OPEN_TABLE,
    PASSWORD,
    S_OK,
    SET_PROPERTIES,
    Asker,
    Extracted,
    Input,
    Object,
    Output,
)

_PATH, _IS_DIR, _SIZE, _PACKED, _SOLID, _ENCRYPTED, _METHOD = 3, 6, 7, 8, 13, 15, 22
_VERSION, _INTERFACE = 1, 0  # NModulePropID
_VT_BSTR, _VT_BOOL, _VT_UI4, _VT_UI8, _VT_I4, _VT_I8 = 8, 11, 19, 21, 3, 20

OK: Final = 0
UNSUPPORTED: Final = 1
"""Results of one member (NExtract::NOperationResult). Those above 1 are kinds of damage; 9 is a wrong password."""
WRONG_PASSWORD: Final = 9

FORMATS: Final[dict[str, int]] = {
    "zip": 0x01, "rar4": 0x03, "arj": 0x04, "z": 0x05, "lzh": 0x06, "7z": 0x07, "cab": 0x08, "nsis": 0x09, "lzma": 0x0A,
    "zstd": 0x0E, "apfs": 0xC3, "vhdx": 0xC4, "ext": 0xC7, "vmdk": 0xC8, "vdi": 0xC9, "qcow": 0xCA, "gpt": 0xCB,
    "rar5": 0xCC, "squashfs": 0xD2, "cramfs": 0xD3, "apm": 0xD4,
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
        self._input = Input(data)
        self._asker = Asker(library, password)
        callback = Object(OPEN_TABLE, OPEN_CALLBACK)
        callback.also(PASSWORD, self._asker)
        opened = False
        try:
            self._one_thread(form)
            start = c_uint64(0)
            code = _method(self._this, 3, c_void_p, c_void_p, c_void_p)(
                self._input.here, ctypes.addressof(start), callback.here
            )
            opened = code == S_OK
            if not opened:
                raise CannotOpen("memory" if code == E_OUTOFMEMORY else "damaged archive", encrypted=self._asker.asked)
        finally:
            callback.forget()
            if not opened:
                self.close()

    def _one_thread(self, form: str) -> None:
        """No threads: a worker may start none, and they would multiply the memory."""
        pointer = c_void_p()
        iid = ctypes.create_string_buffer(SET_PROPERTIES, 16)
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
        return count.value if code == S_OK else 0

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
        if get(index, which, ctypes.addressof(variant)) != S_OK:
            return None
        return self._library.value(variant)

    def extract(self, rooms: dict[int, int], total: int) -> tuple[list[Extracted], bool]:
        """Extract the members `rooms` names, each up to that many octets, all that is unpacked up to `total`.

        Gives what came out, and whether all could be tried. What came out of one with a result other than OK is what
        could be read of it.
        """
        output = Output(rooms, total)
        output.also(PASSWORD, self._asker)
        try:
            indices = sorted(rooms)
            array = (c_uint32 * len(indices))(*indices)
            code = _method(self._this, 7, c_void_p, c_uint32, c_int32, c_void_p)(
                ctypes.addressof(array), len(indices), 0, output.here
            )
        finally:
            output.forget()
        return output.members, code == S_OK and not output.exhausted

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
        code = self._lib.CreateObject(of_class, IN_ARCHIVE, ctypes.byref(pointer))
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

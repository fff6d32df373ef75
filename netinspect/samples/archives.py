"""Archives for tests and the demo. EICAR is the antivirus industry's agreed test file: harmless, and known to all."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping

_EPOCH = (2000, 1, 1, 0, 0, 0)

# In pieces, so that a scanner on the developer's machine does not find this very file.
_EICAR = ("X5O!P%@AP[4", "\\PZX54(P^)", "7CC)7}$", "EICAR-STANDARD", "-ANTIVIRUS-", "TEST-FILE!", "$H+H*")


def eicar() -> bytes:
    """The 68 octets."""
    return "".join(_EICAR).encode("ascii")


def make_zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of `members`, the same octets each time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, method)
    return out.getvalue()


def make_tar(members: Mapping[str, bytes]) -> bytes:
    """A tar of `members`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def make_gzip(data: bytes) -> bytes:
    """`data` in gzip, the same octets each time."""
    return gzip.compress(data, mtime=0)


def eicar_zip(name: str = "eicar.com") -> bytes:
    """EICAR in a zip."""
    return make_zip({name: eicar()})


def nested_zip(depth: int, inner: bytes, name: str = "inner.bin") -> bytes:
    """`inner` in `depth` zips around each other."""
    data = inner
    for level in range(depth):
        data = make_zip({name if level == 0 else f"level{level}.zip": data})
    return data


def zip_bomb(size: int = 300_000_000, members: int = 1) -> bytes:
    """A small zip that unpacks to `members` times `size` octets of zeros."""
    out = io.BytesIO()
    piece = bytes(1 << 20)
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(members):
            info = zipfile.ZipInfo(f"zeros{number}.bin", _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=size >= 1 << 31) as member:
                for at in range(0, size, len(piece)):
                    member.write(piece[: size - at])
    return out.getvalue()


def lying_bomb(size: int = 300_000_000) -> bytes:
    """`zip_bomb` whose directory and local header say that the member is ten octets."""
    data = bytearray(zip_bomb(size))
    told, lie = size.to_bytes(4, "little"), (10).to_bytes(4, "little")
    at = data.find(told)
    while at >= 0:
        data[at : at + 4] = lie
        at = data.find(told, at + 4)
    return bytes(data)


def encrypted_zip(name: str = "secret.txt", data: bytes = b"not really encrypted") -> bytes:
    """A zip whose member says that it is encrypted."""
    out = bytearray(make_zip({name: data}, zipfile.ZIP_STORED))
    out[6] |= 1  # general purpose flags in the local header
    out[out.find(b"PK\x01\x02") + 8] |= 1
    return bytes(out)

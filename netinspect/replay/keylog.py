"""Secrets of TLS sessions as NSS, OpenSSL and all browsers write them (SSLKEYLOGFILE, RFC 9850): LABEL RANDOM SECRET.

They are secrets: nothing here prints or logs them.
"""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Final

from netinspect.errors import NetinspectError

MASTER: Final = b"CLIENT_RANDOM"
CLIENT_HANDSHAKE: Final = b"CLIENT_HANDSHAKE_TRAFFIC_SECRET"
SERVER_HANDSHAKE: Final = b"SERVER_HANDSHAKE_TRAFFIC_SECRET"
CLIENT_TRAFFIC: Final = b"CLIENT_TRAFFIC_SECRET_0"
SERVER_TRAFFIC: Final = b"SERVER_TRAFFIC_SECRET_0"
_LABELS: Final = {
    label: bytes((number,))
    for number, label in enumerate((MASTER, CLIENT_HANDSHAKE, SERVER_HANDSHAKE, CLIENT_TRAFFIC, SERVER_TRAFFIC))
}

SECRETS: Final = 200_000
"""Secrets kept: 40,000 sessions of TLS 1.3, about 60 MB. `lost` counts those beyond."""
LINE: Final = 512
"""Octets of a line that is looked at; the longest that counts has 193."""
PIECE: Final = 1_048_576


class KeyLog:
    """Secrets by the client's random. False when empty."""

    def __init__(self) -> None:
        self._secrets: dict[bytes, bytes] = {}
        self.lost = 0

    def __bool__(self) -> bool:
        return bool(self._secrets)

    @classmethod
    def load(cls, path: str) -> KeyLog:
        """Read a file.

        Raises:
            NetinspectError: it cannot be read, or there is no secret in it.
        """
        keys = cls()
        try:
            with Path(path).open("rb") as file:
                rest = b""
                while piece := file.read(PIECE):
                    whole, _, rest = (rest + piece).rpartition(b"\n")
                    keys.add(whole)
                    rest = rest[:LINE]
                keys.add(rest)
        except OSError as error:
            reason = error.strerror or str(error)
            raise NetinspectError(reason, place=path, remedy="name the file that SSLKEYLOGFILE named") from error
        if not keys:
            raise NetinspectError(
                "no TLS secret in it",
                place=path,
                remedy="a line of it is `CLIENT_RANDOM`, 64 and 96 hexadecimal digits",
            )
        return keys

    def copy(self) -> KeyLog:
        """The same secrets, to which others may be added."""
        fresh = KeyLog()
        fresh._secrets = self._secrets.copy()
        return fresh

    def add(self, octets: bytes) -> None:
        """Take whole lines; what is no secret, or none that is needed here, is passed over."""
        for line in octets.splitlines():
            words = line[:LINE].split()
            if len(words) != 3:
                continue
            label = _LABELS.get(words[0])
            if label is None:
                continue
            try:
                random, secret = binascii.unhexlify(words[1]), binascii.unhexlify(words[2])
            except binascii.Error:
                continue
            # A master secret has 48 octets (RFC 5246 §8.1), the others those of SHA-256 or SHA-384 (RFC 8446 §7.1).
            if len(random) != 32 or len(secret) not in (32, 48):
                continue
            if len(self._secrets) >= SECRETS and label + random not in self._secrets:
                self.lost += 1
            else:
                self._secrets[label + random] = secret

    def secret(self, label: bytes, random: bytes) -> bytes | None:
        """One secret of the session whose first ClientHello had this random."""
        return self._secrets.get(_LABELS[label] + random)

"""A TLS connection of a capture, read with the secrets of a key log: records of both sides in, what they said out.

The handshake is read as far as it is in the clear, secrets or not: who the server said it was is known without them up
to TLS 1.2. What cannot be opened (no secret, a suite nobody here reads, a hole, damage) ends it: `failed` says why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from netinspect.replay import keylog
from netinspect.replay.ciphers import (
    SUITES,
    TLS_1_0,
    TLS_1_3,
    VERSIONS,
    Damaged,
    Protection,
    Suite,
    both_directions,
    next_secret,
    one_direction,
    suite_of,
)
from netinspect.replay.keylog import KeyLog
from netinspect.smtp.events import Side

RECORD: Final = 16_384 + 2_048
"""Octets of a record (RFC 5246 §6.2.3)."""
MESSAGE: Final = 262_144
"""Octets of a handshake message that is kept; chains of certificates stay below 100 KB."""
WAITING: Final = 262_144
"""Octets that wait for the other side's part of the handshake."""
CERTIFICATES: Final = 10
SKIPPED: Final = 64
"""Records of a handshake passed over when only the secrets of what follows are known."""

_CHANGE, _ALERT, _HANDSHAKE, _DATA, _HEARTBEAT = 20, 21, 22, 23, 24
_CLIENT_HELLO, _SERVER_HELLO, _CERTIFICATE, _FINISHED, _KEY_UPDATE = 1, 2, 11, 20, 24
_SERVER_NAME, _ENCRYPT_THEN_MAC, _VERSIONS = 0, 22, 43
_RETRY: Final = hashlib.sha256(b"HelloRetryRequest").digest()
"""The random of a ServerHello that is none (RFC 8446 §4.1.3)."""

_LABELS: Final = {
    Side.CLIENT: (keylog.CLIENT_HANDSHAKE, keylog.CLIENT_TRAFFIC),
    Side.SERVER: (keylog.SERVER_HANDSHAKE, keylog.SERVER_TRAFFIC),
}


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What a handshake told. Certificates are DER, the holder's first; `cipher` is the IANA's name without `TLS_`."""

    version: str = ""
    cipher: str = ""
    server_name: str = ""
    certificates: tuple[bytes, ...] = ()
    client_certificates: tuple[bytes, ...] = ()
    decrypted: bool = False


@dataclass(slots=True)
class _Stream:
    """One direction."""

    octets: bytearray = field(default_factory=bytearray)
    messages: bytearray = field(default_factory=bytearray)
    protection: Protection | None = None
    secret: bytes = b""
    """TLS 1.3: the traffic secret in use; empty before the handshake is over."""
    sealed: bool = False
    """From here on all is encrypted, and nobody has the key."""
    skip: int = 0
    closed: bool = False
    certificates: tuple[bytes, ...] = ()


class _Unreadable(Exception):
    """Why the rest cannot be read; never with anything secret in it."""


class Decryptor:
    """One connection."""

    def __init__(self, keys: KeyLog) -> None:
        self._failed = ""
        self._keys = keys
        self._streams = {side: _Stream() for side in Side}
        self._client_random = b""
        self._server_random = b""
        self._version = 0
        self._number = 0
        self._suite: Suite | None = None
        self._mac_last = False
        self._compressed = False
        self._next: dict[Side, Protection] = {}
        self._server_name = ""
        self._decrypted = False

    @property
    def facts(self) -> TlsFacts:
        """As far as the handshake went."""
        return TlsFacts(
            VERSIONS.get(self._version, f"0x{self._version:04x}") if self._version else "",
            SUITES.get(self._number, f"0x{self._number:04x}") if self._version else "",
            self._server_name,
            self._streams[Side.SERVER].certificates,
            self._streams[Side.CLIENT].certificates,
            self._decrypted,
        )

    @property
    def failed(self) -> str:
        """'' as long as all could be read, else why not: what follows is not looked at."""
        if self._failed:
            return self._failed
        waiting = not self._version and any(stream.octets[:1] == b"\x17" for stream in self._streams.values())
        return "no handshake" if waiting else ""

    @property
    def hidden(self) -> bool:
        """Something may have been said that could not be read. A handshake that was broken off hides nothing."""
        return bool(self.failed)

    def ended(self, side: Side) -> bool:
        """This side said that it is done (close_notify), or that something is wrong."""
        return self._streams[side].closed

    def feed(self, side: Side, octets: bytes) -> list[tuple[Side, bytes]]:
        """What was said, in order. Octets of one side can wait for the other's; nothing is raised."""
        if self._failed or not octets:
            return []
        out: list[tuple[Side, bytes]] = []
        other = Side.SERVER if side is Side.CLIENT else Side.CLIENT
        self._streams[side].octets += octets
        try:
            self._records(side, out)
            if self._streams[other].octets:
                self._records(other, out)
        except _Unreadable as error:
            self._failed = str(error)
            for stream in self._streams.values():
                stream.octets.clear()
                stream.messages.clear()
        return out

    def gap(self, side: Side, size: int) -> None:
        """`size` octets of this side are missing: records cannot be found again behind it."""
        if not self._failed and not self._streams[side].closed:
            self._failed = "gap"

    # --- records --------------------------------------------------------------------------------------------------

    def _records(self, side: Side, out: list[tuple[Side, bytes]]) -> None:
        stream = self._streams[side]
        octets = stream.octets
        said: list[bytes] = []
        at = 0
        try:
            while len(octets) - at >= 5 and not stream.closed:
                kind, version = octets[at], bytes(octets[at + 1 : at + 3])
                size = octets[at + 3] << 8 | octets[at + 4]
                if not _CHANGE <= kind <= _HEARTBEAT or version[0] != 3 or size > RECORD:
                    raise _Unreadable("damaged record")
                if len(octets) - at - 5 < size:
                    break
                if kind == _DATA and not self._version:  # the hello of the other side is not here yet
                    if len(octets) > WAITING:
                        raise _Unreadable("no handshake")
                    break
                at += 5 + size
                kind, plain = self._opened(stream, kind, version, bytes(octets[at - size : at]))
                if kind == _DATA:
                    self._decrypted = True
                    said.append(plain)
                elif kind == _HANDSHAKE:
                    self._handshake(side, stream, plain)
                elif kind == _CHANGE:
                    self._change(side, stream)
                elif kind == _ALERT and len(plain) == 2 and (plain[0] == 2 or plain[1] == 0):
                    stream.closed = True
        finally:
            del octets[: len(octets) if stream.closed else at]
            if said:
                out.append((side, b"".join(said)))

    def _opened(self, stream: _Stream, kind: int, version: bytes, octets: bytes) -> tuple[int, bytes]:
        if self._version == TLS_1_3 and kind in (_CHANGE, _ALERT):
            # RFC 8446 §5 and appendix D.4: a change that changes nothing; an alert of who has no keys yet.
            return (_HEARTBEAT if kind == _CHANGE else kind), octets
        if stream.protection is None:
            if stream.sealed:
                raise _Unreadable(self._why_sealed())
            if kind == _DATA:
                raise _Unreadable("data before the handshake")
            return kind, octets
        try:
            opened = stream.protection.open(kind, version, octets)
        except Damaged:
            if not stream.skip:
                raise _Unreadable("damaged record, or a wrong key") from None
            stream.skip -= 1
            return _HEARTBEAT, b""
        stream.skip = 0
        return opened

    def _why_sealed(self) -> str:
        if not TLS_1_0 <= self._version <= TLS_1_3:
            return f"{VERSIONS.get(self._version, 'this version')} is not supported"
        if self._suite is None:
            return f"cipher suite 0x{self._number:04x} is not supported"
        return "compression is not supported" if self._compressed else "no key for this session"

    def _change(self, side: Side, stream: _Stream) -> None:
        """ChangeCipherSpec up to TLS 1.2; the second of a pair takes what the first one made."""
        if not self._version and side is Side.CLIENT and self._client_random:
            return  # TLS 1.3 with early data: up to 1.2 it comes behind the server's hello
        protection = self._next.pop(side, None)
        if protection is None:
            master = self._keys.secret(keylog.MASTER, self._client_random)
            suite = self._suite
            if master is None or suite is None or self._compressed or not TLS_1_0 <= self._version < TLS_1_3:
                stream.protection, stream.sealed = None, True
                return
            client, server = both_directions(
                suite, self._version, master, self._client_random, self._server_random, mac_last=self._mac_last
            )
            other = Side.SERVER if side is Side.CLIENT else Side.CLIENT
            protection, self._next[other] = (client, server) if side is Side.CLIENT else (server, client)
        stream.protection = protection

    # --- handshake ------------------------------------------------------------------------------------------------

    def _handshake(self, side: Side, stream: _Stream, octets: bytes) -> None:
        messages = stream.messages
        messages += octets
        while len(messages) >= 4:
            size = int.from_bytes(messages[1:4])
            if size > MESSAGE:
                raise _Unreadable("a handshake message is too long")
            if len(messages) < 4 + size:
                return
            kind, body = messages[0], bytes(messages[4 : 4 + size])
            del messages[: 4 + size]
            if kind == _CLIENT_HELLO and side is Side.CLIENT:
                self._client_hello(body)
            elif kind == _SERVER_HELLO and side is Side.SERVER:
                self._server_hello(body)
            elif kind == _CERTIFICATE:
                stream.certificates = _certificates(body, new=self._version == TLS_1_3) or stream.certificates
            elif self._version == TLS_1_3 and stream.protection is not None:
                if kind == _FINISHED and not stream.secret:
                    self._use(side, stream, self._keys.secret(_LABELS[side][1], self._client_random))
                elif kind == _KEY_UPDATE and stream.secret and self._suite is not None:
                    self._use(side, stream, next_secret(self._suite, stream.secret))

    def _client_hello(self, body: bytes) -> None:
        self._client_random = body[2:34]
        self._next.clear()
        at = 35 + (body[34] if len(body) > 34 else 0)
        at += 2 + int.from_bytes(body[at : at + 2])
        at += 1 + (body[at] if len(body) > at else 0)
        name = _extensions(body, at).get(_SERVER_NAME, b"")
        if len(name) > 5 and name[2] == 0:  # RFC 6066 §3
            self._server_name = name[5 : 5 + int.from_bytes(name[3:5])][:255].decode("ascii", "backslashreplace")

    def _server_hello(self, body: bytes) -> None:
        if len(body) < 38:
            return
        at = 35 + body[34]
        extensions = _extensions(body, at + 3)
        if body[2:34] == _RETRY:
            self._version = TLS_1_3
            return
        self._server_random = body[2:34]
        self._number = int.from_bytes(body[at : at + 2])
        self._suite = suite_of(self._number)
        self._compressed = body[at + 2 : at + 3] != b"\0"
        self._mac_last = _ENCRYPT_THEN_MAC in extensions
        self._version = int.from_bytes(extensions.get(_VERSIONS, body[:2]))
        self._next.clear()
        if self._version == TLS_1_3:
            for side, stream in self._streams.items():
                self._begin(side, stream)

    def _begin(self, side: Side, stream: _Stream) -> None:
        """TLS 1.3: all is encrypted from here on, the rest of the handshake with keys of its own."""
        if self._suite is None:
            stream.sealed = True
            return
        secret = self._keys.secret(_LABELS[side][0], self._client_random)
        if secret is not None:
            stream.protection = one_direction(self._suite, secret)
        else:
            self._use(side, stream, self._keys.secret(_LABELS[side][1], self._client_random))
            stream.skip = SKIPPED

    def _use(self, side: Side, stream: _Stream, secret: bytes | None) -> None:
        if secret is None or self._suite is None:
            stream.protection, stream.sealed = None, True
        else:
            stream.secret, stream.protection = secret, one_direction(self._suite, secret)


def _extensions(body: bytes, at: int) -> dict[int, bytes]:
    """Extensions by their number; a list that is cut short gives what is whole."""
    found: dict[int, bytes] = {}
    end = min(len(body), at + 2 + int.from_bytes(body[at : at + 2]))
    at += 2
    while end - at >= 4:
        kind, size = int.from_bytes(body[at : at + 2]), int.from_bytes(body[at + 2 : at + 4])
        at += 4
        if size > end - at:
            break
        found[kind] = body[at : at + size]
        at += size
    return found


def _certificates(body: bytes, *, new: bool) -> tuple[bytes, ...]:
    """RFC 5246 §7.4.2, RFC 8446 §4.4.2 (`new`: with a context in front and extensions behind each)."""
    found: list[bytes] = []
    at = 3 + (1 + body[0] if new and body else 0)
    while len(body) - at >= 3 and len(found) < CERTIFICATES:
        size = int.from_bytes(body[at : at + 3])
        at += 3
        if not 0 < size <= len(body) - at:
            break
        found.append(body[at : at + size])
        at += size
        if new:
            at += 2 + int.from_bytes(body[at : at + 2])
    return tuple(found)

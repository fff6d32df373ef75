"""Protection of TLS records, taken off: TLS 1.0 to 1.3 with the cipher suites that mail servers use.

The arithmetic is that of `cryptography`; it is loaded when the first session with a known secret comes.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 = 0x0301, 0x0302, 0x0303, 0x0304
VERSIONS: Final = {0x0300: "SSL 3.0", TLS_1_0: "TLS 1.0", TLS_1_1: "TLS 1.1", TLS_1_2: "TLS 1.2", TLS_1_3: "TLS 1.3"}

# The IANA's numbers. aNULL (anon) is here because opportunistic TLS between mail servers offers it.
SUITES: Final[dict[int, str]] = {
    0x0004: "RSA_WITH_RC4_128_MD5", 0x0005: "RSA_WITH_RC4_128_SHA",
    0x000A: "RSA_WITH_3DES_EDE_CBC_SHA",
    0x0016: "DHE_RSA_WITH_3DES_EDE_CBC_SHA", 0x0018: "DH_anon_WITH_RC4_128_MD5",
    0x001B: "DH_anon_WITH_3DES_EDE_CBC_SHA",
    0x002F: "RSA_WITH_AES_128_CBC_SHA", 0x0032: "DHE_DSS_WITH_AES_128_CBC_SHA",
    0x0033: "DHE_RSA_WITH_AES_128_CBC_SHA",
    0x0034: "DH_anon_WITH_AES_128_CBC_SHA", 0x0035: "RSA_WITH_AES_256_CBC_SHA",
    0x0038: "DHE_DSS_WITH_AES_256_CBC_SHA",
    0x0039: "DHE_RSA_WITH_AES_256_CBC_SHA", 0x003A: "DH_anon_WITH_AES_256_CBC_SHA",
    0x003C: "RSA_WITH_AES_128_CBC_SHA256", 0x003D: "RSA_WITH_AES_256_CBC_SHA256",
    0x0040: "DHE_DSS_WITH_AES_128_CBC_SHA256", 0x0067: "DHE_RSA_WITH_AES_128_CBC_SHA256",
    0x006A: "DHE_DSS_WITH_AES_256_CBC_SHA256", 0x006B: "DHE_RSA_WITH_AES_256_CBC_SHA256",
    0x006C: "DH_anon_WITH_AES_128_CBC_SHA256", 0x006D: "DH_anon_WITH_AES_256_CBC_SHA256",
    0x009C: "RSA_WITH_AES_128_GCM_SHA256", 0x009D: "RSA_WITH_AES_256_GCM_SHA384",
    0x009E: "DHE_RSA_WITH_AES_128_GCM_SHA256", 0x009F: "DHE_RSA_WITH_AES_256_GCM_SHA384",
    0x00A2: "DHE_DSS_WITH_AES_128_GCM_SHA256", 0x00A3: "DHE_DSS_WITH_AES_256_GCM_SHA384",
    0x00A6: "DH_anon_WITH_AES_128_GCM_SHA256", 0x00A7: "DH_anon_WITH_AES_256_GCM_SHA384",
    0x1301: "AES_128_GCM_SHA256", 0x1302: "AES_256_GCM_SHA384", 0x1303: "CHACHA20_POLY1305_SHA256",
    0x1304: "AES_128_CCM_SHA256", 0x1305: "AES_128_CCM_8_SHA256",
    0xC007: "ECDHE_ECDSA_WITH_RC4_128_SHA", 0xC008: "ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
    0xC009: "ECDHE_ECDSA_WITH_AES_128_CBC_SHA", 0xC00A: "ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    0xC011: "ECDHE_RSA_WITH_RC4_128_SHA", 0xC012: "ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    0xC013: "ECDHE_RSA_WITH_AES_128_CBC_SHA", 0xC014: "ECDHE_RSA_WITH_AES_256_CBC_SHA",
    0xC017: "ECDH_anon_WITH_3DES_EDE_CBC_SHA", 0xC018: "ECDH_anon_WITH_AES_128_CBC_SHA",
    0xC019: "ECDH_anon_WITH_AES_256_CBC_SHA",
    0xC023: "ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", 0xC024: "ECDHE_ECDSA_WITH_AES_256_CBC_SHA384",
    0xC027: "ECDHE_RSA_WITH_AES_128_CBC_SHA256", 0xC028: "ECDHE_RSA_WITH_AES_256_CBC_SHA384",
    0xC02B: "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xC02C: "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xC030: "ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xC09C: "RSA_WITH_AES_128_CCM", 0xC09D: "RSA_WITH_AES_256_CCM", 0xC09E: "DHE_RSA_WITH_AES_128_CCM",
    0xC09F: "DHE_RSA_WITH_AES_256_CCM", 0xC0A0: "RSA_WITH_AES_128_CCM_8", 0xC0A1: "RSA_WITH_AES_256_CCM_8",
    0xC0A2: "DHE_RSA_WITH_AES_128_CCM_8", 0xC0A3: "DHE_RSA_WITH_AES_256_CCM_8",
    0xC0AC: "ECDHE_ECDSA_WITH_AES_128_CCM", 0xC0AD: "ECDHE_ECDSA_WITH_AES_256_CCM",
    0xC0AE: "ECDHE_ECDSA_WITH_AES_128_CCM_8", 0xC0AF: "ECDHE_ECDSA_WITH_AES_256_CCM_8",
    0xCCA8: "ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xCCA9: "ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCAA: "DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}  # fmt: skip

_DIGESTS: Final = {"_SHA": "sha1", "_SHA256": "sha256", "_SHA384": "sha384", "_MD5": "md5"}


class Damaged(Exception):
    """A record does not open: it was changed, or its key is another."""


class Suite(NamedTuple):
    """What of a cipher suite matters for the records. `digest` is that of the PRF or HKDF, `mac` is '' with AEAD."""

    cipher: str
    key_size: int
    iv_size: int
    mac: str
    digest: str


class Protection(Protocol):
    """One direction of a session. Records are opened in their order, each once."""

    def open(self, kind: int, version: bytes, octets: bytes) -> tuple[int, bytes]:
        """Content type and octets of a record; raises Damaged."""
        ...


def suite_of(number: int) -> Suite | None:
    """None for suites that cannot be read here."""
    name = SUITES.get(number)
    if name is None:
        return None
    what, digest = name.rpartition("WITH_")[2], "sha256"  # RFC 6655 §3: CCM names no digest
    for ending, word in _DIGESTS.items():
        if what.endswith(ending):
            what, digest = what.removesuffix(ending), word
    cipher, key_size, iv_size = _CIPHERS[what]
    with_mac = cipher in ("aes", "3des", "rc4")
    return Suite(cipher, key_size, iv_size, digest if with_mac else "", "sha384" if digest == "sha384" else "sha256")


_CIPHERS: Final = {
    "AES_128_GCM": ("gcm", 16, 4), "AES_256_GCM": ("gcm", 32, 4), "CHACHA20_POLY1305": ("chacha", 32, 12),
    "AES_128_CCM": ("ccm", 16, 4), "AES_256_CCM": ("ccm", 32, 4),
    "AES_128_CCM_8": ("ccm8", 16, 4), "AES_256_CCM_8": ("ccm8", 32, 4),
    "AES_128_CBC": ("aes", 16, 16), "AES_256_CBC": ("aes", 32, 16), "3DES_EDE_CBC": ("3des", 24, 8),
    "RC4_128": ("rc4", 16, 0),
}  # fmt: skip
"""Cipher, octets of its key, octets of the IV out of the key block (TLS 1.2)."""


# --- keys -------------------------------------------------------------------------------------------------------------


def _expand(secret: bytes, seed: bytes, size: int, digest: str) -> bytes:
    """P_hash (RFC 5246 §5)."""
    out, block = b"", seed
    while len(out) < size:
        block = hmac.digest(secret, block, digest)
        out += hmac.digest(secret, block + seed, digest)
    return out[:size]


def _key_block(master: bytes, seed: bytes, size: int, version: int, digest: str) -> bytes:
    """RFC 5246 §6.3; before TLS 1.2 with both MD5 and SHA-1 (RFC 2246 §5)."""
    seed = b"key expansion" + seed
    if version >= TLS_1_2:
        return _expand(master, seed, size, digest)
    half = (len(master) + 1) // 2
    one, two = _expand(master[:half], seed, size, "md5"), _expand(master[-half:], seed, size, "sha1")
    return bytes(a ^ b for a, b in zip(one, two, strict=True))


def expand_label(secret: bytes, label: str, size: int, digest: str) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446 §7.1)."""
    name = b"tls13 " + label.encode()
    info = struct.pack("!HB", size, len(name)) + name + b"\0"
    out, block = b"", b""
    for number in range(1, 256):
        if len(out) >= size:
            break
        block = hmac.digest(secret, block + info + bytes((number,)), digest)
        out += block
    return out[:size]


# --- protection -------------------------------------------------------------------------------------------------------


def both_directions(
    suite: Suite, version: int, master: bytes, client_random: bytes, server_random: bytes, *, mac_last: bool
) -> tuple[Protection, Protection]:
    """Client's and server's protection up to TLS 1.2. `mac_last`: encrypt-then-MAC was agreed on (RFC 7366)."""
    mac_size = hashlib.new(suite.mac, usedforsecurity=False).digest_size if suite.mac else 0
    sizes = (mac_size, mac_size, suite.key_size, suite.key_size, suite.iv_size, suite.iv_size)
    block = _key_block(master, server_random + client_random, sum(sizes), version, suite.digest)
    parts = []
    for size in sizes:
        parts.append(block[:size])
        block = block[size:]
    made: list[Protection] = []
    for mac, key, iv in (parts[0::2], parts[1::2]):
        if suite.mac:
            made.append(_WithMac(suite, version, mac, key, iv, mac_last))
        else:
            made.append(_Aead(suite, key, iv))
    return made[0], made[1]


def one_direction(suite: Suite, secret: bytes) -> Protection:
    """Protection with a traffic secret of TLS 1.3 (RFC 8446 §7.3)."""
    key = expand_label(secret, "key", suite.key_size, suite.digest)
    return _Aead13(suite, key, expand_label(secret, "iv", 12, suite.digest))


def next_secret(suite: Suite, secret: bytes) -> bytes:
    """After a KeyUpdate (RFC 8446 §7.2)."""
    return expand_label(secret, "traffic upd", len(secret), suite.digest)


def _aead(suite: Suite, key: bytes) -> Callable[[bytes, bytes, bytes], bytes]:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

    cipher: AESGCM | AESCCM | ChaCha20Poly1305
    match suite.cipher:
        case "gcm":
            cipher = AESGCM(key)
        case "chacha":
            cipher = ChaCha20Poly1305(key)
        case _:
            cipher = AESCCM(key, 8 if suite.cipher == "ccm8" else 16)

    def decrypt(nonce: bytes, octets: bytes, also: bytes) -> bytes:
        try:
            return cipher.decrypt(nonce, octets, also)
        except (InvalidTag, ValueError) as error:
            raise Damaged from error

    return decrypt


def _counted(iv: bytes, number: int) -> bytes:
    return (int.from_bytes(iv) ^ number).to_bytes(len(iv))


class _Aead:
    """TLS 1.2: GCM and CCM with eight octets of the nonce in the record (RFC 5288, 6655), ChaCha20 with none (7905)."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self._decrypt = _aead(suite, key)
        self._iv = iv
        self._tag = 8 if suite.cipher == "ccm8" else 16
        self._number = 0

    def open(self, kind: int, version: bytes, octets: bytes) -> tuple[int, bytes]:
        explicit = 12 - len(self._iv)
        size = len(octets) - explicit - self._tag
        if size < 0:
            raise Damaged
        also = struct.pack("!QB2sH", self._number, kind, version, size)
        nonce = self._iv + octets[:explicit] if explicit else _counted(self._iv, self._number)
        plain = self._decrypt(nonce, octets[explicit:], also)
        self._number += 1
        return kind, plain


class _Aead13:
    """TLS 1.3 (RFC 8446 §5.2): the real content type is the last octet that is not zero."""

    def __init__(self, suite: Suite, key: bytes, iv: bytes) -> None:
        self._decrypt = _aead(suite, key)
        self._iv = iv
        self._number = 0

    def open(self, kind: int, version: bytes, octets: bytes) -> tuple[int, bytes]:
        also = struct.pack("!B2sH", kind, version, len(octets))
        plain = self._decrypt(_counted(self._iv, self._number), octets, also).rstrip(b"\0")
        if not plain:
            raise Damaged
        self._number += 1
        return plain[-1], plain[:-1]


class _WithMac:
    """CBC and stream ciphers (RFC 5246 §6.2.3.1 and .2).

    One decryptor for all records: the block in front of each is the end of the record before (TLS 1.0), or the explicit
    IV, whose own plaintext is thrown away (since TLS 1.1).
    """

    def __init__(self, suite: Suite, version: int, mac: bytes, key: bytes, iv: bytes, mac_last: bool) -> None:
        from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4, TripleDES
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import CBC

        self._block = suite.iv_size
        if suite.cipher == "rc4":
            self._decrypt = Cipher(ARC4(key), None).decryptor().update
        else:
            algorithm = AES(key) if suite.cipher == "aes" else TripleDES(key)
            self._decrypt = Cipher(algorithm, CBC(iv)).decryptor().update
        self._explicit = self._block if version >= TLS_1_1 else 0
        self._key = mac
        self._digest = suite.mac
        self._size = len(mac)
        self._mac_last = mac_last and bool(self._block)
        self._number = 0

    def open(self, kind: int, version: bytes, octets: bytes) -> tuple[int, bytes]:
        if self._mac_last:
            octets, tag = octets[: -self._size], octets[-self._size :]
            self._check(kind, version, octets, tag)
            plain = self._unpadded(octets)
        else:
            plain = self._unpadded(octets) if self._block else self._decrypt(octets)
            if len(plain) < self._size:
                raise Damaged
            plain, tag = plain[: -self._size], plain[-self._size :]
            self._check(kind, version, plain, tag)
        self._number += 1
        return kind, plain

    def _unpadded(self, octets: bytes) -> bytes:
        if not octets or len(octets) % self._block:
            raise Damaged
        plain = self._decrypt(octets)[self._explicit :]
        size = plain[-1] + 1 if plain else 0
        if not plain or len(plain) < size or plain[-size:] != bytes((size - 1,)) * size:
            raise Damaged
        return plain[:-size]

    def _check(self, kind: int, version: bytes, octets: bytes, tag: bytes) -> None:
        head = struct.pack("!QB2sH", self._number, kind, version, len(octets))
        if hmac.digest(self._key, head + octets, self._digest) != tag:
            raise Damaged

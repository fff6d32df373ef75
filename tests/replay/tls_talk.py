"""Real TLS sessions without a network: two ends of Python's ssl with what they say to each other written down."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from netinspect.smtp.events import Side

NAME = "mx.example.com"
NO_ENCRYPT_THEN_MAC = 1 << 19
"""SSL_OP_NO_ENCRYPT_THEN_MAC, which Python has no name for."""


@cache
def pem(kind: str) -> bytes:
    """A key and its own certificate; `kind` is ec or rsa."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    start = datetime(2024, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=20_000))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + certificate.public_bytes(serialization.Encoding.PEM)


def contexts(
    folder: Path, version: ssl.TLSVersion, ciphers: str = "", *, kind: str = "ec", options: int = 0
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Client's and server's; the client writes `folder`/keys."""
    chain = folder / f"{kind}.pem"
    chain.write_bytes(pem(kind))
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.load_cert_chain(chain)
    client.keylog_filename = str(folder / "keys")
    for context in (client, server):
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.minimum_version = version
        context.options |= options
        if ciphers:
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    return client, server


@dataclass
class Wire:
    """Two ends. `octets` is what went over the wire, `said` what was meant."""

    client_context: ssl.SSLContext
    server_context: ssl.SSLContext
    name: str = NAME
    session: ssl.SSLSession | None = None
    octets: list[tuple[Side, bytes]] = field(default_factory=list)
    said: list[tuple[Side, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._in = {side: ssl.MemoryBIO() for side in Side}
        self._out = {side: ssl.MemoryBIO() for side in Side}
        self.client = self.client_context.wrap_bio(
            self._in[Side.CLIENT], self._out[Side.CLIENT], server_hostname=self.name, session=self.session
        )
        self.server = self.server_context.wrap_bio(self._in[Side.SERVER], self._out[Side.SERVER], server_side=True)
        self._ends = {Side.CLIENT: self.client, Side.SERVER: self.server}

    def handshake(self) -> Wire:
        done: set[Side] = set()
        while len(done) < 2:
            for side, end in self._ends.items():
                try:
                    end.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self._pass_on(side)
        return self

    def say(self, side: Side, octets: bytes) -> Wire:
        self._ends[side].write(octets)
        self._pass_on(side)
        self.said.append((side, octets))
        other = self._ends[Side.SERVER if side is Side.CLIENT else Side.CLIENT]
        read = b""
        while len(read) < len(octets):
            read += other.read(65_536)
        assert read == octets
        return self

    def close(self, side: Side) -> Wire:
        with contextlib.suppress(ssl.SSLWantReadError):  # the other side's farewell is not here yet
            self._ends[side].unwrap()
        self._pass_on(side)
        return self

    def _pass_on(self, side: Side) -> None:
        octets = self._out[side].read()
        if octets:
            self.octets.append((side, octets))
            self._in[Side.SERVER if side is Side.CLIENT else Side.CLIENT].write(octets)


TALK = (
    (Side.SERVER, b"220 mx.example.com ESMTP\r\n"),
    (Side.CLIENT, b"EHLO client.example.org\r\n"),
    (Side.SERVER, b"250 mx.example.com\r\n"),
    (Side.CLIENT, b"Subject: long\r\n\r\n" + bytes(range(256)) * 200),
    (Side.CLIENT, b".\r\n"),
    (Side.SERVER, b"250 2.0.0 queued\r\n"),
)


def talk(wire: Wire) -> Wire:
    """A handshake, a small conversation, the end."""
    wire.handshake()
    for side, octets in TALK:
        wire.say(side, octets)
    return wire.close(Side.CLIENT)

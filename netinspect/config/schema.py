"""What netinspect.toml may say: one frozen class a table, one documented field a key.

The string under a field is its documentation: `netinspect config init` writes it as the comment above the key. Each
class checks its own values and raises `FieldError`, which names the key; the reader (`file`) adds file and line.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from netinspect.config.rules import FieldError, PolicySettings
from netinspect.limits import Limits

PATH = "path"
FilePath = Annotated[str, PATH]
"""A path; in a configuration file a relative one starts at the folder of that file."""

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_LISTENER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INTERFACE = re.compile(r"[^\s/\"\\]{1,15}")  # Linux IFNAMSIZ is 16 with the final NUL


class HostPort(NamedTuple):
    """Host (`""`: all addresses, both families) and TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """Read `host:port`, `[v6]:port` or `:port`; ValueError says what is wrong."""
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise ValueError("must be host:port with a port from 1 to 65535")
        if host.startswith("[") and host.endswith("]"):
            return cls(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        if ":" in host:
            raise ValueError(f'an IPv6 address stands in brackets: "[{host}]:{port}"')
        if host and not _HOSTNAME.fullmatch(host):
            raise ValueError("is no host name or address")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """One door for SMTP. Its zone is the zone of every session that comes in through it."""

    name: str
    """How records and log lines call it."""
    listen: HostPort
    """Address and port: "127.0.0.1:10025", "[::1]:10025", or ":10025" for all addresses of both families."""
    zone: Literal["external", "internal"] = "external"
    """Which side the clients of this listener stand on."""
    mode: Literal["transparent", "reverse"] = "transparent"
    """transparent: the packet filter redirects, the original destination is the server; reverse: one fixed server."""
    upstream: HostPort | None = None
    """The server of mode "reverse": "host:port", IPv6 in brackets."""
    interface: str = ""
    """The network interface whose SMTP is redirected here (for `netinspect firewall`); mode "transparent" only."""

    def __post_init__(self) -> None:
        if not _LISTENER_NAME.fullmatch(self.name):
            raise FieldError("name", "must be 1 to 64 letters, digits, dots, hyphens or underscores")
        if self.interface and not _INTERFACE.fullmatch(self.interface):
            raise FieldError("interface", "is no name of a network interface")
        if self.mode == "reverse":
            if self.upstream is None or not self.upstream.host:
                raise FieldError("upstream", 'mode "reverse" needs the server', 'write upstream = "host:port"')
            if self.upstream == self.listen:
                raise FieldError("upstream", "is the listener itself")
        elif self.upstream is not None:
            raise FieldError("upstream", 'is for mode "reverse" only', 'remove it or write mode = "reverse"')


def _own_name() -> str:
    name = socket.gethostname()
    return name if _HOSTNAME.fullmatch(name) else "localhost"


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the gateway behaves between client and server."""

    delivery: Literal["hold", "cut-through"] = "hold"
    """hold: the server sees a message only after the verdict; cut-through: all but the end flows on as it comes."""
    keep_client_address: bool = False
    """The server sees the client's own address (IP_TRANSPARENT; needs CAP_NET_ADMIN and `netinspect firewall`)."""
    hostname: str = field(default_factory=_own_name)
    """The name in front of the gateway's own 421 replies (RFC 5321 §4.2.3). Default: this machine's name."""
    banner: str = ""
    """Text of the 220 greeting, a host name first (RFC 5321 §4.2); empty: the server's own greeting is shown."""
    connect_timeout: float = 10.0
    """Seconds to reach the server."""
    command_timeout: float = 300.0
    """Seconds to wait for a command or a reply. RFC 5321 §4.5.3.2 asks for 5 minutes."""
    data_timeout: float = 600.0
    """Seconds to wait for the server's reply to a message. RFC 5321 §4.5.3.2.6 asks for 10 minutes."""
    shutdown_grace: float = 20.0
    """Seconds that running sessions get to finish a message when the gateway is told to stop."""
    bare_newline: Literal["reject", "normalize"] = "reject"
    """A line end that is not CRLF around a lone dot (smuggling): reject, or normalize all bare line ends to CRLF."""
    max_sessions: int = 2000
    """Sessions at a time; further clients are told 421."""
    starttls: Literal["refuse"] = "refuse"
    """refuse: STARTTLS is not offered to clients."""
    scripts: tuple[FilePath, ...] = ()
    """Further mitmproxy addons (Python files) that take part through the hooks of docs/addons.md."""

    def __post_init__(self) -> None:
        if not _HOSTNAME.fullmatch(self.hostname):
            raise FieldError("hostname", "must be a host name", 'for example hostname = "mx.example.org"')
        if len(self.banner) > 400 or not self.banner.isascii() or not (self.banner or " ").isprintable():
            raise FieldError("banner", "must be one line of at most 400 ASCII characters")
        for key in ("connect_timeout", "command_timeout", "data_timeout"):
            if not 0 < getattr(self, key) <= 86_400:
                raise FieldError(key, "must be above 0 and at most 86400 seconds")
        if not 0 <= self.shutdown_grace <= 3600:
            raise FieldError("shutdown_grace", "must be 0 to 3600 seconds")
        if self.max_sessions < 1:
            raise FieldError("max_sessions", "must be at least 1")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Who we are: names and addresses that nobody outside may claim. Empty lists claim nothing."""

    domains: tuple[str, ...] = ()
    """Our domains, subdomains included: ["example.org"]. U-labels and A-labels are the same."""
    addresses: tuple[str, ...] = ()
    """Our networks: ["192.0.2.0/24", "2001:db8::/32"]. A client on an external listener cannot come from them."""
    relays: tuple[str, ...] = ()
    """Outside addresses or networks that may use our names: ["203.0.113.7"]."""
    null_sender: Literal["accept", "refuse"] = "accept"
    """The null sender (bounces) from outside. RFC 5321 §4.5.5 asks to accept it."""
    helo: Literal["check", "accept"] = "check"
    """Our names in HELO/EHLO from outside. accept: for mail programs of travelling staff, who log in after it."""

    def __post_init__(self) -> None:
        for domain in self.domains:
            bare = domain.strip(".")
            if not bare or "@" in bare or "*" in bare or any(c.isspace() or c in "[]/:" for c in bare):
                raise FieldError("domains", f'"{domain}" is no domain', 'write it as "example.org"')
        for key in ("addresses", "relays"):
            for text in getattr(self, key):
                _check_network(key, text)


def _check_network(key: str, text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise FieldError(key, f'"{text}" is no address or network', 'write it as "192.0.2.0/24"') from None
        raise FieldError(key, f'"{text}" has host bits set', f'did you mean "{meant}"?') from None


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """The engines. All but clamd work without anything else installed."""

    clamd: str = ""
    """ClamAV's daemon: "unix:/run/clamav/clamd.ctl" or "tcp:127.0.0.1:3310"; empty: not used."""
    clamd_timeout: float = 30.0
    """Seconds for one answer of clamd."""
    office: bool = True
    """Macros and the like in Office documents (oletools)."""
    rules: bool = True
    """YARA rules of the package and of `rules_dir`."""
    rules_dir: FilePath = ""
    """Folder with further rule files (*.yar)."""
    hash_block: tuple[FilePath, ...] = ()
    """Files with hashes (SHA-256, SHA-1 or MD5, one a line) that are refused."""
    hash_allow: tuple[FilePath, ...] = ()
    """Files with hashes that are let through unscanned."""
    workers: int = 2
    """Child processes for unpacking and for parsing documents; 0: nothing is unpacked or parsed, each content is only
    named and hashed (and shown to clamd). That needs office = false and rules = false."""

    def __post_init__(self) -> None:
        kind, _, rest = self.clamd.partition(":")
        if kind == "tcp":
            try:
                wrong = not HostPort.parse(rest).host
            except ValueError:
                wrong = True
        else:
            wrong = bool(self.clamd) and not (kind == "unix" and rest.startswith("/"))
        if wrong:
            raise FieldError("clamd", f'"{self.clamd}" is no address', 'write "unix:/PATH" or "tcp:HOST:PORT"')
        if not 0 < self.clamd_timeout <= 3600:
            raise FieldError("clamd_timeout", "must be above 0 and at most 3600 seconds")
        if not 0 <= self.workers <= 256:
            raise FieldError("workers", "must be 0 to 256")
        if not self.workers and (self.office or self.rules):
            raise FieldError(
                "workers", "0 leaves nobody to look into documents", "write office = false and rules = false as well"
            )


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Where messages too large for memory wait for their verdict."""

    directory: FilePath = ""
    """Folder; empty: the system's folder for temporary files."""


@dataclass(frozen=True, slots=True)
class QuarantineSettings:
    """Where the action "quarantine" puts messages."""

    directory: FilePath = ""
    """Folder, one below it for each incident; empty: no rule may say quarantine or disarm."""
    answer: Literal[250, 550] = 250
    """What the client is told of a quarantined message."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """Event records: JSON lines in the field names of Suricata's EVE."""

    file: FilePath = "-"
    """File (reopened on SIGHUP), "-" for standard output, empty for none."""
    fsync: bool = False
    """Wait for the disk after each transaction."""


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Whole sessions on disk, as pcapng with each verdict in it, for `netinspect replay`. What clients log in with is
    not in it; the mail is."""

    directory: FilePath = ""
    """Folder; empty: nothing is recorded. Its files are for the gateway's user only."""
    rotate_size: int = 100_000_000
    """Octets after which a file takes no new sessions."""
    rotate_age: float = 3600.0
    """Seconds after which a file takes no new sessions."""
    keep_size: int = 10_000_000_000
    """Octets of all files together; the oldest are deleted for new ones."""

    def __post_init__(self) -> None:
        if self.rotate_size < 1000:
            raise FieldError("rotate_size", "must be at least 1000 octets")
        if not 1 <= self.rotate_age <= 2_678_400:
            raise FieldError("rotate_age", "must be 1 to 2678400 seconds (31 days)")
        if self.keep_size < 2 * self.rotate_size:
            raise FieldError("keep_size", "must be at least two times rotate_size")


@dataclass(frozen=True, slots=True)
class FirewallSettings:
    """What `netinspect firewall` redirects."""

    ports: tuple[int, ...] = (25,)
    """TCP ports that are redirected to the transparent listeners."""

    def __post_init__(self) -> None:
        for port in self.ports:
            if not 0 < port < 65536:
                raise FieldError("ports", f"{port} is no port")
        if not self.ports or len(set(self.ports)) != len(self.ports):
            raise FieldError("ports", "must name at least one port, and each once")


DEFAULT_LISTENERS = (
    ListenerSettings(name="outside", listen=HostPort("", 10025), zone="external"),
    ListenerSettings(name="inside", listen=HostPort("", 10026), zone="internal"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `source` is the file's path, empty for the embedded defaults."""

    listeners: tuple[ListenerSettings, ...] = DEFAULT_LISTENERS
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    networks: NetworkSettings = NetworkSettings()
    scan: ScanSettings = ScanSettings()
    spool: SpoolSettings = SpoolSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    records: RecordSettings = RecordSettings()
    record: RecorderSettings = RecorderSettings()
    firewall: FirewallSettings = FirewallSettings()
    limits: Limits = field(default_factory=Limits)
    policy: PolicySettings = field(default_factory=PolicySettings)
    source: str = field(default="", compare=False)

"""Which domains are ours, however they are written.

Case, a trailing dot, subdomains, and both forms of an internationalised name (U-label `bücher.example`, A-label
`xn--bcher-kva.example`, RFC 5890 §2.3.2.1) make no difference. Names are compared as U-labels after the mapping that
mail programs apply (UTS #46), so full-width letters, ideographic dots and soft hyphens do not hide a name either.
"""

from __future__ import annotations

import ipaddress
import socket
import unicodedata
from collections.abc import Iterable

import idna


def domain_of(address: str) -> str:
    """Give the domain of an envelope address without angle brackets; `""` when it has none.

    The last `@` counts: a quoted local part may hold others (RFC 5321 §4.1.2).
    """
    _, at, domain = address.rpartition("@")
    # `"a@example.org"`: all of it is a quoted local part.
    if not at or domain.endswith('"'):
        return ""
    return domain


def normalise(domain: str) -> str:
    """Give the form in which domains are compared: lower-case U-labels, no trailing dot. Broken labels stay."""
    if not domain.isascii():
        try:
            domain = idna.uts46_remap(domain, std3_rules=False, transitional=False)
        except idna.IDNAError:
            # A character that no name may have. What a program makes of it is open; this is the nearest reading.
            domain = unicodedata.normalize("NFKC", domain)
    domain = domain.lower().rstrip(".")
    if "xn--" in domain:
        domain = ".".join(_u_label(label) for label in domain.split("."))
    return domain


def _u_label(label: str) -> str:
    if not label.startswith("xn--") or not label.isascii():
        return label
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        return idna.uts46_remap(decoded, std3_rules=False, transitional=False)
    except (UnicodeError, idna.IDNAError):
        # Broken punycode is no name of anybody; left as it is, it equals only itself.
        return label


class OurNetworks:
    """A set of addresses and networks, both families. Built once, asked often."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._v4: dict[int, set[int]] = {}
        self._v6: dict[int, set[int]] = {}
        for text in networks:
            network = ipaddress.ip_network(text)
            table = self._v4 if network.version == 4 else self._v6
            table.setdefault(int(network.netmask), set()).add(int(network.network_address))

    def __bool__(self) -> bool:
        return bool(self._v4 or self._v6)

    def __contains__(self, address: str) -> bool:
        """Whether a textual address is in one of the networks; IPv4-mapped counts as IPv4, a scope is ignored."""
        number, table = self._parse(address)
        return any(number & mask in networks for mask, networks in table.items())

    def _parse(self, address: str) -> tuple[int, dict[int, set[int]]]:
        # inet_pton is four times as fast as ipaddress and knows only the strict dotted form, which is what SMTP has.
        try:
            if ":" not in address:
                return int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big"), self._v4
            packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
        except (OSError, ValueError):  # ValueError: a NUL or a character beyond ASCII
            return 0, {}
        if packed[:12] == b"\x00" * 10 + b"\xff\xff":
            return int.from_bytes(packed[12:], "big"), self._v4
        return int.from_bytes(packed, "big"), self._v6


class OurDomains:
    """Our domains, subdomains included, and the address literals of our networks."""

    def __init__(self, domains: Iterable[str], networks: OurNetworks | None = None) -> None:
        self._networks = networks if networks is not None else OurNetworks(())
        self._exact = frozenset(normalise(domain.strip().lstrip(".")) for domain in domains) - {""}
        self._suffixes = tuple("." + domain for domain in self._exact)

    def __bool__(self) -> bool:
        return bool(self._exact)

    def is_ours(self, domain: str) -> bool:
        """Whether a domain, an address literal (`[192.0.2.1]`, `[IPv6:…]`) or a bare address is ours."""
        name = domain.strip()
        # An address is told by its end; the question costs less than the parsing that it mostly saves.
        like_address = name.endswith("]") or ":" in name or name[-1:].isdigit()
        if like_address and self._networks and self._literal(name) in self._networks:
            return True
        name = normalise(name)
        return name in self._exact or name.endswith(self._suffixes)

    @staticmethod
    def _literal(text: str) -> str:
        text = text.removeprefix("[").removesuffix("]")
        # RFC 5321 §4.1.3; the tag is case-insensitive.
        return text[5:] if text[:5].lower() == "ipv6:" else text

"""Who may use our names: internal-looking senders that come in through an external listener.

Each check looks at one command and answers before the server hears of it. All of them are silent on an internal
listener and for a listed relay. docs/identity.md says the same for operators.
"""

from __future__ import annotations

from typing import Literal, Protocol

from netinspect.config.schema import NetworkSettings
from netinspect.identity.domains import OurDomains, OurNetworks, domain_of
from netinspect.scan.contract import Finding


class Session(Protocol):
    """What of a session is looked at (`netinspect.policy.facts.SessionFacts` has it)."""

    @property
    def zone(self) -> Literal["external", "internal"]:
        """Zone of the listener."""

    @property
    def src_ip(self) -> str:
        """Textual address of the client."""

    @property
    def authenticated(self) -> bool:
        """Whether AUTH succeeded before."""


class Identity:
    """The checks for one configuration. Pure: the same arguments give the same answer."""

    def __init__(self, settings: NetworkSettings) -> None:
        self.networks = OurNetworks(settings.addresses)
        self.relays = OurNetworks(settings.relays)
        self.domains = OurDomains(settings.domains, self.networks)
        self._refuse_null = settings.null_sender == "refuse"
        self._check_helo = settings.helo == "check"

    def check_client(self, session: Session) -> Finding | None:
        """Find a client that has one of our addresses although it stands outside."""
        if session.zone != "external" or not self.networks:
            return None
        if session.src_ip not in self.networks or self._is_relay(session):
            return None
        return _spoof("spoof.client-address", f"client {session.src_ip} is in our networks")

    def check_helo(self, session: Session, helo: str) -> Finding | None:
        """Find HELO or EHLO with one of our domains, or with an address of our networks.

        A session that has logged in may say it: the names of our own machines are what it is expected to say.
        """
        if session.zone != "external" or session.authenticated or not self._check_helo:
            return None
        if not self.domains.is_ours(helo) or self._is_relay(session):
            return None
        return _spoof("spoof.helo", f"HELO {helo}")

    def check_mail_from(self, session: Session, mail_from: str) -> Finding | None:
        """Find an envelope sender of ours. `mail_from` is without angle brackets, `""` is the null sender.

        A sender without a domain counts as ours, for the server completes it with its own (RFC 5321 §2.3.5 forbids it
        between hosts). The null sender passes unless the settings refuse it.
        """
        if session.zone != "external" or session.authenticated:
            return None
        if not mail_from:
            if self._refuse_null and not self._is_relay(session):
                return _spoof("spoof.null-sender", "null sender")
            return None
        domain = domain_of(mail_from)
        if not domain:
            if self.domains and not self._is_relay(session):
                return _spoof("spoof.unqualified-sender", f"MAIL FROM <{mail_from}> has no domain")
            return None
        if not self.domains.is_ours(domain) or self._is_relay(session):
            return None
        return _spoof("spoof.envelope-from", f"MAIL FROM <{mail_from}>")

    def _is_relay(self, session: Session) -> bool:
        return bool(self.relays) and session.src_ip in self.relays


def _spoof(signature: str, detail: str) -> Finding:
    return Finding("identity", signature, "spoof", 1, detail=detail)

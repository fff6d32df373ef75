"""`[policy]` as data: rules, their conditions, and the rules that hold when a file gives none.

A rule is compiled by `netinspect.policy.rules`; here is only what may be written, and what is inconsistent in it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

RuleAction = Literal["accept", "reject", "tempfail", "drop", "quarantine", "disarm", "tag"]

CATEGORIES = (
    "malware", "macro", "macro-autoexec", "macro-suspicious", "macro-replication", "xlm-macro", "dde",
    "embedded-object", "external-template", "encrypted", "archive-limit", "disguised-type", "banned-type", "exploit",
    "ambiguous-mime", "smuggling", "spoof", "lookalike", "authentication", "outbreak",
)  # fmt: skip
"""The categories of `netinspect.scan.contract` (a test holds the two together)."""

CODES: dict[str, tuple[int, ...]] = {
    "accept": (),
    "tag": (),
    "disarm": (),
    "reject": tuple(range(500, 600)),
    "tempfail": tuple(range(400, 500)),
    "drop": tuple(range(400, 600)),
    "quarantine": (250, *range(500, 600)),
}
"""Which reply codes fit an action; none where the server's own reply goes to the client."""

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3463 §2
_RULE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TEXT_LIMIT = 200


class FieldError(ValueError):
    """A value is not acceptable. `key` is the field's name, `remedy` says what to write.

    `at` is where in a text the mistake stands, in characters from its start; -1: the value as a whole.
    """

    def __init__(self, key: str, message: str, remedy: str = "", at: int = -1) -> None:
        self.key = key
        self.message = message
        self.remedy = remedy
        self.at = at
        super().__init__(f"{key}: {message}")


@dataclass(frozen=True, slots=True)
class When:
    """The conditions of a rule. All that are given must hold; of a list one entry is enough. None given: always.

    `category`, `severity_max`, `engine` and `signature` are about one and the same finding. Patterns know `*`, `?` and
    `[...]` and ignore case. Instead of the table, `when` can be an expression in quotes: what `cel` alone would be.
    """

    category: tuple[str, ...] = ()
    """Categories of a finding: ["malware", "macro"]."""
    severity_max: int | None = None
    """Highest number of a finding's severity: 1 is the gravest, 3 is for information."""
    engine: tuple[str, ...] = ()
    """Engines that found it, as patterns: ["clamd"]."""
    signature: tuple[str, ...] = ()
    """Signatures, as patterns: ["Win.*", "office.*"]."""
    unscanned: bool | None = None
    """true: something could not be looked at; false: everything could."""
    unscanned_reason: tuple[str, ...] = ()
    """Something could not be looked at, and every reason for it fits one of these patterns: ["*encrypted*"]."""
    anomaly: tuple[str, ...] = ()
    """Kinds of malformation, as patterns: ["base64_*"]."""
    smuggling: bool | None = None
    """true: a line end that is not CRLF around a lone dot."""
    zone: Literal["", "external", "internal"] = ""
    """Zone of the listener."""
    authenticated: bool | None = None
    """Whether the client logged in (AUTH)."""
    tls: bool | None = None
    """Whether the session is encrypted."""
    client: tuple[str, ...] = ()
    """Addresses or networks of the client: ["192.0.2.0/24"]."""
    helo: tuple[str, ...] = ()
    """Names in HELO/EHLO, as patterns."""
    mail_from: tuple[str, ...] = ()
    """Envelope senders, as patterns: ["*@example.net", ""] ("" is the null sender)."""
    recipient: tuple[str, ...] = ()
    """Envelope recipients, as patterns; one of them is enough."""
    attachment: tuple[str, ...] = ()
    """File names, nested ones too, as patterns: ["*.iso"]."""
    magic: tuple[str, ...] = ()
    """Types by content, as patterns: ["pe"]."""
    size_min: int = 0
    """Octets of the message, at least."""
    cel: str = ""
    """An expression (CEL) over the facts of docs/policy.md; it is looked at only where the other conditions hold."""

    def __post_init__(self) -> None:
        for category in self.category:
            if category not in CATEGORIES:
                raise FieldError("category", f'there is no category "{category}"', nearest(category, CATEGORIES))
        if self.severity_max not in (None, 1, 2, 3):
            raise FieldError("severity_max", "must be 1, 2 or 3")
        if self.size_min < 0:
            raise FieldError("size_min", "must not be negative")
        for network in self.client:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise FieldError("client", f'"{network}" is no address or network', 'write "192.0.2.0/24"') from None
        if self.cel:
            from netinspect.config.expression import check  # brings the library for expressions
            from netinspect.config.grammar import ExpressionError

            try:
                check(self.cel)
            except ExpressionError as error:
                raise FieldError("cel", error.message, error.remedy, error.at) from None

    @property
    def about_finding(self) -> bool:
        """Whether a finding is asked for."""
        return bool(self.category or self.engine or self.signature or self.severity_max)


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One rule. The first rule whose conditions hold decides."""

    name: str
    """Stands in the record of every verdict that the rule made."""
    action: RuleAction
    """accept, tag (fields X-Netinspect-…), disarm, quarantine, tempfail (4xx), reject (5xx), drop (reply and close)."""
    when: When = When()
    """The conditions."""
    code: int = 0
    """Reply code; 0: what fits the action."""
    enhanced: str = ""
    """Enhanced status code (RFC 3463) of the reply, like "5.7.1"; empty: what fits the code."""
    text: str = ""
    """Text of the reply; {id} is the incident's id. Keep it short and generic: the exact reason is in the record."""
    reset: bool = False
    """With drop: no reply, the connection is reset."""

    def __post_init__(self) -> None:
        if not _RULE_NAME.fullmatch(self.name):
            raise FieldError("name", "must be 1 to 64 letters, digits, dots, hyphens or underscores")
        fitting = CODES[self.action]
        if self.code and self.code not in fitting:
            span = f"with {self.action} it is {fitting[0]} to {fitting[-1]}" if fitting else f"{self.action} has none"
            raise FieldError("code", f"{self.code} does not fit", span)
        if (self.enhanced or self.text) and not fitting:
            key = "enhanced" if self.enhanced else "text"
            raise FieldError(key, f"{self.action} has no reply of its own", "remove it")
        if self.enhanced:
            if not _ENHANCED.fullmatch(self.enhanced):
                raise FieldError("enhanced", f'"{self.enhanced}" is no enhanced status code', 'write it like "5.7.1"')
            if self.code and str(self.code)[0] != self.enhanced[0]:
                raise FieldError("enhanced", f"{self.enhanced} does not fit code {self.code}")
            if not self.code and not any(str(code)[0] == self.enhanced[0] for code in fitting):
                raise FieldError("enhanced", f"{self.enhanced} does not fit the action {self.action}")
        if len(self.text) > _TEXT_LIMIT or not self.text.isascii() or not (self.text or " ").isprintable():
            raise FieldError("text", f"must be one line of at most {_TEXT_LIMIT} ASCII characters")
        if self.reset and self.action != "drop":
            raise FieldError("reset", "goes with drop only", 'write action = "drop" or remove it')


_SUSPICIOUS = ("external-template", "embedded-object", "dde", "archive-limit")
"""What a careful reader wants to be warned of, where a rule above it has not decided."""

_AMBIGUOUS = ("ambiguous-mime",)
_ELSEWHERE = ("mime.partial", "mime.external-body")

DEFAULT_RULES = (
    RuleSettings("spoof", "drop", When(category=("spoof",), zone="external"), 550, "5.7.1"),
    RuleSettings("smuggling", "reject", When(smuggling=True), 550, "5.5.2"),
    # What is known to be harmful stands before unscanned: it is refused for good, whatever else was not seen.
    RuleSettings("malware", "reject", When(category=("malware",), severity_max=1), 550, "5.7.1"),
    RuleSettings("exploit", "reject", When(category=("exploit",), severity_max=2), 550, "5.7.1"),
    RuleSettings("macro-autoexec", "reject", When(category=("macro-replication", "macro-autoexec")), 550, "5.7.1"),
    RuleSettings("program", "reject", When(category=("banned-type",), severity_max=2), 550, "5.7.1"),
    RuleSettings("disguised", "reject", When(category=("disguised-type",), severity_max=2), 550, "5.7.1"),
    RuleSettings("loads-by-itself", "reject", When(category=_SUSPICIOUS, severity_max=1), 550, "5.7.1"),
    # The rest of such a message comes from somewhere else, where nobody here can look.
    RuleSettings("not-all-of-it", "reject", When(category=_AMBIGUOUS, signature=_ELSEWHERE), 550, "5.6.0"),
    RuleSettings("ambiguous", "reject", When(category=_AMBIGUOUS, severity_max=2, zone="external"), 550, "5.6.0"),
    # Nobody can look into what is closed, today or tomorrow: to defer it would only refuse it after days. It is marked,
    # as long as that is all that was not seen.
    RuleSettings("encrypted", "tag", When(category=("encrypted",), unscanned_reason=("*encrypted*",))),
    # The sender keeps the mail and tries again: nothing passes unseen and nothing is lost.
    RuleSettings("unscanned", "tempfail", When(unscanned=True), 451, "4.7.1"),
    RuleSettings("macro", "tag", When(category=("macro", "macro-suspicious", "xlm-macro"))),
    RuleSettings("malware-doubtful", "tag", When(category=("malware",))),
    RuleSettings("suspicious", "tag", When(category=_SUSPICIOUS, severity_max=2)),
    # Severity 3 is what was opened with a password, but for clamd, which has none to try.
    RuleSettings("closed", "tag", When(category=("encrypted",), severity_max=2)),
    RuleSettings("closed-to-clamd", "tag", When(category=("encrypted",), engine=("clamd",))),
    RuleSettings("ambiguous-clean", "tag", When(category=_AMBIGUOUS, zone="external")),
)
"""Stand behind the rules of a file unless it says `defaults = false`."""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Rules in order: those of the file, then the built-in ones."""

    default: Literal["accept", "tag", "quarantine", "tempfail", "reject"] = "accept"
    """What is done when no rule decides."""
    rules: tuple[RuleSettings, ...] = DEFAULT_RULES
    """All rules in force, in order."""


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """`did you mean "…"?`, or the list of what is known when nothing is near."""
    import difflib  # only a wrong file needs it

    close = difflib.get_close_matches(word, known, 1, 0.6)
    return f'did you mean "{close[0]}"?' if close else "known are " + ", ".join(known)

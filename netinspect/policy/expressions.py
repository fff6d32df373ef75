"""Expressions of rules (CEL) over the facts of one message.

    expressions = Expressions.of(sources)         # once; None where no rule has an expression
    view = expressions.view(facts)                # once a message, when the first expression is asked
    holds = expressions.holds(source, view)

Only the facts and fields that some rule speaks of are made ready. What an expression may say was checked with the
settings; should one fail on a mail all the same, that is a fault of its own (`ExpressionFault`), never "does not hold".
"""

from __future__ import annotations

import fnmatch
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from netinspect.config import library
from netinspect.config.expression import FIELDS, check
from netinspect.mime.words import field_text
from netinspect.policy.coverage import Coverage
from netinspect.policy.facts import Facts, MailFacts

STEPS = 250_000
"""Turns of lists walked in lists. One costs about a microsecond, and nothing can stop an expression in its middle."""
ENTRIES = 50_000
"""Entries of one list that are made ready, some microseconds each."""
_HEADER_TEXT = 998
"""Characters of one header field (RFC 5322 §2.1.1 has no longer line)."""

_FAULTS = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)
"""What the library raises for an expression that cannot be evaluated."""


class ExpressionFault(Exception):
    """An expression gave no answer; the text says why."""


class _Program(Protocol):
    def execute(self, context: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class View:
    """The facts of one message as the library takes them. `entries` is the length of the longest list in it."""

    context: Any
    entries: int


class Expressions:
    """The expressions of one policy."""

    def __init__(self, sources: Iterable[str]) -> None:
        cel = library.load()
        self._new_context: Callable[..., Any] = cel.Context
        self._programs: dict[str, tuple[_Program, int]] = {}
        self._facts: dict[str, tuple[str, ...]] = {}
        fields: dict[str, set[str]] = {}
        for source in sources:
            checked = check(source)
            self._programs[source] = (cel.compile(source), checked.nesting)
            for name, asked in checked.facts.items():
                fields.setdefault(name, set()).update(asked)
        self._facts = {name: tuple(sorted(asked)) for name, asked in fields.items()}

    @classmethod
    def of(cls, sources: Iterable[str]) -> Expressions | None:
        """Compile them; `None` where there is none. Raises `ExpressionError` for a wrong one."""
        given = [source for source in sources if source]
        return cls(given) if given else None

    def view(self, facts: Facts) -> View:
        """Make the facts ready, unless there are too many of them."""
        lists = (facts.artifacts, facts.findings, facts.unscanned, facts.anomalies, facts.headers)
        entries = max(map(len, lists))
        if entries > ENTRIES:
            return View(None, entries)
        variables = {name: _MAKE[name](facts, fields) for name, fields in self._facts.items()}
        entries = max(_longest(variables.values()), len(facts.headers))
        context = self._new_context(variables, _FUNCTIONS)
        headers = facts.headers
        context.add_function("header", lambda name: _header(headers, name))
        context.add_function("headers", lambda name: _headers(headers, name))
        return View(context, entries)

    def holds(self, source: str, view: View) -> bool:
        """Evaluate one of the expressions.

        Raises:
            ExpressionFault: it has no value for these facts.
        """
        program, nesting = self._programs[source]
        if view.entries > ENTRIES:
            raise ExpressionFault(f"a list of {view.entries} entries")
        if nesting > 1 and view.entries**nesting > STEPS:
            raise ExpressionFault(f"lists of {view.entries} entries walked in each other")
        try:
            value = program.execute(view.context)
        except _FAULTS as error:
            raise ExpressionFault(str(error).split("\n", 1)[0][:200]) from error
        if not isinstance(value, bool):
            raise ExpressionFault("gives neither true nor false")
        return value


# --- facts as the library takes them ----------------------------------------------------------------------------------


def _text(text: str) -> str:
    # The library takes no lone surrogates (octets that were no UTF-8).
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _session(facts: Facts, fields: tuple[str, ...]) -> dict[str, Any]:
    session = facts.session
    known = {
        "client": session.src_ip, "port": session.src_port, "server": session.dest_ip, "helo": _text(session.helo),
        "authenticated": session.authenticated, "tls": session.tls,
    }  # fmt: skip
    return {name: known[name] for name in fields}


def _envelope(facts: Facts, fields: tuple[str, ...]) -> dict[str, Any]:
    envelope = facts.envelope
    known: dict[str, Any] = {
        "mail_from": _text(envelope.mail_from), "recipients": [_text(one) for one in envelope.recipients],
        "size": envelope.size, "smuggling": envelope.smuggling,
    }  # fmt: skip
    return {name: known[name] for name in fields}


def _mail(facts: Facts, fields: tuple[str, ...]) -> dict[str, Any]:
    mail = facts.mail or MailFacts()
    known: dict[str, Any] = {
        "from": _text(mail.from_), "to": [_text(one) for one in mail.to], "subject": _text(mail.subject),
        "message_id": _text(mail.message_id), "attachments": [_text(name) for name in mail.attachments],
    }  # fmt: skip
    return {name: known[name] for name in fields}


def _coverage(facts: Facts, fields: tuple[str, ...]) -> dict[str, Any]:
    coverage = facts.coverage or Coverage()
    made: dict[str, Any] = {}
    for name in fields:
        if name == "skipped":
            made[name] = [{"path": _text(one.path), "reason": _text(one.reason)} for one in coverage.skipped]
        elif name == "complete":
            made[name] = facts.coverage is not None and coverage.complete  # nothing seen is nothing covered
        else:
            made[name] = getattr(coverage, name)
    return made


_ATTRIBUTES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "artifact": {
        "sha256": lambda artifact: artifact.hashes.sha256,
        "parent": lambda artifact: artifact.parent_sha256,
        "truncated": lambda artifact: artifact.state != "CLOSED",
        "text": lambda artifact: artifact.text,
    },
}
"""Fields that are not the attribute of the same name."""


def _entries(kind: str, attribute: str) -> Callable[[Facts, tuple[str, ...]], list[dict[str, Any]]]:
    special = _ATTRIBUTES.get(kind, {})
    texts = {name for name, of in FIELDS[kind].items() if of == "text"}

    def getter(name: str) -> Callable[[Any], Any]:
        if name in special:
            return special[name]
        if name in texts:
            return lambda entry: _text(getattr(entry, name))
        return lambda entry: getattr(entry, name)

    getters = {name: getter(name) for name in FIELDS[kind]}

    def make(facts: Facts, fields: tuple[str, ...]) -> list[dict[str, Any]]:
        asked = [(name, getters[name]) for name in fields]
        return [{name: get(entry) for name, get in asked} for entry in getattr(facts, attribute)]

    return make


_MAKE: dict[str, Callable[[Facts, tuple[str, ...]], Any]] = {
    "zone": lambda facts, _fields: facts.session.zone,
    "session": _session,
    "envelope": _envelope,
    "mail": _mail,
    "artifacts": _entries("artifact", "artifacts"),
    "findings": _entries("finding", "findings"),
    "unscanned": _entries("unscanned", "unscanned"),
    "anomalies": _entries("anomaly", "anomalies"),
    "coverage": _coverage,
}


def _longest(values: Iterable[Any]) -> int:
    longest = 0
    for value in values:
        if isinstance(value, list):
            longest = max(longest, len(value))
        elif isinstance(value, dict):
            longest = max(longest, _longest(value.values()))
    return longest


# --- functions --------------------------------------------------------------------------------------------------------


def _headers(headers: tuple[tuple[str, bytes], ...], name: str) -> list[str]:
    wanted = name.lower()
    return [_text(field_text(value, _HEADER_TEXT)) for key, value in headers if key.lower() == wanted]


def _header(headers: tuple[tuple[str, bytes], ...], name: str) -> str:
    wanted = name.lower()
    for key, value in headers:
        if key.lower() == wanted:
            return _text(field_text(value, _HEADER_TEXT))
    return ""


@functools.lru_cache(256)
def _pattern(glob: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(fnmatch.translate(glob), re.IGNORECASE).match


def _glob(text: str, pattern: str) -> bool:
    return _pattern(pattern)(text) is not None


@functools.lru_cache(256)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


def _within(address: str, network: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False  # what is no address is in no network
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip) in _network(network)


_FUNCTIONS: dict[str, Callable[..., Any]] = {"glob": _glob, "within": _within, "lower": str.lower}

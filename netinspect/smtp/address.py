"""The path of MAIL and RCPT (RFC 5321 §4.1.2), read as Postfix reads it, and the ESMTP parameters behind it.

Tolerated as servers in the field do: a blank before the path (`MAIL FROM: <a@b>`), missing angle brackets. Not
tolerated, because two readers could take two addresses out of it: unquoted blanks, more than one `@`, anything
between the path and the blank before the parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Any octet but blanks, controls and the specials of RFC 5322 §3.2.3; letters outside ASCII are RFC 6531's.
_ATOM = r'[^\x00-\x20\x7f<>()\[\]\\,;:"@]'
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_DOMAIN = rf"(?:{_ATOM}+|\[[^\[\]\\\s<>]+\])"
_MAILBOX = rf"(?:{_ATOM}|{_QUOTED})+(?:@{_DOMAIN})?"

_BRACKETED = re.compile(rf"<(@{_DOMAIN}(?:,@{_DOMAIN})*:)?({_MAILBOX})?>")
_BARE = re.compile(_MAILBOX)
_KEYWORD = re.compile(r"[A-Z0-9][A-Z0-9-]*")

_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})


def _is_size(value: str) -> bool:
    # RFC 1870 §3: 1*20DIGIT
    return value.isascii() and value.isdigit() and len(value) <= 20


def _is_notify(value: str) -> bool:
    # RFC 3461 §4.1
    words = value.upper().split(",")
    return words == ["NEVER"] or _NOTIFY.issuperset(words)


_VALUE: dict[str, Callable[[str], bool]] = {
    "SIZE": _is_size,
    # BINARYMIME (RFC 3030 §3) has no lines: the body cannot be told apart from smuggling, and it is not offered.
    "BODY": lambda value: value.upper() in ("7BIT", "8BITMIME"),
    "SMTPUTF8": lambda value: not value,
    "RET": lambda value: value.upper() in ("FULL", "HDRS"),
    "NOTIFY": _is_notify,
    "ENVID": lambda value: 0 < len(value) <= 100,
    "ORCPT": lambda value: ";" in value and len(value) <= 500,
}
"""Known parameters and what their value must be like. Unknown ones are kept as they are."""


def parse_path(text: str, *, null: bool) -> tuple[str | None, str]:
    """Take the path from the start of `text`; gives (address, rest).

    The address is `None` when there is no path that can be read in one way only. `null` allows `<>`.
    """
    match = _BRACKETED.match(text) or _BARE.match(text)
    if match is None:
        return None, ""
    end = match.end()
    if end < len(text) and text[end] != " ":
        return None, ""
    if match.re is _BARE:
        return match[0], text[end:]
    route, mailbox = match[1], match[2]
    if not mailbox and (route or not null):
        return None, ""
    return mailbox or "", text[end:]


def parse_params(text: str) -> tuple[dict[str, str], str]:
    """ESMTP parameters, keywords in upper case, and an error (`bad_parameter` or empty)."""
    params: dict[str, str] = {}
    error = ""
    for word in text.split(" "):
        if not word:
            continue
        key, equals, value = word.partition("=")
        key = key.upper()
        check = _VALUE.get(key)
        # A second parameter of the same name: one server takes the first, another one the last.
        if (
            key in params
            or not _KEYWORD.fullmatch(key)
            or (equals and not value)
            or (check is not None and not check(value))
        ):
            error = "bad_parameter"
        params[key] = value
    return params, error

"""One command line → `Command` (RFC 5321 §4.1.1 and the extensions that add verbs).

A line that cannot be taken is still read as far as it goes: in a capture the server decides, not we. The grammar is
a table: a verb and what may stand behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from netinspect.smtp.address import parse_params, parse_path
from netinspect.smtp.events import Command

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_WORD = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1

CHUNK_SIZE_MAX = 2**63 - 1
"""A BDAT count above this is malformed: servers keep it in a signed 64-bit integer."""

AUTH_VERBS = frozenset({"AUTH", "X-EXPS"})
"""Verbs with a credential behind them (X-EXPS is Exchange's word for AUTH)."""


def _none(argument: str) -> str:
    return "syntax" if argument else ""


def _some(argument: str) -> str:
    return "" if argument else "syntax"


def _any(_argument: str) -> str:
    return ""


_ARGUMENT: dict[str, Callable[[str], str]] = {
    "EHLO": _some, "HELO": _some, "LHLO": _some,
    "DATA": _none, "RSET": _none, "QUIT": _any, "NOOP": _any, "HELP": _any, "VRFY": _some, "EXPN": _some,
    "STARTTLS": _none, "ETRN": _some, "XCLIENT": _some, "XFORWARD": _some,
}  # fmt: skip
"""Verbs without a grammar of their own: what must hold for the argument."""

_PATH_PREFIX = {"MAIL": "FROM:", "RCPT": "TO:"}

KNOWN_VERBS = frozenset({*_ARGUMENT, *_PATH_PREFIX, "BDAT", "AUTH"})


def parse_command(line: bytes, *, offset: int = 0, error: str = "", private: bool = False) -> Command:
    """Read one command line with its end.

    `error` is what the reader of the line already knows against it (`too_long`, `bare_newline`); it stays in front
    of what is found here. `private` keeps a line without a known verb out of `raw` (see `Command`).
    """
    if line.endswith(b"\r\n"):
        body = line[:-2]
    elif line.endswith(b"\n"):
        body = line[:-1]
    else:
        body = line
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = body.decode("utf-8", "replace")
        error = error or "syntax"
    if not text.isprintable():
        if _CONTROL.search(text):
            error = error or "control_character"
        text = text.replace("\t", " ")
    if text.startswith(" "):
        text = text.lstrip(" ")
        error = error or "syntax"

    verb, _, argument = text.partition(" ")
    verb = verb.upper()
    argument = argument.strip(" ")
    prefix = _PATH_PREFIX.get(verb)
    if prefix is not None:
        return _with_path(verb, prefix, line, argument, error, offset)
    check = _ARGUMENT.get(verb)
    if check is not None:
        return Command(verb, line, argument, error=error or check(argument), offset=offset)
    if verb == "BDAT":
        size, last = _chunk(argument)
        error = error or ("" if size is not None else "bad_chunk_size")
        return Command(verb, line, argument, error=error, offset=offset, chunk_size=size, last=last)
    if verb in AUTH_VERBS:
        return _auth(verb, line, argument, error, offset)

    known = _WORD.fullmatch(verb) is not None
    error = error or ("unknown" if known else "syntax")
    if private or "AUTH" in verb:
        return Command("", b"", error=error, offset=offset, secret=line)
    return Command(verb if known else "", line, argument, error=error, offset=offset)


def _with_path(verb: str, prefix: str, line: bytes, argument: str, error: str, offset: int) -> Command:
    if argument[: len(prefix)].upper() != prefix:
        return Command(verb, line, argument, error=error or "syntax", offset=offset)
    path, rest = parse_path(argument[len(prefix) :].lstrip(" "), null=verb == "MAIL")
    if path is None:
        return Command(verb, line, argument, error=error or "bad_path", offset=offset)
    if not rest:
        return Command(verb, line, argument, path, error=error, offset=offset)
    params, fault = parse_params(rest)
    return Command(verb, line, argument, path, params, error or fault, offset)


def _chunk(argument: str) -> tuple[int | None, bool]:
    # RFC 3030 §2: "BDAT" SP chunk-size [ SP end-marker ]; chunk-size ::= 1*DIGIT
    words = argument.split()
    if len(words) not in (1, 2) or not (words[0].isascii() and words[0].isdigit()) or len(words[0]) > 19:
        return None, False
    last = len(words) == 2
    if last and words[1].upper() != "LAST":
        return None, False
    size = int(words[0])
    return (size, last) if size <= CHUNK_SIZE_MAX else (None, False)


def _auth(verb: str, line: bytes, argument: str, error: str, offset: int) -> Command:
    mechanism = argument.partition(" ")[0]
    # Whatever does not look like a mechanism may be a credential that came in its place.
    if not _MECHANISM.fullmatch(mechanism):
        mechanism = ""
        error = error or "syntax"
    elif verb != "AUTH":
        error = error or "unknown"
    raw = f"{verb} {mechanism}".rstrip().encode() + b"\r\n"
    return Command(verb, raw, mechanism, error=error, offset=offset, secret=line)

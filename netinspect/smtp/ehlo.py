"""What a client is offered: the server's EHLO reply without the extensions that cannot be inspected.

A list of what may stay, not of what must go: an extension nobody here knows may change what the octets mean, as
BINARYMIME, BURL (the message is fetched from elsewhere), XCLIENT or a security layer of AUTH do.
"""

from __future__ import annotations

import functools

from netinspect.smtp.events import Reply

_KEPT = frozenset(
    {
        "8BITMIME",  # RFC 6152
        "DSN",  # RFC 3461
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "EXPN",
        "HELP",
        "PIPELINING",  # RFC 2920
        "SMTPUTF8",  # RFC 6531
        "VRFY",
    }
)

_SEALING = frozenset({"DIGEST-MD5", "GSSAPI", "GSS-SPNEGO", "KERBEROS_V4", "KERBEROS_V5", "SRP"})
"""Mechanisms that can put a security layer of their own over the session (RFC 4422 §3.7): nothing could be read."""


# A server says the same to every client, or the same but for the client's name.
@functools.lru_cache(16)
def filter_ehlo(reply: Reply, *, size: int, offer_starttls: bool, offer_chunking: bool) -> Reply:
    """The reply the client gets. Extensions are kept in the server's order; none is added.

    `size` (octets) caps what SIZE announces; a server without a limit of its own announces `size`. STARTTLS and
    CHUNKING are kept only if they are wanted. A reply that is not 2xx is given back as it is.
    """
    if not reply.positive:
        return reply
    lines = [reply.lines[0] if reply.lines else ""]
    for row in reply.lines[1:]:
        kept = _row(row, size, offer_starttls, offer_chunking)
        if kept:
            lines.append(kept)
    return make_reply(reply.code, lines)


@functools.lru_cache(16)
def keywords(reply: Reply) -> frozenset[str]:
    """The extensions an EHLO reply offers, in capitals."""
    return frozenset([row.split()[0].upper() for row in reply.lines[1:] if row.strip()])


def make_reply(code: int, lines: list[str]) -> Reply:
    """A reply with its octets as they go on the wire."""
    text = [f"{code}-{line}\r\n" for line in lines[:-1]]
    text.append(f"{code} {lines[-1]}\r\n" if lines else f"{code}\r\n")
    return Reply(code, tuple(lines), "".join(text).encode())


def _row(row: str, size: int, offer_starttls: bool, offer_chunking: bool) -> str:
    words = row.split()
    if not words:
        return ""
    keyword = words[0].upper()
    if keyword in _KEPT:
        return " ".join([keyword, *words[1:]])
    if keyword == "SIZE":
        return f"SIZE {_size(words[1:], size)}"
    if keyword == "STARTTLS":
        return keyword if offer_starttls else ""
    if keyword == "CHUNKING":
        return keyword if offer_chunking else ""
    # `AUTH=LOGIN` is what clients older than RFC 2554 look for.
    if keyword == "AUTH" or keyword.startswith("AUTH="):
        return _auth(row)
    return ""


def _size(words: list[str], size: int) -> int:
    # RFC 1870 §4: no number, or 0, is no fixed limit.
    if words and words[0].isascii() and words[0].isdigit() and len(words[0]) <= 20:
        return min(size, int(words[0])) or size
    return size


def _auth(row: str) -> str:
    old = row[4:5] == "="
    names = row[5:].split()
    # -PLUS binds to the TLS channel (RFC 5802 §6), which ends here.
    kept = [name for name in names if name.upper() not in _SEALING and not name.upper().endswith("-PLUS")]
    return f"AUTH{'=' if old else ' '}{' '.join(kept)}" if kept else ""

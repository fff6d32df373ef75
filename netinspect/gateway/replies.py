"""What the gateway says for itself. Texts are short and generic; the record under the id says why."""

from __future__ import annotations

from dataclasses import replace

from netinspect.policy.decision import Decision
from netinspect.policy.failsafe import NOT_DISARMED as NOT_DISARMED
from netinspect.policy.failsafe import NOT_HELD as NOT_HELD
from netinspect.policy.failsafe import NOT_STORED as NOT_STORED
from netinspect.policy.failsafe import SMUGGLED as SMUGGLED
from netinspect.policy.failsafe import UNJUDGED as UNJUDGED
from netinspect.smtp.events import Command, Reply


def make(code: int, enhanced: str, text: str) -> Reply:
    """A one-line reply: `550 5.7.1 Message refused`. A line end in the text cannot begin a second one."""
    line = one_line(f"{enhanced} {text}").strip()
    return Reply(code, (line,), f"{code} {line}\r\n".encode("ascii", "replace"))


def one_line(text: str) -> str:
    """The text with blanks for control characters."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


BAD_SEQUENCE = make(503, "5.5.1", "Bad sequence of commands")
GO_AHEAD = make(354, "", "End data with <CR><LF>.<CR><LF>")
NO_RECIPIENTS = make(554, "5.5.1", "No valid recipients")
NO_SERVER = make(421, "4.4.1", "No answer from the mail server, try again later")
SERVER_LOST = make(451, "4.4.2", "Lost the mail server, try again later")
SERVER_LOST_421 = make(421, "4.4.2", "Lost the mail server, try again later")
SERVER_SILENT = make(451, "4.4.2", "The mail server does not answer, try again later")
SHUTTING_DOWN = make(421, "4.3.2", "Service shutting down, try again later")
BUSY = make(421, "4.3.2", "Too many sessions, try again later")
CLIENT_LEFT = make(451, "4.4.2", "Connection closed before the reply")
TIMEOUT = make(421, "4.4.2", "Timeout, closing connection")
TOO_BIG = make(552, "5.3.4", "Message too big")
TOO_MANY_RECIPIENTS = make(452, "4.5.3", "Too many recipients")
TOO_MUCH = make(421, "4.7.0", "Too much data while waiting for a reply")
TOO_MANY_ERRORS = make(421, "4.7.0", "Too many errors")
NO_TLS = make(454, "4.7.0", "TLS not available")
UNKNOWN = make(500, "5.5.2", "Command not recognized")
NOT_IMPLEMENTED = make(502, "5.5.1", "Command not implemented")

LAST_WORDS = (NO_SERVER, SERVER_LOST_421, SHUTTING_DOWN, BUSY, TIMEOUT, TOO_MUCH, TOO_MANY_ERRORS)

ERRORS = {
    "too_long": make(500, "5.5.2", "Line too long"),
    "bare_newline": make(500, "5.5.2", "Line must end with CRLF"),
    "control_character": make(500, "5.5.2", "Control character in command"),
    "bad_path": make(501, "5.1.7", "Bad address syntax"),
    "bad_parameter": make(501, "5.5.4", "Bad parameter"),
    "bad_chunk_size": make(501, "5.5.4", "Bad chunk size"),
}
SYNTAX = make(501, "5.5.4", "Syntax error")


def signed(reply: Reply, hostname: str) -> Reply:
    """A 421 of ours with our name in front of its text (RFC 5321 §4.2.3), so that the sender's log says who closed.

    Every other reply comes back as it is: one of the server is its own word.
    """
    if not any(reply is word for word in LAST_WORDS):
        return reply
    enhanced, _, text = reply.lines[0].partition(" ")
    return make(reply.code, enhanced, f"{hostname} {text}")


def for_error(command: Command) -> Reply:
    """The answer to a command that could not be read."""
    if not command.verb and command.error == "syntax":
        return UNKNOWN
    return ERRORS.get(command.error, SYNTAX)


def chunk_taken(size: int) -> Reply:
    """The answer to a BDAT chunk that is not the last (RFC 3030 §2)."""
    return make(250, "2.0.0", f"{size} octets received")


def from_decision(decision: Decision, incident_id: str, *, stored: bool = False) -> Reply:
    """What the peer is told about a decision that does not deliver.

    Whatever code it came with: only a message that was stored is acknowledged.
    """
    if decision.code < 400 and not stored:
        later = decision.action in ("tempfail", "quarantine")  # not stored: it stays with the sender
        decision = replace(decision, code=451 if later else 550, enhanced="4.7.1" if later else "5.7.1")
    text = decision.text.replace("{id}", incident_id) if incident_id else decision.text.replace(" (id {id})", "")
    return make(decision.code, decision.enhanced, text)


def as_decision(reply: Reply, reason: str) -> Decision:
    """A refusal of our own as a decision, so that it is recorded like any other."""
    enhanced, _, text = reply.lines[0].partition(" ")
    action = "tempfail" if reply.code < 500 else "reject"
    return Decision(action, reason, reply.code, enhanced, text, rules=("limits",))  # type: ignore[arg-type]


def rebuilt(reply: Reply) -> Reply:
    """A reply that was malformed on the wire, as one that is not."""
    lines = reply.lines or ("",)
    raw = "".join(f"{reply.code}{' ' if i == len(lines) - 1 else '-'}{text}\r\n" for i, text in enumerate(lines))
    return Reply(reply.code, lines, raw.encode("utf-8", "replace"))


def text_of(reply: Reply | None) -> str:
    """The reply as one line for the record."""
    return reply.raw.decode("utf-8", "replace").strip().replace("\r\n", " | ") if reply else ""

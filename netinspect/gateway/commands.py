"""What becomes of each command of the client: sent on, answered by us, or the end of the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netinspect.gateway import replies
from netinspect.smtp.ehlo import filter_ehlo
from netinspect.smtp.events import Command, Reply

if TYPE_CHECKING:
    from netinspect.gateway.layer import SmtpLayer


def dispatch(layer: SmtpLayer, command: Command) -> None:
    """Handle one command line."""
    if command.error:
        if command.verb == "BDAT":
            # What follows are octets of a message or commands, and nobody knows which: answered, then closed.
            layer.doomed = True
            layer.client_side.open(command, replies.for_error(command))
            layer.client_side.drain()
        else:
            _refuse(layer, command, replies.for_error(command))
        return
    handler = TABLE.get(command.verb)
    if handler is None:
        _refuse(layer, command, replies.NOT_IMPLEMENTED if command.verb else replies.UNKNOWN)
    else:
        handler(layer, command)


def _refuse(layer: SmtpLayer, command: Command, reply: Reply) -> None:
    """Answer a command that is an error of the client; too many of them end the session."""
    layer.client_side.open(command, reply)
    layer.client_side.drain()
    layer.count_error()


def _forward(layer: SmtpLayer, command: Command) -> None:
    layer.forward(command, command.raw)


def _auth(layer: SmtpLayer, command: Command) -> None:
    layer.forward(command, command.secret or command.raw)


def _helo(layer: SmtpLayer, command: Command) -> None:
    if layer.stopping:
        layer.end_session(replies.SHUTTING_DOWN)
    elif not layer.spoofed(layer.services.identity.check_helo(layer.session_facts(), command.argument)):
        layer.forward(command, command.raw)


def ehlo_answered(layer: SmtpLayer, reply: Reply) -> Reply:
    """The server's EHLO reply with only those extensions that we can look into."""
    if not reply.positive:
        return reply
    filtered = filter_ehlo(reply, size=layer.limits.message_size, offer_starttls=False, offer_chunking=True)
    layer.server_side.pipelining = "PIPELINING" in filtered.lines[1:]
    return filtered


def _mail(layer: SmtpLayer, command: Command) -> None:
    if layer.stopping:
        layer.end_session(replies.SHUTTING_DOWN)
        return
    sender = command.path or ""
    if layer.spoofed(layer.services.identity.check_mail_from(layer.session_facts(), sender), sender):
        return
    size = command.params.get("SIZE", "")
    if size.isdecimal() and int(size[:20]) > layer.limits.message_size:
        _refuse(layer, command, replies.TOO_BIG)
        return
    layer.forward(command, command.raw)


def _rcpt(layer: SmtpLayer, command: Command) -> None:
    layer.recipients += 1
    if layer.recipients > 2 * layer.limits.recipients:
        # As many again were refused: this is no client that sends the rest in a second transaction.
        layer.end_session(replies.TOO_MANY_ERRORS)
    elif layer.recipients > layer.limits.recipients:
        layer.client_side.open(command, replies.TOO_MANY_RECIPIENTS)
        layer.client_side.drain()
    else:
        layer.forward(command, command.raw)


def _data(layer: SmtpLayer, command: Command) -> None:
    if layer.holding.running:
        _refuse(layer, command, replies.BAD_SEQUENCE)  # RFC 3030 §3: DATA and BDAT do not mix in one transaction
    else:
        layer.client_side.open(command, decide=layer.holding.may_start)
        layer.client_side.drain()


def _bdat(layer: SmtpLayer, command: Command) -> None:
    # Answered when its octets are here. Without a transaction the core throws them away and tells no more of them.
    if layer.message_follows():
        layer.holding.chunk_opened(layer.client_side.open(command))
    else:
        _refuse(layer, command, replies.NO_RECIPIENTS)


def _starttls(layer: SmtpLayer, command: Command) -> None:
    _refuse(layer, command, replies.NO_TLS)


TABLE = {
    "AUTH": _auth,
    "BDAT": _bdat,
    "DATA": _data,
    "EHLO": _helo,
    "EXPN": _forward,
    "HELO": _helo,
    "HELP": _forward,
    "MAIL": _mail,
    "NOOP": _forward,
    "QUIT": _forward,
    "RCPT": _rcpt,
    "RSET": _forward,
    "STARTTLS": _starttls,
    "VRFY": _forward,
}

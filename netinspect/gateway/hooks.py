"""Hooks of the project's own, so that other people's mitmproxy addons take part in the judgement.

An addon implements any of `smtp_session`, `smtp_envelope`, `smtp_message`, `smtp_verdict` (plain or `async`); each
gets the `SmtpFlow` and is awaited before the session goes on. They come in this order:

    smtp_session                once, the client is connected, the server is not yet
    smtp_envelope               once a message: sender and recipients were accepted, the message itself comes next
    smtp_message                once a message: all of it is here; the gateway's own addon judges in this hook
    smtp_verdict                once a message: the decision is final, nothing was told to anybody yet

Setting `flow.decision` in any of them decides; the strictest wins only if an addon makes it so: the last word counts.
A hook that nobody listens to costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mitmproxy import connection
from mitmproxy.proxy.commands import StartHook

from netinspect.policy.decision import Decision
from netinspect.policy.facts import SessionFacts

if TYPE_CHECKING:
    from netinspect.inspector import Inspection, Judgement
    from netinspect.smtp.events import Envelope


@dataclass(slots=True, eq=False)
class SmtpFlow:
    """What a hook sees. `session`, `envelope` and `inspection` are to be read, `decision` may be set.

    `inspection` gives the message itself (`inspection.spool`); it is None before the message starts.
    """

    client_conn: connection.Client
    server_conn: connection.Server
    session: SessionFacts
    envelope: Envelope | None = None
    inspection: Inspection | None = None
    judgement: Judgement | None = None
    decision: Decision | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class SmtpSessionHook(StartHook):
    """A client is connected. A decision that does not deliver ends the session before the server hears of it."""

    flow: SmtpFlow


@dataclass
class SmtpEnvelopeHook(StartHook):
    """Sender and recipients are known. A decision that does not deliver refuses the message before it is sent."""

    flow: SmtpFlow


@dataclass
class SmtpMessageHook(StartHook):
    """The message is complete. Without a decision after this hook the message is refused for now (451)."""

    flow: SmtpFlow


@dataclass
class SmtpVerdictHook(StartHook):
    """The decision stands in `flow.decision`; the last chance to change it."""

    flow: SmtpFlow


@dataclass
class SmtpDrainHook(StartHook):
    """Completed once the connection's write buffer has room again. For the layer's own use."""

    connection: connection.Connection

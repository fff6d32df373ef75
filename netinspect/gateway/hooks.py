"""Hooks of the project's own, so that other people's mitmproxy addons take part in the judgement.

An addon implements any of `smtp_session`, `smtp_envelope`, `smtp_message`, `smtp_verdict` (plain or `async`); each
gets the `SmtpFlow` and is awaited before the session goes on. They come in this order:

    smtp_session                once, the client is connected, the server is not yet
    smtp_envelope               once a message sent with DATA: sender and recipients were accepted
    smtp_message                once a message: all of it is here; the gateway's own addon judges in this hook
    smtp_verdict                once a message: the decision is final, nothing was told to anybody yet

Setting `flow.decision` decides, before the policy does. Addons are asked in the order in which they were loaded, and
the last word counts. A hook that nobody listens to costs nothing; one that raises is logged, and the mail goes its way
as if the addon had said nothing. docs/addons.md tells the same at length.
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
    """What a hook sees: one for each session, so it lasts from its first hook to its last.

    `session`, `envelope`, `inspection` and `judgement` are to be read, `decision` may be set, `metadata` may hold what
    an addon wants to remember under a key of its own (`error` and `why` are the gateway's).

    `envelope` is None before `smtp_envelope` or, without that, `smtp_message`. `inspection` gives the message itself
    (`inspection.spool.chunks()`), None before it starts and after its verdict was carried out. `judgement` is what the
    engines found and the policy made of it; in `smtp_verdict` it is None only where nobody judged. Both
    `judgement` and `decision` are cleared before each message.
    """

    client_conn: connection.Client
    server_conn: connection.Server
    session: SessionFacts
    envelope: Envelope | None = None
    inspection: Inspection | None = None
    judgement: Judgement | None = None
    decision: Decision | None = None
    stored: bool = False
    """The message is in quarantine, on disk."""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class SmtpSessionHook(StartHook):
    """A client is connected. A decision that does not deliver ends the session before the server hears of it."""

    flow: SmtpFlow


@dataclass
class SmtpEnvelopeHook(StartHook):
    """Sender and recipients are known, and the client said DATA.

    A decision that does not deliver ends the session in place of the 354. Not asked for a message that comes with BDAT:
    that follows its envelope without a pause.
    """

    flow: SmtpFlow


@dataclass
class SmtpMessageHook(StartHook):
    """The message is complete. Without a decision or a judgement after this hook it is refused for now (451).

    Not asked for a message over the size limit.
    """

    flow: SmtpFlow


@dataclass
class SmtpVerdictHook(StartHook):
    """The decision stands in `flow.decision`; the last chance to change it. Asked for each message, DATA or BDAT."""

    flow: SmtpFlow


@dataclass
class SmtpStoreHook(StartHook):
    """The message is to be put into quarantine before the client is told. For the gateway's own addon."""

    flow: SmtpFlow


@dataclass
class SmtpDrainHook(StartHook):
    """Completed once the connection's write buffer has room again. For the layer's own use."""

    connection: connection.Connection

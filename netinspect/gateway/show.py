"""A session as a mitmproxy flow: what mitmweb and mitmproxy show of it, with the verdict in comment and metadata.

Only where somebody looks (`SmtpGateway` under mitmdump, mitmweb, mitmproxy); `netinspect gateway` keeps nothing of it.
"""

from __future__ import annotations

from mitmproxy import connection, tcp
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.tcp import TcpEndHook, TcpMessageHook, TcpStartHook

from netinspect.gateway.hooks import SmtpFlow
from netinspect.policy.decision import Decision

SHOWN = 262_144
"""Octets of one message that are kept for display."""

KEY = "netinspect"
"""Key of our entry in the flow's metadata."""

MARKS = {"accept": ":white_check_mark:", "tag": ":warning:", "tempfail": ":hourglass:"}


class ShownSession:
    """Builds the flow of one session and the hooks that announce it."""

    def __init__(self, client: connection.Client, server: connection.Server, flow: SmtpFlow) -> None:
        self.flow = tcp.TCPFlow(client, server, live=True)
        self._smtp = flow
        self._mail = bytearray()
        self._verdicts: list[dict[str, object]] = []
        self.flow.metadata[KEY] = {"zone": flow.session.zone, "verdicts": self._verdicts}
        self.hooks: list[commands.Command] = [_quiet(TcpStartHook(self.flow))]

    def said(self, from_client: bool, text: bytes) -> None:
        """One command or reply."""
        self.flow.messages.append(tcp.TCPMessage(from_client, text))
        self.hooks.append(_quiet(TcpMessageHook(self.flow)))

    def mail(self, data: bytes) -> None:
        """A piece of the message."""
        room = SHOWN - len(self._mail)
        if room > 0:
            self._mail += data[:room]

    def verdict(self, decision: Decision, incident: str) -> None:
        """The message is complete and judged."""
        if self._mail:
            self.said(True, bytes(self._mail))
            self._mail.clear()
        entry: dict[str, object] = {
            "action": decision.action,
            "reason": decision.reason,
            "rules": list(decision.rules),
            "incident_id": incident,
        }
        self._verdicts.append(entry)
        rules = ", ".join(decision.rules)
        line = f"{decision.action}: {decision.reason or 'clean'}" + (f" [{rules}]" if rules else "")
        self.flow.comment = f"{self.flow.comment}\n{line}".strip()
        self.flow.marked = MARKS.get(decision.action, ":no_entry:")

    def end(self) -> None:
        """The session is over."""
        self.flow.live = False
        self.hooks.append(_quiet(TcpEndHook(self.flow)))

    def take(self) -> list[commands.Command]:
        """Hooks to announce since the last call."""
        hooks, self.hooks = self.hooks, []
        return hooks


def _quiet(hook: commands.StartHook) -> commands.StartHook:
    hook.blocking = False  # nobody decides in these
    return hook

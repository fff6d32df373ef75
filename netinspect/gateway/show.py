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

NOT_SHOWN = b"(a line that may hold a credential)\r\n"

MARKS = {"accept": ":white_check_mark:", "tag": ":warning:", "disarm": ":warning:", "tempfail": ":hourglass:"}


class ShownSession:
    """Builds the flow of one session and the hooks that announce it."""

    def __init__(self, client: connection.Client, server: connection.Server, flow: SmtpFlow) -> None:
        self.flow = tcp.TCPFlow(client, server, live=True)
        self._smtp = flow
        self._mail = bytearray()
        self._size = 0
        self._verdicts: list[dict[str, object]] = []
        self.flow.metadata[KEY] = {"zone": flow.session.zone, "verdicts": self._verdicts}
        self._news: list[commands.Command] = [_quiet(TcpStartHook(self.flow))]
        self._speaker: bool | None = None
        self._ended = False

    def said(self, from_client: bool, text: bytes) -> None:
        """A command or a reply. What one side says at a time stands together."""
        if from_client and text[:5].upper() == b"MAIL ":
            self._forget_mail()  # of a message that came to no verdict
        text = text or NOT_SHOWN
        if self._speaker is from_client:
            self.flow.messages[-1].content += text
            return
        self._speaker = from_client
        self.flow.messages.append(tcp.TCPMessage(from_client, text))
        self._news.append(_quiet(TcpMessageHook(self.flow)))

    def mail(self, data: bytes) -> None:
        """A piece of the message."""
        self._size += len(data)
        room = SHOWN - len(self._mail)
        if room > 0:
            self._mail += data[:room]

    def verdict(self, decision: Decision, incident: str) -> None:
        """The message is complete and judged, or the session is refused."""
        if self._mail:
            self._speaker = None  # the view reads a mail by itself
            self.said(True, bytes(self._mail))
            self._speaker = None
        self._verdicts.append(
            {
                "action": decision.action,
                "reason": decision.reason,
                "rules": list(decision.rules),
                "incident_id": incident,
                "size": self._size,
                "shown": len(self._mail),
            }
        )
        self._forget_mail()
        rules = ", ".join(decision.rules)
        line = f"{decision.action}: {decision.reason or 'clean'}" + (f" [{rules}]" if rules else "")
        self._comment(f"{line} (id {incident})" if incident else line)
        if self.flow.marked in ("", MARKS["accept"]) or not decision.delivers:
            self.flow.marked = MARKS.get(decision.action, ":no_entry:")

    def end(self) -> None:
        """The session is over."""
        error = self._smtp.metadata.get("error")
        if error:
            self._comment(f"session: {error}")
        self.flow.live = False

    def take(self) -> list[commands.Command]:
        """Hooks to announce and lines to log since the last call."""
        news, self._news = self._news, []
        self._speaker = None
        if not self.flow.live and not self._ended:
            self._ended = True
            news.append(_quiet(TcpEndHook(self.flow)))  # behind the last word
        return news

    def _comment(self, line: str) -> None:
        # Reasons may quote the peer: one line stays one line, on the terminal too.
        line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
        self.flow.comment = f"{self.flow.comment}\n{line}".strip()
        self._news.append(commands.Log(f"netinspect: {line}"))

    def _forget_mail(self) -> None:
        self._mail.clear()
        self._size = 0


def _quiet(hook: commands.StartHook) -> commands.StartHook:
    hook.blocking = False  # nobody decides in these
    return hook

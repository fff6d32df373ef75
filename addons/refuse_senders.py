"""Refuses mail from senders of a list: addresses, or `@domain` for all of a domain. An example for docs/addons.md."""

from netinspect.gateway.hooks import SmtpFlow
from netinspect.policy.decision import Decision

LISTED = {"@bulk.example", "offers@shop.example"}


class RefuseSenders:
    """Decides in `smtp_verdict`, so that it can only make the decision stricter, however the message was sent."""

    def smtp_verdict(self, flow: SmtpFlow) -> None:
        if flow.envelope is None or flow.decision is None or not flow.decision.delivers:
            return
        sender = flow.envelope.mail_from.lower()
        if sender in LISTED or "@" + sender.rpartition("@")[2] in LISTED:
            reason = f"sender {sender} is on the list"
            flow.decision = Decision(
                "reject", reason, 550, "5.7.1", "Message refused (id {id})", rules=("refuse-senders",)
            )


addons = [RefuseSenders()]

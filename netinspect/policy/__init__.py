"""Facts in, Decision out; pure."""

from __future__ import annotations

from netinspect.policy.coverage import Coverage, Skipped
from netinspect.policy.decision import Action, Decision, Disarmed
from netinspect.policy.facts import EnvelopeFacts, Facts, MailFacts, SessionFacts, Zone
from netinspect.policy.rules import Policy, Step, decide, explain, reply_text

__all__ = [
    "Action", "Coverage", "Decision", "Disarmed", "EnvelopeFacts", "Facts", "MailFacts", "Policy", "SessionFacts",
    "Skipped", "Step", "Zone", "decide", "explain", "reply_text",
]  # fmt: skip

"""Facts in, Decision out; pure."""

from __future__ import annotations

from netinspect.policy.decision import Action, Decision
from netinspect.policy.facts import EnvelopeFacts, Facts, MailFacts, SessionFacts, Zone
from netinspect.policy.rules import Policy, decide, reply_text

__all__ = [
    "Action", "Decision", "EnvelopeFacts", "Facts", "MailFacts", "Policy", "SessionFacts", "Zone", "decide",
    "reply_text",
]  # fmt: skip

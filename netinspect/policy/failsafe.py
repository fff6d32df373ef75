"""Decisions that no rule makes: when something was not done that must be done before a message may go on.

Whoever carries a decision out, or says what would have been carried out, asks `safe` last.
"""

from __future__ import annotations

from netinspect.policy.decision import Decision

UNJUDGED = Decision("tempfail", "no judgement was made", 451, "4.7.0", "Try again later", rules=("fail-safe",))
"""When no addon gave a decision: the sender keeps the mail."""

NOT_HELD = Decision("tempfail", "the message could not be held", 452, "4.3.1", "Try again later", rules=("fail-safe",))
"""When the spool failed: what is here is not all of it."""

NOT_STORED = Decision("tempfail", "quarantine failed", 451, "4.3.0", "Try again later", rules=("fail-safe",))
"""When a message that should be in quarantine is not."""

NOT_DISARMED = Decision("tempfail", "not disarmed", 451, "4.7.1", "Try again later", rules=("fail-safe",))
"""When a message that should be disarmed is not: nobody can have it as it came."""

SMUGGLED = Decision("reject", "smuggled end-of-data", 550, "5.5.2", "Message refused (id {id})", rules=("fail-safe",))
"""Whatever a rule or an addon says: another server would read two messages."""


def safe(decision: Decision, *, smuggling: bool, failed: bool) -> Decision:
    """No rule and no addon can deliver what is not whole (`failed`), or what another server reads as two messages."""
    if decision.delivers and smuggling:
        return SMUGGLED
    if decision.delivers and failed:
        return NOT_HELD
    return decision

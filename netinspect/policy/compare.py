"""What a configuration makes of facts that are there already: of a file, of a mail in a capture.

The engines have looked; only the rules and the names and networks that are ours differ between configurations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netinspect.config import Settings
from netinspect.identity.zone import Identity
from netinspect.policy.decision import Decision
from netinspect.policy.facts import Facts
from netinspect.policy.rules import Policy, Step, decide, explain, reply_text

NOBODY = "0.0.0.0"  # noqa: S104 - not an address to listen on
"""Client of what came without a connection."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one configuration decides. `reply` is what the client would be told; `steps` may be empty."""

    decision: Decision
    reply: str
    steps: tuple[Step, ...] = ()

    def differs(self, other: Ruling) -> bool:
        """Whether the client, the server or the reader of the mail would notice a difference."""
        mine, theirs = self.decision, other.decision
        return mine.action != theirs.action or mine.reset != theirs.reset or _told(mine) != _told(theirs)


class Configuration:
    """The rules of one file and the names they protect. `name` is shown."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.source or "built-in defaults"
        self._policy = Policy.from_settings(settings.policy, quarantine_answer=settings.quarantine.answer)
        self._identity = Identity(settings.networks)

    def judge(self, facts: Facts, incident_id: str) -> Ruling:
        """Let the rules decide, and have each say why."""
        facts = self._known(facts)
        decision = decide(facts, self._policy)
        return Ruling(decision, reply_text(decision, incident_id), tuple(explain(facts, self._policy)))

    def rule(self, facts: Facts, incident_id: str) -> Ruling:
        """Let the rules decide about a transaction or a refused session of a capture; no steps."""
        facts = self._known(undecided(facts))
        decision = Decision("accept", "no message") if given_up(facts) else decide(facts, self._policy)
        return Ruling(decision, reply_text(decision, incident_id))

    def refuses(self, facts: Facts) -> bool:
        """Whether the client, or a name it gave, is one that it may not have."""
        return self._known(facts) is not facts

    def _known(self, facts: Facts) -> Facts:
        """Add what this configuration knows of the client and the names it gave."""
        session, envelope = facts.session, facts.envelope
        # With a recipient an empty sender is the null sender, not one that was never said.
        said = bool(envelope.mail_from or envelope.recipients)
        checks = (
            self._identity.check_client(session) if session.src_ip != NOBODY else None,
            self._identity.check_helo(session, session.helo) if session.helo else None,
            self._identity.check_mail_from(session, envelope.mail_from) if said else None,
        )
        found = tuple(finding for finding in checks if finding is not None)
        return replace(facts, findings=found + facts.findings) if found else facts


def undecided(facts: Facts) -> Facts:
    """Take out what another configuration has found of the client and the names it gave."""
    others = tuple(one for one in facts.findings if one.engine != "identity" or one.category != "spoof")
    return facts if len(others) == len(facts.findings) else replace(facts, findings=others)


def given_up(facts: Facts) -> bool:
    """A transaction that never had a message: no rule is asked about it."""
    return facts.mail is None and not facts.findings and not facts.unscanned


def _told(decision: Decision) -> tuple[int, str, str]:
    """The reply but for the incident's id."""
    return decision.code, decision.enhanced, decision.text

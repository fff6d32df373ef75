"""`--policy OTHER.toml`: what would have been decided with another configuration.

The engines have looked once; the other file's rules judge what they found, and its own names and networks are asked
who the client is. Everything else (engines, limits) is that of the first configuration.
"""

from __future__ import annotations

from dataclasses import replace

from netinspect.config import Settings
from netinspect.inspector import Judgement, flow_id_of
from netinspect.policy import reply_text
from netinspect.policy.compare import Configuration, Ruling
from netinspect.policy.decision import Decision
from netinspect.policy.facts import Zone
from netinspect.replay.engine import Outcome, zone_of, zones_of
from netinspect.replay.tcp import Flow

_LIMITS = ("limits",)
"""What decides about a message that is too large; no policy is asked."""


class Comparison:
    """The other configuration. `zone` and `zones` are what the command line says of zones: they hold for both."""

    def __init__(self, other: Settings, zone: Zone | None, zones: dict[str, Zone]) -> None:
        self._other = Configuration(other)
        self._zone = zone_of(other.networks, zone, {**zones_of(other), **zones})
        self._moved: dict[int, Zone] = {}
        self._refused: dict[int, Decision] = {}

    def see(self, flow: Flow, zone: Zone) -> None:
        """Note where the other configuration has the client of a connection; `zone` is where we have it."""
        theirs = self._zone(flow)
        client, client_port, server, server_port = flow.addresses
        flow_id = flow_id_of((client, client_port), (server, server_port))
        self._refused.pop(flow_id, None)
        if theirs != zone:
            self._moved[flow_id] = theirs
        else:
            self._moved.pop(flow_id, None)

    def add(self, outcome: Outcome) -> None:
        """Write into the verdict record what the other configuration says, and whether anybody would notice."""
        judgement = outcome.judgement
        mine = Ruling(judgement.decision, reply_text(judgement.decision, judgement.incident_id))
        other = mine if mine.decision.rules == _LIMITS else self._theirs(judgement)
        for record in outcome.records:
            if record["event_type"] == "verdict":
                record["verdict"]["changed"] = mine.differs(other)
                record["verdict"]["other"] = {
                    "action": other.decision.action,
                    "rules": list(other.decision.rules),
                    "reason": other.decision.reason,
                    "reply": other.reply,
                }

    def _theirs(self, judgement: Judgement) -> Ruling:
        facts = judgement.facts
        flow_id = facts.session.flow_id
        zone = self._moved.get(flow_id)
        if zone is not None:
            facts = replace(facts, session=replace(facts.session, zone=zone))
        before = self._refused.get(flow_id)
        if before is not None:
            return Ruling(before, reply_text(before, judgement.incident_id))
        ruling = self._other.rule(facts, judgement.incident_id)
        if not ruling.decision.delivers and self._other.refuses(facts):
            self._refused[flow_id] = ruling.decision  # the session with all that is said in it
        return ruling

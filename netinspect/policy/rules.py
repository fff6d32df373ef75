"""The policy: ordered rules, the first whose conditions hold decides. Pure: facts in, `Decision` out.

    policy = Policy.from_settings(settings.policy, quarantine_answer=settings.quarantine.answer)
    decision = decide(facts, policy)
    told = reply_text(decision, incident_id)

The peer is told something short and generic; which rule decided and on what evidence is in `Decision.rules` and
`Decision.reason`, which go into the record under the incident's id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from netinspect.config.rules import PolicySettings, RuleSettings, When
from netinspect.policy.conditions import NO_EVIDENCE, Condition, compile_when, finding_text, first_unmet, needs_evidence
from netinspect.policy.decision import Action, Decision
from netinspect.policy.facts import Facts

if TYPE_CHECKING:
    from netinspect.policy.expressions import Expressions, View

ACTION_HEADER = "X-Netinspect-Action"
FINDING_HEADER = "X-Netinspect-Finding"
OUR_HEADERS = (ACTION_HEADER, FINDING_HEADER)
"""Fields that tag and disarm add. Inbound copies are to be removed first: only the gateway speaks in this name."""

_HEADER_FINDINGS = 10
"""Findings that a tagged message shows; the record has them all."""
_SHOWN_EXPRESSION = 160
"""Characters of an expression in a reason."""
_HEADER_OCTETS = 200
"""Of one finding in a header field: RFC 5322 §2.1.1 bounds a line at 998, and 78 is only wished for."""

_REPLIES: dict[str, tuple[int, str, str]] = {
    "accept": (250, "2.0.0", ""),
    "tag": (250, "2.0.0", ""),
    "disarm": (250, "2.0.0", ""),
    "reject": (550, "5.7.1", "Message refused (id {id})"),
    "drop": (550, "5.7.1", "Message refused (id {id})"),
    "tempfail": (451, "4.7.1", "Message deferred, try again later (id {id})"),
    "quarantine": (250, "2.0.0", "Message received (id {id})"),
}
"""Code, enhanced code (RFC 3463) and text where a rule gives none."""


_QUARANTINE = Decision("quarantine", "", *_REPLIES["quarantine"])


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule. `decision` lacks only the reason, and the header fields of tag and disarm.

    `condition` is the native part of `when`; the expression, if there is one, is asked where that holds.
    """

    name: str
    condition: Condition
    decision: Decision
    needs_evidence: bool
    when: When

    def decide(self, facts: Facts, reason: str) -> Decision:
        """Complete the decision for these facts."""
        standard = self.decision
        return Decision(
            action=standard.action,
            reason=reason,
            code=standard.code,
            enhanced=standard.enhanced,
            text=standard.text,
            rules=standard.rules,
            headers=headers_of(facts, standard.action) if standard.action in ("tag", "disarm") else (),
            reset=standard.reset,
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules in order, and those of them that can hold for a mail with nothing remarkable about it.

    `expressions` is `None` where no rule has one. `quarantine` is what a mail gets that should be disarmed and cannot.
    """

    rules: tuple[Rule, ...]
    quiet: tuple[Rule, ...]
    default: Decision
    expressions: Expressions | None = None
    quarantine: Decision = _QUARANTINE

    @classmethod
    def from_settings(cls, settings: PolicySettings, *, quarantine_answer: int = 250) -> Policy:
        """Compile the rules; `quarantine_answer` is the reply code of a quarantine rule that gives none."""
        rules = tuple(_compile(rule, quarantine_answer) for rule in settings.rules)
        default = RuleSettings("default", settings.default)
        return cls(
            rules=rules,
            quiet=tuple(rule for rule in rules if not rule.needs_evidence),
            default=_decision(default, quarantine_answer),
            expressions=_expressions([rule.when.cel for rule in settings.rules if rule.when.cel]),
            quarantine=_decision(RuleSettings("quarantine", "quarantine"), quarantine_answer),
        )


def decide(facts: Facts, policy: Policy) -> Decision:
    """Give the decision of the first rule that holds, else the policy's default (rule name `default`).

    An expression that fails on this mail is neither yes nor no: what would be delivered after it is deferred instead.
    """
    if facts.findings or facts.unscanned or facts.anomalies or facts.envelope.smuggling:
        rules = policy.rules
    else:
        rules = policy.quiet
    view: View | None = None
    failed: list[tuple[str, str]] = []
    for rule in rules:
        reason = rule.condition(facts)
        if reason is None:
            continue
        if rule.when.cel and policy.expressions is not None:
            view = view or policy.expressions.view(facts)
            asked = _ask(policy.expressions, rule.when.cel, view)
            if isinstance(asked, str):
                failed.append((rule.name, asked))
            if asked is not True:
                continue
            reason = _expression_reason(rule, reason)
        return _unless_failed(rule.decide(facts, reason), failed)
    if policy.default.action == "tag":
        return _unless_failed(Rule("default", lambda _: "", policy.default, False, When()).decide(facts, ""), failed)
    return _unless_failed(policy.default, failed) if failed else policy.default


def instead_of_disarm(decision: Decision, policy: Policy, action: Action, facts: Facts, why: str) -> Decision:
    """Give the decision about a mail that was to be disarmed and is not: quarantine, tempfail or tag.

    It stands on the same rules, and the reason says `why` as well.
    """
    code, enhanced, text = _REPLIES[action]
    standard = policy.quarantine if action == "quarantine" else Decision(action, "", code, enhanced, text)
    reason = f"{decision.reason}; {why}" if decision.reason else why
    headers = headers_of(facts, action) if action == "tag" else ()
    return replace(standard, reason=reason, rules=decision.rules, headers=headers)


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule said to a mail. `holds` is `None` where its expression gave no answer."""

    rule: str
    action: Action
    holds: bool | None
    why: str


def explain(facts: Facts, policy: Policy) -> list[Step]:
    """Tell of every rule up to the one that decides why it holds or does not (for people: `policy test`)."""
    steps: list[Step] = []
    for rule in policy.rules:
        action = rule.decision.action
        reason = rule.condition(facts)
        if reason is None:
            steps.append(Step(rule.name, action, False, first_unmet(rule.when, facts)))
            continue
        if rule.when.cel and policy.expressions is not None:
            asked = _ask(policy.expressions, rule.when.cel, policy.expressions.view(facts))
            if asked is not True:
                text = asked if isinstance(asked, str) else _shown_expression(rule.when.cel)
                steps.append(Step(rule.name, action, None if isinstance(asked, str) else False, text))
                continue
            reason = _expression_reason(rule, reason)
        steps.append(Step(rule.name, action, True, reason))
        return steps
    steps.append(Step("default", policy.default.action, True, "no rule holds"))
    return steps


def _expressions(sources: list[str]) -> Expressions | None:
    if not sources:
        return None
    from netinspect.policy.expressions import Expressions

    return Expressions.of(sources)


def _ask(expressions: Expressions, source: str, view: View) -> bool | str:
    """Whether the expression holds, or why it gave no answer."""
    from netinspect.policy.expressions import ExpressionFault

    try:
        return expressions.holds(source, view)
    except ExpressionFault as fault:
        return f"the expression gave no answer: {fault}"


def _expression_reason(rule: Rule, reason: str) -> str:
    text = f"when {_shown_expression(rule.when.cel)}"
    return text if reason == NO_EVIDENCE else f"{reason}; {text}"


def _shown_expression(source: str) -> str:
    text = " ".join(source.split())
    return text if len(text) <= _SHOWN_EXPRESSION else f"{text[:_SHOWN_EXPRESSION]}…"


def _unless_failed(decision: Decision, failed: list[tuple[str, str]]) -> Decision:
    if not failed or not decision.delivers:
        return decision
    name, why = failed[0]
    code, enhanced, text = _REPLIES["tempfail"]
    rules = (*(rule for rule, _ in failed), *decision.rules)
    return Decision("tempfail", f"rule {name}: {why}", code, enhanced, text, rules)


def reply_text(decision: Decision, incident_id: str) -> str:
    """Give what the peer is told, without CRLF: `550 5.7.1 Message refused (id 4f2c…)`."""
    text = decision.text.replace("{id}", incident_id)
    return f"{decision.code} {decision.enhanced} {text}".rstrip()


def _compile(rule: RuleSettings, quarantine_answer: int) -> Rule:
    decision = _decision(rule, quarantine_answer)
    return Rule(rule.name, compile_when(rule.when), decision, needs_evidence(rule.when), rule.when)


def _decision(rule: RuleSettings, quarantine_answer: int) -> Decision:
    action: Action = rule.action
    code, enhanced, text = _REPLIES[action]
    if action == "quarantine" and (rule.code or quarantine_answer) >= 500:
        code, enhanced, text = _REPLIES["reject"]
    if rule.code or rule.enhanced:
        # A rule that gives one of the two gets the other in the same class: 451 never goes with 5.7.1.
        klass = str(rule.code)[0] if rule.code else rule.enhanced[0]
        if klass != str(code)[0]:
            code, enhanced, text = _REPLIES["tempfail" if klass == "4" else "reject"]
    return Decision(
        action=action,
        code=rule.code or code,
        enhanced=rule.enhanced or enhanced,
        text=rule.text or text,
        rules=(rule.name,),
        reset=rule.reset,
    )


def headers_of(facts: Facts, action: Action) -> tuple[tuple[str, str], ...]:
    """Give the header fields that a delivered mail gets."""
    fields = [(ACTION_HEADER, str(action))]
    for finding in facts.findings[:_HEADER_FINDINGS]:
        fields.append((FINDING_HEADER, _header_value(finding_text(finding))))
    return tuple(fields)


def _header_value(text: str) -> str:
    # A signature or detail may carry what a sender wrote: no line end and nothing beyond ASCII gets into a header.
    clean = "".join(char if " " <= char <= "~" else "?" for char in text[:_HEADER_OCTETS])
    return clean.strip()

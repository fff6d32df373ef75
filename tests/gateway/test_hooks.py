"""The hooks as docs/addons.md promises them to other people's addons."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mitmproxy.proxy import commands

from netinspect.gateway import hooks
from netinspect.policy.decision import Decision
from tests.gateway.play import BODY, MAIL, RCPT, REJECT, Play

LATER = Decision("tempfail", "an addon", 451, "4.7.1", "Later", rules=("mine",))
Listen = Callable[[commands.StartHook], None]


class Heard(Play):
    """A session with an addon that is asked in every hook."""

    listen: Listen = staticmethod(lambda hook: None)

    def _do(self, command: commands.Command) -> None:
        if isinstance(command, commands.StartHook):
            self.listen(command)
        super()._do(command)


def deciding(kind: type[commands.StartHook], decision: Decision) -> type[Heard]:
    """Sessions with an addon that decides in one of the hooks."""

    def listen(hook: commands.StartHook) -> None:
        if isinstance(hook, kind):
            hook.flow.decision = decision  # type: ignore[attr-defined]

    return type("Deciding", (Heard,), {"listen": staticmethod(listen)})


def message(play: Play) -> bytes:
    """Send one; the reply to it, when the server takes it."""
    if play.closed:
        return play.to_client
    play.client(b"DATA\r\n")
    if play.closed:
        return play.to_client
    play.to_client = b""
    play.client(BODY + b".\r\n")
    if play.to_server.endswith(b"DATA\r\n"):
        play.server(b"354 go\r\n")
        play.server(b"250 queued\r\n")
    return play.to_client


def test_the_hooks_come_in_order_for_each_message_of_a_session() -> None:
    play = Play().greet().envelope()
    message(play)
    play.envelope()
    message(play)
    a_message = ["smtp_envelope", "smtp_message", "smtp_verdict"]
    assert play.asked == ["smtp_session", *a_message, *a_message]


def test_a_message_with_bdat_is_asked_for_in_the_same_hooks() -> None:
    play = Play().greet().envelope()
    play.client(b"BDAT %d LAST\r\n" % len(BODY) + BODY)
    assert play.asked == ["smtp_session", "smtp_envelope", "smtp_message", "smtp_verdict"]


def test_a_decision_in_the_session_hook_ends_the_session_before_the_server_hears_of_it() -> None:
    play = deciding(hooks.SmtpSessionHook, LATER)()
    assert (play.to_client, play.to_server, play.closed) == (b"451 4.7.1 Later\r\n", b"", ["client"])
    assert play.verdicts()[0]["rules"] == ["mine"]


def test_a_decision_in_the_envelope_hook_stands_in_place_of_354() -> None:
    play = deciding(hooks.SmtpEnvelopeHook, LATER)().greet().envelope()
    assert play.client(b"DATA\r\n") == b"451 4.7.1 Later\r\n"
    assert b"DATA" not in play.to_server
    assert play.verdicts()[0]["rules"] == ["mine"]
    assert play.closed == []


def test_a_decision_in_the_envelope_hook_refuses_a_message_that_came_in_chunks_unjudged() -> None:
    play = deciding(hooks.SmtpEnvelopeHook, LATER)().greet().envelope()
    assert play.client(b"BDAT %d LAST\r\n" % len(BODY) + BODY) == b"451 4.7.1 Later\r\n"
    assert play.to_server == b"RSET\r\n"
    assert "smtp_message" not in play.asked


@pytest.mark.parametrize("kind", [hooks.SmtpMessageHook, hooks.SmtpVerdictHook])
def test_a_decision_about_a_message_goes_before_the_policys_and_the_session_goes_on(
    kind: type[commands.StartHook],
) -> None:
    play = deciding(kind, LATER)().greet().envelope()
    assert message(play) == b"451 4.7.1 Later\r\n"
    assert b"DATA" not in play.to_server
    assert play.verdicts()[0]["rules"] == ["mine"]
    assert play.closed == []


def test_an_addon_may_overrule_a_refusal() -> None:
    play = deciding(hooks.SmtpVerdictHook, Decision("accept", "known", rules=("mine",)))(decision=REJECT)
    play.greet().envelope()
    assert message(play) == b"250 queued\r\n"


def test_the_verdict_hook_sees_decision_judgement_envelope_and_message() -> None:
    seen: list[object] = []

    def listen(hook: commands.StartHook) -> None:
        if isinstance(hook, hooks.SmtpVerdictHook):
            flow = hook.flow
            assert flow.envelope is not None
            assert flow.inspection is not None
            assert flow.judgement is not None
            seen.extend([flow.decision, flow.envelope.mail_from, b"".join(flow.inspection.spool.chunks())])

    play = type("Seeing", (Heard,), {"listen": staticmethod(listen)})(decision=REJECT)
    play.greet().envelope()
    message(play)
    assert seen == [REJECT, "a@client.test", BODY]


def test_a_decision_about_one_message_does_not_reach_the_next() -> None:
    decisions = [LATER, None]

    def listen(hook: commands.StartHook) -> None:
        if isinstance(hook, hooks.SmtpMessageHook):
            assert hook.flow.decision is None
            hook.flow.decision = decisions.pop(0)

    play = type("Once", (Heard,), {"listen": staticmethod(listen)})().greet().envelope()
    assert message(play).startswith(b"451 ")
    play.server(b"250 reset\r\n")
    play.client(MAIL)
    play.server(b"250 ok\r\n")
    play.client(RCPT)
    play.server(b"250 ok\r\n")
    assert message(play) == b"250 queued\r\n"


@pytest.mark.parametrize("wrong", [Decision("reject", "no code was given"), Decision("quarantine", "nothing is kept")])
@pytest.mark.parametrize("kind", [hooks.SmtpEnvelopeHook, hooks.SmtpMessageHook, hooks.SmtpVerdictHook])
def test_a_decision_whose_code_would_acknowledge_a_lost_message_is_a_refusal(
    kind: type[commands.StartHook], wrong: Decision
) -> None:
    play = deciding(kind, wrong)().greet().envelope()
    told = play.client(b"DATA\r\n")
    if told.startswith(b"354"):
        told = play.client(BODY + b".\r\n")
    assert told.startswith(b"550 5.7.1" if wrong.action == "reject" else b"451 ")
    assert b"DATA" not in play.to_server

"""A session as a flow: what is kept of it, and what is not."""

from __future__ import annotations

from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.tcp import TcpEndHook, TcpMessageHook, TcpStartHook

from netinspect.gateway.hooks import SmtpFlow
from netinspect.gateway.show import KEY, SHOWN, ShownSession
from netinspect.policy.decision import Decision
from netinspect.policy.facts import SessionFacts

ACCEPT = Decision("accept", rules=("default",))
REJECT = Decision("reject", "malware: x", 550, "5.7.1", "no", rules=("malware",))


def new() -> ShownSession:
    client = Client(peername=("192.0.2.7", 40000), sockname=("192.0.2.1", 25), state=ConnectionState.OPEN)
    server = Server(address=("192.0.2.1", 25))
    facts = SessionFacts("external", "192.0.2.7", 40000, "192.0.2.1", 25)
    return ShownSession(client, server, SmtpFlow(client, server, facts))


def said(shown: ShownSession) -> list[tuple[bool, bytes]]:
    return [(message.from_client, message.content) for message in shown.flow.messages]


def kinds(news: list[commands.Command]) -> list[type]:
    return [type(item) for item in news]


def test_a_session_is_announced_told_and_ended_in_this_order() -> None:
    shown = new()
    shown.said(False, b"220 hello\r\n")
    assert kinds(shown.take()) == [TcpStartHook, TcpMessageHook]
    shown.said(True, b"QUIT\r\n")
    shown.end()
    shown.said(False, b"221 bye\r\n")
    assert kinds(shown.take()) == [TcpMessageHook, TcpMessageHook, TcpEndHook]
    assert shown.take() == []
    assert not shown.flow.live


def test_the_hooks_stop_nobody() -> None:
    shown = new()
    shown.said(True, b"NOOP\r\n")
    assert not [hook for hook in shown.take() if hook.blocking]


def test_pipelined_commands_stand_together_and_later_ones_apart() -> None:
    shown = new()
    shown.said(True, b"RSET\r\n")
    shown.said(True, b"NOOP\r\n")
    shown.take()
    shown.said(True, b"QUIT\r\n")
    assert said(shown) == [(True, b"RSET\r\nNOOP\r\n"), (True, b"QUIT\r\n")]


def test_a_mail_stands_by_itself_between_command_and_reply() -> None:
    shown = new()
    shown.said(True, b"DATA\r\n")
    shown.mail(b"Subject: x\r\n")
    shown.mail(b"\r\nhello\r\n")
    shown.verdict(ACCEPT, "abc")
    shown.said(True, b"NOOP\r\n")
    assert said(shown) == [(True, b"DATA\r\n"), (True, b"Subject: x\r\n\r\nhello\r\n"), (True, b"NOOP\r\n")]


def test_the_verdicts_of_all_mails_of_a_session_are_kept_and_the_strictest_marks_it() -> None:
    shown = new()
    shown.verdict(REJECT, "abc")
    shown.verdict(ACCEPT, "def")
    assert shown.flow.comment == "reject: malware: x [malware] (id abc)\naccept: clean [default] (id def)"
    assert shown.flow.marked == ":no_entry:"
    assert [entry["action"] for entry in shown.flow.metadata[KEY]["verdicts"]] == ["reject", "accept"]


def test_of_a_big_mail_only_the_beginning_is_kept_and_the_size_is_told() -> None:
    shown = new()
    for _ in range(8):
        shown.mail(b"x" * 100_000)
    shown.verdict(ACCEPT, "")
    assert [len(content) for _, content in said(shown)] == [SHOWN]
    [entry] = shown.flow.metadata[KEY]["verdicts"]
    assert (entry["size"], entry["shown"]) == (800_000, SHOWN)


def test_a_message_that_came_to_no_verdict_is_not_shown_as_part_of_the_next() -> None:
    shown = new()
    shown.mail(b"Subject: lost\r\n\r\n")
    shown.said(True, b"MAIL FROM:<>\r\n")
    shown.mail(b"Subject: kept\r\n\r\n")
    shown.verdict(ACCEPT, "")
    assert said(shown)[-1] == (True, b"Subject: kept\r\n\r\n")


def test_a_line_that_the_core_does_not_give_away_is_a_note() -> None:
    shown = new()
    shown.said(True, b"")
    assert said(shown) == [(True, b"(a line that may hold a credential)\r\n")]


def test_a_reason_that_quotes_the_peer_stays_one_line() -> None:
    shown = new()
    shown.verdict(Decision("reject", "name\r\naccept: clean\x1b[2J", 550), "")
    assert len(shown.flow.comment.splitlines()) == 1
    [line] = [item.message for item in shown.take() if isinstance(item, commands.Log)]
    assert line.isprintable()


def test_a_session_that_broke_says_why() -> None:
    shown = new()
    shown._smtp.metadata["error"] = "client left"
    shown.end()
    assert shown.flow.comment == "session: client left"

"""Faults of the layer found by a second reader. Each test fails until its fault is mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from mitmproxy.proxy import commands, events

from netinspect.config import Settings
from netinspect.config.schema import GatewaySettings, SpoolSettings
from netinspect.gateway import hooks, replies
from netinspect.limits import Limits
from netinspect.policy.decision import Decision
from tests.gateway.play import ACCEPT, BODY, EHLO, GREETING, MAIL, OK, RCPT, REJECT, Play

CUT = Settings(gateway=GatewaySettings(delivery="cut-through"))
INNER = b"RSET\r\nMAIL FROM:<boss@corp.test>\r\nRCPT TO:<v@corp.test>\r\nDATA\r\nSubject: in\r\n\r\nx\r\n.\r\n"


class Held(Play):
    """A play whose drain hooks wait, as with a server that reads slowly."""

    def __post_init__(self) -> None:
        self.drains: list[hooks.SmtpDrainHook] = []
        super().__post_init__()

    def _do(self, command: commands.Command) -> None:
        if isinstance(command, hooks.SmtpDrainHook):
            self.drains.append(command)
            return
        super()._do(command)


class Addon(Play):
    """A play with somebody else's addon: `wish` is (name of the hook, decision)."""

    wish: tuple[str, Decision] | None = None

    def _do(self, command: commands.Command) -> None:
        if self.wish and isinstance(command, commands.StartHook) and command.name == self.wish[0]:
            self.layer.flow.decision = self.wish[1]
        super()._do(command)


# --- smuggling ----------------------------------------------------------------------------------------------------


def test_bdat_to_a_server_that_never_offered_chunking_does_not_make_the_body_commands() -> None:
    play = Play()
    play.server(GREETING)
    play.client(EHLO)
    play.server(b"250-mx.test\r\n250 PIPELINING\r\n")
    play.envelope()
    play.client(b"BDAT %d LAST\r\n" % len(INNER) + INNER)
    # This server answers 502 to BDAT and reads on: what follows the command line is commands to it.
    assert b"boss@corp.test" not in play.to_server


def test_cut_through_after_a_refused_data_does_not_send_the_next_chunks_raw() -> None:
    play = Play(CUT, hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    play.server(b"451 4.7.1 greylisted\r\n")
    play.client(b"RSET\r\n")
    play.server(OK)
    play.envelope()
    play.client(b"BDAT %d LAST\r\n" % len(INNER) + INNER)
    assert play.to_server == b""  # nothing before the verdict: the server is not in DATA


def test_a_smuggled_end_of_data_is_never_relayed_raw_even_where_a_rule_accepts() -> None:
    play = Play(decision=ACCEPT).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b"x\n.\nMAIL FROM:<evil@x.test>\r\n.\r\n")
    play.server(b"354 go\r\n")
    assert b"\n.\nMAIL" not in play.to_server


def test_a_reply_of_an_addon_cannot_carry_a_second_line() -> None:
    reply = replies.from_decision(Decision("reject", "", 550, "5.7.1", "bad name a\r\n250 ok"), "")
    assert reply.raw.count(b"\r\n") == 1


# --- acknowledged and lost, refused and delivered -------------------------------------------------------------------


def test_an_answer_after_the_last_octet_counts_even_if_the_drain_is_not_over() -> None:
    play = Held().greet().envelope()
    body = (b"x" * 998 + b"\r\n") * 600
    play.client(b"DATA\r\n")
    for start in range(0, len(body), 50_000):
        play.client(body[start : start + 50_000])
    play.client(b".\r\n")
    play.server(b"354 go\r\n")
    play.event(events.HookCompleted(play.drains.pop()))
    assert play.to_server.endswith(b"\r\n.\r\n")  # the server has all of it
    play.to_client = b""
    play.server(b"250 2.0.0 queued\r\n")
    assert play.to_client.startswith(b"250")


@pytest.mark.parametrize("action", ["reject", "quarantine"])
@pytest.mark.parametrize("hook", ["smtp_message", "smtp_verdict"])
def test_a_message_that_is_neither_delivered_nor_stored_is_never_acknowledged(action: str, hook: str) -> None:
    play = Addon()
    play.wish = (hook, Decision(action, "an addon says so"))  # type: ignore[arg-type]  # the defaults say 250
    play.greet().envelope()
    play.client(b"DATA\r\n")
    assert not play.client(BODY + b".\r\n").startswith(b"2")


def test_a_message_that_the_spool_could_not_hold_is_never_delivered_in_part(tmp_path: Path) -> None:
    settings = Settings(limits=Limits(spool_memory=64), spool=SpoolSettings(str(tmp_path / "gone")))
    play = Play(settings, decision=ACCEPT).greet().envelope()
    play.layer.services.inspector.spool_directory = tmp_path / "gone"
    play.client(b"DATA\r\n")
    play.client(BODY)
    play.client(b"y" * 100 + b"\r\n.\r\n")
    play.server(b"354 go\r\n")
    assert not play.to_server.endswith(b"\r\n.\r\n")


def test_an_overrun_behind_a_message_that_is_at_the_server_does_not_refuse_that_message() -> None:
    play = Play(Settings(limits=Limits(pipeline_backlog=1000))).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.server(b"354 go\r\n")
    assert play.to_server.endswith(b".\r\n")  # the server has all of it
    play.to_client = b""
    for _ in range(11):
        play.client(b"NOOP\r\n" * 20)
    play.server(b"250 2.0.0 queued\r\n")
    assert play.to_client.startswith(b"250 2.0.0 queued")


# --- state ----------------------------------------------------------------------------------------------------------


def test_a_server_that_refuses_data_is_told_to_forget_the_transaction() -> None:
    play = Play().greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.server(b"450 4.7.1 not now\r\n")
    # The client's transaction is over; the server's is not, and its next MAIL would be nested.
    assert play.to_server.endswith(b"RSET\r\n")


def test_data_after_bdat_is_answered() -> None:
    play = Play().greet().envelope()
    play.client(b"BDAT 5\r\nA: b\n")
    play.to_client = b""
    play.client(b"DATA\r\n")
    if play.to_client.startswith(b"354"):
        play.client(b"x\r\n.\r\n")
    assert play.to_client[:3] in (b"503", b"554") or play.to_server


@pytest.mark.parametrize("line", [b"BDAT 5 LAST\n", b"BDAT 5\n", b"BDAT 5 LAST" + b" " * 5000 + b"\r\n"])
def test_a_refused_bdat_line_with_a_readable_count_does_not_end_in_a_fault(line: bytes) -> None:
    play = Play().greet().envelope()
    play.client(line + b"hello")
    assert play.to_client.startswith(b"500")


def test_a_refused_bdat_line_behind_an_unanswered_command_does_not_hang_the_session() -> None:
    play = Play().greet().envelope()
    play.client(b"NOOP\r\nBDAT 5 LAST\nhelloNOOP\r\n")
    play.server(OK)
    assert play.to_server == b"NOOP\r\nNOOP\r\n" or play.closed


def test_the_envelope_hook_is_asked_for_bdat_too() -> None:
    play = Play().greet().envelope()
    play.client(b"BDAT 5 LAST\r\nhello")
    assert "smtp_envelope" in play.asked


def test_a_refusal_in_the_envelope_hook_refuses_the_message_and_not_the_session() -> None:
    play = Addon()
    play.wish = ("smtp_envelope", REJECT)
    play.greet().envelope()
    assert play.client(b"DATA\r\n").startswith(b"550")
    assert play.closed == []  # hooks.py: "refuses the message before it is sent"


def test_an_unfinished_message_is_not_recorded_with_the_verdict_of_the_one_before() -> None:
    play = Play().greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.server(b"354 go\r\n")
    play.server(OK)
    play.envelope()
    play.client(b"BDAT 5\r\nhello")
    play.client_leaves()
    last = play.verdicts()[-1]
    assert last["action"] != "accept"
    assert last["incident_id"] == ""


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"DATA\r\n", b"BDAT 0\r\n"])
def test_commands_that_we_answer_ourselves_are_not_free_for_ever(line: bytes) -> None:
    play = Play().greet()
    if line.startswith(b"BDAT"):
        play.envelope()
    for _ in range(200):
        play.client(line * 100)
    assert play.closed


def test_recipients_beyond_the_limit_are_not_answered_without_end() -> None:
    play = Play(Settings(limits=Limits(recipients=1))).greet().envelope()
    for _ in range(100):
        play.client(RCPT * 100)
    assert play.closed


def test_a_nested_mail_does_not_reset_the_count_of_recipients() -> None:
    play = Play(Settings(limits=Limits(recipients=2))).greet().envelope()
    play.client(RCPT)
    play.server(OK)
    play.client(MAIL)
    play.server(b"503 5.5.1 nested\r\n")
    assert play.client(RCPT).startswith(b"452")


def test_anomalies_of_commands_are_bounded() -> None:
    play = Play(Settings(gateway=GatewaySettings(bare_newline="normalize"))).greet()
    for _ in range(300):
        play.client(b"NOOP\n" * 20)
        play.server(OK * 20)
    assert len(play.layer.holding.anomalies) < 1000


def test_a_server_that_dies_behind_unanswered_commands_and_half_a_chunk_ends_the_session() -> None:
    play = Play().greet()
    play.client(MAIL)
    play.server(OK)
    play.client(RCPT + b"BDAT 9 LAST\r\nab")
    play.server_leaves()
    play.client(b"cdefghi")
    assert play.closed  # RCPT will never be answered, and the message waits for it


def test_a_greeting_that_is_not_220_does_not_shift_all_replies_by_one() -> None:
    play = Play()
    play.client(EHLO)  # an early talker
    play.server(b"250 mx.test\r\n")
    play.client(MAIL)
    assert play.closed or play.layer.session.envelope.helo == ""  # EHLO was not answered yet


def test_many_short_pieces_of_header_are_read_once() -> None:
    from time import process_time

    from netinspect.gateway.delivery import _header_block
    from netinspect.spool import Spool, SpoolBudget

    def cost(octets: int) -> float:
        spool = Spool(Limits(), SpoolBudget(1 << 26))
        for _ in range(octets // 4224):
            spool.write(b"A: " + b"x" * 4219 + b"\r\n")
        spool.write(b"\r\nbody")
        start = process_time()
        _header_block(spool, 1_048_576)
        return process_time() - start

    assert cost(1_040_000) < 0.05  # it is 0.2 s of the event loop for one mail

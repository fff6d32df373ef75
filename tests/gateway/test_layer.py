"""The SMTP layer: hold, judge, then let go or refuse. No sockets, no engines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.config import Settings
from netinspect.config.schema import GatewaySettings, NetworkSettings
from netinspect.limits import Limits
from tests.gateway.play import BODY, EHLO, EHLO_REPLY, GREETING, MAIL, OK, RCPT, REJECT, Play

OURS = Settings(networks=NetworkSettings(domains=("corp.test",), addresses=("10.0.0.0/8",)))


def test_the_server_hears_nothing_of_a_message_before_the_verdict() -> None:
    play = Play(hold_judgement=True).greet().envelope()
    assert play.client(b"DATA\r\n").startswith(b"354 ")
    play.client(BODY + b".\r\n")
    assert play.to_server == b""
    play.judge()
    assert play.to_server == b"DATA\r\n"


def test_a_clean_message_reaches_the_server_byte_for_byte_and_its_reply_the_client() -> None:
    play = Play().greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b"..dot\r\n.\r\n")
    assert play.server(b"354 go\r\n") == BODY + b"..dot\r\n.\r\n"
    play.to_client = b""
    play.server(b"250 2.0.0 queued as 123\r\n")
    assert play.to_client == b"250 2.0.0 queued as 123\r\n"
    assert play.verdicts()[-1]["action"] == "accept"
    assert play.verdicts()[-1]["reply"] == "250 2.0.0 queued as 123"


def test_of_a_refused_message_the_server_gets_a_rset_and_not_one_byte() -> None:
    play = Play(decision=REJECT).greet().envelope()
    play.client(b"DATA\r\n")
    assert play.client(BODY + b".\r\n") == b"550 5.7.1 Message refused (id testid)\r\n"
    assert play.to_server == b"RSET\r\n"
    play.server(OK)
    assert play.closed == []
    play.client(MAIL)
    assert play.to_server.endswith(MAIL)


def test_no_judgement_is_a_temporary_refusal() -> None:
    play = Play(decision=None).greet().envelope()
    play.client(b"DATA\r\n")
    assert play.client(BODY + b".\r\n").startswith(b"451 ")
    assert b"DATA" not in play.to_server
    assert play.verdicts()[-1]["action"] == "tempfail"


def test_pipelined_commands_are_answered_in_order_with_our_own_354_last() -> None:
    play = Play().greet()
    assert play.client(MAIL + RCPT + RCPT + b"DATA\r\n") == b""
    assert play.to_server == MAIL + RCPT + RCPT
    play.server(b"250 a\r\n250 b\r\n")
    assert play.to_client == b"250 a\r\n250 b\r\n"
    play.server(b"550 no such user\r\n")
    assert play.to_client.startswith(b"250 a\r\n250 b\r\n550 no such user\r\n354 ")


def test_data_without_an_accepted_recipient_is_refused_by_us() -> None:
    play = Play().greet()
    play.client(MAIL + RCPT + b"DATA\r\n")
    play.server(OK + b"550 no\r\n")
    assert play.to_client.endswith(b"554 5.5.1 No valid recipients\r\n")
    assert b"DATA" not in play.to_server


def test_a_server_without_pipelining_gets_one_command_at_a_time() -> None:
    play = Play()
    play.server(GREETING)
    play.client(EHLO)
    play.server(b"250 mx.test\r\n")
    play.to_server = b""
    play.client(MAIL + RCPT)
    assert play.to_server == MAIL
    assert play.server(OK) == RCPT


def test_extensions_that_cannot_be_looked_into_are_not_offered() -> None:
    play = Play()
    play.server(GREETING)
    play.client(EHLO)
    play.to_client = b""
    play.server(b"250-mx\r\n250-STARTTLS\r\n250-BINARYMIME\r\n250-XFORWARD NAME\r\n250-BURL imap\r\n250 8BITMIME\r\n")
    assert b"8BITMIME" in play.to_client
    for word in (b"STARTTLS", b"BINARYMIME", b"XFORWARD", b"BURL"):
        assert word not in play.to_client
    assert play.client(b"STARTTLS\r\n").startswith(b"454 ")
    assert play.client(b"XFORWARD NAME=x\r\n").startswith(b"502 ")


def test_bdat_is_held_and_sent_on_as_one_chunk() -> None:
    play = Play().greet().envelope()
    assert play.client(b"BDAT 5\r\nSubje") == b"250 2.0.0 5 octets received\r\n"
    assert play.to_server == b""
    rest = b"ct: x\r\n\r\nhi\r\n"
    play.client(b"BDAT %d LAST\r\n" % len(rest) + rest)
    assert play.to_server == b"BDAT %d LAST\r\nSubje" % (5 + len(rest)) + rest
    play.to_client = b""
    play.server(b"250 done\r\n")
    assert play.to_client == b"250 done\r\n"


def test_bdat_pipelined_with_its_envelope_and_the_next_mail_in_one_segment() -> None:
    play = Play().greet()
    play.client(MAIL + RCPT + b"BDAT 3 LAST\r\nA\r\n" + MAIL)
    assert play.to_server == MAIL + RCPT
    play.server(OK + OK)
    assert play.to_server.endswith(b"BDAT 3 LAST\r\nA\r\n")
    play.server(b"250 got it\r\n")
    assert play.to_server.endswith(b"A\r\n" + MAIL)


def test_bdat_last_with_nothing_ends_the_message() -> None:
    play = Play().greet().envelope()
    play.client(b"BDAT 4\r\nA: b")
    play.client(b"BDAT 0 LAST\r\n")
    assert play.to_server == b"BDAT 4 LAST\r\nA: b"


def test_bdat_without_a_transaction_is_refused_and_its_octets_are_not_commands() -> None:
    play = Play().greet()
    assert play.client(b"BDAT 6 LAST\r\nRSET\r\n") == b"554 5.5.1 No valid recipients\r\n"
    assert play.to_server == b""


def test_bdat_whose_recipients_were_all_refused_leaves_no_open_transaction_at_the_server() -> None:
    play = Play().greet()
    play.client(MAIL + RCPT + b"BDAT 3 LAST\r\nA\r\n")
    play.server(OK + b"550 no\r\n")
    assert play.to_client.endswith(b"554 5.5.1 No valid recipients\r\n")
    assert play.to_server.endswith(b"RSET\r\n")


def test_an_internal_looking_sender_is_dropped_at_mail_before_the_server_hears_of_it() -> None:
    play = Play(OURS).greet()
    assert play.client(b"MAIL FROM:<boss@corp.test>\r\n").startswith(b"550 5.7.1 ")
    assert play.to_server == b""
    assert set(play.closed) == {"client", "server"}
    verdict = play.verdicts()[-1]
    assert verdict["action"] == "drop"
    assert verdict["rules"] == ["spoof"]


def test_the_same_sender_passes_on_the_internal_listener() -> None:
    play = Play(OURS, zone="internal").greet()
    play.client(b"MAIL FROM:<boss@corp.test>\r\n")
    assert play.to_server == b"MAIL FROM:<boss@corp.test>\r\n"


def test_a_client_with_an_address_of_ours_is_dropped_before_the_server_is_connected() -> None:
    play = Play(OURS, peer=("10.1.2.3", 4000))
    assert play.to_client.startswith(b"550 5.7.1 ")
    assert play.server_conn.state.name == "CLOSED"


def test_our_name_in_helo_from_outside_is_dropped() -> None:
    play = Play(OURS)
    play.server(GREETING)
    assert play.client(b"HELO mail.corp.test\r\n").startswith(b"550 5.7.1 ")
    assert play.to_server == b""


@pytest.mark.parametrize("phase", ["greeting", "ehlo", "mail", "body", "judging", "354", "sent"])
def test_a_server_that_dies_means_a_temporary_refusal_in_every_phase(phase: str) -> None:
    play = Play(hold_judgement=True)
    if phase != "greeting":
        play.server(GREETING)
        play.client(EHLO)
    if phase not in ("greeting", "ehlo"):
        play.server(EHLO_REPLY)
        play.client(MAIL)
    if phase not in ("greeting", "ehlo", "mail"):
        play.server(OK)
        play.client(RCPT)
        play.server(OK)
        play.client(b"DATA\r\n")
        play.client(BODY)
    if phase in ("judging", "354", "sent"):
        play.client(b".\r\n")
    if phase in ("354", "sent"):
        play.judge()
    if phase == "sent":
        play.server(b"354 go\r\n")
    play.to_client = b""
    play.server_leaves()
    if phase == "body":
        play.client(b".\r\n")
    play.judge()
    first = play.to_client[:3]
    assert first in (b"421", b"451")
    assert "client" in play.closed
    if phase not in ("greeting", "ehlo", "mail"):
        assert first == b"451"
        assert play.verdicts()[-1]["reply"].startswith("451")


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_during_the_verdict_gets_nothing_delivered(reset: bool) -> None:
    play = Play(hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.client_leaves(reset=reset)
    play.judge()
    assert b"DATA" not in play.to_server
    assert "server" in play.closed
    assert "client left before the verdict" in play.verdicts()[-1]["reason"]


def test_a_client_that_leaves_in_its_message_is_on_record() -> None:
    play = Play().greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY)
    play.client_leaves()
    assert b"DATA" not in play.to_server
    assert len(play.verdicts()) == 1


def test_a_client_cannot_make_us_buffer_while_its_message_is_judged() -> None:
    play = Play(Settings(limits=Limits(pipeline_backlog=1000)), hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    for _ in range(11):
        play.client(b"NOOP\r\n" * 20)
    assert b"421 4.7.0" in play.to_client
    assert "client" in play.closed
    play.judge()
    assert b"DATA" not in play.to_server


def test_commands_pipelined_behind_a_message_wait_for_its_reply() -> None:
    play = Play(hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n" + b"NOOP\r\nQUIT\r\n")
    play.judge()
    play.server(b"354 go\r\n")
    assert not play.to_server.endswith(b"QUIT\r\n")
    play.to_client = b""
    play.server(b"250 queued\r\n")
    assert play.to_server.endswith(b"NOOP\r\nQUIT\r\n")
    play.server(OK + b"221 bye\r\n")
    assert play.to_client == b"250 queued\r\n" + OK + b"221 bye\r\n"
    assert "client" in play.closed


def test_a_message_over_the_limit_is_refused_without_a_scan() -> None:
    play = Play(Settings(limits=Limits(message_size=100))).greet()
    assert play.client(b"MAIL FROM:<a@b.test> SIZE=101\r\n").startswith(b"552 ")
    play.envelope()
    play.client(b"DATA\r\n")
    assert play.client(b"x" * 200 + b"\r\n.\r\n").startswith(b"552 5.3.4")
    assert "smtp_message" not in play.asked
    assert play.to_server == b"RSET\r\n"


def test_the_last_answer_of_a_server_that_refuses_the_message_is_the_clients() -> None:
    play = Play().greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.to_client = b""
    play.server(b"451 4.3.0 try later\r\n")
    assert play.to_client == b"451 4.3.0 try later\r\n"
    assert b"Subject" not in play.to_server


def test_secrets_go_to_the_server_and_nowhere_else() -> None:
    play = Play().greet()
    play.client(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
    assert play.to_server == b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"
    play.server(b"535 5.7.8 no\r\n")
    play.client(b"AUTH LOGIN\r\n")
    play.server(b"334 VXNlcm5hbWU6\r\n")
    play.client(b"YWxpY2U=\r\n")
    assert play.to_server.endswith(b"YWxpY2U=\r\n")
    play.server(b"334 UGFzc3dvcmQ6\r\n")
    play.client(b"c2VjcmV0\r\n")
    play.server(b"235 2.7.0 ok\r\n")
    play.envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.server(b"354 go\r\n")
    play.server(OK)
    for secret in (b"AGFsaWNlAHNlY3JldA", b"c2VjcmV0", b"YWxpY2U"):
        assert secret not in play.writer.data
        assert secret not in repr(play.layer.session).encode()


def test_shutdown_lets_a_running_message_finish_and_takes_nothing_new() -> None:
    play = Play(hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(BODY + b".\r\n")
    play.stop()
    play.judge()
    play.server(b"354 go\r\n")
    play.to_client = b""
    play.server(OK)
    own = play.settings.gateway.hostname.encode()
    assert play.to_client == OK + b"421 4.3.2 " + own + b" Service shutting down, try again later\r\n"
    idle = Play().greet()
    idle.stop()
    assert idle.to_client.startswith(b"421 4.3.2")


def test_inbound_copies_of_our_headers_are_removed_and_a_tag_adds_its_own() -> None:
    tag = replace(REJECT, action="tag", headers=(("X-Netinspect-Action", "tag"),))
    play = Play(decision=tag).greet().envelope()
    play.client(b"DATA\r\n")
    play.client(b"X-Netinspect-Action: clean\r\n folded\r\nSubject: s\r\nx-NETINSPECT-finding: no\r\n\r\nbody\r\n.\r\n")
    play.server(b"354 go\r\n")
    assert play.to_server == b"DATA\r\nX-Netinspect-Action: tag\r\nSubject: s\r\n\r\nbody\r\n.\r\n"


def test_cut_through_sends_the_octets_on_and_holds_back_the_end() -> None:
    settings = Settings(gateway=GatewaySettings(delivery="cut-through"))
    play = Play(settings, hold_judgement=True).greet().envelope()
    play.client(b"DATA\r\n")
    assert play.to_server == b"DATA\r\n"
    play.server(b"354 theirs\r\n")
    assert play.to_client == b"354 theirs\r\n"
    play.client(BODY + b".\r\n")
    assert play.to_server.startswith(b"DATA\r\nSubject")
    assert not play.to_server.endswith(b"\r\n.\r\n")
    play.judge()
    assert play.to_server == b"DATA\r\n" + BODY + b".\r\n"
    play.to_client = b""
    play.server(OK)
    assert play.to_client == OK


def test_cut_through_breaks_the_server_before_the_end_of_a_refused_message() -> None:
    settings = Settings(gateway=GatewaySettings(delivery="cut-through"))
    play = Play(settings, decision=REJECT).greet().envelope()
    play.client(b"DATA\r\n")
    play.server(b"354 go\r\n")
    play.to_client = b""
    play.client(BODY + b".\r\n")
    assert play.to_client.startswith(b"550 5.7.1")
    assert not play.to_server.endswith(b".\r\n")
    assert "server" in play.closed


def test_a_smuggled_end_of_data_is_refused_and_never_relayed() -> None:
    for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n\0.\r\n", b"\r\n.\r"):
        play = Play(decision=REJECT).greet().envelope()
        play.client(b"DATA\r\n")
        play.client(BODY + b"x" + end + b"MAIL FROM:<evil@x.test>\r\n.\r\n")
        assert b"550" in play.to_client
        assert play.to_server == b"RSET\r\n"
        cut = Play(Settings(gateway=GatewaySettings(delivery="cut-through")), decision=REJECT).greet().envelope()
        cut.client(b"DATA\r\n")
        cut.server(b"354 go\r\n")
        cut.client(BODY + b"x" + end + b"MAIL FROM:<evil@x.test>\r\n.\r\n")
        assert b"evil" not in cut.to_server


SCRIPT = EHLO + MAIL + RCPT + b"DATA\r\n"
REST = BODY + b"..\r\n.\r\n" + MAIL + RCPT + b"BDAT 4\r\nA: bBDAT 4 LAST\r\n\r\n\r\n" + b"NOOP\r\nQUIT\r\n"


def _run(cuts: list[int]) -> tuple[bytes, bytes, int]:
    play = Play()
    play.server(GREETING)
    answers = {b"EHLO": EHLO_REPLY, b"DATA": b"354 go\r\n", b"QUIT": b"221 bye\r\n"}
    seen = 0
    in_data = False

    def serve() -> None:
        nonlocal seen, in_data
        while True:
            fresh = play.to_server[seen:]
            if in_data:
                at = fresh.find(b"\r\n.\r\n")
                if at < 0:
                    return
                seen += at + 5
                in_data = False
                play.server(OK)
                continue
            at = fresh.find(b"\r\n")
            if at < 0:
                return
            line = fresh[:at]
            seen += at + 2
            if line.startswith(b"BDAT"):
                seen += int(line.split()[1])
            in_data = line == b"DATA"
            play.server(answers.get(line[:4], OK))

    position = 0
    for script in (SCRIPT, REST):
        start = 0
        for cut in [*sorted(c - position for c in cuts if position < c < position + len(script)), len(script)]:
            if cut > start:
                play.client(script[start:cut])
                serve()
            start = cut
        position += len(script)
    return play.to_client, play.to_server, len(play.verdicts())


WHOLE = _run([])


@given(st.lists(st.integers(1, len(SCRIPT + REST) - 1), max_size=12))
def test_how_the_octets_are_cut_changes_nothing_for_either_side(cuts: list[int]) -> None:
    assert _run(cuts) == WHOLE


def test_octet_by_octet_is_the_same_as_whole() -> None:
    assert _run(list(range(1, len(SCRIPT + REST)))) == WHOLE
    assert WHOLE[2] == 2

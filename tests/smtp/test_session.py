"""What a session tells, one behaviour a test."""

from __future__ import annotations

import pytest

from netinspect.anomaly import Anomaly
from netinspect.limits import Limits
from netinspect.smtp.events import (
    AuthLine,
    BacklogExceeded,
    ChunkEnd,
    CommandReceived,
    Greeted,
    MessageAccepted,
    MessageEnd,
    Replied,
    Reply,
    SessionEnded,
    Side,
    TlsStarted,
    TransactionReset,
    TransactionStarted,
)
from netinspect.smtp.session import Phase
from tests.smtp.conversations import (
    BAD_SEQUENCE,
    BODY,
    BYE,
    CE,
    CONVERSATIONS,
    DATA,
    EHLO,
    EHLO_OK,
    ENVELOPE,
    GO,
    GREETING,
    GROUP,
    HELLO,
    MAIL,
    NO,
    OK,
    QUIT,
    SE,
    TO_DATA,
    C,
    S,
    content,
    kinds,
    play,
    run,
)

CONVERSATION = {conversation.name: conversation for conversation in CONVERSATIONS}


def of(kind: type, events: list) -> list:  # type: ignore[type-arg]
    return [event for event in events if isinstance(event, kind)]


def anomalies(events: list) -> list[str]:  # type: ignore[type-arg]
    return [event.kind for event in of(Anomaly, events)]


def verbs(events: list) -> list[str]:  # type: ignore[type-arg]
    return [event.command.verb for event in of(CommandReceived, events)]


# --- an ordinary session --------------------------------------------------------------------------------------------


def test_one_message_is_told_from_greeting_to_quit() -> None:
    session, events = play(CONVERSATION["one message"])
    assert kinds(events) == [
        "Greeted",
        *["CommandReceived", "Replied"],
        *["CommandReceived", "Replied", "TransactionStarted"],
        *["CommandReceived", "Replied"],
        *["CommandReceived", "Replied", "MessageStarted"],
        *["MessageData", "MessageEnd", "Replied", "MessageAccepted"],
        *["CommandReceived", "Replied", "SessionEnded"],
    ]
    assert content(events) == b"Subject: x\r\n\r\n.one dot\r\n\t.x\r\ntext\r\n"
    (accepted,) = of(MessageAccepted, events)
    envelope = accepted.envelope
    assert (envelope.helo, envelope.esmtp, envelope.transfer) == ("client.example", True, "DATA")
    assert (envelope.mail_from, envelope.recipients) == ("a@example.org", ["b@example.com"])
    assert envelope.params == {"SIZE": "100", "BODY": "8BITMIME"}
    assert accepted.reply.code == 250
    assert of(SessionEnded, events) == [SessionEnded("quit")]
    assert session.ended


def test_a_clean_conversation_has_no_anomaly() -> None:
    for name in (
        "one message",
        "two messages",
        "pipelined, replies coalesced",
        "bdat",
        "auth login",
        "rset accepted",
        "helo",
    ):
        assert anomalies(play(CONVERSATION[name])[1]) == []


def test_the_ehlo_reply_tells_the_extensions() -> None:
    session, _ = run(*HELLO)
    assert session.extensions == {"PIPELINING", "CHUNKING", "STARTTLS", "AUTH", "SIZE"}
    session, _ = run(*HELLO, C(b"HELO x\r\n"), OK)
    assert session.extensions == frozenset()


def test_unknown_commands_are_told_with_their_replies() -> None:
    _, events = play(CONVERSATION["other commands"])
    assert verbs(events) == ["EHLO", "NOOP", "VRFY", "EXPN", "HELP", "FOO", "QUIT"]
    assert [event.command.verb for event in of(Replied, events)] == verbs(events)


def test_offsets_count_from_the_start_of_the_stream() -> None:
    _, events = run(*HELLO, C(b"DATA\r\nNOOP\nNOOP\r\n"), NO, OK, OK)
    start = len(EHLO[1] or b"")
    assert [event.command.offset for event in of(CommandReceived, events)] == [0, start, start + 6, start + 11]
    assert of(Anomaly, events) == [Anomaly("bare_lf_command", "smtp", start + 10)]


# --- pipelining -----------------------------------------------------------------------------------------------------


def test_coalesced_replies_are_matched_in_order() -> None:
    _, events = play(CONVERSATION["pipelined, replies coalesced"])
    codes = [(event.command.verb, event.reply.code) for event in of(Replied, events)]
    assert codes == [
        ("EHLO", 250),
        *[("MAIL", 250), ("RCPT", 250), ("RCPT", 550), ("DATA", 354), ("DATA", 250)],
        *[("MAIL", 250), ("RCPT", 250), ("DATA", 354), ("DATA", 250)],
        ("QUIT", 221),
    ]
    first, second = of(MessageAccepted, events)
    assert (first.envelope.recipients, first.envelope.refused) == (["b@example.com"], ["c@example.com"])
    assert (second.envelope.mail_from, second.envelope.recipients) == ("", ["d@example.com"])
    assert second.envelope.helo == "client.example"


def test_octets_behind_data_wait_for_its_reply() -> None:
    session, events = run(*ENVELOPE, C(b"DATA\r\nbody\r\n.\r\n"))
    assert (session.waiting, session.backlog, session.phase) == (True, 9, Phase.WAITING)
    assert kinds(events)[-1] == "CommandReceived"
    events = session.reply(Reply(354, ("go",), b"354 go\r\n"))
    assert kinds(events) == ["Replied", "MessageStarted", "MessageData", "MessageEnd"]
    assert (session.waiting, session.backlog) == (False, 0)


def test_octets_behind_a_refused_data_are_commands() -> None:
    _, events = play(CONVERSATION["body sent before 354, DATA refused"])
    assert verbs(events) == ["EHLO", "DATA", "QUIT"]


def test_commands_behind_a_message_do_not_wait_for_its_reply() -> None:
    session, events = run(*TO_DATA, C(b"x\r\n.\r\nMAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nNOOP\r\n"))
    assert verbs(events)[-3:] == ["MAIL", "RCPT", "NOOP"]
    assert session.unanswered == 4
    assert session.recipients == 1


def test_a_backlog_above_the_limit_is_told_once_and_dropped() -> None:
    _, events = play(CONVERSATION["backlog exceeded"])
    assert of(BacklogExceeded, events) == [BacklogExceeded(32)]
    assert content(events) == b""
    assert "MessageEnd" not in kinds(events)
    assert of(TransactionReset, events)[-1].why == "client_eof"


def test_commands_above_the_limit_wait_for_replies() -> None:
    limits = Limits(pipeline_commands=4)
    session, events = run(*HELLO, C(b"NOOP\r\n" * 10), limits=limits)
    assert len(of(CommandReceived, events)) == 5
    assert (session.waiting, session.unanswered) == (True, 4)
    _, events = play(CONVERSATION["too many unanswered commands"])
    assert verbs(events) == ["EHLO", *["NOOP"] * 11, "QUIT"]
    assert kinds(events)[-1] == "SessionEnded"


def test_an_unsolicited_421_answers_nothing() -> None:
    _, events = run(*HELLO, S(b"421 bye\r\n"))
    reply = Reply(421, ("bye",), b"421 bye\r\n")
    assert events[-1] == Replied(reply, None)
    assert anomalies(events) == []
    _, events = run(*HELLO, S(b"250 what for\r\n"))
    assert anomalies(events) == ["unsolicited_reply"]


def test_a_421_in_the_middle_of_data_is_not_the_final_reply() -> None:
    _, events = play(CONVERSATION["421 in the middle of data"])
    assert of(MessageAccepted, events) == []
    assert of(Replied, events)[-1].command is None
    assert of(TransactionReset, events)[-1].why == "server_eof"


def test_a_final_reply_before_the_end_of_data_counts_when_the_end_is_there() -> None:
    _, events = play(CONVERSATION["final reply before the end of data"])
    assert anomalies(events) == ["early_reply"]
    names = kinds(events)
    assert names[names.index("MessageEnd") + 1] == "MessageAccepted"
    assert of(MessageAccepted, events)[0].reply.code == 552


# --- transactions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "why"),
    [(b"RSET\r\n", "rset"), (b"EHLO x\r\n", "ehlo"), (b"HELO x\r\n", "helo"), (b"MAIL FROM:<x@y>\r\n", "mail")],
)
def test_a_transaction_is_reset_only_if_the_server_accepts(command: bytes, why: str) -> None:
    session, events = run(*ENVELOPE, C(command), OK)
    (reset,) = of(TransactionReset, events)
    assert (reset.why, reset.envelope.mail_from, reset.envelope.recipients) == (why, "a@example.org", ["b@example.com"])
    assert session.in_transaction == (why == "mail")
    assert session.envelope.recipients == []
    assert session.recipients == 0
    session, events = run(*ENVELOPE, C(command), NO)
    assert of(TransactionReset, events) == []
    assert session.envelope.recipients == ["b@example.com"]
    assert session.recipients == 1


def test_a_refused_mail_starts_nothing() -> None:
    session, events = run(*HELLO, MAIL, NO)
    assert of(TransactionStarted, events) == []
    assert not session.in_transaction
    assert session.envelope.mail_from == ""


def test_every_final_reply_ends_the_transaction() -> None:
    for reply in (OK, NO, S(b"451 later\r\n")):
        session, events = run(*TO_DATA, C(b"x\r\n.\r\n"), reply)
        assert len(of(MessageAccepted, events)) == 1
        assert not session.in_transaction
        assert session.envelope.helo == "client.example"
        assert session.envelope.recipients == []


def test_recipients_above_the_limit_are_not_kept() -> None:
    session, events = play(CONVERSATION["too many recipients"])
    assert len(session.envelope.recipients) == 2
    assert session.recipients == 5
    assert anomalies(events) == ["recipients_limit"]


def test_a_capture_from_the_middle_still_gives_the_message() -> None:
    _, events = play(CONVERSATION["capture from the middle"])
    assert anomalies(events) == ["no_greeting"]
    assert content(events) == b"x\r\n"
    assert of(MessageAccepted, events)[0].envelope.recipients == ["b@x"]


def test_an_early_talker_is_matched_behind_the_greeting() -> None:
    _, events = play(CONVERSATION["early talker"])
    assert len(of(Greeted, events)) == 1
    assert [event.command.verb for event in of(Replied, events)] == ["EHLO", "QUIT"]


def test_the_server_decides_about_a_malformed_line_not_we() -> None:
    session, events = run(*HELLO, C(b"MAIL FROM:<a@x>\n"), OK, C(b"RCPT TO:<b c@x>\r\n"), OK)
    assert [event.command.error for event in of(CommandReceived, events)] == ["", "bare_newline", "bad_path"]
    assert session.envelope.mail_from == "a@x"
    assert session.envelope.recipients == ["<b c@x>"]


# --- command lines --------------------------------------------------------------------------------------------------


def test_malformed_commands_are_told() -> None:
    _, events = play(CONVERSATION["malformed commands"])
    told = [(event.command.verb, event.command.error) for event in of(CommandReceived, events)]
    assert told[1:-1] == [
        ("", "syntax"),
        ("NOOP", "bare_newline"),
        ("", "control_character"),
        ("", "control_character"),
        ("NOOP", "too_long"),
        ("MAIL", "syntax"),
        ("", "syntax"),
        ("", "syntax"),
        ("DATA", "syntax"),
    ]
    assert anomalies(events) == ["bare_lf_command", "control_character", "control_character", "line_too_long"]


def test_a_bare_newline_is_a_line_end_when_newlines_are_normalised() -> None:
    _, events = play(CONVERSATION["bare newline commands normalised"])
    commands = [event.command for event in of(CommandReceived, events)][1:]
    assert [(command.raw[-2:], command.error) for command in commands] == [(b"\r\n", "")] * 3
    assert anomalies(events) == ["bare_lf_command"] * 3


def test_a_line_without_an_end_takes_bounded_memory() -> None:
    limits = Limits(command_line=100, auth_line=200)
    session, _ = run(*HELLO, limits=limits)
    for _ in range(100):
        assert session.feed(Side.CLIENT, b"x" * 1000) == []
    (_, told) = session.feed(Side.CLIENT, b"\r\n")
    assert isinstance(told, CommandReceived)
    assert (told.command.error, len(told.command.raw)) == ("too_long", 100)


def test_an_auth_line_may_be_longer() -> None:
    limits = Limits(command_line=100, auth_line=200)
    _, events = run(*HELLO, C(b"AUTH PLAIN " + b"x" * 150 + b"\r\n"), limits=limits)
    assert of(CommandReceived, events)[-1].command.error == ""
    _, events = run(*HELLO, C(b"auth PLAIN " + b"x" * 250 + b"\r\n"), limits=limits)
    assert of(CommandReceived, events)[-1].command.error == "too_long"


# --- AUTH -----------------------------------------------------------------------------------------------------------


def test_authentication_is_understood_and_nothing_of_it_is_kept() -> None:
    for name in ("auth plain", "auth login"):
        session, events = play(CONVERSATION[name])
        for secret in ("c2VjcmV0", "dXNlcg", "AGEAc2VjcmV0"):
            assert secret not in repr(events)
        assert session.envelope.authenticated
        assert session.envelope.auth_mechanism == name.split()[1].upper()


def test_the_driver_gets_the_lines_to_forward() -> None:
    _, events = play(CONVERSATION["auth login"])
    assert [event.secret for event in of(AuthLine, events)] == [b"dXNlcg==\r\n", b"c2VjcmV0\r\n"]
    assert [event.size for event in of(AuthLine, events)] == [10, 10]
    _, events = play(CONVERSATION["auth plain"])
    assert of(CommandReceived, events)[1].command.secret == b"AUTH PLAIN AGEAc2VjcmV0\r\n"


def test_a_cancelled_exchange_authenticates_nobody() -> None:
    session, events = play(CONVERSATION["auth cancelled"])
    assert not session.envelope.authenticated
    assert verbs(events) == ["EHLO", "AUTH", "NOOP"]


def test_credentials_sent_behind_a_refused_auth_are_kept_out() -> None:
    _, events = play(CONVERSATION["auth refused, credentials sent all the same"])
    assert "dXNlcg" not in repr(events)
    assert "c2VjcmV0" not in repr(events)
    assert [event.command.raw for event in of(CommandReceived, events)][2:] == [b"", b""]


def test_authentication_lasts_over_transactions_and_ehlo() -> None:
    session, _ = run(
        *HELLO, C(b"AUTH PLAIN x\r\n"), S(b"235 ok\r\n"), MAIL, OK, C(b"RSET\r\n"), OK, EHLO, EHLO_OK, MAIL, OK
    )
    assert session.envelope.authenticated
    assert session.envelope.auth_mechanism == "PLAIN"


def test_only_235_authenticates() -> None:
    session, _ = run(*HELLO, C(b"AUTH PLAIN x\r\n"), OK)
    assert not session.envelope.authenticated


# --- STARTTLS -------------------------------------------------------------------------------------------------------


def test_what_was_injected_behind_starttls_is_thrown_away() -> None:
    session, events = play(CONVERSATION["starttls with injected commands"])
    injected = len(b"MAIL FROM:<evil@x>\r\nRCPT")
    assert of(TlsStarted, events) == [TlsStarted(injected)]
    assert of(Anomaly, events) == [Anomaly("starttls_injection", "smtp", len(EHLO[1] or b"") + len(b"STARTTLS\r\n"))]
    assert verbs(events) == ["EHLO", "STARTTLS", "EHLO", "MAIL"]
    assert session.envelope.tls
    assert session.extensions == {"SIZE"}


def test_starttls_forgets_what_was_said_before() -> None:
    session, events = run(
        *HELLO, C(b"AUTH PLAIN x\r\n"), S(b"235 ok\r\n"), MAIL, OK, C(b"STARTTLS\r\n"), S(b"220 go\r\n")
    )
    assert of(TransactionReset, events)[-1].why == "starttls"
    assert (session.envelope.helo, session.envelope.authenticated, session.envelope.tls) == ("", False, True)
    assert session.extensions == frozenset()
    assert not session.in_transaction
    assert session.recipients == 0


def test_replies_injected_behind_220_are_thrown_away() -> None:
    session, events = play(CONVERSATION["starttls response injection"])
    assert anomalies(events) == ["starttls_response_injection"]
    assert "evil" not in repr(of(Replied, events))
    assert session.envelope.helo == "client.example"


def test_a_refused_starttls_goes_on_in_the_clear() -> None:
    session, events = play(CONVERSATION["starttls refused"])
    assert verbs(events) == ["EHLO", "STARTTLS", "NOOP"]
    assert not session.envelope.tls
    assert session.envelope.helo == "client.example"


# --- BDAT -----------------------------------------------------------------------------------------------------------


def test_chunks_are_counted_and_joined() -> None:
    _, events = play(CONVERSATION["bdat"])
    assert content(events) == b"ab\r\n.\r\nc\r\n"
    assert of(ChunkEnd, events) == [ChunkEnd(7)]
    assert of(MessageEnd, events) == [MessageEnd(10)]
    assert anomalies(events) == []
    assert of(MessageAccepted, events)[0].envelope.transfer == "BDAT"


def test_chunk_octets_are_never_commands() -> None:
    _, events = play(CONVERSATION["bdat, mail in the same segment"])
    assert verbs(events) == ["EHLO", "MAIL", "RCPT", "BDAT", "MAIL", "RCPT", "BDAT", "QUIT"]
    first, second = of(MessageAccepted, events)
    assert (first.envelope.mail_from, first.envelope.recipients, first.reply.code) == ("a@x", ["b@x"], 250)
    assert (second.envelope.mail_from, second.envelope.recipients, second.reply.code) == ("c@x", ["d@x"], 550)


def test_a_message_of_no_octets_ends() -> None:
    for name in ("bdat empty message", "empty message"):
        _, events = play(CONVERSATION[name])
        assert of(MessageEnd, events) == [MessageEnd(0)]
        assert len(of(MessageAccepted, events)) == 1


def test_chunks_without_a_transaction_are_consumed_and_told_as_nothing() -> None:
    _, events = play(CONVERSATION["bdat without a transaction"])
    assert verbs(events) == ["EHLO", "BDAT", "NOOP", "QUIT"]
    assert not {"MessageStarted", "MessageData", "MessageEnd", "MessageAccepted"} & set(kinds(events))
    assert anomalies(events) == []


def test_a_chunk_the_server_takes_without_a_transaction_is_told() -> None:
    _, events = run(*HELLO, C(b"BDAT 1 LAST\r\nx"), OK)
    assert anomalies(events) == ["bdat_unseen"]


def test_a_malformed_count_is_told_and_what_follows_are_commands() -> None:
    _, events = play(CONVERSATION["bdat with malformed counts"])
    assert anomalies(events) == ["bdat_count"] * 5
    assert [event.command.error for event in of(CommandReceived, events)][3:] == ["bad_chunk_size"] * 5 + [""]


def test_a_huge_count_is_consumed_in_bounded_memory() -> None:
    limits = Limits(message_size=10)
    session, events = run(*ENVELOPE, C(b"BDAT 4611686018427387904 LAST\r\n" + b"x" * 100), limits=limits)
    for _ in range(50):
        assert session.feed(Side.CLIENT, b"QUIT\r\n" * 100) == []
    assert content(events) == b"x" * 10
    assert session.phase is Phase.CHUNK


@pytest.mark.parametrize(("name", "size"), [("bdat over the size limit", 50), ("data over the size limit", 25)])
def test_a_message_over_the_limit_is_read_to_its_end(name: str, size: int) -> None:
    _, events = play(CONVERSATION[name])
    assert of(MessageEnd, events) == [MessageEnd(size, truncated=True)]
    assert len(content(events)) == 20
    assert verbs(events)[-1] == "NOOP"


def test_rset_between_chunks_ends_the_message() -> None:
    _, events = play(CONVERSATION["bdat reset in the middle"])
    assert [event.why for event in of(TransactionReset, events)] == ["rset"]
    (end,) = of(MessageEnd, events)
    assert end.size == 2
    assert of(MessageAccepted, events)[0].envelope.mail_from == "c@x"


def test_chunks_after_a_refused_rset_belong_to_the_old_message() -> None:
    _, events = run(*ENVELOPE, C(b"BDAT 2\r\nabRSET\r\nBDAT 2 LAST\r\ncd"), OK, NO, OK)
    assert content(events) == b"abcd"
    assert of(TransactionReset, events) == []


def test_a_refused_chunk_that_ends_accepted_is_told() -> None:
    _, events = run(*ENVELOPE, C(b"BDAT 2\r\nabBDAT 2 LAST\r\ncd"), NO, OK)
    assert anomalies(events) == ["bdat_after_refusal"]
    _, events = play(CONVERSATION["bdat chunk refused"])
    assert anomalies(events) == []


def test_a_message_begun_on_a_refused_envelope_does_not_leak_into_the_next() -> None:
    chunk = C(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nBDAT 4\r\njunk")
    _, events = run(
        *HELLO, chunk, NO, NO, BAD_SEQUENCE, C(b"MAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nBDAT 4 LAST\r\nmail"), OK, OK, OK
    )
    assert [event.size for event in of(MessageEnd, events)] == [4]
    assert [(event.why, event.envelope.mail_from) for event in of(TransactionReset, events)] == [("mail", "a@x")]
    accepted = of(MessageAccepted, events)[0].envelope
    assert (accepted.mail_from, accepted.recipients) == ("c@x", ["d@x"])


def test_data_behind_chunks_is_told_and_stays_one_message() -> None:
    _, events = play(CONVERSATION["data after bdat"])
    assert anomalies(events) == ["data_after_bdat"]
    assert content(events) == b"ab\r\ncd\r\n"
    assert kinds(events).count("MessageStarted") == 1


def test_a_line_end_cut_by_a_chunk_border_is_whole() -> None:
    _, events = run(*ENVELOPE, C(b"BDAT 3\r\nab\rBDAT 2 LAST\r\n\nc"), OK, OK)
    assert anomalies(events) == []
    _, events = run(*ENVELOPE, C(b"BDAT 3\r\nab\rBDAT 1 LAST\r\nc"), OK, OK)
    assert anomalies(events) == ["bare_cr"]
    _, events = run(*ENVELOPE, C(b"BDAT 3 LAST\r\nab\r"), OK)
    assert anomalies(events) == ["bare_cr"]
    assert content(events) == b"ab\r"


def test_smuggling_in_chunks_is_told() -> None:
    _, events = run(*ENVELOPE, C(b"BDAT 4\r\na\r\n.BDAT 2 LAST\r\n\nb"), OK, OK)
    assert "smuggling" in anomalies(events)
    assert of(MessageEnd, events)[0].smuggling


# --- smuggling ------------------------------------------------------------------------------------------------------


def test_a_smuggled_envelope_is_content_of_the_first_message() -> None:
    names = [conversation for conversation in CONVERSATIONS if conversation.name.startswith("smuggling ")]
    assert len(names) == 12
    for conversation in names:
        _, events = play(conversation)
        (end,) = of(MessageEnd, events)
        assert end.smuggling
        assert b"MAIL FROM:<evil" in content(events)
        assert verbs(events) == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


def test_a_server_that_takes_a_wrong_end_for_the_end_ends_the_message() -> None:
    _, events = play(CONVERSATION["a server that takes LF.LF for the end"])
    assert content(events) == b"text\n.\n"
    assert of(MessageEnd, events) == [MessageEnd(7, smuggling=True)]
    assert len(of(MessageAccepted, events)) == 1
    assert verbs(events)[-1] == "QUIT"
    assert events[-1] == SessionEnded("quit")


# --- ends -----------------------------------------------------------------------------------------------------------


def test_a_message_cut_off_never_ends() -> None:
    _, events = play(CONVERSATION["client gone in the middle of data"])
    assert kinds(events)[-2:] == ["TransactionReset", "SessionEnded"]
    assert of(TransactionReset, events)[0].why == "client_eof"
    assert of(SessionEnded, events) == [SessionEnded("client_eof")]
    assert of(MessageEnd, events) == []


def test_replies_to_a_client_that_is_gone_still_count() -> None:
    _, events = play(CONVERSATION["client gone behind its message"])
    assert len(of(MessageAccepted, events)) == 1
    assert events[-1] == SessionEnded("quit")


def test_a_client_gone_behind_a_body_sent_too_early_has_sent_its_message() -> None:
    _, events = run(*ENVELOPE, C(b"DATA\r\n" + BODY + b".\r\n"), CE, GO, OK)
    assert kinds(events)[-3:] == ["Replied", "MessageAccepted", "SessionEnded"]


@pytest.mark.parametrize("name", ["server gone before the final reply", "server gone behind pipelined bdat"])
def test_a_message_without_a_final_reply_is_reset(name: str) -> None:
    _, events = play(CONVERSATION[name])
    assert len(of(MessageEnd, events)) == 1
    assert [event.why for event in of(TransactionReset, events)] == ["server_eof"]
    assert of(MessageAccepted, events) == []


def test_after_the_end_nothing_is_told() -> None:
    session, _ = run(*HELLO, QUIT, BYE)
    assert session.phase is Phase.ENDED
    assert session.feed(Side.CLIENT, b"NOOP\r\n") == []
    assert session.reply(Reply(250, ("",), b"250 \r\n")) == []
    assert session.eof(Side.CLIENT) == session.eof(Side.SERVER) == []


def test_a_refused_quit_goes_on() -> None:
    session, events = run(*HELLO, C(b"QUIT\r\nNOOP\r\n"), S(b"500 what\r\n"), OK)
    assert not session.ended
    assert verbs(events)[-1] == "NOOP"


def test_an_end_in_the_envelope_resets_it() -> None:
    _, events = run(*ENVELOPE, SE)
    assert [event.why for event in of(TransactionReset, events)] == ["server_eof"]
    assert events[-1] == SessionEnded("server_eof")


def test_the_phase_can_be_read() -> None:
    session, _ = run(GREETING)
    assert session.phase is Phase.COMMAND
    assert run(*TO_DATA)[0].phase is Phase.DATA
    assert run(*HELLO, C(b"AUTH LOGIN\r\n"), S(b"334 x\r\n"))[0].phase is Phase.AUTH
    assert run(*ENVELOPE, DATA)[0].phase is Phase.WAITING
    assert run(*HELLO, GROUP)[0].recipients == 2


def test_xclient_begins_the_session_again() -> None:
    session, events = run(*ENVELOPE, C(b"XCLIENT ADDR=192.0.2.1\r\n"), S(b"220 again\r\n"))
    assert of(TransactionReset, events)[0].why == "xclient"
    assert session.envelope.helo == ""

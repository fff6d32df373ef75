"""What a capture has goes on record as at the gateway; what is missing never makes a mail clean."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.replay.tcp import Gap
from netinspect.replay.verdict import Terms
from netinspect.smtp.events import Side
from tests.replay.talks import (
    DATA,
    ENVELOPE,
    HELLO,
    QUIT,
    START,
    TAKEN,
    Turn,
    actions,
    anomalies,
    client,
    mail,
    of,
    replay,
    server,
    subjects,
    unscanned,
)

HOLE = ["replay: gap"]


# --- all of it is there ---------------------------------------------------------------------------------------------


def test_mail_has_its_envelope_hashes_and_the_servers_reply() -> None:
    records = replay([*START, client(mail() + b".\r\n"), TAKEN, *QUIT])
    (smtp,) = of(records, "smtp")
    assert smtp == {"helo": "c.example.org", "mail_from": "<a@example.org>", "rcpt_to": ["<b@example.com>"]}
    assert subjects(records) == ["one"]
    (file,) = of(records, "fileinfo")
    assert file["sha256"] == hashlib.sha256(b"hello\r\n").hexdigest()
    (verdict,) = of(records, "verdict")
    assert (verdict["action"], verdict["reply"], verdict["unscanned"]) == ("accept", "250 2.0.0 queued", [])
    assert {record["pcap_filename"] for record in records} == {"it.pcap"}
    assert "gaps" not in verdict


def test_transactions_of_a_session_are_numbered_from_1_and_the_reset_one_has_no_mail() -> None:
    records = replay(
        [*START, client(mail("one") + b".\r\n"), TAKEN, *ENVELOPE, client(b"RSET\r\n"), server(b"250 Ok\r\n"),
         *ENVELOPE, *DATA, client(mail("three") + b".\r\n"), TAKEN, *QUIT]
    )  # fmt: skip
    assert subjects(records) == ["one", "three"]
    verdicts = [record for record in records if record["event_type"] == "verdict"]
    assert [record["tx_id"] for record in verdicts] == [1, 2, 3]
    assert verdicts[1]["verdict"]["reason"] == "no message: rset"


def test_pipelined_envelope_counts_only_what_the_server_took() -> None:
    size = len(mail())
    said = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\nBDAT %d LAST\r\n" % size
    replies = b"250 Ok\r\n550 no\r\n250 Ok\r\n250 Ok\r\n"
    records = replay([*HELLO, client(said + mail()), server(replies), *QUIT])
    assert of(records, "smtp")[0]["rcpt_to"] == ["<c@example.com>"]


def test_chunks_without_a_recipient_are_no_message() -> None:
    said = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT %d LAST\r\n" % len(mail())
    records = replay([*HELLO, client(said + mail()), server(b"250 Ok\r\n550 no\r\n554 no\r\n"), *QUIT])
    assert subjects(records) == []
    accepted = replay([*HELLO, client(said + mail()), server(b"250 Ok\r\n550 no\r\n250 Ok\r\n"), *QUIT])
    assert subjects(accepted) == ["one"], "this server took it all the same"


def test_smuggling_is_refused_whatever_the_server_said() -> None:
    records = replay([*START, client(mail() + b"\n.\nMAIL FROM:<x@y.z>\r\n.\r\n"), TAKEN, *QUIT])
    assert actions(records) == ["reject"]
    assert "smuggling" in anomalies(records)


def test_bare_newlines_are_read_as_the_gateway_is_told_to() -> None:
    said = [*START, client(mail() + b"\n.\nrest\r\n.\r\n"), TAKEN, *QUIT]
    assert actions(replay(said, terms=Terms(bare_newline="normalize"))) == ["accept"]


def test_spoofed_sender_is_a_refused_session_and_what_it_sends_is_judged() -> None:
    talk = [*HELLO, client(b"MAIL FROM:<boss@example.com>\r\n")]
    records = replay([*talk, server(b"550 5.7.1 refused\r\n")])
    (verdict,) = of(records, "verdict")
    assert (verdict["action"], verdict["reply"]) == ("drop", "550 5.7.1 refused")
    went_through = replay(
        [*talk, server(b"250 Ok\r\n"), *ENVELOPE[2:], *DATA, client(mail() + b".\r\n"), TAKEN, *QUIT]
    )
    assert actions(went_through) == ["drop", "drop"]
    assert subjects(went_through) == ["one"]
    assert actions(replay([*talk, server(b"250 Ok\r\n")], zone="internal")) == ["accept"]


def test_mail_before_the_spoofed_one_is_accepted_all_the_same() -> None:
    said = mail() + b".\r\nMAIL FROM:<boss@example.com>\r\n"
    assert actions(replay([*START, client(said), server(b"250 Ok\r\n550 no\r\n")])) == ["accept", "drop"]


def test_sender_in_a_line_that_only_this_server_took_is_checked_too() -> None:
    records = replay([*HELLO, client(b"MAIL FROM:<boss@example.com>\n"), server(b"250 Ok\r\n"), *QUIT])
    assert "drop" in actions(records)


def test_chunks_said_to_a_closed_door_are_no_message() -> None:
    said = b"MAIL FROM:<boss@example.com>\r\nRCPT TO:<b@example.com>\r\nBDAT %d LAST\r\n" % len(mail())
    records = replay([*HELLO, client(said + mail()), server(b"550 5.7.1 refused\r\n")])
    assert actions(records) == ["drop"]
    assert subjects(records) == []


def test_errors_without_end_are_on_record_when_the_server_hangs_up() -> None:
    turns = [*HELLO]
    for _ in range(20):
        turns += [client(b"XYZZY\r\n"), server(b"500 what\r\n")]
    assert actions(replay(turns)) == []
    (verdict,) = of(replay([*turns, server(b"421 4.7.0 too many errors\r\n")]), "verdict")
    assert (verdict["action"], verdict["reason"]) == ("tempfail", "too many errors")


def test_message_that_was_cut_is_no_accepted_mail() -> None:
    (verdict,) = of(replay([*START, client(mail())]), "verdict")
    assert (verdict["action"], verdict["reason"]) == ("tempfail", "client left")
    (verdict,) = of(replay([*START, client(mail())], closed=False), "verdict")
    assert verdict["unscanned"] == ["netinspect: session ended in the middle of a message"]


def test_message_without_a_reply_is_judged() -> None:
    for closed in (True, False):
        records = replay([*START, client(mail() + b".\r\n")], closed=closed)
        assert subjects(records) == ["one"]
        assert of(records, "verdict")[0]["reply"] == ""


def test_login_leaves_no_secret_on_record() -> None:
    said = [client(b"AUTH LOGIN\r\n"), server(b"334 VXNlcm5hbWU6\r\n"), client(b"c2VjcmV0\r\n"), server(b"235 Ok\r\n")]
    records = replay([*HELLO, *said, *START[3:], client(mail() + b".\r\n"), TAKEN, *QUIT])
    assert subjects(records) == ["one"]
    assert "c2VjcmV0" not in str(records)


# --- octets are missing -----------------------------------------------------------------------------------------------


def test_message_goes_on_behind_a_hole() -> None:
    records = replay([*START, client(mail()[:-7], 500, b"rest\r\n.\r\n"), TAKEN, *QUIT])
    assert subjects(records) == ["one"]
    (verdict,) = of(records, "verdict")
    assert verdict["gaps"] == 500
    assert verdict["unscanned"] == HOLE
    assert verdict["action"] != "accept"


@pytest.mark.parametrize("tail", [b"", b".\r\n", b"\n.\r\n"])
def test_end_of_data_may_be_in_the_hole(tail: bytes) -> None:
    """The final reply tells where the message ended, and the next one begins clean."""
    first = client(mail("one"), 10, tail) if tail else client(mail("one"), 10)
    records = replay(
        [*START, first, TAKEN, *ENVELOPE, *DATA, client(mail("two") + b".\r\n"), TAKEN, *QUIT]
    )
    assert subjects(records) == ["one", "two"]
    assert unscanned(records) == [HOLE, []]


def test_hole_in_a_chunk_is_counted() -> None:
    size = len(mail()) + 500
    said = client(b"BDAT %d LAST\r\n" % size + mail(), 500)
    records = replay([*HELLO, *ENVELOPE, said, TAKEN, *ENVELOPE, client(b"RSET\r\n"), server(b"250 Ok\r\n"), *QUIT])
    assert subjects(records) == ["one"]
    assert unscanned(records) == [HOLE, []]


@pytest.mark.parametrize("lost", range(1, 4))
def test_lost_command_does_not_lose_the_mail(lost: int) -> None:
    """MAIL, RCPT or DATA is missing; its reply is there."""
    turns = list(START)
    at = len(HELLO) + 2 * (lost - 1)
    turns[at] = client(20)
    records = replay([*turns, client(mail() + b".\r\n"), TAKEN, *QUIT])
    assert subjects(records) == ["one"]
    assert HOLE in unscanned(records)


def test_hole_over_command_and_message_is_on_record() -> None:
    records = replay([*HELLO, *ENVELOPE, client(3000), server(b"354 go on\r\n250 Ok\r\n"), *QUIT])
    assert HOLE in unscanned(records)
    assert of(records, "verdict")[0]["gaps"] == 3000


def test_second_message_behind_a_hole_in_the_first_command() -> None:
    records = replay(
        [*HELLO, client(30, b"LE.ORG>\r\n"), server(b"250 Ok\r\n"), *ENVELOPE[2:], *DATA, client(mail() + b".\r\n"),
         TAKEN, *ENVELOPE, *DATA, client(mail("two") + b".\r\n"), TAKEN, *QUIT]
    )  # fmt: skip
    assert subjects(records) == ["one", "two"]
    assert unscanned(records) == [HOLE, []]


@pytest.mark.parametrize("which", range(7))
def test_lost_reply_does_not_lose_the_mail(which: int) -> None:
    turns: list[Turn] = [*START, client(mail() + b".\r\n"), TAKEN, *QUIT]
    lost = [number for number, (who, _) in enumerate(turns) if who.value == "server"][which]
    turns[lost] = server(len(b"".join(turns[lost][1])))  # type: ignore[arg-type]
    records = replay(turns)
    assert subjects(records) == ["one"]
    assert of(records, "smtp")[0]["rcpt_to"] == ["<b@example.com>"]
    assert unscanned(records) == [[]], "all that the client said was seen"


def test_first_of_pipelined_replies_is_lost() -> None:
    said = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\nDATA\r\n"
    replies = server(8, b"550 no\r\n250 Ok\r\n354 go on\r\n")
    records = replay([*HELLO, client(said), replies, client(mail() + b".\r\n"), TAKEN, *QUIT])
    assert of(records, "smtp")[0] == {
        "helo": "c.example.org", "mail_from": "<a@example.org>", "rcpt_to": ["<c@example.com>"],
    }  # fmt: skip
    assert subjects(records) == ["one"]


def test_only_the_client_is_there() -> None:
    said = b"".join(piece for side, pieces in START for piece in pieces if side.value == "client")  # type: ignore[misc]
    second = b"MAIL FROM:<x@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" + mail("two") + b".\r\nQUIT\r\n"
    big = mail("one", "x" * 100_000)
    for closed in (True, False):
        records = replay([client(said + big + b".\r\n" + second)], closed=closed)
        assert subjects(records) == ["one", "two"]
        assert [one["mail_from"] for one in of(records, "smtp")] == ["<a@example.org>", "<x@example.org>"]


def test_only_the_client_is_there_and_logs_in() -> None:
    said = b"EHLO c\r\nAUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n"
    records = replay([client(said + mail() + b".\r\nQUIT\r\n")])
    assert subjects(records) == ["one"]


def test_only_the_server_is_there() -> None:
    replies = [line for side, pieces in [*START, TAKEN, *QUIT] for line in pieces if side.value == "server"]
    turns: list[Turn] = []
    for line in replies:
        turns += [server(line), client(30)]  # type: ignore[arg-type]
    records = replay(turns)
    assert HOLE in unscanned(records)
    assert "accept" not in actions(records)


def test_only_the_server_is_there_and_nobody_knows_how_much_is_missing() -> None:
    records = replay([server(b"220 mx\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go on\r\n")])
    assert unscanned(records) == [HOLE]


@pytest.mark.parametrize("skip", range(len(START) + 1))
def test_capture_begins_in_the_middle(skip: int) -> None:
    turns = [*START, client(mail() + b".\r\n"), TAKEN, *ENVELOPE, *DATA, client(mail("two") + b".\r\n"), TAKEN, *QUIT]
    records = replay(turns[skip:], syn=False)
    assert subjects(records) == ["one", "two"]
    assert unscanned(records)[-1] == [], "the second one is whole"


def test_capture_begins_in_a_message() -> None:
    rest = b"aGVsbG8gd29ybGQ=\r\nMIME\r\n\r\n--x--\r\n.\r\n"
    records = replay([client(rest), TAKEN, *ENVELOPE, *DATA, client(mail("two") + b".\r\n"), TAKEN, *QUIT], syn=False)
    assert subjects(records) == ["", "two"]
    assert unscanned(records) == [HOLE, []]


def test_capture_begins_with_the_answer_to_a_challenge() -> None:
    records = replay([client(b"c2VjcmV0" * 80 + b"\r\n"), server(b"235 Ok\r\n"), *ENVELOPE, *DATA,
                      client(mail() + b".\r\n"), TAKEN, *QUIT], syn=False)  # fmt: skip
    assert subjects(records) == ["one"]
    assert "c2VjcmV0" not in str(records)


def test_what_is_said_after_the_end_is_listened_to() -> None:
    records = replay([*HELLO, *QUIT, *ENVELOPE, *DATA, client(mail() + b".\r\n"), TAKEN])
    assert subjects(records) == ["one"]


@given(st.data())
def test_no_hole_makes_a_mail_clean(data: st.DataObject) -> None:
    """Whatever is missing of what the client says: it is on record that something is."""
    turns: list[Turn] = [*START, client(mail("one", "x" * 200) + b".\r\n"), TAKEN, *ENVELOPE, *DATA,
                         client(mail("two") + b".\r\n"), TAKEN, *QUIT]  # fmt: skip
    said = [number for number, (side, _) in enumerate(turns) if side.value == "client"]
    which = data.draw(st.sampled_from(said))
    octets = b"".join(turns[which][1])  # type: ignore[arg-type]
    low = data.draw(st.integers(0, len(octets) - 1))
    high = data.draw(st.integers(low + 1, len(octets)))
    pieces = [one for one in (octets[:low], high - low, octets[high:]) if one != b""]
    turns[which] = client(*pieces)
    records = replay(turns)
    assert HOLE in unscanned(records)
    assert sum(one.get("gaps", 0) for one in of(records, "verdict")) == high - low


@given(st.data())
def test_turns_may_be_cut_anywhere(data: st.DataObject) -> None:
    turns: list[Turn] = [*START, client(mail("one", "x" * 200) + b".\r\n"), TAKEN, *ENVELOPE, *DATA,
                         client(mail("two"), 30, b"\r\n.\r\n"), TAKEN, *QUIT]  # fmt: skip
    cut: list[Turn] = []
    for side, pieces in turns:
        for piece in pieces:
            if isinstance(piece, bytes) and len(piece) > 1:
                at = data.draw(st.integers(1, len(piece) - 1))
                if data.draw(st.booleans()):
                    cut += [(side, [piece[:at]]), (side, [piece[at:]])]
                else:
                    cut.append((side, [piece[:at], piece[at:]]))
            else:
                cut.append((side, [piece]))
    keep = [[one for one in of(made, kind)] for made in (replay(turns), replay(cut)) for kind in ("smtp", "fileinfo")]
    assert keep[:2] == keep[2:]
    assert actions(replay(turns)) == actions(replay(cut))


# --- what is not SMTP in the clear ----------------------------------------------------------------------------------


def test_session_that_goes_on_encrypted_is_on_record_as_such() -> None:
    turns = [*HELLO, client(b"STARTTLS\r\n"), server(b"220 go\r\n"), client(b"\x16\x03\x01\0\x05hello"),
             server(b"\x16\x03\x03\0\x05hello"), client(b"\x17\x03\x03\0\x05hello"), server(b"\x17\x03\x03\0\x05hello")]
    (verdict,) = of(replay(turns), "verdict")
    assert verdict["unscanned"] == ["replay: encrypted"]
    assert verdict["action"] != "accept"


def test_tls_from_the_first_octet_is_on_record_as_encrypted() -> None:
    turns = [client(b"\x16\x03\x01\0\x05hello"), server(b"\x16\x03\x03\0\x05hello"),
             client(b"\x17\x03\x03\0\x05hello"), server(b"\x17\x03\x03\0\x05hello")]  # fmt: skip
    assert unscanned(replay(turns)) == [["replay: encrypted"]]
    assert unscanned(replay(turns[2:], syn=False)) == [["replay: encrypted"]]


def test_starttls_without_its_reply_is_told_by_what_follows() -> None:
    turns = [client(b"EHLO c\r\n"), client(b"STARTTLS\r\n"), client(b"\x16\x03\x01\0\x05hello"),
             client(b"\x17\x03\x03\0\x05hello")]  # fmt: skip
    assert unscanned(replay(turns)) == [["replay: encrypted"]]


@pytest.mark.parametrize(
    "front",
    [b"PROXY TCP4 203.0.113.9 198.51.100.25 4711 25\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)],
    ids=["v1", "v2"],
)
def test_proxy_header_is_taken_off_and_on_record(front: bytes) -> None:
    first = [client(front), server(b"220 mx\r\n"), *START[1:]]
    records = replay([*first, client(mail() + b".\r\n"), TAKEN, *QUIT])
    assert subjects(records) == ["one"]
    assert "proxy_protocol" in anomalies(records)
    assert unscanned(records) == [[]]


def test_client_that_was_taken_for_the_server_is_found_out() -> None:
    turned = [(server if side.value == "client" else client)(*pieces) for side, pieces in  # type: ignore[arg-type]
              [*START, client(mail() + b".\r\n"), TAKEN, *QUIT]]  # fmt: skip
    records = replay(turned)
    assert subjects(records) == ["one"]
    assert {record["dest_ip"] for record in records} == {"192.0.2.1"}


# --- anything -------------------------------------------------------------------------------------------------------

WORDS = [
    *[piece for side, pieces in [*START, TAKEN, *QUIT] for piece in pieces],
    mail(), b".\r\n", b"\n.\n", b"\r\n", b"\0", b"x" * 70_000, b"EHLO", b"RSET\r\n",
    b"MAIL FROM:<boss@example.com>\r\n", b"BDAT 10\r\n", b"BDAT 0 LAST\r\n", b"BDAT 99999999999 LAST\r\n",
    b"AUTH LOGIN\r\n", b"c2VjcmV0\r\n", b"STARTTLS\r\n", b"\x16\x03\x01\0\x01x", b"PROXY UNKNOWN\r\n",
    b"220 go\r\n", b"235 Ok\r\n", b"334 x\r\n", b"354\r\n", b"421 bye\r\n", b"550-no\r\n", b"550 no\r\n",
]  # fmt: skip
PIECES = st.one_of(st.sampled_from(WORDS), st.binary(max_size=20), st.integers(1, 100_000).map(Gap))
TURNS = st.lists(st.tuples(st.sampled_from(Side), st.lists(PIECES, min_size=1, max_size=4)), max_size=25)


@given(turns=TURNS, closed=st.booleans(), syn=st.booleans())
def test_whatever_is_said_is_judged_without_a_fault(turns: list[Turn], closed: bool, syn: bool) -> None:
    records = replay(turns, closed=closed, syn=syn)
    missing = sum(piece.size for side, pieces in turns for piece in pieces
                  if side is Side.CLIENT and isinstance(piece, Gap))  # fmt: skip
    turned = bool(turns) and turns[0][0] is Side.CLIENT and str(turns[0][1][0]).startswith(("b'220 ", "b'220-"))
    if missing and not turned:
        assert any(reasons for reasons in unscanned(records)), "a hole is never passed over"
    for verdict in of(records, "verdict"):
        assert verdict["action"] != "accept" or not verdict["unscanned"]

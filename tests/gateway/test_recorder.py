"""Sessions on disk: as they were said, without credentials, each in one file, and never at the cost of mail."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from netinspect.config import RecorderSettings, Settings
from netinspect.errors import EnvironmentFault
from netinspect.gateway.recorder import Recorder
from netinspect.limits import Limits
from tests.capture.reading import Talk, frames, recorded, talks
from tests.gateway.play import BODY, EHLO, EHLO_REPLY, GREETING, MAIL, OK, RCPT, REJECT, Play

SECRET = b"AHVzZXIAdmVyeXNlY3JldHdvcmQ="
PORT = iter(range(20_000, 60_000))


def settings(folder: Path, **record: object) -> Settings:
    known = Settings()
    return replace(known, record=RecorderSettings(directory=str(folder), **record))  # type: ignore[arg-type]


def play(folder: Path, known: Settings | None = None, **more: object) -> Play:
    peer = ("198.51.100.7", next(PORT))
    return Play(known or settings(folder), peer=peer, **more)  # type: ignore[arg-type]


def whole(one: Play, body: bytes = BODY) -> None:
    """A session with one mail."""
    one.server(GREETING)
    one.client(EHLO)
    one.server(EHLO_REPLY)
    for line in (MAIL, RCPT):
        one.client(line)
        one.server(OK)
    one.client(b"DATA\r\n")
    one.client(body + b".\r\n")
    if one.to_server.endswith(b"DATA\r\n"):
        one.server(b"354 go\r\n")
        one.server(b"250 2.0.0 queued\r\n")
    one.client(b"QUIT\r\n")
    one.server(b"221 bye\r\n")


def only(folder: Path) -> Talk:
    (talk,) = recorded(folder)
    return talk


# --- what is in it ---------------------------------------------------------------------------------------------------


def test_a_session_is_recorded_as_the_client_saw_it(tmp_path: Path) -> None:
    one = play(tmp_path)
    whole(one)
    talk = only(tmp_path)
    assert (talk.client, talk.server) == (one.peer, ("192.0.2.1", 25))
    assert (talk.interface, talk.description) == ("test", "netinspect zone external")
    assert talk.of("C") == EHLO + MAIL + RCPT + b"DATA\r\n" + BODY + b".\r\nQUIT\r\n"
    assert talk.of("S") == one.to_client
    assert [side for side, _ in talk.said] == list("SCSCSCSCSCSCS"), "in the order in which it was said"
    assert b"STARTTLS" not in talk.of("S"), "not what the server said"
    assert talk.flags == "C:S S:SA C:A S:FA C:FA S:A "


def test_the_verdict_is_a_comment_on_the_reply_that_told_it(tmp_path: Path) -> None:
    whole(play(tmp_path, decision=REJECT))
    ((reply, comment),) = only(tmp_path).comments
    assert reply.startswith(b"550 5.7.1 Message refused (id testid)")
    assert json.loads(comment) == {
        "action": "reject", "rules": ["test"], "incident_id": "testid", "reason": "test",
    }  # fmt: skip


def test_each_mail_of_a_session_has_its_own_comment(tmp_path: Path) -> None:
    one = play(tmp_path).greet()
    for reply in (b"250 one\r\n", b"250 two\r\n"):
        one.envelope()
        one.client(b"DATA\r\n")
        one.client(BODY + b".\r\n")
        one.server(b"354 go\r\n")
        one.server(reply)
    one.client_leaves()
    talk = only(tmp_path)
    assert [reply for reply, _ in talk.comments] == [b"250 one\r\n", b"250 two\r\n"]
    assert talk.flags.endswith("C:FA S:FA C:A ")


def test_a_session_without_a_server_is_recorded_with_its_verdict(tmp_path: Path) -> None:
    one = play(tmp_path)
    one.server_leaves()
    ((reply, comment),) = only(tmp_path).comments
    assert reply.startswith(b"421 ")
    assert json.loads(comment)["action"] == "tempfail"


def test_a_message_without_a_reply_has_its_verdict_where_the_session_ends(tmp_path: Path) -> None:
    one = play(tmp_path).greet().envelope()
    one.client(b"DATA\r\n")
    one.client(BODY)
    one.client_leaves()
    ((reply, comment),) = only(tmp_path).comments
    assert reply == b""
    assert json.loads(comment)["action"] == "tempfail"


@pytest.mark.parametrize("end", [b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r", b"\r\n\x00.\r\n"])
def test_line_ends_are_kept_as_they_came(tmp_path: Path, end: bytes) -> None:
    said = b"Subject: x\r\n\r\nhello" + end + b"MAIL FROM:<x@corp.test>\r\n..dots\r\n"
    whole(play(tmp_path), said)
    assert said + b".\r\n" in only(tmp_path).of("C")


def test_chunks_are_kept_with_their_commands(tmp_path: Path) -> None:
    one = play(tmp_path).greet()
    said = MAIL + RCPT + b"BDAT 5\r\nSubje" + b"BDAT 12 LAST\r\nct: x\r\n\r\nhi\n"
    one.client(said)
    one.server(OK + OK)
    one.client_leaves()
    talk = only(tmp_path)
    assert talk.of("C") == EHLO + said
    assert talk.said[3][1] == said, "pipelined as it was"


def test_what_is_sent_ahead_of_its_time_is_written_when_it_is_understood(tmp_path: Path) -> None:
    one = play(tmp_path).greet().envelope()
    one.client(b"DATA\r\n" + BODY + b".\r\n")
    one.server(b"354 go\r\n")
    one.server(OK)
    one.client_leaves()
    assert only(tmp_path).of("C") == EHLO + MAIL + RCPT + b"DATA\r\n" + BODY + b".\r\n"


LINES = [EHLO, MAIL, RCPT, b"NOOP\r\n", b"RSET\r\n", b"foo\n", b"\xff\xfe \x00\r\n", b"BDAT 3\r\nabc", b"BDAT 0\r\n",
         b"x" * 3000 + b"\r\n", b"VRFY a\r\n", b"STARTTLS\r\n", b"BDAT 2 LAST\r\n\r\n", b"\r\n"]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=12), st.lists(st.integers(0, 9000), max_size=8), st.booleans())
@hypothesis(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_was_said_is_recorded_octet_by_octet(
    tmp_path: Path, lines: list[bytes], cuts: list[int], late: bool
) -> None:
    for file in tmp_path.iterdir():
        file.unlink()
    one = play(tmp_path).greet()
    said = b"".join(lines)
    answered = 0
    places = [0, *sorted({min(cut, len(said)) for cut in cuts}), len(said)]
    for start, stop in itertools.pairwise(places):
        if one.closed:
            break
        one.client(said[start:stop])
        while not late and answered < one.to_server.count(b"\r\n"):
            answered += 1
            one.server(OK)
    over = bool(one.closed)
    one.client_leaves()
    talk = only(tmp_path)
    assert (EHLO + said).startswith(talk.of("C"))
    if not late and not over:
        assert talk.of("C") == EHLO + said
    one.layer.release()


def test_ipv6_is_recorded_with_the_address_that_the_client_reached(tmp_path: Path) -> None:
    one = Play(settings(tmp_path), peer=("2001:db8::7", 40000))
    one.client_leaves()
    # The server's address is IPv4 there, and our own as well: no packet can be made of it.
    assert recorded(tmp_path) == []
    assert one.layer.tape is None


# --- what is not in it -----------------------------------------------------------------------------------------------


def login(one: Play, said: Sequence[tuple[bytes, bytes]], cut: Sequence[int] = ()) -> None:
    """Say this, each with the server's answer; `cut` are the places at which the client's octets are cut."""
    one.greet()
    at = 0
    for octets, answer in said:
        places = [0, *sorted({place - at for place in cut if at < place < at + len(octets)}), len(octets)]
        for start, stop in itertools.pairwise(places):
            one.client(octets[start:stop])
        at += len(octets)
        if answer:
            one.server(answer)
    one.client_leaves()


AUTH = {
    "initial response": [(b"AUTH PLAIN " + SECRET + b"\r\n", b"235 ok\r\n")],
    "lower case": [(b"auth plain " + SECRET + b"\r\n", b"235 ok\r\n")],
    "blanks": [(b"AUTH\t PLAIN   " + SECRET + b"\r\n", b"235 ok\r\n")],
    "challenge": [(b"AUTH PLAIN\r\n", b"334 \r\n"), (SECRET + b"\r\n", b"235 ok\r\n")],
    "two challenges": [
        (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"), (b"dXNlcg==\r\n", b"334 UGFzc3dvcmQ6\r\n"),
        (SECRET + b"\r\n", b"535 no\r\n"),
    ],
    "all at once": [(b"AUTH LOGIN\r\ndXNlcg==\r\n" + SECRET + b"\r\nNOOP\r\n", b"334 x\r\n"), (b"", b"334 y\r\n"),
                    (b"", b"235 ok\r\n"), (b"", b"250 ok\r\n")],
    "refused": [(b"AUTH LOGIN\r\ndXNlcg==\r\n" + SECRET + b"\r\n", b"504 no\r\n")],
    "no mechanism": [(b"AUTH " + SECRET + b"\r\n", b"")],
    "a bare line end": [(b"AUTH PLAIN " + SECRET + b"\n", b"")],
    "another verb": [(b"XAUTH " + SECRET + b"\r\n", b"")],
    "Exchange": [(b"X-EXPS LOGIN " + SECRET + b"\r\n", b"")],
    "too long": [(b"AUTH PLAIN " + b"A" * 20_000 + SECRET + b"\r\n", b"")],
    "too long a line": [(b"AUTH PLAIN\r\n", b"334 \r\n"), (b"A" * 20_000 + SECRET + b"\r\n", b"501 no\r\n")],
    "without an end": [(b"AUTH PLAIN " + SECRET, b"")],
    "left": [(b"AUTH LOGIN\r\ndXNlcg==\r\n" + SECRET + b"\r\n", b"")],
    "server gone": [(b"AUTH LOGIN\r\n", b"334 x\r\n"), (SECRET + b"\r\n", b"421 x\r\n")],
    "after a quit": [(b"QUIT\r\n" + b"AUTH PLAIN " + SECRET + b"\r\n", b"221 bye\r\n")],
}  # fmt: skip


@pytest.mark.parametrize("said", AUTH.values(), ids=AUTH)
@pytest.mark.parametrize("step", [0, 1, 13])
def test_no_credential_is_in_the_file(tmp_path: Path, said: list[tuple[bytes, bytes]], step: int) -> None:
    length = sum(len(octets) for octets, _ in said)
    login(play(tmp_path), said, range(step, length, step) if step and length < 1000 else ())
    (file,) = tmp_path.glob("*.pcapng")
    data = file.read_bytes()
    talks(data)
    for size in (len(SECRET), 6):
        assert not any(SECRET[at : at + size] in data for at in range(len(SECRET) - size + 1))
    assert b"dXNlcg" not in data


def test_a_credential_is_replaced_octet_by_octet(tmp_path: Path) -> None:
    one = play(tmp_path)
    login(one, [*AUTH["two challenges"], *AUTH["initial response"], (b"NOOP\r\n", b"250 ok\r\n")])
    talk = only(tmp_path)
    assert talk.of("C") == (
        EHLO + b"AUTH LOGIN\r\n********\r\n" + b"*" * len(SECRET) + b"\r\nAUTH PLAIN " + b"*" * len(SECRET)
        + b"\r\nNOOP\r\n"
    )  # fmt: skip


@given(st.sampled_from(sorted(AUTH)), st.lists(st.integers(0, 100), max_size=6))
@hypothesis(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_how_the_octets_are_cut_changes_nothing(tmp_path: Path, name: str, cut: list[int]) -> None:
    def client(*places: int) -> bytes:
        for file in tmp_path.iterdir():
            file.unlink()
        login(play(tmp_path), AUTH[name], places)
        return only(tmp_path).of("C")

    assert client(*cut) == client()


def test_what_an_overrun_threw_away_is_not_written(tmp_path: Path) -> None:
    one = play(tmp_path).greet()
    one.client(b"AUTH LOGIN\r\n" + (SECRET + b"\r\n") * 4000)
    one.client_leaves()
    assert only(tmp_path).of("C") == EHLO + b"AUTH LOGIN\r\n"


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    one = play(tmp_path).greet()
    for _ in range(100):
        one.client(b"x" * 10_000)
        tape = one.layer.tape
        assert tape is not None
        assert len(tape._pending) < 30_000
    one.client(b"\r\nNOOP\r\n")
    one.client_leaves()
    said = only(tmp_path).of("C")
    assert len(said) == len(EHLO) + 1_000_000 + len(b"\r\nNOOP\r\n")
    assert said.endswith(b"*\r\nNOOP\r\n")


# --- files -----------------------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    whole(play(tmp_path))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"netinspect-\d{8}T\d{6}Z-\d+-0001\.pcapng", file.name)


def sessions(folder: Path, count: int, body: bytes = BODY, **record: object) -> Recorder:
    """Sessions one after the other with one recorder."""
    known = settings(folder, **record)
    recorder = Recorder(known.record, known.limits)
    for _ in range(count):
        whole(with_recorder(folder, known, recorder), body)
    return recorder


def with_recorder(folder: Path, known: Settings, recorder: Recorder) -> Play:
    one = play(folder, replace(known, record=RecorderSettings()))
    one.layer.tape = recorder.begin(one.layer.session, one.layer.flow.session, "test", ("192.0.2.1", 25))
    return one


def test_a_large_file_takes_no_new_sessions(tmp_path: Path) -> None:
    recorder = sessions(tmp_path, 6, BODY + b"x" * 3000 + b"\r\n", rotate_size=8000)
    recorder.close()
    found = [len(talks(path.read_bytes())) for path in sorted(tmp_path.iterdir())]
    assert found == [2, 2, 2]


def test_an_old_file_takes_no_new_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = settings(tmp_path, rotate_age=60)
    now = [1000.0]
    monkeypatch.setattr("netinspect.gateway.recorder.time.monotonic", lambda: now[0])
    recorder = Recorder(known.record, known.limits)
    for _ in range(3):
        whole(with_recorder(tmp_path, known, recorder))
        now[0] += 40
    recorder.close()
    assert [len(talks(path.read_bytes())) for path in sorted(tmp_path.iterdir())] == [2, 1]


def test_a_session_stays_in_its_file_while_others_go_to_the_next(tmp_path: Path) -> None:
    known = settings(tmp_path, rotate_size=4000)
    recorder = Recorder(known.record, known.limits)
    long = with_recorder(tmp_path, known, recorder).greet()
    for _ in range(4):
        whole(with_recorder(tmp_path, known, recorder), BODY + b"x" * 3000 + b"\r\n")
    long.client(b"NOOP late\r\n")
    long.server(OK)
    long.client_leaves()
    recorder.close()
    files = [talks(path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    assert len(files) > 1
    assert files[0][0].of("C") == EHLO + b"NOOP late\r\n"
    assert files[0][0].flags.endswith("C:FA S:FA C:A ")
    assert sum(len(file) for file in files) == 5


def test_the_oldest_files_go_when_all_together_are_too_large(tmp_path: Path) -> None:
    other = tmp_path / "mine.pcapng"
    other.write_bytes(b"x" * 50_000)
    body = BODY + b"x" * 3000 + b"\r\n"
    sessions(tmp_path, 4, body, rotate_size=4000).close()
    first = sorted(path.name for path in tmp_path.glob("netinspect-*"))
    os.rename(tmp_path / first[0], tmp_path / "netinspect-20200101T000000Z-7-0001.pcapng")
    recorder = sessions(tmp_path, 20, body, rotate_size=4000, keep_size=20_000)
    assert recorder.lost == 0
    recorder.close()
    left = sorted(tmp_path.glob("netinspect-*"))
    assert sum(path.stat().st_size for path in left) <= 20_000
    assert len(left) >= 3
    assert "20200101" not in left[0].name
    assert other.exists(), "only files of ours"


def test_files_in_use_are_not_deleted_for_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = settings(tmp_path, rotate_size=4000, keep_size=8000)
    recorder = Recorder(known.record, known.limits)
    one = with_recorder(tmp_path, known, recorder)
    whole(one, BODY + b"x" * 30_000 + b"\r\n")
    assert one.to_client.endswith(b"221 bye\r\n"), "mail goes on"
    assert recorder.lost > 0
    recorder.close()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size <= 8000
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "keep_size" in caplog.text


def test_a_restart_with_the_same_process_number_takes_another_name(tmp_path: Path) -> None:
    for _ in range(2):
        sessions(tmp_path, 1).close()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_without_sessions_stays_empty(tmp_path: Path) -> None:
    sessions(tmp_path, 0).close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"\[record\] directory"):
        Recorder(RecorderSettings(directory=str(tmp_path / "none")), Limits())


# --- a disk that does not work ---------------------------------------------------------------------------------------


def test_a_full_disk_costs_recordings_and_no_mail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("netinspect.gateway.recorder.SETTLED", 0)
    known = settings(tmp_path)
    recorder = Recorder(known.record, known.limits)
    whole(with_recorder(tmp_path, known, recorder))
    real = os.pwrite
    room = [200]

    def full(descriptor: int, data: bytes, at: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = real(descriptor, data[: room[0]], at)
        room[0] -= done
        return done

    cut = with_recorder(tmp_path, known, recorder)
    cut.greet()
    monkeypatch.setattr(os, "pwrite", full)
    cut.envelope()
    for _ in range(2):
        one = with_recorder(tmp_path, known, recorder)
        whole(one)
        assert one.to_client.endswith(b"221 bye\r\n"), "mail goes on"
    monkeypatch.setattr(os, "pwrite", real)
    lost = recorder.lost
    assert lost > 2
    whole(with_recorder(tmp_path, known, recorder))
    recorder.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"], "each once"
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    assert frames(data), "whole blocks, nothing half"
    with pytest.raises(AssertionError):
        talks(data)  # of the session in between octets are missing, which a reader can tell


def test_while_no_file_can_be_begun_the_old_one_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    known = settings(folder, rotate_size=1000)
    recorder = Recorder(known.record, known.limits)
    whole(with_recorder(folder, known, recorder))
    folder.rename(tmp_path / "away")
    whole(with_recorder(folder, known, recorder))
    (tmp_path / "away").rename(folder)
    whole(with_recorder(folder, known, recorder))
    recorder.close()
    assert recorder.lost == 1
    assert "No such file" in caplog.text
    assert [len(talks(path.read_bytes())) for path in sorted(folder.iterdir())] == [2, 1]


def test_nothing_is_begun_behind_the_end(tmp_path: Path) -> None:
    known = settings(tmp_path)
    recorder = Recorder(known.record, known.limits)
    running = with_recorder(tmp_path, known, recorder).greet()
    recorder.close()
    running.client(MAIL)
    running.server(OK)
    running.client_leaves()
    assert recorder.lost == 0
    assert with_recorder(tmp_path, known, recorder).layer.tape is None
    assert only(tmp_path).of("C") == EHLO

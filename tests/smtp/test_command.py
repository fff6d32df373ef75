"""Command lines, good and bad."""

from __future__ import annotations

import pytest

from netinspect.smtp.command import parse_command
from netinspect.smtp.events import Command


def parse(line: bytes) -> Command:
    return parse_command(line + b"\r\n")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"MAIL FROM:<a@example.org>", "a@example.org"),
        (b"mail from:<A@Example.ORG>", "A@Example.ORG"),
        (b"MAIL FROM:<>", ""),
        (b"MAIL FROM: <a@b>", "a@b"),
        (b"MAIL\tFROM:<a@b>", "a@b"),
        (b"MAIL FROM:a@b", "a@b"),
        (b"RCPT TO:<Postmaster>", "Postmaster"),
        (b'RCPT TO:<"a b"@x>', '"a b"@x'),
        (b'RCPT TO:<"a\\"b"@x>', '"a\\"b"@x'),
        (b'RCPT TO:<"a>b"@x>', '"a>b"@x'),
        (b'RCPT TO:<"a@b"@x>', '"a@b"@x'),
        (b'RCPT TO:<a."b c".d@x>', 'a."b c".d@x'),
        (b"RCPT TO:<@a,@b:user@c>", "user@c"),
        (b"RCPT TO:<user@[192.0.2.1]>", "user@[192.0.2.1]"),
        (b"RCPT TO:<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]"),
        (b"RCPT TO:<a%b@c>", "a%b@c"),
        ("RCPT TO:<jösé@exämple.org>".encode(), "jösé@exämple.org"),
    ],
)
def test_a_path_is_read(line: bytes, path: str) -> None:
    command = parse(line)
    assert (command.path, command.error, command.params) == (path, "", {})
    assert command.raw == line + b"\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:",
        b"MAIL FROM:<a@b",
        b"MAIL FROM:a@b>",
        b"MAIL FROM:<a@b>SIZE=1",
        b"MAIL FROM:<a b@c>",
        b"MAIL FROM:<a@b@c>",
        b"MAIL FROM:<a@>",
        b"MAIL FROM:<@b>",
        b"MAIL FROM:<@a:>",
        b"MAIL FROM:<a@[x>",
        b'MAIL FROM:<"a@b>',
        b"MAIL FROM:<a<b>@c>",
        b"RCPT TO:<>",
        b"MAIL FROM:<a,b@c>",
        b"MAIL FROM:(x)<a@b>",
    ],
)
def test_a_path_with_two_readings_is_refused(line: bytes) -> None:
    command = parse(line)
    assert (command.path, command.error) == (None, "bad_path")


@pytest.mark.parametrize(
    "line", [b"MAIL", b"MAIL TO:<a@b>", b"MAIL FROM <a@b>", b"RCPT FROM:<a@b>", b"MAIL FROM :<a@b>"]
)
def test_a_wrong_prefix_is_a_syntax_error(line: bytes) -> None:
    assert parse(line).error == "syntax"


def test_parameters_are_read_with_their_keywords_in_upper_case() -> None:
    command = parse(
        b"MAIL FROM:<a@b> size=10 body=8bitmime SMTPUTF8 AUTH=<> RET=HDRS ENVID=QQ314159 X-Other=1  MT-PRIORITY=3"
    )
    assert command.error == ""
    assert command.params == {
        "SIZE": "10",
        "BODY": "8bitmime",
        "SMTPUTF8": "",
        "AUTH": "<>",
        "RET": "HDRS",
        "ENVID": "QQ314159",
        "X-OTHER": "1",
        "MT-PRIORITY": "3",
    }
    command = parse(b"RCPT TO:<a@b> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b")
    assert (command.error, command.params) == ("", {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;a@b"})


@pytest.mark.parametrize(
    "params",
    [
        b"SIZE=x",
        b"SIZE=-1",
        b"SIZE",
        b"SIZE=" + b"9" * 21,
        b"BODY=BINARYMIME",
        b"RET=ALL",
        b"SIZE=1 SIZE=2",
        b"SMTPUTF8=1",
        b"X_Y=1",
        b"AUTH=",
        b"<c@d>",
        "SIZE=\u0665".encode(),
    ],
)
def test_a_bad_parameter_is_told_and_the_path_is_kept(params: bytes) -> None:
    command = parse(b"MAIL FROM:<a@b> " + params)
    assert (command.path, command.error) == ("a@b", "bad_parameter")


def test_notify_takes_never_alone() -> None:
    assert parse(b"RCPT TO:<a@b> NOTIFY=NEVER").error == ""
    assert parse(b"RCPT TO:<a@b> NOTIFY=NEVER,DELAY").error == "bad_parameter"


@pytest.mark.parametrize(
    ("argument", "size", "last"),
    [
        (b"10", 10, False),
        (b"0 LAST", 0, True),
        (b"5 last", 5, True),
        (b"9223372036854775807", 2**63 - 1, False),
        (b" 7", 7, False),
    ],
)
def test_bdat_counts_octets(argument: bytes, size: int, last: bool) -> None:
    command = parse(b"BDAT " + argument)
    assert (command.chunk_size, command.last, command.error) == (size, last, "")


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"-1",
        b"+1",
        b"abc",
        b"1.0",
        b"0x10",
        b"99999999999999999999",
        b"9223372036854775808",
        b"5 FIRST",
        b"5 LAST x",
        "\u0665".encode(),
    ],
)
def test_a_malformed_bdat_count_is_told(argument: bytes) -> None:
    command = parse(b"BDAT " + argument)
    assert (command.chunk_size, command.error) == (None, "bad_chunk_size")


@pytest.mark.parametrize(
    ("line", "verb", "argument", "error"),
    [
        (b"EHLO client.example", "EHLO", "client.example", ""),
        (b"ehlo [192.0.2.1] ", "EHLO", "[192.0.2.1]", ""),
        (b"HELO", "HELO", "", "syntax"),
        (b"DATA", "DATA", "", ""),
        (b"DATA now", "DATA", "now", "syntax"),
        (b"RSET x", "RSET", "x", "syntax"),
        (b"NOOP anything", "NOOP", "anything", ""),
        (b"QUIT", "QUIT", "", ""),
        (b"VRFY", "VRFY", "", "syntax"),
        (b"XCLIENT ADDR=192.0.2.1", "XCLIENT", "ADDR=192.0.2.1", ""),
        (b"FOO bar", "FOO", "bar", "unknown"),
        (b"", "", "", "syntax"),
        (b" NOOP", "NOOP", "", "syntax"),
        (b"<html>", "", "", "syntax"),
        (b"NO\0OP", "", "", "control_character"),
        (b"NOOP \x07", "NOOP", "\x07", "control_character"),
        (b"NOOP a\rb", "NOOP", "a\rb", "control_character"),
    ],
)
def test_a_line_is_read_as_far_as_it_goes(line: bytes, verb: str, argument: str, error: str) -> None:
    command = parse(line)
    assert (command.verb, command.argument, command.error) == (verb, argument, error)


def test_octets_that_are_no_utf8_are_a_syntax_error() -> None:
    command = parse(b"MAIL FROM:<\xff@b>")
    assert command.error == "syntax"
    assert command.raw == b"MAIL FROM:<\xff@b>\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"AUTH PLAIN c2VjcmV0",
        b"auth plain c2VjcmV0",
        b"AUTH\tPLAIN\tc2VjcmV0",
        b" AUTH PLAIN c2VjcmV0",
        b"AUTH PLAIN c2VjcmV0\x01",
    ],
)
def test_an_initial_response_is_nowhere_but_in_secret(line: bytes) -> None:
    command = parse(line)
    assert command.argument.upper() == "PLAIN"
    assert command.secret == line + b"\r\n"
    assert "c2VjcmV0" not in repr(command)
    assert b"c2VjcmV0" not in command.raw


@pytest.mark.parametrize(
    "line",
    [
        b"AUTH c2VjcmV0c2VjcmV0c2VjcmV0",
        b"AUTH c2VjcmV0==",
        b"X-EXPS NTLM c2VjcmV0",
        b"XAUTH c2VjcmV0",
        b"\0AUTH PLAIN c2VjcmV0",
    ],
)
def test_a_credential_in_the_wrong_place_is_kept_out_too(line: bytes) -> None:
    command = parse(line)
    assert command.error
    assert "c2VjcmV0" not in repr(command)


def test_what_the_line_reader_knew_comes_first() -> None:
    command = parse_command(b"MAIL FROM:<a b>\n", error="bare_newline", offset=7)
    assert (command.error, command.offset) == ("bare_newline", 7)

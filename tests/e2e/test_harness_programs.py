"""The harness's programs by themselves: Postfix delivers, clamd knows its signature, the false clamd misbehaves."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from tests.e2e import mails
from tests.e2e.clamd import SIGNATURE, Clamd
from tests.e2e.clients import Smtplib
from tests.e2e.conftest import SUBMISSION_PORT
from tests.e2e.fakeclamd import fake_clamd
from tests.e2e.postfix import Postfix
from tests.e2e.world import World


def scan(path: str, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(b"zINSTREAM\0" + struct.pack(">I", len(data)) + data + b"\0\0\0\0")
        answer = b""
        while data := sock.recv(4096):
            answer += data
        return answer


def test_clamd_knows_its_signature(clamd: Clamd) -> None:
    assert scan(str(clamd.socket), b"nothing") == b"stream: OK\0"
    # clamd adds a tag to signatures that are not ClamAV's own.
    found = f"stream: {SIGNATURE}.UNOFFICIAL FOUND\0".encode()
    assert scan(str(clamd.socket), mails.zipped("a", mails.eicar())) == found


@pytest.mark.parametrize(
    ("mood", "answer"), [("clean", b"stream: OK\0"), ("half", b"stream: O"), ("close", b""), ("garbage", None)]
)
def test_fake_clamd_misbehaves(tmp_path: Path, mood: str, answer: bytes | None) -> None:
    with fake_clamd(tmp_path) as daemon:
        daemon.mood = mood
        said = scan(daemon.address.removeprefix("unix:"), b"x")
        assert said == answer if answer is not None else said != b"stream: OK\0"
        with daemon.down(), pytest.raises(ConnectionRefusedError):
            scan(daemon.address.removeprefix("unix:"), b"x")
        daemon.reset()
        assert scan(daemon.address.removeprefix("unix:"), b"x") == b"stream: OK\0"


def test_postfix_delivers_byte_identical(net: World, relay: Postfix, token: str) -> None:
    message = mails.mail(token, attachment=mails.noise(5000))
    with Smtplib(net.outside, "127.0.0.1", SUBMISSION_PORT) as client:
        client.sendmail("friend@outside.example", ["me@outside.example"], message)
    assert relay.wait(token) == message

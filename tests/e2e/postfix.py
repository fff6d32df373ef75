"""A Postfix of our own in a namespace: own configuration, queue and log; its domain is delivered into one maildir.

Postfix puts Return-Path, X-Original-To, Delivered-To and Received in front and stores lines with a bare LF; from our
token header on, the message must be what was sent.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.mails import TOKEN, find_token
from tests.e2e.world import Place

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = mx.{domain}
mydomain = {domain}
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = all
inet_protocols = all
sender_dependent_relayhost_maps = {relays}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_error_sleep_time = 0
smtpd_banner = $myhostname ESMTP
debug_peer_list = 0.0.0.0/0, [::]/0
debug_peer_level = 1
message_size_limit = 52428800
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtp_line_length_limit = 0
"""

MASTER = """\
{port}    inet  n - n - -     smtpd
pickup    unix  n - n 60 1    pickup
cleanup   unix  n - n - 0     cleanup
qmgr      unix  n - n 300 1   qmgr
rewrite   unix  - - n - -     trivial-rewrite
bounce    unix  - - n - 0     bounce
defer     unix  - - n - 0     bounce
trace     unix  - - n - 0     bounce
verify    unix  - - n - 1     verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - -     proxymap
smtp      unix  - - n - -     smtp
relay     unix  - - n - -     smtp
showq     unix  n - n - -     showq
error     unix  - - n - -     error
retry     unix  - - n - -     error
discard   unix  - - n - -     discard
virtual   unix  - n n - -     virtual
anvil     unix  - - n - 1     anvil
scache    unix  - - n - 1     scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """`relays` says which server the mail of a sender goes to: `{"a@b.example": "[10.0.0.1]:25"}`."""

    def __init__(
        self, folder: Path, place: Place, domain: str, *, port: int = 25, relays: dict[str, str] | None = None
    ) -> None:
        self.port = port
        self._place = place
        self._folder = folder
        self._config = folder / "config"
        owner = pwd.getpwnam("nobody")
        for name in ("config", "queue", "data", "mail"):
            (folder / name).mkdir(parents=True)
        postfix = pwd.getpwnam("postfix")
        _own(folder / "data", postfix.pw_uid, -1)
        _own(folder / "mail", owner.pw_uid, owner.pw_gid)
        pairs = ", ".join(f"{{{sender} = {relay}}}" for sender, relay in (relays or {}).items())
        table = f"inline:{{ {pairs} }}" if pairs else ""
        (self._config / "main.cf").write_text(
            MAIN.format(folder=folder, domain=domain, relays=table, uid=owner.pw_uid, gid=owner.pw_gid)
        )
        (self._config / "master.cf").write_text(MASTER.format(port=port))

    def start(self) -> None:
        """Start and wait until it greets."""
        self._place.run(["postfix", "-c", str(self._config), "start"])
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), self._place.connect("127.0.0.1", self.port, timeout=5) as sock:
                if sock.recv(512).startswith(b"220 "):
                    sock.sendall(b"QUIT\r\n")
                    return
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postfix did not come up:\n{self.log()}")
            time.sleep(0.1)

    def stop(self) -> None:
        self._place.run(["postfix", "-c", str(self._config), "abort"], check=False)
        deadline = time.monotonic() + 10
        while self._place.run(["postfix", "-c", str(self._config), "status"], check=False).returncode == 0:
            if time.monotonic() > deadline:
                raise RuntimeError("Postfix does not stop")
            time.sleep(0.1)

    def log(self) -> str:
        path = self._folder / "mail.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_log(self, pattern: str, *, timeout: float = 15) -> re.Match[str]:
        """The first match of `pattern` in the log; AssertionError with the log's end when it does not come."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.log())
            if match:
                return match
            assert time.monotonic() < deadline, f"{pattern!r} is not in the log:\n{self.log()[-3000:]}"
            time.sleep(0.1)

    def delivered(self) -> dict[str, bytes]:
        """Token and raw file of every message in the maildir."""
        found: dict[str, bytes] = {}
        for path in (self._folder / "mail").glob("all/new/*"):
            data = path.read_bytes()
            name = find_token(data)
            assert name not in found, f"delivered twice: {name}"
            found[name] = data
        return found

    def wait(self, name: str, *, timeout: float = 15) -> bytes:
        """The message with this token as it was sent: from the token header on, lines ended by CRLF again."""
        return original(self.wait_raw(name, timeout=timeout))

    def wait_raw(self, name: str, *, timeout: float = 15) -> bytes:
        deadline = time.monotonic() + timeout
        while True:
            raw = self.delivered().get(name)
            if raw is not None:
                return raw
            assert time.monotonic() < deadline, f"{name} did not arrive:\n{self.log()[-3000:]}"
            time.sleep(0.1)


def original(raw: bytes) -> bytes:
    return raw[raw.index(TOKEN) :].replace(b"\n", b"\r\n")


def _own(path: Path, uid: int, gid: int) -> None:
    os.chown(path, uid, gid)
    path.chmod(0o755)


@contextlib.contextmanager
def postfix(
    folder: Path, place: Place, domain: str, *, port: int = 25, relays: dict[str, str] | None = None
) -> Iterator[Postfix]:
    server = Postfix(folder, place, domain, port=port, relays=relays)
    try:
        server.start()
        yield server
    finally:
        server.stop()


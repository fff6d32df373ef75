"""What mitmweb shows of a session: the view by itself, and over the web interface's own requests."""

from __future__ import annotations

import base64
import http.client
import json
import smtplib
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import contentviews
from mitmproxy.test import tflow

from netinspect.demo_server import DemoServer
from netinspect.gateway import contentview
from netinspect.gateway.contentview import readable
from netinspect.gateway.show import KEY, SHOWN
from netinspect.samples import mails
from tests.gateway.mitm import ROOT, configuration, flows_of, free_port, program, send

CREDENTIAL = "correct-horse-battery"
STRANGER = "alice@outside.example"


def test_commands_and_replies_are_text_without_line_ends_or_control_characters() -> None:
    assert readable(b"250-mx\r\n250 8BITMIME\r\n") == "250-mx\n250 8BITMIME"
    assert readable(b"NOOP \x1b[31m\r\n") == "NOOP \N{REPLACEMENT CHARACTER}[31m"


def test_a_mail_is_its_header_its_parts_and_its_text() -> None:
    text = readable(mails.eicar_mail())
    assert "Subject:    Invoice\n" in text
    assert 'part 1.2: application/zip "invoice.zip", 186 octets, looks like zip' in text
    assert "Good morning,\n\nthis is a test." in text


def test_a_mail_that_was_cut_for_display_says_so_and_tells_no_anomalies() -> None:
    text = readable(mails.mail(attachment=bytes(SHOWN))[:SHOWN])
    assert f"only the first {SHOWN} octets" in text
    assert "anomaly" not in text


def test_a_subject_cannot_add_lines_to_the_header_that_is_shown() -> None:
    text = readable(b"Subject: =?utf-8?q?a=0D=0AFrom:_boss?=\r\n\r\nhello\r\n")
    assert not [line for line in text.splitlines()[1:] if line.startswith("From:")]


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda data: b"Content-Type: multipart/x\r\n\r\n" + data))
def test_any_octets_can_be_shown(data: bytes) -> None:
    shown = readable(data)
    assert all(char.isprintable() or char in "\n\t" for char in shown)


@pytest.mark.parametrize(("metadata", "ours"), [({KEY: {}}, True), ({}, False)])
def test_the_view_is_chosen_by_itself_for_our_sessions_only(metadata: dict[str, Any], ours: bool) -> None:
    flow = tflow.ttcpflow()
    flow.metadata.update(metadata)
    view: Any = contentview.SmtpContentview()
    if hasattr(contentviews, "Metadata"):  # mitmproxy 12
        priority = view.render_priority(b"", contentviews.Metadata(flow=flow))
    else:
        priority = view.render_priority(b"", flow=flow)
    assert (priority > 0) is ours


def test_the_view_may_be_registered_twice() -> None:
    contentview.register()
    contentview.register()  # a script that is loaded again


class AuthHandler(socketserver.StreamRequestHandler):
    """A server that asks for a name and a password."""

    def handle(self) -> None:
        self.wfile.write(b"220 mx.corp.example ESMTP\r\n")
        answers = {b"EHLO": b"250-mx.corp.example\r\n250 AUTH LOGIN PLAIN\r\n", b"QUIT": b"221 bye\r\n"}
        while line := self.rfile.readline():
            if line.upper().startswith(b"AUTH LOGIN"):
                for challenge in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                    self.wfile.write(challenge)
                    self.rfile.readline()
                self.wfile.write(b"235 2.7.0 ok\r\n")
            else:
                self.wfile.write(answers.get(line[:4].upper(), b"250 ok\r\n"))


@pytest.fixture(scope="module")
def auth_server() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), AuthHandler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)


class Web:
    """mitmweb's own interface."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookie = ""

    def raw(self, path: str) -> bytes:
        asking = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        token = "" if self._cookie else "?token=look"
        asking.request("GET", path + token, headers={"Cookie": self._cookie} if self._cookie else {})
        answer = asking.getresponse()
        self._cookie = self._cookie or (answer.headers["Set-Cookie"] or "none=1").split(";")[0]
        data = answer.read()
        asking.close()
        assert answer.status == 200, data
        return data

    def json(self, path: str) -> Any:
        return json.loads(self.raw(path))


def text_of(message: dict[str, Any]) -> str:
    """The text of a message as the web interface gets it."""
    if "lines" in message:  # mitmproxy 11
        text = "\n".join("".join(word for _, word in line) for line in message["lines"])
    else:
        text = message["text"]
    return str(text).strip()


def options(config: Path, port: int) -> list[str]:
    found = ["-n", "-s", str(ROOT / "addons" / "smtp_gateway.py"), "--set", f"netinspect_config={config}"]
    found += ["--set", "web_open_browser=false", "--set", f"web_port={port}"]
    # mitmproxy 11.0 has no password of its own yet.
    return [*found, "--set", "web_password=look"] if sys.version_info >= (3, 12) else found


def test_under_mitmweb_a_session_is_a_flow_with_its_verdict_and_a_readable_dialogue(tmp_path: Path) -> None:
    web_port = free_port()
    with DemoServer() as server:
        config, port = configuration(tmp_path, server.port)
        with program("mitmweb", tmp_path, port, *options(config, web_port)) as running:
            send(port, STRANGER, mails.clean_mail())
            send(port, STRANGER, mails.eicar_mail())
            send(port, "carol@corp.example", mails.internal_sender_mail())
            running.verdicts(3)
            web = Web(web_port)
            flows = web.json("/flows")
            assert [flow["comment"].split(":")[0] for flow in flows] == ["accept", "reject", "drop"]
            assert [flow["marked"] for flow in flows] == ["✅", "⛔", "⛔"]
            messages = web.json(f"/flows/{flows[1]['id']}/messages/content/Auto.json")
            shown = [(message["from_client"], text_of(message)) for message in messages]
            assert (True, "ehlo client.outside.example") in shown
            assert [text for _, text in shown if 'application/zip "invoice.zip"' in text]
            assert [text for from_client, text in shown if text.startswith("550 5.7.1 ") and not from_client]
            saved = flows_of(web.raw("/flows/dump"))
            assert [flow.metadata[KEY]["verdicts"][0]["action"] for flow in saved] == ["accept", "reject", "drop"]
            assert web.json("/options")["block_global"]["value"] is False  # or nobody on the Internet could connect


def test_under_mitmweb_no_credential_is_shown_saved_or_logged(auth_server: int, tmp_path: Path) -> None:
    web_port = free_port()
    config, port = configuration(tmp_path, auth_server)
    with program("mitmweb", tmp_path, port, *options(config, web_port), "--set", "proxy_debug=true") as running:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.ehlo()
            assert client.docmd("AUTH PLAIN " + base64.b64encode(f"\0bob\0{CREDENTIAL}".encode()).decode())[0] == 250
            assert client.docmd("AUTH LOGIN")[0] == 334
            assert client.docmd(base64.b64encode(b"bob").decode())[0] == 334
            assert client.docmd(base64.b64encode(CREDENTIAL.encode()).decode())[0] == 235
        web = Web(web_port)
        [flow] = web.json("/flows")
        shown = json.dumps(web.json(f"/flows/{flow['id']}/messages/content/Auto.json"))
        assert "AUTH PLAIN" in shown
        assert "AUTH LOGIN" in shown
        assert shown.count("a line that may hold a credential") == 2
        everything = shown.encode() + web.raw("/flows/dump") + running.log_file.read_bytes()
        for plain in (CREDENTIAL, f"\0bob\0{CREDENTIAL}"):
            assert plain.encode() not in everything
            assert base64.b64encode(plain.encode()) not in everything

"""What was recorded, replayed: the same verdicts and the same records as the gateway wrote."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netinspect import cli
from netinspect.config import load
from netinspect.replay import command
from netinspect.samples.office import melissa_doc
from tests.capture.reading import recorded
from tests.e2e import mails
from tests.e2e.clients import Raw, send
from tests.e2e.gateway import free_port, gateway, toml
from tests.e2e.server import Fault, Server, server
from tests.e2e.world import HERE, end, python

LOGIN = "AHVzZXIAdmVyeXNlY3JldHdvcmQ="
Record = dict[str, Any]


def infected(name: str) -> bytes:
    return mails.mail(name, attachment=mails.zipped("invoice.com", mails.eicar()), filename="invoice.zip")


class Sessions:
    """One method a session; its name is the name of the test's case."""

    def __init__(self, port: int, inside: int, sink: Server) -> None:
        self.port, self.inside, self.sink = port, inside, sink

    def client(self) -> Raw:
        return Raw("127.0.0.1", self.port)

    def clean(self) -> None:
        assert send("127.0.0.1", self.port, mails.mail("clean", attachment=mails.noise(300_000))).code == 250

    def infected(self) -> None:
        assert send("127.0.0.1", self.port, infected("infected")).code == 550

    def macro(self) -> None:
        message = mails.mail("macro", attachment=melissa_doc(), filename="list.doc")
        assert send("127.0.0.1", self.port, message).code == 550

    def spoofed_outside(self) -> None:
        assert send("127.0.0.1", self.port, mails.mail("spoof"), sender="boss@corp.example").code == 550

    def spoofed_helo(self) -> None:
        assert send("127.0.0.1", self.port, mails.mail("spoof"), helo="pc.corp.example").code == 550

    def spoofed_inside(self) -> None:
        message = mails.mail("inside", sender="boss@corp.example")
        assert send("127.0.0.1", self.inside, message, helo="pc.corp.example", sender="boss@corp.example").code == 250

    def smuggling(self) -> None:
        for line_end in (b"\n.\r\n", b"\n.\n", b"\r.\r"):
            with self.client() as client:
                client.hello()
                client.envelope()
                client.ask("DATA")
                client.send(b"Subject: x\r\n\r\nend" + line_end + b"MAIL FROM:<a@corp.example>\r\nDATA\r\nx\r\n.\r\n")
                assert client.reply().code == 550
                client.ask("QUIT")

    def chunks(self) -> None:
        with self.client() as client:
            client.hello()
            for message, code in ((mails.mail("bdat"), 250), (infected("bdat"), 550)):
                client.envelope()
                half = len(message) // 2
                client.send(b"BDAT %d\r\n" % half + message[:half] + b"BDAT %d LAST\r\n" % (len(message) - half))
                client.send(message[half:])
                assert [client.reply().code for _ in range(2)] == [250, code]
            client.ask("QUIT")

    def chunks_without_a_transaction(self) -> None:
        with self.client() as client:
            client.hello()
            client.send(b"BDAT 10 LAST\r\n0123456789")
            assert client.reply().code == 554
            client.ask("QUIT")

    def pipelining(self) -> None:
        with self.client() as client:
            client.hello()
            client.send(b"MAIL FROM:<a@outside.example>\r\nRCPT TO:<nobody@corp.example>\r\n"
                        b"RCPT TO:<b@corp.example>\r\nDATA\r\n")  # fmt: skip
            assert [client.reply().code for _ in range(4)] == [250, 550, 250, 354]
            client.send(mails.stuffed(mails.mail("pipe-1")) + b"MAIL FROM:<a@outside.example>\r\n"
                        b"RCPT TO:<b@corp.example>\r\nDATA\r\n")  # fmt: skip
            assert [client.reply().code for _ in range(4)] == [250, 250, 250, 354]
            client.send(mails.stuffed(infected("pipe-2")) + b"QUIT\r\n")
            assert [client.reply().code for _ in range(2)] == [550, 221]

    def login(self) -> None:
        self.sink.replies["AUTH"] = b"235 2.7.0 ok"
        with self.client() as client:
            client.hello()
            assert client.ask(f"AUTH PLAIN {LOGIN}").code == 235
            assert client.deliver(mails.mail("login")).code == 250
            client.ask("QUIT")
        del self.sink.replies["AUTH"]

    def login_refused(self) -> None:
        with self.client() as client:
            client.hello()
            for octet in f"AUTH LOGIN {LOGIN}\r\n".encode():
                client.send(bytes([octet]))
            assert client.reply().code == 502
            client.ask(LOGIN)
            client.ask("QUIT")

    def several(self) -> None:
        with self.client() as client:
            client.hello()
            assert client.deliver(mails.mail("several-1")).code == 250
            client.envelope()
            client.ask("RSET")
            assert client.deliver(infected("several-2")).code == 550
            client.envelope()
            client.ask("EHLO again.outside.example")
            assert client.deliver(mails.mail("several-3")).code == 250
            client.ask("QUIT")

    def nonsense(self) -> None:
        with self.client() as client:
            client.hello()
            for line in ("FOO", "MAIL FROM:<a@outside.example", "DATA", "STARTTLS"):
                assert client.ask(line).code >= 400
            client.ask("QUIT")

    def empty(self) -> None:
        assert send("127.0.0.1", self.port, b"").code == 250

    def left_in_the_message(self) -> None:
        with self.client() as client:
            client.hello()
            client.envelope()
            client.ask("DATA")
            client.send(b"Subject: x\r\n\r\nhalf a mess")

    def left_in_the_transaction(self) -> None:
        with self.client() as client:
            client.hello()
            client.envelope()

    def server_refuses(self) -> None:
        self.sink.replies["end"] = b"452 4.2.2 full"
        assert send("127.0.0.1", self.port, mails.mail("full")).code == 452
        del self.sink.replies["end"]

    def server_dies(self) -> None:
        self.sink.fault = Fault("end")
        assert send("127.0.0.1", self.port, mails.mail("dies")).code == 451
        self.sink.fault = None


CASES = [name for name in vars(Sessions) if not name.startswith("_") and name != "client"]
MAY_DIFFER = ("timestamp", "pcap_filename")


@dataclass
class Done:
    folder: Path
    flows: dict[str, list[int]]
    """The connections of each case."""
    gateway: dict[int, list[Record]]
    replay: dict[int, list[Record]]


def by_flow(records: list[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        kept = {key: value for key, value in record.items() if key not in MAY_DIFFER}
        found.setdefault(record["flow_id"], []).append(kept)
    return found


def settings(folder: Path, sink: Server, port: int, inside: int) -> dict[str, Any]:
    listener = {"mode": "reverse", "upstream": f"127.0.0.1:{sink.port}"}
    return {
        "listener": [
            {"name": "outside", "zone": "external", "listen": f"127.0.0.1:{port}", **listener},
            {"name": "inside", "zone": "internal", "listen": f"127.0.0.1:{inside}", **listener},
        ],
        "networks": {"domains": ["corp.example"]},
        "scan": {"workers": 1},
        "record": {"directory": str(folder), "rotate_size": 10_000},
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    base = tmp_path_factory.mktemp("record")
    folder = base / "sessions"
    folder.mkdir()
    port, inside = free_port(), free_port()
    flows: dict[str, list[int]] = {}
    with server() as sink, gateway(base / "gateway", settings(folder, sink, port, inside)) as running:
        sessions = Sessions(port, inside, sink)
        for name in CASES:
            running.mark()
            getattr(sessions, name)()
            if name not in SILENT:
                running.wait_event(lambda event: event["event_type"] == "verdict")
            sink.wait_quiet()
            flows[name] = list(by_flow(running.events()))
        config = running.config
        written = running.events(since=0)
    return Done(folder, flows, by_flow(written), by_flow(replay(config, folder, base)))


SILENT = ("nonsense", "login_refused", "chunks_without_a_transaction")
"""Sessions in which nothing happens that goes on record."""


def replay(config: Path, folder: Path, base: Path) -> list[Record]:
    events = base / "replayed.json"
    said = io.StringIO()
    captures = tuple(str(path) for path in sorted(folder.glob("*.pcapng")))
    status = command.run(load(config, {}), command.Options(captures, events=str(events)), out=said, err=said)
    assert status == 1, said.getvalue()
    return [json.loads(line) for line in events.read_text().splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_the_replay_of_a_recording_gives_the_same_records(done: Done, name: str) -> None:
    assert bool(done.flows[name]) == (name not in SILENT)
    for flow in done.flows[name]:
        assert done.replay.get(flow) == done.gateway[flow]


def test_the_replay_has_nothing_that_the_gateway_did_not_have(done: Done) -> None:
    assert set(done.replay) == set(done.gateway)


def test_every_verdict_stands_in_the_capture(done: Done) -> None:
    talks = recorded(done.folder)
    assert len(talks) >= len(CASES)
    assert len(list(done.folder.iterdir())) > 2
    comments = [json.loads(comment) for talk in talks for _, comment in talk.comments]
    verdicts = [one["verdict"] for records in done.gateway.values() for one in records if "verdict" in one]
    keys = ("action", "rules", "incident_id")
    assert sorted(str([one[key] for key in keys]) for one in comments) == sorted(
        str([one[key] for key in keys]) for one in verdicts
    )


def test_no_password_is_in_the_capture(done: Done) -> None:
    for path in done.folder.iterdir():
        data = path.read_bytes()
        assert LOGIN.encode() not in data
        assert b"verysecret" not in data
    assert any(b"AUTH PLAIN ****" in talk.of("C") for talk in recorded(done.folder))


def test_the_zone_is_that_of_the_listener(done: Done) -> None:
    zones = {talk.interface: talk.description for talk in recorded(done.folder)}
    assert zones == {"outside": "netinspect zone external", "inside": "netinspect zone internal"}


def test_the_command_records_into_a_folder_that_it_makes(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "new"
    with server() as sink:
        tables = settings(folder, sink, port, free_port())
        del tables["record"]
        config = tmp_path / "netinspect.toml"
        config.write_text(toml({**tables, "records": {"file": ""}}))
        process = HERE.popen(
            python("-m", "netinspect", "-c", str(config), "record", str(folder), "--size", "100000", "--age", "60"),
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            while "ready" not in (line := process.stderr.readline()):
                assert line, "it ended"
            assert send("127.0.0.1", port, mails.mail("command")).code == 250
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            end(process)
            HERE.processes.remove(process)
    (talk,) = recorded(folder)
    assert b"X-E2E-Token: command" in talk.of("C")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("words", "said"), [
    (["--size", "5"], "--size: must be at least 1000 octets"), (["--age", "0"], "--age: must be 1 to"),
    (["--keep", "10"], "--keep: must be at least two times rotate_size"),
])  # fmt: skip
def test_a_wrong_size_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["record", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err

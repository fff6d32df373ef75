"""The real mitmdump with addons/smtp_gateway.py: sessions over loopback, records, and what the server heard."""

from __future__ import annotations

import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netinspect.demo_server import DemoServer
from netinspect.samples import archives, mails
from tests.gateway.mitm import ENVIRONMENT, ROOT, Running, configuration, flows_of, free_port, program, send

SCRIPT = str(ROOT / "addons" / "smtp_gateway.py")
EXAMPLE = str(ROOT / "addons" / "refuse_senders.py")
STRANGER = "alice@outside.example"
OURS = "carol@corp.example"


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture(scope="module")
def mitmdump(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("mitmdump")
    config, port = configuration(folder, server.port)
    arguments = ["-n", "-s", SCRIPT, "-s", EXAMPLE, "--set", f"netinspect_config={config}", "-w", str(folder / "flows")]
    with program("mitmdump", folder, port, *arguments) as running:
        yield running


@pytest.fixture
def gate(mitmdump: Running, server: DemoServer) -> Running:
    """The program, with records and server as if just started."""
    time.sleep(0.05)  # the last session's QUIT is still on its way to the record
    (mitmdump.folder / "events.json").write_bytes(b"")
    server.forget()
    return mitmdump


def test_a_clean_mail_reaches_the_server_byte_for_byte(gate: Running, server: DemoServer) -> None:
    assert send(gate.port, STRANGER, mails.clean_mail()) == "250 2.0.0 Ok: queued"
    assert server.heard.messages == [mails.clean_mail()]
    [verdict] = gate.verdicts(1)
    assert (verdict["action"], verdict["reply"]) == ("accept", "250 2.0.0 Ok: queued")


def test_of_eicar_in_a_zip_nothing_reaches_the_server(gate: Running, server: DemoServer) -> None:
    told = send(gate.port, STRANGER, mails.eicar_mail())
    [verdict] = gate.verdicts(1)
    assert told == f"550 5.7.1 Message refused (id {verdict['incident_id']})"
    assert verdict["action"] == "reject"
    assert gate.records("alert")
    assert server.heard.messages == []
    assert not [line for line in server.heard.commands if line.upper().startswith(("DATA", "BDAT"))]
    assert archives.eicar().decode() not in "".join(server.heard.commands)


def test_an_internal_looking_sender_is_dropped_before_the_server_hears_of_it(gate: Running, server: DemoServer) -> None:
    assert send(gate.port, OURS, mails.internal_sender_mail()).startswith("550 5.7.1 ")
    [verdict] = gate.verdicts(1)
    assert verdict["action"] == "drop"
    assert not [line for line in server.heard.commands if line.upper().startswith("MAIL")]


def test_a_message_bigger_than_a_write_buffer_arrives_whole(gate: Running, server: DemoServer) -> None:
    message = mails.mail(attachment=bytes(range(256)) * 12_000)
    assert len(message) > 3_000_000
    assert send(gate.port, STRANGER, message).startswith("250 ")
    assert server.heard.messages == [message]


def test_the_example_addon_refuses_a_listed_sender(gate: Running, server: DemoServer) -> None:
    told = send(gate.port, "Offers@Shop.example", mails.clean_mail())
    [verdict] = gate.verdicts(1)
    assert told == f"550 5.7.1 Message refused (id {verdict['incident_id']})"
    assert verdict["rules"] == ["refuse-senders"]
    assert server.heard.messages == []


def test_the_example_addon_refuses_a_listed_sender_inside_the_gateway_too(server: DemoServer, tmp_path: Path) -> None:
    server.forget()
    config, port = configuration(tmp_path, server.port, f'[gateway]\nscripts = ["{EXAMPLE}"]\n')
    with program("netinspect", tmp_path, port, "-c", str(config), "gateway", ready="gateway: ready") as running:
        assert send(port, "news@bulk.example", mails.clean_mail()).startswith("550 5.7.1 ")
        assert send(port, STRANGER, mails.eicar_mail()).startswith("550 5.7.1 ")
        assert send(port, STRANGER, mails.clean_mail()).startswith("250 ")
        rules = [verdict["rules"] for verdict in running.verdicts(3)]
    assert rules == [["refuse-senders"], ["malware"], ["default"]]
    assert server.heard.messages == [mails.clean_mail()]


def test_a_client_is_answered_when_the_server_is_down(server: DemoServer, tmp_path: Path) -> None:
    config, port = configuration(tmp_path, free_port())
    with program("mitmdump", tmp_path, port, "-n", "-s", SCRIPT, "--set", f"netinspect_config={config}") as running:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            assert client.makefile("rb").read().startswith(b"421 4.4.1 ")
        assert running.verdicts(1)[0]["action"] == "tempfail"


def test_a_client_is_answered_when_the_server_closes_without_a_greeting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config, port = configuration(tmp_path, mute.getsockname()[1])
        with (
            program("mitmdump", tmp_path, port, "-n", "-s", SCRIPT, "--set", f"netinspect_config={config}") as running,
            socket.create_connection(("127.0.0.1", port), timeout=10) as client,
        ):
            mute.accept()[0].close()
            assert client.makefile("rb").read().startswith(b"421 4.4.1 ")
            assert running.verdicts(1)[0]["action"] == "tempfail"


def test_nothing_but_our_listeners_is_open(mitmdump: Running) -> None:
    assert "HTTP(S) proxy listening" not in mitmdump.log()  # started with -n


def test_without_n_mitmproxys_own_proxy_is_closed_before_our_listener_opens(
    server: DemoServer, tmp_path: Path
) -> None:
    config, port = configuration(tmp_path, server.port)
    proxy = free_port()
    arguments = ["-s", SCRIPT, "--set", f"netinspect_config={config}", "-p", str(proxy)]
    with program("mitmdump", tmp_path, port, *arguments), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy), timeout=5)


def test_a_verdict_is_a_line_on_the_terminal(gate: Running) -> None:
    send(gate.port, STRANGER, mails.eicar_mail())
    gate.wait_for("netinspect: reject: ")


def test_verdicts_are_in_the_metadata_of_saved_flows(server: DemoServer, tmp_path: Path) -> None:
    config, port = configuration(tmp_path, server.port)
    saved = tmp_path / "flows"
    arguments = ["-n", "-s", SCRIPT, "--set", f"netinspect_config={config}", "-w", str(saved)]
    with program("mitmdump", tmp_path, port, *arguments) as running:
        send(port, STRANGER, mails.eicar_mail())
        running.verdicts(1)
        assert running.stop() == 0
    [flow] = flows_of(saved.read_bytes())
    assert flow.metadata["netinspect"]["zone"] == "external"
    assert [entry["action"] for entry in flow.metadata["netinspect"]["verdicts"]] == ["reject"]
    assert flow.comment.startswith("reject: ")


def test_at_the_end_a_session_between_mails_is_told_and_the_program_ends_well(
    server: DemoServer, tmp_path: Path
) -> None:
    config, port = configuration(tmp_path, server.port)
    with program("mitmdump", tmp_path, port, "-n", "-s", SCRIPT, "--set", f"netinspect_config={config}") as running:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.ehlo()
            running.process.send_signal(signal.SIGTERM)
            assert client.getreply()[0] == 421
            client.close()
        assert running.process.wait(20) == 0
        assert "Traceback" not in running.log()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("", "no configuration; say --set netinspect_config=FILE"),
        ("netinspect_config=/nonexistent.toml", "/nonexistent.toml"),
    ],
)
def test_without_a_usable_configuration_it_says_so_and_ends(tmp_path: Path, settings: str, said: str) -> None:
    command = [str(Path(sys.executable).parent / "mitmdump"), "-s", SCRIPT, "--set", f"confdir={tmp_path}"]
    command += ["-p", str(free_port()), *(["--set", settings] if settings else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr

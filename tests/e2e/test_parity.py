"""A session that went through the gateway and the capture of it give the same records, but for time and reply.

tcpdump runs on both sides of the gateway at the edge as long as that does, so what is replayed here are the sessions
below and those of every test before that uses the same gateway.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netinspect.samples.office import melissa_doc, melissa_docm
from tests.e2e import mails
from tests.e2e.clients import Raw
from tests.e2e.conftest import SINK_PORT
from tests.e2e.gateway import Event, Gateway
from tests.e2e.rig import rig
from tests.e2e.server import Server
from tests.e2e.tap import Tap, tap
from tests.e2e.world import HERE, IMPOSTOR, INSIDE, OUTSIDE, World, python

Talk = Callable[[Raw], object]


def envelope(sender: str = "friend@outside.example", *recipients: str) -> bytes:
    to = recipients or ("user@corp.example",)
    return b"".join([b"MAIL FROM:<%s>\r\n" % sender.encode(), *[b"RCPT TO:<%s>\r\n" % one.encode() for one in to]])


def plain() -> bytes:
    return mails.mail(mails.token())


def several(client: Raw) -> None:
    client.hello()
    client.deliver(plain())
    client.deliver(mails.eicar_mail(mails.token()))
    client.ask("RSET")
    client.deliver(mails.mail(mails.token(), attachment=mails.noise(200_000)))
    client.ask("QUIT")


def pipelined(client: Raw) -> None:
    client.hello()
    message = plain()
    client.send(envelope("friend@outside.example", "user@corp.example", "other@corp.example") + b"DATA\r\n")
    for _ in range(4):
        client.reply()
    client.send(mails.stuffed(message) + envelope() + b"DATA\r\n")
    for _ in range(4):
        client.reply()
    client.send(mails.stuffed(plain()) + b"QUIT\r\n")
    client.rest()


def chunks(client: Raw) -> None:
    client.hello()
    first, second = plain(), mails.mail(mails.token(), attachment=mails.noise(20_000))
    client.send(envelope() + b"BDAT %d LAST\r\n" % len(first) + first)
    client.send(envelope() + b"BDAT 1000\r\n" + second[:1000] + b"BDAT 0\r\n")
    client.send(b"BDAT %d LAST\r\n" % (len(second) - 1000) + second[1000:] + b"QUIT\r\n")
    client.rest()


def chunks_refused(client: Raw) -> None:
    client.hello()
    message = mails.eicar_mail(mails.token())
    client.send(envelope() + b"BDAT %d LAST\r\n" % len(message) + message + envelope() + b"BDAT 3\r\nabcRSET\r\n")
    client.send(b"BDAT 4\r\nabcdBDAT x LAST\r\nQUIT\r\n")
    client.rest()


def nobody(client: Raw) -> None:
    """No recipient was accepted."""
    client.hello()
    client.ask("MAIL FROM:<friend@outside.example>")
    client.ask("DATA")
    client.send(b"BDAT 5 LAST\r\nhello")
    client.reply()
    client.ask("QUIT")


def resets(client: Raw) -> None:
    client.hello()
    for end in ("RSET", "EHLO again.outside.example", "HELO once.outside.example", "MAIL FROM:<next@outside.example>"):
        client.envelope(sender="left@outside.example")
        client.ask(end)
    client.ask("QUIT")


def smuggled(end: bytes) -> Talk:
    def talk(client: Raw) -> None:
        client.hello()
        client.envelope()
        client.ask("DATA")
        hidden = envelope("boss@corp.example") + b"DATA\r\nSubject: second\r\n\r\nx\r\n.\r\n"
        client.send(plain() + end + hidden + b"QUIT\r\n")
        client.rest()

    return talk


def malformed(client: Raw) -> None:
    client.hello()
    client.send(b"NOOP\n")
    client.reply()
    client.envelope()
    client.ask("DATA")
    client.send(b"Subject: bare\n\nline\rends\0\r\n..\r\n.\r\n")
    client.reply()
    client.send(b"MAIL FROM:<broken\r\nRCPT TO:<user@corp.example>\r\nXYZZY\r\nSTARTTLS\r\nTURN\r\nQUIT\r\n")
    client.rest()


def errors(client: Raw) -> None:
    client.hello()
    for _ in range(30):
        if client.ask("XYZZY").code == 0:
            break


def leaves(at: bytes) -> Talk:
    def talk(client: Raw) -> None:
        client.hello()
        client.envelope()
        if at:
            client.ask("DATA")
            client.send(at)
        client.close()

    return talk


def leaves_in_a_chunk(client: Raw) -> None:
    client.hello()
    client.envelope()
    client.send(b"BDAT 10\r\n0123456789BDAT 100 LAST\r\nabc")
    client.reply()
    client.reset()


def says(*lines: str) -> Talk:
    def talk(client: Raw) -> None:
        client.hello()
        for line in lines:
            client.ask(line)
        client.rest()

    return talk


def pipelines_after_refusal(client: Raw) -> None:
    client.hello()
    message = plain()
    client.send(envelope("boss@corp.example") + b"BDAT %d LAST\r\n" % len(message) + message + b"QUIT\r\n")
    client.rest()


def logs_in(client: Raw) -> None:
    client.hello()
    client.ask("AUTH PLAIN AHVzZXIAdmVyeXNlY3JldHdvcmQ=")
    client.deliver(plain())
    client.ask("QUIT")


def mails_of(message: Callable[[], bytes]) -> Talk:
    def talk(client: Raw) -> None:
        client.hello()
        client.deliver(message())
        client.ask("QUIT")

    return talk


def too_many(client: Raw) -> None:
    client.hello()
    client.send(b"MAIL FROM:<friend@outside.example>\r\n")
    client.reply()
    for number in range(1010):
        client.ask(f"RCPT TO:<user{number}@corp.example>")
    client.data(plain())
    client.ask("QUIT")


TALKS: dict[str, Talk] = {
    "clean": mails_of(plain),
    "attachment": mails_of(lambda: mails.mail(mails.token(), attachment=mails.noise(70_000), filename="x.bin")),
    "infected": mails_of(lambda: mails.eicar_mail(mails.token())),
    "macro": mails_of(lambda: mails.mail(mails.token(), attachment=melissa_doc(), filename="list.doc")),
    "empty": mails_of(lambda: b""),
    "no header": mails_of(lambda: b"\r\nhello\r\n"),
    "ambiguous": mails_of(lambda: plain().replace(b"MIME-Version", b"Content-Type: text/html\r\nMIME-Version")),
    "several": several,
    "pipelined": pipelined,
    "chunks": chunks,
    "chunks refused": chunks_refused,
    "nobody": nobody,
    "resets": resets,
    "malformed": malformed,
    "errors": errors,
    "too many": too_many,
    "logs in": logs_in,
    "leaves after the envelope": leaves(b""),
    "leaves in the header": leaves(b"Subject: half\r\nTo: user@corp.exa"),
    "leaves in the body": leaves(b"Subject: half\r\nContent-Type: text/plain\r\n\r\nhalf of a te"),
    "leaves in a chunk": leaves_in_a_chunk,
    "spoofed helo": says("EHLO mx.corp.example"),
    "spoofed sender": says("MAIL FROM:<boss@corp.example>"),
    "spoofed second sender": says(
        "MAIL FROM:<friend@outside.example>", "RCPT TO:<user@corp.example>", "MAIL FROM:<boss@corp.example>"
    ),
    "unqualified sender": says("MAIL FROM:<boss>"),
    "pipelines after the refusal": pipelines_after_refusal,
    "quits in a transaction": says("MAIL FROM:<friend@outside.example>", "QUIT"),
    **{
        f"smuggling {end!r}": smuggled(end)
        for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n")
    },
}


WHEN = re.compile(r"(?:; )?client left (?:before the verdict|while its message was sent on)$")
"""How far the gateway was when its client left without waiting for the reply, nobody else can see."""
NO_SERVER = ("server: timeout",)
"""Whom the gateway could not connect to does not stand in the capture of its clients."""
FROM_INSIDE = ("clean", "infected", "several", "resets", "malformed", "leaves in the body")
Flows = dict[int, list[Event]]
CLIENTS = {"external": (OUTSIDE[4], OUTSIDE[6], IMPOSTOR), "internal": (INSIDE[4], INSIDE[6])}


@dataclass
class Pair:
    """What the gateway wrote and what the capture gives, by connection; `ports` are the clients' ports by talk."""

    gateway: dict[str, Flows]
    capture: dict[str, Flows]
    ports: dict[str, int]


@pytest.fixture(scope="module")
def pair(
    net: World,
    edge: Gateway,
    inside_sinks: dict[int, Server],
    outside_sinks: dict[int, Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Pair:
    """All talks one after the other, then one replay of each side."""
    ports: dict[str, int] = {}
    for name, talk in TALKS.items():
        with Raw(INSIDE[4], SINK_PORT, place=net.outside) as client:
            ports[f"outside: {name}"] = client.sock.getsockname()[1]
            talk(client)
    for name in FROM_INSIDE:
        with Raw(OUTSIDE[4], 25, place=net.inside) as client:
            ports[f"inside: {name}"] = client.sock.getsockname()[1]
            TALKS[name](client)
    with Raw(INSIDE[6], SINK_PORT, place=net.outside) as client:
        ports["outside: over IPv6"] = client.sock.getsockname()[1]
        TALKS["infected"](client)
    with Raw(INSIDE[4], SINK_PORT, place=net.outside, source=IMPOSTOR) as client:
        ports["outside: from an address of ours"] = client.sock.getsockname()[1]
        client.rest()
    time.sleep(1)  # the gateway hears of those that left
    rotated = edge.records.with_suffix(".json.1")  # by a test before
    old = [json.loads(line) for line in rotated.read_text().splitlines()] if rotated.exists() else []
    written = {zone: by_flow(old + edge.events(since=0), zone) for zone in CLIENTS}
    folder = tmp_path_factory.mktemp("parity")
    found = {zone: by_flow(replayed(edge, edge.taps[zone], zone, folder), zone) for zone in CLIENTS}
    return Pair(written, found, ports)


def replayed(gateway: Gateway, tap: Tap, zone: str, folder: Path) -> list[Event]:
    tap.wait_quiet()
    made = folder / f"{zone}.json"
    command = python("-m", "netinspect", "-c", str(gateway.config), "replay", str(tap.file), "--zone", zone)
    done = HERE.run([*command, "--events", str(made)], check=False, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in made.read_text().splitlines()]


def by_flow(records: list[Event], zone: str = "") -> Flows:
    """The records of each connection from this side in their order, without what may differ."""
    flows: Flows = {}
    for record in records:
        if zone and record.get("src_ip") not in CLIENTS[zone]:
            continue  # from the gateway to the server
        kept = {key: value for key, value in record.items() if key not in ("timestamp", "pcap_filename")}
        if "verdict" in kept:
            kept["verdict"] = {key: value for key, value in kept["verdict"].items() if key != "reply"}
            kept["verdict"]["reason"] = WHEN.sub("", kept["verdict"]["reason"])
        flows.setdefault(record["flow_id"], []).append(kept)
    return flows


SESSIONS = [
    *[f"outside: {name}" for name in TALKS],
    *[f"inside: {name}" for name in FROM_INSIDE],
    "outside: over IPv6",
    "outside: from an address of ours",
]


def differences(here: Any, there: Any) -> list[str]:
    """Each place where the capture's records differ, in a line."""
    if isinstance(here, dict) and isinstance(there, dict):
        keys = list(here | there)
        return [f".{key}{line}" for key in keys for line in differences(here.get(key), there.get(key))]
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        pairs = enumerate(zip(here, there, strict=True))
        return [f"[{number}]{line}" for number, (one, other) in pairs for line in differences(one, other)]
    return [] if here == there else [f": capture {here!r}, gateway {there!r}"]


@pytest.mark.parametrize("name", SESSIONS)
def test_records_are_the_same(pair: Pair, name: str) -> None:
    zone = "external" if name.startswith("outside") else "internal"
    port = pair.ports[name]
    there = [records for records in pair.gateway[zone].values() if records[0]["src_port"] == port]
    here = [records for records in pair.capture[zone].values() if records[0]["src_port"] == port]
    assert not differences(here, there)
    assert there


def test_every_session_of_the_tests_before_as_well(pair: Pair) -> None:
    for zone in CLIENTS:
        here, there = pair.capture[zone], pair.gateway[zone]
        unknown = [flow for flow, (first, *_) in there.items() if first.get("verdict", {}).get("reason") in NO_SERVER]
        found = {flow: differences(here.get(flow), there.get(flow)) for flow in here | there if flow not in unknown}
        assert not [where for where in found.values() if where]


def chunks_with_macros(client: Raw) -> None:
    client.hello()
    message = with_macros()
    client.send(envelope() + b"BDAT %d LAST\r\n" % len(message) + message + b"QUIT\r\n")
    client.rest()


def with_macros() -> bytes:
    return mails.mail(mails.token(), attachment=melissa_docm(), filename="list.docm")


OTHERS: dict[str, Talk] = {
    **{name: TALKS[name] for name in ("clean", "infected", "several", "malformed", "chunks", "leaves in the body")},
    **{name: talk for name, talk in TALKS.items() if name.startswith("smuggling")},
    "macros": mails_of(with_macros),
    "chunks with macros": chunks_with_macros,
    "too big": mails_of(lambda: mails.mail(mails.token(), attachment=mails.noise(400_000))),
}


@pytest.mark.parametrize("delivery", ["hold", "cut-through"])
def test_records_are_the_same_under_other_settings(base: Path, tmp_path: Path, delivery: str) -> None:
    """Line ends mended, macros disarmed, malware kept, a small size limit."""
    folder = base / f"parity-{delivery}"
    rules = [
        {"name": "macros", "when": {"category": ["macro", "macro-autoexec", "macro-replication"]}, "action": "disarm"},
        {"name": "malware", "when": {"category": ["malware"]}, "action": "quarantine"},
    ]
    tables: dict[str, Any] = {
        "gateway": {"bare_newline": "normalize", "delivery": delivery},
        "quarantine": {"directory": base / f"parity-vault-{delivery}"},
        "policy": {"rule": rules if delivery == "hold" else rules[1:]},
        "limits": {"message_size": 300_000, "worker_time": 10.0},
    }
    with rig(folder, tables) as one, tap(HERE, "lo", tmp_path / "lo.pcap", f"tcp port {one.port}") as line:
        ports: dict[int, str] = {}
        for name, talk in OTHERS.items():
            with one.connect() as client:
                ports[client.sock.getsockname()[1]] = name
                talk(client)
        time.sleep(1)
        there = {ports[port]: records for port, records in by_port(one.gateway.events(since=0)).items()}
        replay = replayed(one.gateway, line, "external", tmp_path)
    here = {ports[port]: records for port, records in by_port(replay).items()}
    assert not {name: where for name in there if (where := differences(here.get(name), there[name]))}
    assert set(here) == set(there) == set(OTHERS)


def by_port(records: list[Event]) -> dict[int, list[Event]]:
    """The records of each client. In reverse mode the gateway's name the server behind it, the capture the gateway."""
    clients: dict[int, list[Event]] = {}
    for flow in by_flow(records).values():
        for record in flow:
            kept = {key: value for key, value in record.items() if key not in ("flow_id", "dest_ip", "dest_port")}
            if "verdict" in kept:
                kept["verdict"] = {key: value for key, value in kept["verdict"].items() if key != "incident_id"}
            clients.setdefault(record["src_port"], []).append(kept)
    return clients

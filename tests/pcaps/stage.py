"""Where captures are recorded: three namespaces, the project's own gateway, real servers, and tcpdump in between."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet
from scapy.utils import rdpcap, wrpcap

from tests.e2e import gateway as gateway_
from tests.e2e import postfix as postfix_
from tests.e2e import server as server_
from tests.e2e import world as world_
from tests.e2e.world import INSIDE, OUTSIDE, World, end
from tests.pcaps.tlsserver import TlsServer

SINK, LENIENT, SUBMISSION = 2525, 2626, 587
"""Ports inside: a recording server behind the gateway; one that is open to smuggling and one with TLS, which the
gateway does not stand in front of."""
RELAY = 10587
MTU_PAYLOAD = 1400

CONFIG = """\
# What the captures here are judged with (`netinspect -c pcaps/netinspect.toml replay pcaps/*/`).

[networks]
domains = ["corp.example"]
addresses = ["10.55.1.0/24", "fd55:1::/64"]

[scan]
clamd = ""
workers = 1

[records]
file = ""
"""


@dataclass
class Stage:
    net: World
    gate: gateway_.Gateway
    mx: postfix_.Postfix
    sink: server_.Server
    lenient: server_.Server
    tls: TlsServer
    work: Path
    events: dict[str, list[gateway_.Event]] = field(default_factory=dict)
    """What the gateway wrote on record while each capture was made."""

    @contextlib.contextmanager
    def capture(self, path: Path, verdicts: int, *, device: str = "ext0", kept: str = "tcp") -> Iterator[None]:
        """Write what passes the device into `path`; waits for so many verdicts of the gateway."""
        self.gate.mark()
        raw = self.work / "raw.pcap"
        tcpdump = self.net.gateway.popen(
            ["tcpdump", "-i", device, "-s", "0", "-U", "--immediate-mode", "-Z", "root", "-w", str(raw), kept],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert tcpdump.stderr is not None
            while "listening on" not in (line := tcpdump.stderr.readline()):
                assert line, "tcpdump does not start"
            yield
            deadline = time.monotonic() + 20
            while len(self.gate.events("verdict")) < verdicts:
                assert time.monotonic() < deadline, f"{path}: {self.gate.events('verdict')}"
                time.sleep(0.05)
            time.sleep(0.3)  # the last acknowledgement
        finally:
            end(tcpdump)
            self.net.gateway.processes.remove(tcpdump)
        self.events[path.parent.name] = self.gate.events()
        write(path, [frame for one in rdpcap(str(raw)) for frame in cut(one)])


def write(path: Path, frames: list[Packet]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob("capture.*"):
        old.unlink()
    wrpcap(str(path), frames, nano=False)


def checked(frame: Packet) -> Packet:
    """The frame with lengths and checksums worked out: the kernel leaves them to a network card that is not there."""
    time_ = frame.time
    for kind, fields in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum", "dataofs"))):
        if kind in frame:
            for name in fields:
                delattr(frame[kind], name)
    fresh = type(frame)(bytes(frame))
    fresh.time = time_
    return fresh


def cut(frame: Packet) -> list[Packet]:
    """What the kernel handed over in one piece, cut as the wire would have had it."""
    payload = bytes(frame[TCP].payload) if TCP in frame else b""
    if len(payload) <= MTU_PAYLOAD:
        return [checked(frame)]
    pieces = []
    for at in range(0, len(payload), MTU_PAYLOAD):
        piece = frame.copy()
        piece[TCP].remove_payload()
        piece[TCP].seq = (frame[TCP].seq + at) & 0xFFFFFFFF
        piece[TCP].add_payload(payload[at : at + MTU_PAYLOAD])
        piece.time = frame.time
        pieces.append(checked(piece))
    return pieces


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Build it; take it away at the end, whatever happened."""
    world_.require("ip", "nsenter", "sysctl", "nft", "postfix", "swaks")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netinspect-pcaps-")))
        work.chmod(0o755)
        net = stack.enter_context(world_.world())
        mx = stack.enter_context(postfix_.postfix(work / "mx", net.inside, "corp.example"))
        relays = {"four@outside.example": f"[{INSIDE[4]}]:25"}
        stack.enter_context(
            postfix_.postfix(work / "relay", net.outside, "outside.example", port=RELAY, relays=relays)
        )
        sink = stack.enter_context(server_.server(net.inside, INSIDE[4], SINK))
        lenient = stack.enter_context(server_.server(net.inside, INSIDE[4], LENIENT))
        lenient.lenient = True
        stack.enter_context(server_.server(net.outside, OUTSIDE[4], 25))
        tls = stack.enter_context(TlsServer(net.inside, INSIDE[4], SUBMISSION, work))
        tables: dict[str, gateway_.Table | list[gateway_.Table]] = {
            "listener": [
                {"name": "outside", "zone": "external", "listen": ":10025", "mode": "transparent", "interface": "ext0"},
                {"name": "inside", "zone": "internal", "listen": ":10026", "mode": "transparent", "interface": "int0"},
            ],
            "gateway": {"keep_client_address": True, "hostname": "edge.corp.example", "connect_timeout": 2},
            "networks": {"domains": ["corp.example"], "addresses": ["10.55.1.0/24", "fd55:1::/64"]},
            "scan": {"clamd": "", "workers": 1},
            "firewall": {"ports": [25, SINK]},
        }
        gate = stack.enter_context(gateway_.gateway(work / "edge", tables, net.gateway))
        netinspect = world_.python("-m", "netinspect", "-c", str(gate.config), "firewall", "show")
        net.gateway.run(["nft", "-f", "-"], input=world_.HERE.run(netinspect).stdout)
        for command in world_.HERE.run([*netinspect, "--commands"]).stdout.splitlines():
            net.gateway.run(command.split())
        yield Stage(net, gate, mx, sink, lenient, tls, work)


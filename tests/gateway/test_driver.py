"""The driver on real sockets: what is slow, what breaks off, what is too much, and that nothing of a session stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from netinspect.gateway.delivery import BURST
from netinspect.gateway.driver import HIGH_WATER, Peer
from netinspect.gateway.hooks import SmtpFlow
from tests.gateway.rig import LOOPS, Reader, Rig, Writer, rig, run

Loop = Callable[[], asyncio.AbstractEventLoop]
ENVELOPE = b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@corp.test>\r\nDATA\r\n"
BODY = b"Subject: x\r\n\r\nhello\r\n"

pytestmark = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])


class Server:
    """A plain mail server. `pause` seconds before each read of a message, `messages` what it took."""

    def __init__(self, pause: float = 0) -> None:
        self.pause = pause
        self.messages: list[bytes] = []
        self.sessions = 0
        self.lost = 0
        self.verbs: list[bytes] = []

    async def __call__(self, reader: Reader, writer: Writer) -> None:
        self.sessions += 1
        if self.pause:  # or the kernel takes megabytes at once
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost += 1
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        writer.write(b"220 mx.test ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            self.verbs.append(verb)
            if verb == b"EHLO":
                writer.write(b"250-mx.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                self.messages.append(await self._message(reader))
                writer.write(b"250 queued\r\n")
            elif verb == b"HELP":
                writer.write(b"".join(b"214-%d %s\r\n" % (n, b"x" * 500) for n in range(100)) + b"214 end\r\n")
                await writer.drain()
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"250 ok\r\n")

    async def _message(self, reader: Reader) -> bytes:
        data = bytearray()
        while not data.endswith(b"\r\n.\r\n"):
            piece = await reader.read(65_536)
            if not piece:
                raise asyncio.IncompleteReadError(bytes(data), None)
            data += piece
            if self.pause:
                await asyncio.sleep(self.pause)
        return bytes(data[:-3])


async def command(reader: Reader, writer: Writer, line: bytes) -> bytes:
    """One command; its whole reply."""
    writer.write(line)
    return await reply(reader)


async def reply(reader: Reader) -> bytes:
    """One reply, its last line."""
    while (line := await reader.readline())[3:4] == b"-":
        pass
    return line


async def up_to_data(one: Rig) -> tuple[Reader, Writer]:
    """A client that was told 354."""
    reader, writer = await one.connect()
    await reply(reader)
    writer.write(ENVELOPE)
    for code in (b"250", b"250", b"250", b"354"):
        assert (await reply(reader)).startswith(code)
    return reader, writer


async def deliver(one: Rig, body: bytes = BODY) -> bytes:
    """One whole session; the reply to the message."""
    reader, writer = await up_to_data(one)
    writer.write(body + b".\r\n")
    told = await reply(reader)
    await command(reader, writer, b"QUIT\r\n")
    assert await reader.read() == b""
    writer.close()
    return told


def reset(writer: Writer) -> None:
    """End the connection with a TCP reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def written_and_unsent(one: Rig) -> int:
    """Octets in write buffers of all sessions."""
    peers: list[Peer] = [peer for driver in one.sessions for peer in driver._peers.values()]
    return sum(peer.transport.get_write_buffer_size() for peer in peers if peer.transport is not None)


def test_a_server_that_reads_slowly_gets_a_big_message_whole_through_a_small_buffer(loop: Loop) -> None:
    body = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 20_000
    server = Server(pause=0.001)

    async def main() -> None:
        async with rig(server) as one:
            told = asyncio.create_task(deliver(one, body))
            most = 0
            while not told.done():
                most = max(most, written_and_unsent(one))
                await asyncio.sleep(0.001)
            assert (await told).startswith(b"250 queued")
            assert HIGH_WATER // 4 < most <= HIGH_WATER + 2 * BURST
            await one.over()

    run(loop, main())
    assert [len(message) for message in server.messages] == [len(body)]
    assert server.messages[0] == body


def test_a_client_that_never_reads_does_not_fill_memory(loop: Loop) -> None:
    async def main() -> None:
        async with rig(Server()) as one:
            reader, writer = await one.connect()
            await reply(reader)
            writer.transport.pause_reading()
            for _ in range(200):  # 200 times 50 KB of replies
                writer.write(b"HELP\r\n")
                await asyncio.sleep(0.001)
            most = 0
            for _ in range(50):
                most = max(most, written_and_unsent(one))
                await asyncio.sleep(0.005)
            assert most <= 2 * HIGH_WATER
            reset(writer)
            await one.over()

    run(loop, main())


def test_a_client_that_sends_no_more_still_gets_its_replies(loop: Loop) -> None:
    async def main() -> None:
        async with rig(Server()) as one:
            reader, writer = await one.connect()
            await reply(reader)
            writer.write(b"EHLO c.test\r\nNOOP\r\n")
            writer.write_eof()
            assert (await reader.read()).endswith(b"250 8BITMIME\r\n250 ok\r\n")
            writer.close()
            await one.over()

    run(loop, main())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_of_a_client_that_leaves_in_its_message_the_server_hears_no_data(loop: Loop, how: str) -> None:
    server = Server()

    async def main() -> None:
        async with rig(server) as one:
            _, writer = await up_to_data(one)
            writer.write(BODY)
            await writer.drain()
            if how == "reset":
                await asyncio.sleep(0.02)
                reset(writer)
            else:
                writer.close()
            await one.over()
            [verdict] = one.verdicts()
            assert verdict["action"] == "tempfail"
            assert "client left" in str(verdict)

    run(loop, main())
    assert server.messages == []
    assert b"DATA" not in server.verbs


class Waits:
    """An addon that keeps the server connection waiting."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def server_connect(self, data: ServerConnectionHookData) -> None:
        self.asked.set()
        await self.go.wait()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_before_the_server_is_reached_leaves_nothing_behind(loop: Loop, how: str) -> None:
    server = Server()

    async def main() -> None:
        waits = Waits()
        async with rig(server, [waits]) as one:
            _, writer = await one.connect()
            await waits.asked.wait()
            if how == "reset":
                reset(writer)
            else:
                writer.close()
            await asyncio.sleep(0.02)
            waits.go.set()
            await one.over()
            assert [verdict["action"] for verdict in one.verdicts()] in ([], ["tempfail"])

    run(loop, main())
    assert server.verbs == []


def test_a_client_is_told_421_when_nobody_listens_at_the_server(loop: Loop) -> None:
    async def main() -> None:
        async with rig(None) as one:
            reader, writer = await one.connect()
            assert (await reader.read()).startswith(b"421 4.4.1 ")
            writer.close()
            await one.over()
            [verdict] = one.verdicts()
            assert (verdict["action"], verdict["reply"][:3]) == ("tempfail", "421")

    run(loop, main())


def test_a_client_is_told_421_when_the_server_does_not_answer_in_time(loop: Loop) -> None:
    async def main() -> None:
        # A socket that listens and is full takes no further connection.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            async with rig(Server(), connect_timeout=0.2) as one:
                one.listening.listener = replace(one.listening.listener, upstream=full.getsockname())
                reader, writer = await one.connect()
                assert (await reader.read()).startswith(b"421 4.4.1 ")
                writer.close()
                await one.over()
                assert "timeout" in one.verdicts()[0]["reason"]

    run(loop, main())


@pytest.mark.parametrize("says", [b"", b"BDAT 3\r\nabc"])
def test_a_client_over_the_limit_is_told_421_and_counts_for_nothing(loop: Loop, says: bytes) -> None:
    async def main() -> None:
        async with rig(Server(), max_sessions=2) as one:
            held = [await one.connect() for _ in range(2)]
            for reader, _ in held:
                await reply(reader)
            reader, writer = await one.connect()
            with contextlib.suppress(ConnectionError):
                writer.write(says)
                assert (await reader.read()).startswith(b"421 4.3.2 ")
            writer.close()
            await asyncio.sleep(0.02)
            assert len(one.sessions) == 2
            reader, writer = held[0]
            assert (await command(reader, writer, b"QUIT\r\n")).startswith(b"221 ")
            await reader.read()
            while len(one.sessions) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert (await deliver(one)).startswith(b"250 ")
            for _, writer in held:
                writer.close()
            await one.over()

    run(loop, main())


def test_a_server_that_resets_in_a_session_ends_it_with_421(loop: Loop) -> None:
    async def serve(reader: Reader, writer: Writer) -> None:
        writer.write(b"220 mx\r\n")
        await reader.readline()
        reset(writer)

    async def main() -> None:
        async with rig(serve) as one:
            reader, writer = await one.connect()
            await reply(reader)
            assert (await command(reader, writer, b"EHLO c.test\r\n")).startswith(b"421 ")
            assert await reader.read() == b""
            writer.close()
            await one.over()

    run(loop, main())


def test_a_server_that_dies_in_the_message_leaves_the_client_with_a_4xx(loop: Loop) -> None:
    body = b"Subject: big\r\n\r\n" + (b"x" * 998 + b"\r\n") * 3_000

    async def serve(reader: Reader, writer: Writer) -> None:
        writer.write(b"220 mx\r\n")
        while line := await reader.readline():
            if line.startswith(b"DATA"):
                writer.write(b"354 go\r\n")
                await reader.read(1000)
                reset(writer)
                return
            writer.write(b"250 ok\r\n")

    async def main() -> None:
        async with rig(serve) as one:
            reader, writer = await up_to_data(one)
            writer.write(body + b".\r\n")
            assert (await reply(reader)).startswith(b"451 ")
            writer.close()
            await one.over()
            assert one.verdicts()[-1]["reply"].startswith("451 ")

    run(loop, main())


def test_many_sessions_at_a_time_each_get_their_own_reply(loop: Loop) -> None:
    server = Server()
    bodies = [b"Subject: %d\r\n\r\n%s\r\n" % (n, b"y" * 200) for n in range(150)]

    async def main() -> None:
        async with rig(server) as one:
            told = await asyncio.gather(*(deliver(one, body) for body in bodies))
            assert set(told) == {b"250 queued\r\n"}
            await one.over()
            assert len(one.verdicts()) == len(bodies)

    run(loop, main())
    assert sorted(server.messages) == sorted(bodies)


def test_an_ipv6_listener_serves_an_ipv6_server(loop: Loop) -> None:
    async def main() -> None:
        async with rig(Server(), host="::1") as one:
            assert (await deliver(one)).startswith(b"250 ")
            await one.over()

    run(loop, main())


def test_nothing_of_a_session_is_left_when_it_is_over(loop: Loop) -> None:
    async def main() -> None:
        async with rig(Server()) as one:
            for _ in range(5):
                await deliver(one)
            _, writer = await up_to_data(one)
            reset(writer)
            await one.over()
            await asyncio.sleep(0.02)
            gc.collect()
            assert len(one.listening.made) == 12
            assert [made() for made in one.listening.made if made() is not None] == []

    run(loop, main())


def test_the_client_who_is_cut_at_the_end_of_the_grace_is_on_record(loop: Loop) -> None:
    async def main() -> None:
        async with rig(Server()) as one:
            _, writer = await up_to_data(one)
            writer.write(BODY)
            await writer.drain()
            await asyncio.sleep(0.02)
            assert await one.stop(0.05) == 1
            assert not one.sessions
            assert [verdict["action"] for verdict in one.verdicts()] == ["tempfail"]
            writer.close()

    run(loop, main())


class Broken:
    """An addon that is wrong."""

    def smtp_envelope(self, flow: SmtpFlow) -> None:
        raise RuntimeError("a fault of the addon")


def test_an_addon_that_raises_does_not_stop_the_mail(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with rig(Server(), [Broken()]) as one:
            assert (await deliver(one)).startswith(b"250 ")
            await one.over()

    run(loop, main())
    assert "a fault of the addon" in caplog.text


def test_a_client_that_takes_no_last_word_does_not_hold_its_session_for_ever(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinspect.gateway.driver.LINGER", 0.2, raising=False)

    async def main() -> None:
        async with rig(Server(), command_timeout=0.5) as one:
            reader, writer = await one.connect()
            await reply(reader)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            writer.transport.pause_reading()
            for _ in range(200):
                writer.write(b"HELP\r\n")
                await asyncio.sleep(0.001)
            writer.write(b"NOOP\r\n" * 20_000)  # not read either, once its answers pile up: silent, and so ended
            await asyncio.wait_for(one.over(), 5)
            writer.transport.abort()

    run(loop, main())

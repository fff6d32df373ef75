"""clamd as an engine: strict, asynchronous and cheap.

Small contents share a few sessions and wait for each other only on the wire; a big one has a session to itself, so it
blocks no small one. A session that is lost costs no mail: what waited for an answer is sent once more on a new
connection. Everything else without an exact answer is `Unscanned`: `unreachable`, `timeout`, `connection lost`,
`half an answer`, `garbage`, `size limit` (StreamMaxLength), `limit exceeded: …`, `error: …`, `closed`.

What clamd is not told to report cannot be seen from here: without `AlertExceedsMax yes` in clamd.conf it says OK to a
content whose inner files pass its own limits, without `AlertEncrypted yes` to one it could not open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

from netinspect.limits import Limits
from netinspect.scan.clamd_session import Content, Scan, Session
from netinspect.scan.clamd_wire import Address, Outcome, Version, connect, query_version

log = logging.getLogger(__name__)

SMALL = 131_072
"""Octets up to which a content goes on a shared session: it fits into a socket's buffer, so one call sends it."""


class ClamdEngine:
    """clamd behind the engines' contract.

    Args:
        address: `unix:/path` or `tcp:host:port`.
        limits: `scan_time` bounds `timeout`.
        timeout: seconds for one scan, its wait for a session included.
        sessions: connections that small contents share.
        uploads: big contents on their way at once; more wait.
        connect_timeout: seconds for a connection and for the answer to VERSION.
        retry_after: seconds during which scans fail at once after clamd could not be reached.
        refresh_every: seconds between two looks at clamd's version.

    Raises:
        ConfigError: the address is wrong.
    """

    name = "clamd"

    def __init__(
        self,
        address: str,
        limits: Limits | None = None,
        timeout: float = 30.0,
        *,
        sessions: int = 2,
        uploads: int = 4,
        connect_timeout: float = 2.0,
        retry_after: float = 1.0,
        refresh_every: float = 30.0,
    ) -> None:
        self.address = Address.parse(address)
        self.timeout = min(timeout, (limits or Limits()).scan_time)
        self.version: Version | None = None
        """As of the last look; kept while clamd is down."""
        self.fingerprint = "clamd:unknown"
        """Changes with clamd's version and its official signatures; local signature files have no number in it."""
        self._connect_timeout = connect_timeout
        self._retry_after = retry_after
        self._refresh_every = refresh_every
        self._shared: list[Session | None] = [None] * sessions
        self._idle_uploads: list[Session] = []
        self._all: set[Session] = set()
        self._slots = asyncio.Semaphore(uploads)
        self._dial = asyncio.Lock()
        self._widening = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="clamd")
        self._loop: asyncio.AbstractEventLoop
        self._look = asyncio.Event()
        self._closed = False
        self._down_until = 0.0
        self._fault = ""
        self._lost = 0

    # --- life -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look once whether clamd is there; that it is not is no error (mails wait at their senders meanwhile)."""
        self._loop = asyncio.get_running_loop()
        await self.refresh()
        self._spawn(self._refresh_forever())

    async def close(self) -> None:
        """Close every connection; scans on their way end as `closed`."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in tuple(self._all):
            session.close("closed")
        self._all.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> bool:
        """Ask clamd for its version; True when the fingerprint changed. Down is on `health`, never raised."""
        try:
            version = await self._loop.run_in_executor(
                self._threads, query_version, self.address, self._connect_timeout
            )
        except OSError as fault:
            self._note(f"{fault}")
            return False
        self._note("")
        if version == self.version:
            return False
        self.version = version
        self.fingerprint = f"clamd:{version}"
        log.info("clamd at %s: %s", self.address, version)
        return True

    async def _refresh_forever(self) -> None:
        while True:
            # Never more than once a second, however many sessions are lost.
            await asyncio.sleep(min(1.0, self._refresh_every))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._refresh_every)
            self._look.clear()
            await self.refresh()

    def _note(self, fault: str) -> None:
        """Remember whether clamd is there; say it when that changes."""
        if bool(fault) != bool(self._fault):
            if fault:
                log.warning("clamd at %s cannot be used: %s", self.address, fault)
            else:
                log.info("clamd at %s is back", self.address)
        self._fault = fault

    def _spawn(self, work: Coroutine[None, None, None], scan: Scan | None = None) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, scan))

    def _ended(self, scan: Scan | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            reason = "closed"
        elif (fault := task.exception()) is not None:
            # A spool that cannot be read, or a fault of ours: on record, and no answer.
            log.error("clamd engine: %r", fault, exc_info=fault)
            reason = "content unreadable" if isinstance(fault, OSError) else "fault"
        else:
            return
        if scan is not None:
            scan.fail(reason)

    @property
    def health(self) -> dict[str, str | int | bool | None]:
        """For the record and the doctor; `signature_age` is in days, `None` where clamd does not say."""
        version = self.version
        built = version.built if version else None
        return {
            "engine": "clamd",
            "address": str(self.address),
            "up": not self._fault,
            "fault": self._fault,
            "version": version.engine if version else None,
            "database": version.database if version else None,
            "database_date": built.isoformat() if built else None,
            "signature_age": (datetime.now(UTC) - built).days if built else None,
            "sessions": len(self._all),
            "pending": sum(session.pending for session in self._all),
            "sessions_lost": self._lost,
        }

    # --- scanning ---------------------------------------------------------------------------------------------

    async def scan(self, content: Content, sha256: str = "") -> Outcome:
        """Scan one content: `()` is clean; what was found or why there is no answer carries `sha256`."""
        return await self.submit(content, sha256)

    def submit(self, content: Content, sha256: str = "") -> asyncio.Future[Outcome]:
        """Begin a scan without a task where possible; cancel the future to give it up.

        A spool must stay open until the future is done.
        """
        loop = self._loop
        scan = Scan(content, sha256, loop.create_future(), loop.time() + self.timeout)
        if self._closed:
            scan.fail("closed")
        elif scan.size > SMALL:
            self._spawn(self._bounded(scan), scan)
        else:
            if not isinstance(content, bytes):
                # From here on the content is ours: a second try must not need a spool that its owner has closed.
                scan.content = content.getvalue()
                if len(scan.content) != scan.size:
                    scan.fail("content unreadable")
                    return scan.future
            session = self._lightest()
            if session is None:
                self._spawn(self._bounded(scan), scan)
            else:
                session.send(scan)
        return scan.future

    async def _bounded(self, scan: Scan) -> None:
        try:
            async with asyncio.timeout_at(scan.deadline):
                if scan.size > SMALL:
                    await self._upload(scan)
                else:
                    await self._send(scan)
        except TimeoutError:
            scan.fail("timeout")

    # --- small contents ---------------------------------------------------------------------------------------

    def _lightest(self) -> Session | None:
        """The shared session with the fewest scans that has room; `None` where there is none."""
        best: Session | None = None
        missing = False
        for session in self._shared:
            if session is None or not session.alive:
                missing = True
            elif not session.full and (best is None or session.pending < best.pending):
                best = session
        # One more connection is worth it only when the others are busy.
        if missing and best is not None and best.pending and not self._widening:
            self._widening = True
            self._spawn(self._widen())
        return best

    async def _widen(self) -> None:
        try:
            await self._share()
        finally:
            self._widening = False

    async def _share(self) -> bool:
        """Open the first shared session that is missing; False when clamd cannot be reached."""
        async with self._dial:
            for index, session in enumerate(self._shared):
                if session is None or not session.alive:
                    self._shared[index] = opened = await self._open(self._shared_lost)
                    return opened is not None
        return True

    async def _send(self, scan: Scan) -> None:
        while not scan.future.done():
            session = self._lightest()
            if session is not None:
                session.send(scan)
                return
            busy = [session for session in self._shared if session is not None and session.alive]
            if busy:
                await min(busy, key=lambda session: session.pending).room()
            elif not await self._share():
                scan.fail("unreachable")

    def _shared_lost(self, session: Session, scans: list[Scan]) -> None:
        """Send what has no answer once more, on a new session: a restart of clamd costs no mail."""
        self._forget(session)
        for scan in scans:
            if scan.retried or self._closed:
                scan.fail(session.reason)
            else:
                scan.retried = True
                self._spawn(self._bounded(scan), scan)

    # --- big contents -----------------------------------------------------------------------------------------

    async def _upload(self, scan: Scan) -> None:
        reason = "unreachable"
        async with self._slots:
            for _attempt in range(2):
                session = await self._upload_session()
                if session is None:
                    break
                try:
                    await session.upload(scan)
                    await asyncio.wait((scan.future, session.lost), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    # Answered in full it can be used again; given up it is in the middle of a stream.
                    if session.alive and not session.pending and not self._closed:
                        self._idle_uploads.append(session)
                    else:
                        session.close()
                        self._all.discard(session)
                if scan.future.done():
                    return
                reason = session.reason
        scan.fail(reason)

    async def _upload_session(self) -> Session | None:
        while self._idle_uploads:
            session = self._idle_uploads.pop()
            if session.alive:
                return session
        async with self._dial:
            return await self._open(self._upload_lost)

    def _upload_lost(self, session: Session, _scans: list[Scan]) -> None:
        # `_upload` sees it and sends again.
        self._forget(session)

    # --- connections ------------------------------------------------------------------------------------------

    def _forget(self, session: Session) -> None:
        self._all.discard(session)
        self._lost += 1
        # clamd may have been restarted with other signatures.
        self._look.set()

    async def _open(self, on_lost: Callable[[Session, list[Scan]], None]) -> Session | None:
        """A new session, or `None`: clamd cannot be reached, or could not a moment ago."""
        if self._closed or self._loop.time() < self._down_until:
            return None
        dialled = self._threads.submit(connect, self.address, self._connect_timeout)
        try:
            sock = await asyncio.wrap_future(dialled)
        except asyncio.CancelledError:
            dialled.add_done_callback(_hang_up)
            raise
        except OSError as fault:
            self._down_until = self._loop.time() + self._retry_after
            self._note(f"{fault}")
            return None
        self._note("")
        session = Session(sock, self._loop, on_lost)
        # Those that ended on our side are not reported.
        self._all = {known for known in self._all if not known.lost.done()}
        self._all.add(session)
        return session


def _hang_up(dialled: Future[socket.socket]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()

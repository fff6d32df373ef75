"""A mail server with STARTTLS, and the client's side of it that writes its keys down."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from tests.e2e.world import Place


class TlsServer:
    """Takes every mail and says so. Use as a context manager; one thread a connection."""

    def __init__(self, place: Place, host: str, port: int, folder: Path) -> None:
        self.host, self.port = host, port
        key, self._certificate = folder / "tls.key", folder / "tls.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", "/CN=mx.corp.example", "-keyout", str(key), "-out", str(self._certificate)],
            check=True, capture_output=True,
        )  # fmt: skip
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self._certificate, key)
        self._context.num_tickets = 0
        self._listener = place.listen(host, port)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TlsServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            sock.sendall(b"220 mx.corp.example ESMTP\r\n")
            file = sock.makefile("rb")
            while line := file.readline():
                verb = line.split()[0].upper().partition(b":")[0] if line.split() else b""
                if verb == b"STARTTLS":
                    sock.sendall(b"220 2.0.0 Ready to start TLS\r\n")
                    sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
                    file = sock.makefile("rb")
                elif verb == b"EHLO":
                    more = b"" if isinstance(sock, ssl.SSLSocket) else b"250-STARTTLS\r\n"
                    sock.sendall(b"250-mx.corp.example\r\n" + more + b"250 8BITMIME\r\n")
                elif verb == b"DATA":
                    sock.sendall(b"354 Go on\r\n")
                    while (line := file.readline()) not in (b".\r\n", b""):
                        pass
                    sock.sendall(b"250 2.0.0 Ok: queued\r\n")
                elif verb == b"QUIT":
                    sock.sendall(b"221 2.0.0 Bye\r\n")
                    return
                else:
                    sock.sendall(b"250 2.0.0 Ok\r\n")

    def send(self, place: Place, message: bytes, keys: Path, version: ssl.TLSVersion) -> None:
        """One mail through STARTTLS; the keys of the session go into a key log."""
        context = ssl.create_default_context(cafile=str(self._certificate))
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        context.keylog_filename = str(keys)
        sock = place.connect(self.host, self.port)

        class Client(smtplib.SMTP):
            def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
                return sock

        with Client(self.host, self.port, local_hostname="friend.outside.example", timeout=30) as client:
            client.starttls(context=context)
            client.sendmail("friend@outside.example", ["user@corp.example"], message)

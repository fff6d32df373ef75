"""What is recorded. Each scene makes one folder; its text is the README there."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from netinspect.samples.office import melissa_doc
from tests.e2e import mails
from tests.e2e.clients import Raw, Smtplib, send, swaks
from tests.e2e.world import INSIDE, OUTSIDE
from tests.pcaps.stage import LENIENT, RELAY, SINK, Stage

Scene = Callable[[Stage, Path], None]
SCENES: dict[str, tuple[Scene, str]] = {}


def scene(name: str, text: str) -> Callable[[Scene], Scene]:
    def add(play: Scene) -> Scene:
        SCENES[name] = (play, text)
        return play

    return add


def clean_mail(name: str, **more: str) -> bytes:
    return mails.mail(name, attachment=mails.noise(3000), filename="notes.bin", **more)  # type: ignore[arg-type]


def infected_mail(name: str) -> bytes:
    return mails.mail(name, attachment=mails.zipped("invoice.com", mails.eicar()), filename="invoice.zip")


@scene("clean", "A mail with a harmless attachment goes through: swaks outside, Postfix inside.")
def clean(on: Stage, path: Path) -> None:
    with on.capture(path, 1):
        assert swaks(on.net.outside, INSIDE[4], clean_mail("clean"), on.work).code == 250


@scene("infected", "The EICAR test file in a zip in a mail is refused at end-of-data: swaks outside, Postfix inside.")
def infected(on: Stage, path: Path) -> None:
    with on.capture(path, 1):
        assert swaks(on.net.outside, INSIDE[4], infected_mail("infected"), on.work).code == 550


@scene("infected-plain", "The EICAR test file as it is.")
def infected_plain(on: Stage, path: Path) -> None:
    message = mails.mail("infected-plain", attachment=mails.eicar(), filename="test.com")
    with on.capture(path, 1):
        assert swaks(on.net.outside, INSIDE[4], message, on.work).code == 550


@scene("macro", "A Word document with a macro that behaves like Melissa's (inert) is refused.")
def macro(on: Stage, path: Path) -> None:
    message = mails.mail("macro", attachment=melissa_doc(), filename="list.doc")
    with on.capture(path, 1):
        assert swaks(on.net.outside, INSIDE[4], message, on.work).code == 550


@scene("spoofed-outside", "A client outside says that it sends for a name of ours, and is dropped at MAIL.")
def spoofed_outside(on: Stage, path: Path) -> None:
    with on.capture(path, 1):
        told = send(INSIDE[4], SINK, mails.mail("spoofed"), place=on.net.outside, sender="boss@corp.example")
        assert (told.code, told.at) == (550, "MAIL")


@scene("spoofed-inside", "The same sender from inside: there it is one of us, and the mail goes out.")
def spoofed_inside(on: Stage, path: Path) -> None:
    with on.capture(path, 1, device="int0"):
        message = mails.mail("inside", sender="boss@corp.example", recipient="friend@outside.example")
        told = send(OUTSIDE[4], 25, message, helo="pc.corp.example", place=on.net.inside, sender="boss@corp.example",
                    recipients=["friend@outside.example"])  # fmt: skip
        assert told.code == 250


HIDDEN = (
    b"MAIL FROM:<boss@corp.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\n"
    b"From: Boss <boss@corp.example>\r\nSubject: smuggled\r\n\r\nPay this.\r\n"
)
LINE_ENDS = {
    "lf-dot-crlf": b"\n.\r\n", "lf-dot-lf": b"\n.\n", "crlf-dot-lf": b"\r\n.\n", "cr-dot-cr": b"\r.\r",
    "cr-dot-crlf": b"\r.\r\n",
}  # fmt: skip


def _smuggling(name: str, end: bytes) -> None:
    shown = repr(end)[2:-1]

    @scene(f"smuggling-{name}", f"A second mail hides behind `{shown}`, which some servers take for end-of-data "
           "(CVE-2023-51764 and its kin): all of it is one message, and refused.")  # fmt: skip
    def play(on: Stage, path: Path) -> None:
        with on.capture(path, 1), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
            client.hello()
            client.envelope()
            assert client.ask("DATA").code == 354
            client.send(mails.stuffed(mails.mail(f"smuggling-{name}"))[:-3] + b"the end" + end + HIDDEN + b".\r\n")
            assert client.reply().code == 550
            client.ask("QUIT")


for _name, _end in LINE_ENDS.items():
    _smuggling(_name, _end)


@scene("smuggling-taken", "The same without a gateway, with a server that takes `\\n.\\r\\n` for end-of-data and has "
       "two mails then.")  # fmt: skip
def smuggling_taken(on: Stage, path: Path) -> None:
    with on.capture(path, 0), Raw(INSIDE[4], LENIENT, place=on.net.outside) as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(mails.mail("smuggling-taken"))[:-3] + b"the end\n.\r\n" + HIDDEN + b".\r\n")
        assert [client.reply().code for _ in range(5)] == [250, 250, 250, 354, 250]
        client.ask("QUIT")


def _chunks(client: Raw, message: bytes) -> int:
    third = len(message) // 3
    client.send(b"BDAT %d\r\n" % third + message[:third] + b"BDAT %d\r\n" % third + message[third : 2 * third])
    rest = message[2 * third :]
    client.send(b"BDAT %d LAST\r\n" % len(rest) + rest)
    return [client.reply().code for _ in range(3)][-1]


@scene("bdat", "Two mails in chunks (RFC 3030), pipelined: the first is accepted, the second has EICAR in it.")
def bdat(on: Stage, path: Path) -> None:
    with on.capture(path, 2), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        client.hello()
        client.envelope()
        assert _chunks(client, clean_mail("bdat")) == 250
        client.envelope()
        assert _chunks(client, infected_mail("bdat-infected")) == 550
        client.ask("QUIT")


@scene("pipelining", "MAIL, RCPT (one of two is refused) and DATA leave in one piece (RFC 2920), and so do two mails.")
def pipelining(on: Stage, path: Path) -> None:
    one, two = mails.stuffed(clean_mail("pipelining-1")), mails.stuffed(infected_mail("pipelining-2"))
    with on.capture(path, 2), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        client.hello()
        client.send(b"MAIL FROM:<friend@outside.example>\r\nRCPT TO:<nobody@corp.example>\r\n"
                    b"RCPT TO:<user@corp.example>\r\nDATA\r\n")  # fmt: skip
        assert [client.reply().code for _ in range(4)] == [250, 550, 250, 354]
        client.send(one + b"MAIL FROM:<friend@outside.example>\r\nRCPT TO:<user@corp.example>\r\nDATA\r\n")
        assert [client.reply().code for _ in range(4)] == [250, 250, 250, 354]
        client.send(two + b"QUIT\r\n")
        assert [client.reply().code for _ in range(2)] == [550, 221]


@scene("postfix", "A Postfix outside sends to a Postfix inside, as it does it by itself.")
def postfix(on: Stage, path: Path) -> None:
    with on.capture(path, 1), Smtplib(on.net.outside, "127.0.0.1", RELAY) as client:
        client.sendmail("four@outside.example", ["user@corp.example"], clean_mail("postfix"))


@scene("starttls-refused", "The gateway does not offer STARTTLS and refuses it; the client goes on in the clear.")
def starttls_refused(on: Stage, path: Path) -> None:
    with on.capture(path, 1), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        assert "STARTTLS" not in client.hello().text
        assert client.ask("STARTTLS").code == 454
        assert client.deliver(infected_mail("starttls-refused")).code == 550
        client.ask("QUIT")


@scene("starttls-taken", "Without a gateway the client goes into TLS 1.3: what it said is on record as encrypted. "
       "`keys.log` has its keys (`--keylog`).")  # fmt: skip
def starttls_taken(on: Stage, path: Path) -> None:
    keys = path.parent / "keys.log"
    keys.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    with on.capture(path, 0):
        on.tls.send(on.net.outside, infected_mail("starttls-taken"), keys, ssl.TLSVersion.TLSv1_3)


@scene("starttls-taken-1.2", "The same with TLS 1.2.")
def starttls_taken_12(on: Stage, path: Path) -> None:
    keys = path.parent / "keys.log"
    keys.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    with on.capture(path, 0):
        on.tls.send(on.net.outside, infected_mail("starttls-taken-12"), keys, ssl.TLSVersion.TLSv1_2)


@scene("ipv6", "The EICAR test file over IPv6.")
def ipv6(on: Stage, path: Path) -> None:
    with on.capture(path, 1):
        assert swaks(on.net.outside, INSIDE[6], infected_mail("ipv6"), on.work).code == 550


@scene("several-mails", "Four transactions in one session: accepted, refused, reset without a message, accepted.")
def several_mails(on: Stage, path: Path) -> None:
    with on.capture(path, 4), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        client.hello()
        assert client.deliver(clean_mail("several-1")).code == 250
        assert client.deliver(infected_mail("several-2")).code == 550
        client.envelope()
        assert client.ask("RSET").code == 250
        assert client.deliver(mails.mail("several-4")).code == 250
        client.ask("QUIT")


@scene("auth", "A client tries to log in (AUTH PLAIN) and then sends a mail: no record has what it said there.")
def auth(on: Stage, path: Path) -> None:
    with on.capture(path, 1), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        client.hello()
        assert client.ask("AUTH PLAIN AHRlc3QAdGVzdC1wYXNzd29yZA==").code == 502
        assert client.deliver(mails.mail("auth")).code == 250
        client.ask("QUIT")


@scene("left", "The client leaves in the middle of its message.")
def left(on: Stage, path: Path) -> None:
    with on.capture(path, 1), Raw(INSIDE[4], SINK, place=on.net.outside) as client:
        client.hello()
        client.envelope()
        assert client.ask("DATA").code == 354
        client.send(mails.stuffed(infected_mail("left"))[:-100])

"""Mails that nobody looked into, judged with the defaults: own engines, no clamd, no rules of an administrator."""

from __future__ import annotations

import asyncio
import base64
import io
import zipfile

import pytest

from netinspect.assembly import inspector_of
from netinspect.config import Settings
from netinspect.config.schema import ScanSettings
from netinspect.inspector import Judgement
from netinspect.policy.facts import SessionFacts
from netinspect.smtp.events import Envelope, MessageEnd

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
ENCODED = base64.b64encode(EICAR)
CTE = b"Content-Transfer-Encoding: base64\r\n\r\n"
HEAD = b"From: a@b.test\r\nMIME-Version: 1.0\r\n"
INNER = (
    HEAD + b"Content-Type: application/octet-stream; name=e.com\r\n" + CTE + ENCODED
)


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return out.getvalue()


def attached(name: str, data: bytes) -> bytes:
    head = (
        b'Content-Type: application/octet-stream; name="%s"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        % name.encode()
    )
    return HEAD + head + base64.encodebytes(data).replace(b"\n", b"\r\n")


async def judged(raws: list[bytes]) -> list[Judgement]:
    inspector = inspector_of(Settings(scan=ScanSettings(workers=1)))
    await inspector.panel.start()
    try:
        out = []
        for raw in raws:
            inspection = inspector.begin(SessionFacts("external", "198.51.100.7", 40000, "192.0.2.1", 25))
            inspection.feed(raw)
            inspection.end(Envelope(mail_from="a@b.test", recipients=["c@d.test"]), MessageEnd(len(raw)))
            out.append(await inspection.judge())
            inspection.close()
        return out
    finally:
        await inspector.panel.close()


CASES = {
    # A reader that takes the second field sees the file; we decode by the first and no engine sees anything.
    "two-encodings": HEAD + b"Content-Transfer-Encoding: 7bit\r\n" + CTE + ENCODED + b"\r\n",
    "two-types": HEAD
    + b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    + CTE + ENCODED + b"\r\n--b--\r\n",
    "unknown-encoding": HEAD + b"Content-Transfer-Encoding: x-base64\r\n\r\n" + ENCODED + b"\r\n",
    "bare-cr-part": HEAD
    + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r--b\r\n" + CTE
    + ENCODED + b"\r\n--b--\r\n",
    # A double click opens it in the mail program.
    "eml-as-a-file": attached("letter.eml", INNER),
    "eml-in-a-zip": attached("letter.zip", zipped("letter.eml", INNER)),
    "rar": attached("a.rar", b"Rar!\x1a\x07\x01\x00" + bytes(range(200))),
    "7z": attached("a.7z", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(range(200))),
    "tnef": attached("winmail.dat", b"\x78\x9f\x3e\x22\x01\x00" + bytes(range(200))),
}  # fmt: skip


@pytest.fixture(scope="module")
def judgements() -> dict[str, Judgement]:
    return dict(zip(CASES, asyncio.run(judged(list(CASES.values()))), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_what_no_engine_could_look_into_is_unscanned_and_not_clean(case: str, judgements: dict[str, Judgement]) -> None:
    judgement = judgements[case]
    found = any(one.category == "malware" for one in judgement.facts.findings)
    assert found or judgement.facts.unscanned, f"{case}: {judgement.decision.action}"
    assert not judgement.decision.delivers

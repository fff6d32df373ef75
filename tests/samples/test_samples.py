"""The samples are what they pretend to be, for programs other than ours too."""

from __future__ import annotations

import email
import io
import random
from email.policy import SMTP
from pathlib import Path

import olefile
import pytest
from oletools.olevba import VBA_Parser, decompress_stream

import netinspect.samples
from netinspect.samples import archives, cfb, mails, office


def sources(document: bytes) -> dict[str, str]:
    parser = VBA_Parser("sample", data=document, disable_pcode=True)
    found = {name: code.replace("\r\n", "\n") for _, _, name, code in parser.extract_macros()}
    parser.close()
    return found


@pytest.mark.parametrize("document", [office.melissa_doc(), office.melissa_docm()], ids=["doc", "docm"])
def test_olevba_reads_the_source_out_of_the_documents(document: bytes) -> None:
    found = sources(document)
    assert list(found) == ["ThisDocument.cls"]
    assert found["ThisDocument.cls"].endswith(office.MELISSA_SOURCE)


def test_many_long_modules_survive() -> None:
    modules = {f"Module{number}": f"' {number}\n" + office.HARMLESS_SOURCE * 60 for number in range(40)}
    found = sources(office.macro_doc(office.HARMLESS_SOURCE * 300, modules=modules))
    assert {name.partition(".")[0] for name in found} == {"ThisDocument", *modules}
    assert found["Module7.bas"].endswith(modules["Module7"])


def test_every_statement_of_the_sample_macro_is_behind_a_false_condition() -> None:
    procedure = office.MELISSA_SOURCE.partition("Sub AutoOpen()")[2]
    before, _, rest = procedure.partition("If False Then")
    inside, _, after = rest.partition("    End If\n")
    assert before.split() == ["Dim", "templateProject,", "mailProgram,", "book,", "entry,", "letter"]
    assert "Send" in inside
    assert after == "End Sub\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4095, 4096, 4097, 9000])
@pytest.mark.parametrize("kind", ["random", "repeating", "zeros"])
def test_compression_is_undone_by_olevba(kind: str, size: int) -> None:
    data = {
        "random": random.Random(size).randbytes(size),
        "repeating": (b"abcabcabd" * 1001)[:size],
        "zeros": bytes(size),
    }[kind]
    assert decompress_stream(bytearray(cfb.compress(data)))[:size] == data


def test_a_compound_file_gives_back_its_streams() -> None:
    streams = {f"Folder{number % 3}/Stream{number}": bytes([number]) * (number * 700) for number in range(1, 30)}
    with olefile.OleFileIO(io.BytesIO(cfb.write(streams))) as ole:
        assert {"/".join(path): ole.openstream(path).read() for path in ole.listdir()} == streams
        assert ole.parsing_issues == []


def test_a_compound_file_too_big_for_the_writer_is_refused() -> None:
    with pytest.raises(ValueError, match="too big"):
        cfb.write({"big": bytes(8_000_000)})
    with pytest.raises(ValueError, match="too long"):
        cfb.write({"x" * 32: b""})


def test_eicar_is_eicar_and_stands_in_no_file_of_ours() -> None:
    assert len(archives.eicar()) == 68
    package = Path(netinspect.samples.__file__).parents[1]
    for file in package.rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            assert archives.eicar()[:40] not in file.read_bytes()


def test_bombs_are_small() -> None:
    assert len(archives.zip_bomb(100_000_000)) < 200_000


@pytest.mark.parametrize(
    "octets", [mails.clean_mail(), mails.eicar_mail(), mails.macro_mail(), mails.internal_sender_mail()]
)
def test_mails_have_crlf_only_and_are_read_by_others(octets: bytes) -> None:
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    message = email.message_from_bytes(octets, policy=SMTP)
    assert message["From"]
    assert not message.defects


def test_the_attachment_of_the_macro_mail_is_the_document() -> None:
    message = email.message_from_bytes(mails.macro_mail(), policy=SMTP)
    (attachment,) = message.iter_attachments()
    assert attachment.get_payload(decode=True) == office.melissa_doc()
    assert attachment.get_filename() == "list.doc"


def test_the_smuggling_mail_hides_a_second_one_behind_a_dot_that_ends_nothing() -> None:
    octets = mails.smuggling_mail()
    assert b"\r\n.\r\n" not in octets
    assert b"\n.\r\nMAIL FROM:" in octets

"""Types come from the octets, never from the name."""

from __future__ import annotations

import bz2
import lzma
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify, zip_end
from netinspect.samples import archives, mails, office

CASES = {
    "empty": b"",
    "text": b"Good morning,\r\nthis is a text.\r\n",
    "data": bytes(range(256)),
    "zip": archives.eicar_zip(),
    "docx": office.plain_docx(),
    "docm": office.melissa_docm(),
    "doc": office.melissa_doc(),
    "xls": office.xlm_xls(),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\n",
    "rtf": b"{\\rtf1 hello}",
    "gzip": archives.make_gzip(b"x"),
    "bzip2": bz2.compress(b"x"),
    "xz": lzma.compress(b"x"),
    "zstd": b"\x28\xb5\x2f\xfd\x00",
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "rar": b"Rar!\x1a\x07\x01\x00",
    "tar": archives.make_tar({"a": b"x"}),
    "cab": b"MSCF\0\0\0\0",
    "exe": b"MZ\x90\x00\x03",
    "elf": b"\x7fELF\x02\x01",
    "macho": b"\xcf\xfa\xed\xfe\x07",
    "class": b"\xca\xfe\xba\xbe\x00\x00\x00\x41",
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff\xe0",
    "gif": b"GIF89a",
    "html": b"\r\n<!DOCTYPE html><html></html>",
    "xml": b'<?xml version="1.0"?><a/>',
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "eml": mails.clean_mail(),
    "script": b"#!/bin/sh\n",
    "sylk": b"ID;PWXL;N;E\r\n",
    "lnk": bytes.fromhex("4c0000000114020000000000c000000000000046"),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_is_known_by_its_octets(kind: str) -> None:
    assert identify(CASES[kind]) == kind


@pytest.mark.parametrize("kind", CASES)
def test_the_name_changes_nothing(kind: str) -> None:
    assert identify(CASES[kind], "holiday.jpg") == kind


@pytest.mark.parametrize(
    "text",
    [
        b"BMW is a car",
        b"MZ is an abbreviation\n",
        b"RIFF raff and so on",
        b"II and MM",
        b"Note: this is text\n",
        b"BZ and PK",
    ],
)
def test_words_that_begin_like_a_magic_stay_text(text: bytes) -> None:
    assert identify(text) == "text"


def test_utf16_text_is_text_and_utf16_markup_is_markup() -> None:
    assert identify("hello".encode("utf-16")) == "text"
    assert identify("<html><body>".encode("utf-16")) == "html"


def test_a_zip_behind_a_picture_shows_its_end_record() -> None:
    polyglot = b"GIF89a" + archives.eicar_zip()
    assert identify(polyglot) == "gif"
    assert zip_end(polyglot) > 0


def test_an_open_document_is_no_plain_zip() -> None:
    kind = "application/vnd.oasis.opendocument.text"
    assert identify(archives.make_zip({"mimetype": kind.encode(), "content.xml": b"<a/>"}, zipfile.ZIP_STORED)) == "odf"


@given(st.binary(max_size=300))
def test_any_octets_have_a_kind(data: bytes) -> None:
    assert identify(data)


@given(st.sampled_from(sorted(CASES)), st.integers(0, 600), st.binary(max_size=8))
def test_damaged_files_have_a_kind(kind: str, at: int, damage: bytes) -> None:
    data = CASES[kind]
    assert identify(data[:at] + damage + data[at + len(damage) :])

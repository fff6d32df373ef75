"""Each file goes to the cleaner of what it is, whatever it is called; what has none says so."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm import html, ole, ooxml, pdf, rtf, svg
from netinspect.disarm.clean import clean
from netinspect.disarm.contract import CannotClean, Cleaned
from netinspect.limits import Limits
from netinspect.samples import archives, office

LIMITS = Limits()
PAGE = b"<html><body><script>x</script><p>text</p></body></html>"
DRAWING = b"<svg xmlns='http://www.w3.org/2000/svg'><rect/></svg>"


@pytest.mark.parametrize(
    ("data", "cleaner"),
    [
        (office.plain_docx(), ooxml),
        (b"<?xml version='1.0'?>\n<?mso-application progid='Word.Document'?><w:wordDocument/>", ooxml),
        (office.melissa_doc(), ole),
        (b"%PDF-1.7\n", pdf),
        (b"\r\n%PDF-1.7\n", pdf),
        (b"{\\rtf1 x}", rtf),
        (DRAWING, svg),
        (DRAWING.replace(b"<rect/>", b"<script>x</script>"), svg),
        (b"<?xml version='1.0'?><!-- - -- x --><!DOCTYPE svg PUBLIC 'a' 'b'>\n" + DRAWING, svg),
        (b"<p>words</p>" + DRAWING, html),
        (PAGE, html),
    ],
)
@pytest.mark.parametrize("name", ["", "a.txt", "a.exe"])
def test_the_content_decides(data: bytes, cleaner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "clean", lambda data, *_: Cleaned(b"cleaned by it"))
    assert clean(data, name=name, limits=LIMITS).data == b"cleaned by it"


@pytest.mark.parametrize(
    ("data", "name", "declared"),
    [
        (b"words <script>x</script>", "", "text/html"),
        (b"words <script>x</script>", "a.HTM", ""),
        (b"Subject: x\r\nFrom: y <script>", "a.html ", ""),
        (DRAWING, "a.html", "image/svg+xml"),
    ],
)
def test_a_text_is_a_page_where_it_says_so(data: bytes, name: str, declared: str) -> None:
    cleaned = clean(data, name=name, limits=LIMITS, declared=declared)
    assert cleaned.data.startswith(b"<html>")
    assert b"<script" not in cleaned.data


@pytest.mark.parametrize(
    ("data", "name", "declared"),
    [
        (b"", "", ""),
        (b"words", "a.txt", "text/plain"),
        (b"#!/bin/sh\n", "a.sh", "application/x-sh"),
        (b"MZ\0\0", "a.html", "text/html"),
        (b"\0\1\2", "", "text/html"),
        (archives.eicar_zip(), "a.docx", ""),
        (b"<?xml version='1.0'?><a/>", "a.xml", "text/xml"),
        (PAGE + archives.eicar_zip(), "a.html", "text/html"),
    ],
)
def test_what_no_cleaner_takes_says_so(data: bytes, name: str, declared: str) -> None:
    with pytest.raises(CannotClean):
        clean(data, name=name, limits=LIMITS, declared=declared)


def test_importing_it_loads_no_library_that_parses() -> None:
    program = "import sys, netinspect.disarm.clean, netinspect.disarm.rewrite, netinspect.disarm.replacement\n"
    program += "print([m for m in ('pikepdf', 'nh3', 'olefile', 'oletools', 'lxml') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "[]\n"


_STARTS = [b"%PDF-1.7\n", b"{\\rtf1 ", b"<html>", b"<svg xmlns='http://www.w3.org/2000/svg'>", b"PK\x03\x04", b""]


@given(st.sampled_from(_STARTS), st.binary(max_size=80), st.sampled_from(["", "a.html"]))
def test_whatever_it_is_given_it_is_cleaned_or_told(start: bytes, data: bytes, name: str) -> None:
    try:
        cleaned = clean(start + data, name=name, limits=LIMITS)
    except CannotClean as reason:
        told = str(reason)
        assert 0 < len(told) < 200
        return
    assert isinstance(cleaned, Cleaned)

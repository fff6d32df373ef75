"""File names in other readings: only where the ending differs, and never for an ordinary part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.mime.headers import Headers
from netinspect.mime.names import ending, other_names, plain
from tests.mime.tools import parse

FILE = "From: a@example.org\n%s\n\nx\n"


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Type: a/b; name=file.exe()",
        "Content-Type: a/b; na()me=file.exe",
        "Content-Disposition: attachment; filename='file.exe'",
        "Content-Disposition: attachment; filename=file;.exe",
        "Content-Type: a/b; name=file\\;.exe",
        'Content-Type: a/b; name="file".exe',
        'Content-Disposition: attachment; filename="file".exe"',
        "Content-Disposition: attachment; filename=file.png; filename=file.exe",
        "Content-Disposition: attachment; filename=file.png\nContent-Disposition: attachment; filename=file.exe",
        "Content-Type: a/b; name=file.exe\nContent-Disposition: attachment; filename=file.png",
        "Content-Disposition: attachment; filename*1=file.; filename*0=exe",
        "Content-Disposition: attachment; filename=file.png; filename*1*=''file.; filename*0*=exe",
        "Content-Disposition: attachment; filename*1=exe\nContent-Type: a/b; filename*0=file.",
        "Content-Disposition: attachment; filename*0=file.\nContent-Type: a/b; filename*1=exe",
        "Content-Type: a/b; name*1=exe\nContent-Type: a/b; name*0=file.",
        "Content-Type: a/b; name*=UTF-16''%00f%00i%00l%00e%00.%00e%00x%00e",
        'Content-Disposition: attachment; filename="=?utf-16?B?AGYAaQBsAGUALgBlAHgAZQ==?="',
    ],
)
def test_the_name_that_another_program_reads_is_found(fields: str) -> None:
    parsed = parse(FILE % fields)
    assert any(leaf.name.endswith(".exe") for leaf in parsed.leaves)
    assert parsed.parser.mail is not None
    assert any(name.endswith(".exe") for name in parsed.parser.mail.attachments)


def test_a_second_name_is_the_same_content_at_a_path_of_its_own() -> None:
    parsed = parse(FILE % "Content-Type: a/b; name=file.exe\nContent-Disposition: attachment; filename=file.png")
    first, second = parsed.leaves
    assert (first.path, first.name, first.why) == ("1", "file.png", ())
    assert (second.path, second.name, second.why) == ("1~b", "file.exe", ("name_ambiguous",))
    assert first.data == second.data
    assert "name_ambiguous" in parsed.kinds


@pytest.mark.parametrize(
    "fields",
    [
        'Content-Type: application/pdf; name="a b.pdf"\nContent-Disposition: attachment; filename="a b.pdf"',
        "Content-Disposition: attachment; filename=report.final.pdf; size=12",
        "Content-Disposition: attachment; filename*=UTF-8''%e2%82%ac%20rates.pdf",
        "Content-Disposition: attachment; filename*0=\"long \"; filename*1=\"name.pdf\"",
        'Content-Type: image/jpeg; name="a.jpeg"\nContent-Disposition: attachment; filename="a.jpg"',
        'Content-Type: a/b; name="scan"\nContent-Disposition: attachment; filename="scan.pdf"',
        'Content-Disposition: attachment; filename="Bob\'s notes (2).pdf"',
        'Content-Disposition: attachment; filename="=?utf-8?b?w7wucGRm?="',
        'Content-Disposition: attachment; filename="renamed.pdf"; creation-date="Mon, 20 Oct 2014 07:15:27 GMT"',
        "Content-Type: text/plain; charset=utf-8; format=flowed",
    ],
)
def test_an_ordinary_part_has_one_name(fields: str) -> None:
    parsed = parse(FILE % fields)
    assert len(parsed.leaves) == 1
    assert "name_ambiguous" not in parsed.kinds


@pytest.mark.parametrize(
    ("name", "what"),
    [("a.EXE", "exe"), ("a.tar.gz", "gz"), ("a", ""), ("a.jpeg", "jpg"), ("a.exe . ", "exe"), ("a.b c", ""), ("", "")],
)
def test_the_ending_is_what_stands_behind_the_last_dot(name: str, what: str) -> None:
    assert ending(name) == what


@given(st.lists(st.binary(max_size=200), max_size=4), st.text(max_size=20))
def test_any_fields_have_some_names(fields: list[bytes], name: str) -> None:
    headers = Headers()
    for number, raw in enumerate(fields):
        headers.add(("Content-Type", "Content-Disposition")[number % 2], raw)
    plain(fields)
    assert len(other_names(headers, name, 64)) <= 8

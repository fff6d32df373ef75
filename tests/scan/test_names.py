"""Names: programs, double extensions, names that are turned round; honest names say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.scan.names import findings

SHA = "a" * 64


def told(name: str, kind: str = "data", *, nested: bool = False) -> list[tuple[str, str, int]]:
    return [(one.signature, one.category, one.severity) for one in findings(name, kind, SHA, nested=nested)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", "text"), ("report.docx", "docx"), ("letter.doc", "rtf"), ("report v1.2.final.pdf", "pdf"),
        ("archive.tar.gz", "gzip"), ("www.example.com", "html"), ("Re: example.com", "eml"), ("photo.jpg", "png"),
        ("table.csv", "text"), ("backup.sql.gz", "gzip"), ("app.js.gz", "gzip"), ("example.com.zip", "zip"),
        ("שלום\u200f.pdf", "pdf"), ("no extension", "data"), ("program", "elf"), ("x" * 4000, "data"),
        ("export.xls", "html"), ("a.b.c.d", "text"), (".", "text"), ("photo.jpg", "data"),
        ("2024.01.31 notes.txt", "text"),
    ],
)  # fmt: skip
def test_honest_names_say_nothing(name: str, kind: str) -> None:
    assert told(name, kind) == []


@pytest.mark.parametrize(
    "name",
    ["a.exe", "A.EXE", "a.scr", "a.exe.", "a.exe ", "a.exe . ", "a.exe::$DATA", "c:\\x\\a.exe", "x/y/a.exe",
     "a.exe\0.jpg", "setup(1.2).msi", "a.js", "a.vbs", "a.hta", "a.lnk", "a.jse", "a.xll", "a.ps1"],
)  # fmt: skip
def test_programs_are_banned_by_their_names(name: str) -> None:
    (one,) = told(name)
    assert one[1:] == ("banned-type", 2)


def test_a_name_with_a_nul_is_read_in_both_ways() -> None:
    assert [one[1] for one in told("a.jpg\0.exe")] == ["banned-type"]


@pytest.mark.parametrize("name", ["a.url", "a.jar", "a.inf", "a.iso", "a.img", "a.one", "a.iqy", "a.dll"])
def test_what_is_sent_honestly_now_and_then_is_information(name: str) -> None:
    assert [one[1:] for one in told(name)] == [("banned-type", 3)]


@pytest.mark.parametrize(
    "name", ["invoice.pdf.exe", "Photo.JPG.scr", "a.docx .js", "list.xlsx.vbs", "f.tar.zip.com", "a.txt.lnk"]
)
def test_two_extensions_are_a_disguise(name: str) -> None:
    assert told(name) == [("Name.DoubleExtension", "disguised-type", 2)]


def test_an_extension_out_of_sight_is_a_disguise() -> None:
    assert told("invoice" + " " * 40 + ".exe") == [("Name.Blanks", "disguised-type", 2)]
    assert told("invoice" + "_" * 40 + ".exe") == [("Name.Blanks", "disguised-type", 2)]


@pytest.mark.parametrize("name", ["\u202excod.exe", "invoice\u202efdp.js", "a\u2067b.txt"])
def test_a_name_that_is_turned_round_is_a_disguise(name: str) -> None:
    assert ("Name.RightToLeft", "disguised-type", 2) in told(name)


def test_a_turned_name_in_a_zip_without_the_flag_for_utf_8_is_a_disguise() -> None:
    name = "invoice\u202efdp.exe".encode().decode("cp437")
    assert ("Name.RightToLeft", "disguised-type", 2) in told(name, nested=True)


def test_a_class_identifier_as_extension_is_a_disguise() -> None:
    assert told("a.{3050f4d8-98B5-11CF-BB82-00AA00BDCE0B}") == [("Name.ClassId", "disguised-type", 2)]


@pytest.mark.parametrize("name", ["report.scr.xz", "a.exe.zip", "a.vbs.rar"])
def test_a_program_that_says_it_is_packed_is_a_disguise(name: str) -> None:
    assert told(name) == [("Name.PackedProgram", "disguised-type", 2)]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("photo.jpg", "exe", ("Type.exe", "disguised-type", 2)),
        ("letter.pdf", "elf", ("Type.elf", "disguised-type", 2)),
        ("letter.pdf", "lnk", ("Type.lnk", "disguised-type", 2)),
        ("data.bin", "exe", ("Type.exe", "banned-type", 2)),
        ("", "exe", ("Type.exe", "banned-type", 2)),
        ("photo.jpg", "zip", ("Type.NotAsNamed", "disguised-type", 3)),
        ("letter.pdf", "html", ("Type.NotAsNamed", "disguised-type", 3)),
    ],
)
def test_content_decides_what_a_name_hides(name: str, kind: str, expected: tuple[str, str, int]) -> None:
    assert told(name, kind) == [expected]


def test_source_code_in_an_archive_is_information_and_a_program_is_not() -> None:
    assert [one[2] for one in told("src/app.js", "text", nested=True)] == [3]
    assert [one[2] for one in told("build.bat", "text", nested=True)] == [3]
    assert [one[2] for one in told("setup.exe", "exe", nested=True)] == [2]
    assert [one[2] for one in told("invoice.vbs", "text", nested=True)] == [2]
    assert told("invoice.pdf.js", "text", nested=True) == [("Name.DoubleExtension", "disguised-type", 2)]
    assert [one[2] for one in told("lib.dll", "exe", nested=True)] == [3]


@given(st.text(max_size=300), st.sampled_from(["", "exe", "text", "zip", "pdf"]), st.booleans())
def test_any_name_gives_findings_about_the_artifact(name: str, kind: str, nested: bool) -> None:
    for one in findings(name, kind, SHA, nested=nested):
        assert one.sha256 == SHA
        assert len(one.detail) <= 200

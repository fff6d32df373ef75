"""The tree of a content and everything found in it."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.artifact import Artifact, Hashes
from netinspect.limits import Limits
from netinspect.samples import archives, office
from netinspect.scan.contract import Examination
from netinspect.scan.examine import LISTED, Examiner
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine
from tests.files import made

EXAMINER = Examiner(Limits(), RuleEngine(load_sources()))
STRICT = Examiner(Limits(archive_depth=2, archive_members=50, archive_bytes=1_000_000, member_bytes=500_000))


def found(examination: Examination) -> list[tuple[str, str]]:
    """What the engines found in contents; names are another test's matter."""
    return [(one.category, one.signature) for one in examination.findings if one.engine != "names"]


def test_a_leaf_is_its_own_first_artifact() -> None:
    data = b"Good morning"
    (artifact,) = EXAMINER.examine(data, name="a.txt", declared="text/plain", path="1.2", text=True).artifacts
    assert artifact == Artifact(
        Hashes(hashlib.sha256(data).hexdigest(), hashlib.sha1(data).hexdigest(), hashlib.md5(data).hexdigest()),  # noqa: S324
        12, "text", "1.2", "a.txt", "text/plain", "", "CLOSED", True,
    )  # fmt: skip


def test_a_nested_file_is_found_with_its_way_in() -> None:
    outer = archives.nested_zip(2, archives.eicar(), "eicar.com")
    examination = EXAMINER.examine(outer, name="a.zip", path="1.2")
    assert [artifact.path for artifact in examination.artifacts] == [
        "1.2",
        "1.2/level1.zip",
        "1.2/level1.zip/eicar.com",
    ]
    first, second, third = examination.artifacts
    assert (second.parent_sha256, third.parent_sha256) == (first.hashes.sha256, second.hashes.sha256)
    (finding,) = (one for one in examination.findings if one.engine != "names")
    assert (finding.signature, finding.sha256) == ("EICAR_Test_File", third.hashes.sha256)


@pytest.mark.parametrize("document", [office.melissa_doc(), office.melissa_docm()], ids=["doc", "docm"])
def test_macros_are_found_in_both_containers(document: bytes) -> None:
    examination = EXAMINER.examine(document, path="1")
    assert [signature for category, signature in found(examination) if category == "macro-replication"] == [
        "Melissa.NormalTemplate", "Melissa.AddressBook", "Melissa.MacroProtection",
    ]  # fmt: skip
    assert {finding.sha256 for finding in examination.findings} <= {one.hashes.sha256 for one in examination.artifacts}
    assert examination.unscanned == ()


def test_a_document_in_an_archive_is_examined_too() -> None:
    examination = EXAMINER.examine(archives.make_zip({"a.docm": office.melissa_docm()}), path="1")
    assert ("macro-autoexec", "VBA.AutoExec") in found(examination)
    assert examination.artifacts[-1].path == "1/a.docm/word/vbaProject.bin"


@pytest.mark.parametrize(
    ("document", "category"),
    [(office.template_docx(), "external-template"), (office.dde_docx(), "dde"), (office.xlm_xls(), "xlm-macro")],
)
def test_what_needs_no_macro_is_found(document: bytes, category: str) -> None:
    assert [one for one, _ in found(EXAMINER.examine(document))] == [category]


@pytest.mark.parametrize("document", [office.plain_doc(), office.plain_docx(), b"<html></html>", b"%PDF-1.4\n"])
def test_harmless_documents_have_no_finding(document: bytes) -> None:
    examination = EXAMINER.examine(document)
    assert examination == Examination(examination.artifacts)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archives.nested_zip(4, b"x"), "archive_depth"),
        (archives.make_zip({str(number): b"" for number in range(51)}), "archive_members"),
        (archives.zip_bomb(700_000), "member_bytes"),
        (archives.make_zip({str(number): bytes(range(256)) * 1500 for number in range(4)}, 0), "archive_bytes"),
    ],
)
def test_over_the_limit_is_never_clean(data: bytes, reason: str) -> None:
    examination = STRICT.examine(data)
    assert [(one.engine, one.reason) for one in examination.unscanned] == [("files", reason)]
    assert found(examination) == [("archive-limit", f"Limit.{reason}")]


def test_the_budget_is_one_for_the_whole_tree() -> None:
    levels = [archives.make_zip({f"{which}{number}": b"" for number in range(40)}) for which in "ab"]
    examination = STRICT.examine(archives.make_zip({"a.zip": levels[0], "b.zip": levels[1]}))
    assert [one.reason for one in examination.unscanned] == ["archive_members"]


def test_encrypted_and_damaged_archives_are_unscanned() -> None:
    encrypted = EXAMINER.examine(archives.encrypted_zip())
    assert found(encrypted) == [("encrypted", "Encrypted.Member")]
    assert [one.reason for one in encrypted.unscanned] == ["encrypted"]
    assert [one.reason for one in EXAMINER.examine(archives.eicar_zip()[:-5]).unscanned] == ["damaged archive"]


def test_what_is_beyond_the_list_is_examined_all_the_same() -> None:
    members = {str(number): b"%d" % number for number in range(LISTED + 50)} | {"last": archives.eicar()}
    examination = EXAMINER.examine(archives.make_zip(members))
    assert len(examination.artifacts) == LISTED
    assert found(examination) == [("malware", "EICAR_Test_File")]
    assert [anomaly.kind for anomaly in examination.anomalies] == ["not_listed"]


def test_a_zip_behind_a_text_is_opened() -> None:
    examination = EXAMINER.examine(b"Good morning\r\n" * 100 + archives.eicar_zip())
    assert examination.artifacts[0].magic == "text"
    assert found(examination) == [("malware", "EICAR_Test_File")]


def test_engines_can_be_off() -> None:
    bare = Examiner(Limits(), office=False)
    assert found(bare.examine(office.melissa_docm())) == []
    assert len(bare.examine(archives.eicar_zip()).artifacts) == 2
    assert "oletools" not in bare.fingerprint
    assert bare.fingerprint != EXAMINER.fingerprint


def test_the_same_octets_always_give_the_same() -> None:
    assert EXAMINER.examine(office.melissa_docm(), path="1") == EXAMINER.examine(office.melissa_docm(), path="1")


@given(
    st.binary(max_size=500),
    st.sampled_from([b"", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x1f\x8b", b"{\\rtf"]),
)
def test_any_octets_can_be_examined(data: bytes, magic: bytes) -> None:
    assert EXAMINER.examine(magic + data).artifacts[0].size == len(magic + data)


WORD = "Offer-7781"


@pytest.mark.parametrize("form", ["SevenZip", "Zip"])
def test_a_password_from_the_mail_opens_an_archive(form: str) -> None:
    data = made.packed({"eicar.com": archives.eicar()}, form, password=WORD)
    closed = EXAMINER.examine(data)
    assert ("encrypted", "Encrypted.Member") in found(closed)
    assert [finding.severity for finding in closed.findings if finding.category == "encrypted"] == [2]
    assert [one.reason for one in closed.unscanned] == ["encrypted"]
    opened = EXAMINER.examine(data, texts=[b"Please see the attachment.\r\nThe password is Offer-7781.\r\n"])
    assert opened.unscanned == ()
    assert ("malware", "EICAR_Test_File") in found(opened)
    (evidence,) = (finding for finding in opened.findings if finding.category == "encrypted")
    assert (evidence.severity, evidence.detail) == (3, "opened with a password from the mail: eicar.com: Offer-7781")


def test_a_password_that_everybody_uses_opens_an_archive() -> None:
    examination = EXAMINER.examine(made.packed({"a.txt": b"a"}, "SevenZip", password="infected"))  # noqa: S106
    (evidence,) = examination.findings
    assert evidence.detail == "opened with a password from the list: a.txt: infected"
    assert examination.unscanned == ()


def test_an_archive_that_holds_itself_ends() -> None:
    inner = archives.make_zip({"a.txt": b"a"})
    twice = EXAMINER.examine(archives.make_zip({"a.zip": inner, "b.zip": inner}), path="1")
    assert [artifact.path for artifact in twice.artifacts] == ["1", "1/a.zip", "1/a.zip/a.txt", "1/b.zip"]


def test_a_name_inside_an_archive_is_looked_at() -> None:
    examination = EXAMINER.examine(archives.make_zip({"report.pdf.exe": b"MZ" + bytes(200)}))
    assert "disguised-type" in [finding.category for finding in examination.findings]


def test_a_file_made_by_a_page_is_found_and_examined() -> None:
    text = base64.b64encode(archives.make_zip({"eicar.com": archives.eicar() + b" " * 60})).decode()
    examination = EXAMINER.examine(f"<html><script>x(atob('{text}'))</script></html>".encode(), path="1")
    assert ("embedded-object", "Html.Smuggled") in found(examination)
    assert [artifact.path for artifact in examination.artifacts] == ["1", "1/smuggled1", "1/smuggled1/eicar.com"]

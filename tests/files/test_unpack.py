"""Archives are opened under a budget, and what was not opened is said."""

from __future__ import annotations

import bz2
import io
import lzma
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Member, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives, office

SMALL = Limits(
    archive_members=10, archive_bytes=3_000_000, member_bytes=2_000_000, archive_ratio=50, archive_ratio_floor=100_000
)


def opened(data: bytes, limits: Limits | None = None, name: str = "") -> tuple[list[Member], Report]:
    report = Report()
    members = list(unpack(data, identify(data), name, Budget(limits or Limits()), report))
    return members, report


METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0, 1, 700, 1_000_000])
def test_members_come_out_as_they_went_in(method: str, size: int) -> None:
    content = bytes(number * number % 251 for number in range(min(size, 5000))) * (size // 5000 or 1)
    members, report = opened(archives.make_zip({"a/b.bin": content, "c": b"second"}, METHODS[method]))
    assert [(member.name, member.data) for member in members] == [("a/b.bin", content), ("c", b"second")]
    assert report == Report()


@pytest.mark.parametrize("pack", [archives.make_gzip, bz2.compress, lzma.compress])
def test_streams_and_their_followers_come_out_joined(pack: object) -> None:
    assert callable(pack)
    members, report = opened(pack(b"first ") + pack(b"second"), name="note.txt.gz")
    assert [member.data for member in members] == [b"first second"]
    assert report.unscanned == []


def test_a_gzip_loses_its_suffix_and_rubbish_behind_it_is_noted() -> None:
    members, report = opened(archives.make_gzip(b"x" * 1000) + b"rubbish", name="note.txt.gz")
    assert members == [Member("note.txt", b"x" * 1000), Member("trailing", b"rubbish")]
    assert [anomaly.kind for anomaly in report.anomalies] == ["trailing_data"]


def test_a_tar_gives_its_files() -> None:
    members, report = opened(archives.make_tar({"a.com": archives.eicar(), "b": b""}))
    assert members == [Member("a.com", archives.eicar()), Member("b", b"")]
    assert report == Report()


def test_a_declared_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = archives.zip_bomb(300_000_000)
    tracemalloc.start()
    members, report = opened(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert members == []
    assert report.unscanned == ["member_bytes"]
    assert peak < 2_000_000


def test_a_bomb_that_lies_about_its_size_is_stopped_while_it_unpacks() -> None:
    members, report = opened(archives.lying_bomb(50_000_000), SMALL)
    assert members == []
    assert report.unscanned in (["member_bytes"], ["archive_ratio"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_high_ratio_above_the_floor_is_refused(method: int) -> None:
    _, report = opened(archives.make_zip({"zeros": bytes(1_000_000)}, method), SMALL)
    assert report.unscanned == ["archive_ratio"]


def test_a_blank_page_below_the_floor_is_no_bomb() -> None:
    members, report = opened(archives.make_zip({"page": bytes(90_000)}), SMALL)
    assert len(members) == 1
    assert report == Report()


def test_too_many_members_are_over_the_limit() -> None:
    _, report = opened(archives.make_zip({str(number): b"" for number in range(11)}), SMALL)
    assert report.unscanned == ["archive_members"]


def test_all_members_together_are_limited() -> None:
    parts = {str(number): bytes(range(256)) * 4000 for number in range(4)}
    members, report = opened(archives.make_zip(parts, zipfile.ZIP_STORED), SMALL)
    assert len(members) == 2
    assert report.unscanned == ["archive_bytes"]


def test_a_stream_bomb_is_stopped() -> None:
    members, report = opened(archives.make_gzip(bytes(20_000_000)), SMALL)
    assert members == []
    assert report.unscanned in (["archive_ratio"], ["member_bytes"])


def test_one_bomb_does_not_hide_the_members_behind_it() -> None:
    members, report = opened(archives.make_zip({"bomb": bytes(1_500_000), "eicar.com": archives.eicar()}), SMALL)
    assert [member.name for member in members] == ["eicar.com"]
    assert report.unscanned == ["archive_ratio"]


def test_an_encrypted_member_is_named() -> None:
    members, report = opened(archives.encrypted_zip("secret.txt"))
    assert members == []
    assert report.encrypted == ["secret.txt"]


def test_an_unknown_method_is_unscanned() -> None:
    data = bytearray(archives.make_zip({"a": b"content"}))
    data[data.find(b"PK\x01\x02") + 10] = data[8] = 77
    assert opened(bytes(data))[1].unscanned == ["unknown compression method"]


@pytest.mark.parametrize("cut", [10, 30, 60, 100])
def test_a_zip_that_is_cut_off_is_damaged(cut: int) -> None:
    assert opened(archives.eicar_zip()[:-cut])[1].unscanned == ["damaged archive"]


def test_a_wrong_checksum_is_noted_and_the_content_kept() -> None:
    data = bytearray(archives.make_zip({"a": b"content"}, zipfile.ZIP_STORED))
    data[data.find(b"content")] ^= 1
    members, report = opened(bytes(data))
    assert len(members) == 1
    assert [anomaly.kind for anomaly in report.anomalies] == ["archive_checksum"]


def test_a_zip_behind_a_picture_is_opened() -> None:
    members, report = opened(b"GIF89a" + archives.eicar_zip())
    assert [member.data for member in members] == [archives.eicar()]
    assert [anomaly.kind for anomaly in report.anomalies] == ["appended_archive"]


def test_an_end_record_in_a_text_is_no_damage() -> None:
    assert opened(b"about PK\x05\x06 and its meaning" + bytes(40)) == ([], Report())


def test_an_archive_that_nothing_opens_is_never_clean() -> None:
    members, report = opened(b"ALZ\x01" + bytes(50))
    assert members == []
    assert report.unscanned == ["cannot open: alz"]
    assert [(anomaly.kind, anomaly.detail) for anomaly in report.anomalies] == [("not_unpacked", "alz")]


def test_of_a_document_only_what_can_act_is_an_artifact() -> None:
    parts = {
        "word/media/image1.png": b"\x89PNG\r\n\x1a\n" + bytes(20),
        "word/theme/theme1.xml": b"<a/>",
        "docProps/core.xml": b"<a/>",
        "word/embeddings/oleObject1.bin": office.plain_doc(),
        "word/styles.xml": archives.eicar(),
    }
    members, report = opened(office.plain_docx(members=parts))
    assert [member.name for member in members if not member.part] == [
        "word/embeddings/oleObject1.bin",
        "word/styles.xml",
    ]
    assert "docProps/core.xml" not in [member.name for member in members]
    assert "word/document.xml" in [member.name for member in members if member.part]
    assert report == Report()


def test_a_renamed_vba_project_is_an_artifact() -> None:
    members, _ = opened(office.macro_docm(office.HARMLESS_SOURCE, part="word/picture.png"))
    assert [member.name for member in members if not member.part] == ["word/picture.png"]


ORIGINALS = [
    archives.eicar_zip(), archives.nested_zip(2, b"x"), office.melissa_docm(), archives.make_gzip(b"x" * 500),
    archives.make_tar({"a": b"x"}), lzma.compress(b"y" * 500), bz2.compress(b"z" * 500),
    archives.make_zip({"a": b"content" * 50}, zipfile.ZIP_LZMA), archives.make_zip({"a": b"c" * 90}, zipfile.ZIP_BZIP2),
]  # fmt: skip


@given(st.sampled_from(ORIGINALS), st.integers(0, 6000), st.binary(min_size=1, max_size=6), st.booleans())
def test_damage_anywhere_never_raises(original: bytes, at: int, damage: bytes, cut: bool) -> None:
    at %= len(original)
    damaged = original[:at] + damage + (b"" if cut else original[at + len(damage) :])
    report = Report()
    for kind in {identify(damaged), identify(original)}:
        for member in unpack(damaged, kind, "x", Budget(SMALL), report):
            assert len(member.data) <= SMALL.member_bytes


@given(st.binary(max_size=400))
def test_rubbish_in_an_archives_place_never_raises(data: bytes) -> None:
    for kind in ("zip", "docx", "gzip", "bzip2", "xz", "tar", "data"):
        list(unpack(data, kind, "", Budget(SMALL), Report()))


def test_directories_are_no_members() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a", b"x")
    assert [member.name for member in opened(out.getvalue())[0]] == ["folder/a"]

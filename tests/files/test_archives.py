"""What 7-Zip's library opens: every format, passwords, limits, and the second archive behind something else."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest

from netinspect.files import callbacks, sevenzip
from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Member, Report, unpack
from netinspect.limits import Limits
from netinspect.samples import archives
from tests.files import made

WORD = "hunter2"
CONTENT = {"read me.txt": b"first", "bin/second.dat": bytes(range(256)) * 200}


def opened(
    data: bytes, passwords: Sequence[str] = (), limits: Limits | None = None, name: str = "x"
) -> tuple[dict[str, bytes], Report]:
    report = Report()
    budget = Budget(limits or Limits(), lambda: passwords)
    return {member.name: member.data for member in unpack(data, identify(data), name, budget, report)}, report


FORMATS = {
    "7z": lambda members: made.packed(members, "SevenZip"), "rar": made.rar5, "lzh": made.lzh, "arj": made.arj,
    "cab": made.cab, "ar": made.ar, "cpio": made.cpio, "wim": lambda members: made.packed(members, "Wim"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_members_come_out_as_they_went_in(form: str) -> None:
    data = FORMATS[form]({"read me.txt": CONTENT["read me.txt"], "second.dat": CONTENT["bin/second.dat"]})
    assert identify(data) == form
    members, report = opened(data)
    assert members == {"read me.txt": CONTENT["read me.txt"], "second.dat": CONTENT["bin/second.dat"]}
    assert report == Report()


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_keeps_to_the_limits(form: str) -> None:
    rubbish = random.Random(1).randbytes(40_000)
    data = FORMATS[form]({f"{number}.dat": rubbish + bytes([number]) for number in range(6)})
    _, report = opened(data, limits=Limits(archive_members=5))
    assert report.unscanned == ["archive_members"]
    members, report = opened(data, limits=Limits(member_bytes=30_000))
    assert (members, report.unscanned) == ({}, ["member_bytes"])
    members, report = opened(data, limits=Limits(archive_bytes=100_000))
    assert len(members) == 2
    assert report.unscanned == ["archive_bytes"]


def test_a_disc_image_is_read_in_each_of_its_directories() -> None:
    data = made.iso({"PRIMARY.TXT;1": b"one", "BOTH.TXT;1": b"both"}, {"joliet.txt": b"two", "both.txt": b"both"})
    members, report = opened(data)
    assert sorted(members.values()) == [b"both", b"one", b"two"]
    assert report == Report()


def test_a_bomb_in_7z_is_refused_by_its_own_word() -> None:
    data = made.packed({"zeros": bytes(30_000_000)}, "SevenZip")
    members, report = opened(data)
    assert (members, report.unscanned) == ({}, ["archive_ratio"])


def test_more_than_a_batch_comes_out_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netinspect.files.archives.BATCH", 100_000)
    content = {f"{number}.dat": random.Random(number).randbytes(30_000) for number in range(20)}
    members, report = opened(made.packed(content, "SevenZip"))
    assert members == content
    assert report == Report()


@pytest.mark.parametrize("names_too", [False, True])
@pytest.mark.parametrize("form", ["SevenZip", "Zip"])
def test_a_known_password_opens_and_is_on_record(form: str, names_too: bool) -> None:
    data = made.packed(CONTENT, form, password=WORD, names_too=names_too and form == "SevenZip")
    members, report = opened(data, ["wrong", "infected", WORD])
    assert members == CONTENT
    assert {sight.trait for sight in report.sights} == {"password"}
    assert all(sight.detail.endswith(WORD) for sight in report.sights)
    assert (report.encrypted, report.unscanned) == ([], [])


@pytest.mark.parametrize("names_too", [False, True])
@pytest.mark.parametrize("form", ["SevenZip", "Zip"])
def test_what_no_password_opens_is_named(form: str, names_too: bool) -> None:
    closed_list = names_too and form == "SevenZip"
    data = made.packed(CONTENT, form, password=WORD, names_too=closed_list)
    members, report = opened(data, ["wrong", "infected"], name="a.7z")
    assert members == {}
    assert sorted(report.encrypted) == (["a.7z"] if closed_list else sorted(CONTENT))


def test_tries_are_bounded() -> None:
    data = made.packed({"a": b"content"}, "SevenZip", password=WORD)
    words = [f"wrong{number}" for number in range(5)]
    assert opened(data, [*words, WORD], Limits(password_tries=5))[1].encrypted == ["a"]
    assert opened(data, [*words, WORD], Limits(password_tries=6))[1].encrypted == []


@pytest.mark.parametrize("method", ["Deflate64", "Ppmd", "Lzma2"])
def test_zip_methods_that_python_has_not(method: str) -> None:
    import pybit7z

    with pybit7z.lib7zip_context(large_page_mode=False) as library:
        writer = pybit7z.BitArchiveWriter(library, pybit7z.FormatZip)
        try:
            writer.set_compression_method(getattr(pybit7z.BitCompressionMethod, method))
        except pybit7z.BitException:
            method = "none"
        content = b"all work and no play makes a dull archive. " * 200
        writer.add_file(content, "a.txt")
        data = bytes(writer.compress_to())
    members, report = opened(data)
    assert members == {"a.txt": content}
    assert report == Report()


@pytest.mark.parametrize("form", ["7z", "rar", "cab"])
def test_an_archive_behind_a_program_is_opened(form: str) -> None:
    data = b"MZ" + bytes(510) + FORMATS[form]({"eicar.com": archives.eicar()})
    assert identify(data) == "exe"
    members, report = opened(data)
    assert members == {"eicar.com": archives.eicar()}
    assert [(anomaly.kind, anomaly.detail) for anomaly in report.anomalies] == [("appended_archive", form)]


def test_the_mere_mark_of_an_archive_is_no_damage() -> None:
    data = b"MZ" + bytes(100) + b"7z\xbc\xaf\x27\x1c" + bytes(100) + b"Rar!\x1a\x07" + bytes(100) + b"MSCF\0\0\0\0"
    assert opened(data) == ({}, Report())


@pytest.mark.parametrize("form", FORMATS)
def test_damage_is_said_or_changes_nothing(form: str) -> None:
    """No exception, no silence: what is missing is on record, for each format, wherever it was hit."""
    data = FORMATS[form]({"a.txt": b"content of a file " * 20, "b.txt": os.urandom(300)})
    for seed in range(60):
        chance = random.Random(seed)
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        cut = bytes(broken[: chance.randint(1, len(broken))]) if seed % 3 == 0 else bytes(broken)
        opened(cut)
    members, report = opened(data[: len(data) // 2])
    assert report.unscanned or len(members) < 2


def test_without_the_library_nothing_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sevenzip, "_loaded", [None])
    _, report = opened(made.rar5({"a": b"b"}))
    assert report.unscanned == ["cannot open: rar"]
    _, report = opened(b"MZ" + bytes(500) + made.rar5({"a": b"b"}))
    assert report.unscanned == ["cannot open: rar"]


def test_nothing_of_ours_is_kept_by_the_library() -> None:
    before = len(callbacks.living)
    for form in FORMATS.values():
        opened(form({"a.txt": b"a"}))
        opened(form({"a.txt": b"a"})[:40])
    assert len(callbacks.living) == before


def test_a_stream_takes_the_name_of_its_file() -> None:
    report = Report()
    (member,) = unpack(b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello", "zstd", "a.txt.zst", Budget(Limits()), report)
    assert member == Member("a.txt", b"hello")

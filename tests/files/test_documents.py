"""What is embedded in documents: packages, attachments, objects, scripts, files made of text."""

from __future__ import annotations

import base64
import io
import struct
import uuid
import zlib

import pikepdf
import pytest

from netinspect.files.kind import identify
from netinspect.files.unpack import Budget, Report, Sight, unpack
from netinspect.limits import Limits
from netinspect.samples import archives, cfb, office

PROGRAM = b"MZ" + bytes(510)


def opened(data: bytes, limits: Limits | None = None) -> tuple[list[tuple[str, bytes]], Report]:
    report = Report()
    found = unpack(data, identify(data), "x", Budget(limits or Limits()), report)
    return [(member.name, member.data) for member in found], report


def native(name: str, content: bytes) -> bytes:
    """An OLENativeStream as Packager writes it."""
    path = b"C:\\Temp\\" + name.encode() + b"\0"
    body = b"\x02\0" + name.encode() + b"\0" + path + b"\0\0\x03\0" + struct.pack("<I", len(path)) + path
    body += struct.pack("<I", len(content)) + content
    return struct.pack("<I", len(body)) + body


# --- compound files --------------------------------------------------------------------------------------------------


def test_a_packaged_file_has_its_own_name() -> None:
    members, report = opened(cfb.write({"ObjectPool/_1/\x01Ole10Native": native("run.exe", PROGRAM)}))
    assert members == [("run.exe", PROGRAM)]
    assert report.sights == [Sight("package", "run.exe")]


def test_an_object_that_is_no_package_is_given_as_it_is() -> None:
    data = cfb.write({"x/\x01Ole10Native": struct.pack("<I", 6) + b"\x01\x02abcd"})
    assert opened(data)[0] == [("object", b"\x01\x02abcd")]


def test_embedded_documents_and_programs_are_given_and_office_streams_are_not() -> None:
    inner = archives.make_zip({"a": b"b"})
    data = cfb.write({"WordDocument": PROGRAM, "MBD01/Package": inner, "MBD02/odd": PROGRAM, "MBD02/dull": b"text"})
    assert sorted(opened(data)[0]) == [("MBD01", inner), ("odd", PROGRAM)]


def test_attachments_of_an_outlook_message_have_their_names() -> None:
    place = "__attach_version1.0_#00000000"
    data = cfb.write({
        "__properties_version1.0": bytes(32), "__substg1.0_1000001F": "Good morning".encode("utf-16-le"),
        f"{place}/__substg1.0_37010102": PROGRAM, f"{place}/__substg1.0_3707001F": "invoice.exe".encode("utf-16-le"),
    })  # fmt: skip
    assert identify(data) == "msg"
    assert sorted(opened(data)[0]) == [("body.txt", b"Good morning"), ("invoice.exe", PROGRAM)]


@pytest.mark.parametrize("packed", [True, False])
def test_objects_in_a_presentation_are_unpacked(packed: bool) -> None:
    inner = cfb.write({"\x01Ole10Native": native("a.exe", PROGRAM)})
    content = struct.pack("<I", len(inner)) + zlib.compress(inner) if packed else inner
    stream = struct.pack("<HHI", 0x10 if packed else 0, 0x1011, len(content)) + content
    data = cfb.write({"PowerPoint Document": stream, "Current User": b"x"})
    assert identify(data) == "ppt"
    assert opened(data)[0] == [("object1", inner)]


def test_a_broken_compound_file_is_said() -> None:
    data = cfb.write({"a": b"b" * 5000})
    _, report = opened(data[:600])
    assert report.unscanned == ["damaged document"]


def test_plain_documents_hold_nothing() -> None:
    assert opened(office.plain_doc()) == ([], Report())


# --- RTF -------------------------------------------------------------------------------------------------------------


def rtf(body: bytes, name: bytes = b"Package") -> bytes:
    head = struct.pack("<III", 0x501, 2, len(name) + 1) + name + b"\0" + bytes(8) + struct.pack("<I", len(body))
    return b"{\\rtf1{\\object\\objemb{\\*\\objdata " + (head + body).hex().encode() + b"}}}"


def test_a_package_in_rtf_is_given() -> None:
    members, report = opened(rtf(native("run.exe", PROGRAM)[4:]))
    assert members == [("run.exe", PROGRAM)]
    assert report.sights == [Sight("package", "run.exe")]


def test_an_object_in_rtf_is_given() -> None:
    inner = cfb.write({"\x01Ole10Native": native("run.exe", PROGRAM)})
    assert [data for _, data in opened(rtf(inner, b"Word.Document.8"))[0]] == [inner]


def test_rtf_without_objects_costs_nothing() -> None:
    assert opened(b"{\\rtf1 " + b"00" * 100_000 + b"}") == ([], Report())


# --- PDF -------------------------------------------------------------------------------------------------------------


def saved(pdf: pikepdf.Pdf, **how: object) -> bytes:
    out = io.BytesIO()
    pdf.save(out, **how)  # type: ignore[arg-type]
    return out.getvalue()


def page() -> pikepdf.Pdf:
    pdf = pikepdf.new()
    pdf.add_blank_page()
    return pdf


@pytest.mark.parametrize("streams", [pikepdf.ObjectStreamMode.disable, pikepdf.ObjectStreamMode.generate])
def test_scripts_and_attachments_of_a_pdf_are_given(streams: pikepdf.ObjectStreamMode) -> None:
    pdf = page()
    pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.JavaScript, JS="app.alert(1)")
    pdf.attachments["tool.exe"] = PROGRAM
    members, report = opened(saved(pdf, object_stream_mode=streams))
    assert sorted(members) == [("script1.js", b"app.alert(1)"), ("tool.exe", PROGRAM)]
    assert {sight.trait for sight in report.sights} == {"javascript", "autorun", "attachment"}


def test_a_script_in_a_stream_and_a_hidden_name_are_read() -> None:
    pdf = page()
    pdf.Root.Names = pdf.make_indirect(pikepdf.Dictionary(
        JavaScript=pikepdf.Dictionary(Names=[pikepdf.String("a"), pikepdf.Dictionary(
            S=pikepdf.Name.JavaScript, JS=pdf.make_stream(b"eval(x)"))])))  # fmt: skip
    data = saved(pdf).replace(b"/JS ", b"/#4aS ").replace(b"/JavaScript", b"/J#61vaScript")
    assert [content for _, content in opened(data)[0]] == [b"eval(x)"]


def test_a_launch_action_says_what_it_starts() -> None:
    pdf = page()
    pdf.Root.OpenAction = pikepdf.Dictionary(S=pikepdf.Name.Launch, F="cmd.exe")
    assert Sight("launch", "cmd.exe") in opened(saved(pdf))[1].sights


def test_an_encrypted_pdf_is_opened_or_named() -> None:
    pdf = page()
    pdf.attachments["tool.exe"] = PROGRAM
    open_to_all = saved(pdf, encryption=pikepdf.Encryption(owner="o", user=""))
    assert opened(open_to_all)[0] == [("tool.exe", PROGRAM)]
    closed = saved(pdf, encryption=pikepdf.Encryption(owner="o", user="hunter2"))
    assert opened(closed)[1].encrypted == ["x"]
    report = Report()
    members = list(unpack(closed, "pdf", "x", Budget(Limits(), lambda: ["hunter2"]), report))
    assert [member.data for member in members] == [PROGRAM]
    assert Sight("password", "hunter2") in report.sights


def test_a_bomb_in_a_pdf_is_refused() -> None:
    pdf = page()
    pdf.attachments["zeros"] = bytes(3_000_000)
    assert opened(saved(pdf), Limits(archive_ratio=50))[1].unscanned == ["archive_ratio"]


def test_a_pdf_with_nothing_in_it_is_silent() -> None:
    assert opened(saved(page())) == ([], Report())


# --- OneNote, mails --------------------------------------------------------------------------------------------------


def test_files_in_a_notebook_are_given() -> None:
    head = uuid.UUID("7b5c52e4-d88c-4da7-aeb1-5378d02996d3").bytes_le + bytes(1000)
    store = uuid.UUID("bde316e7-2665-4511-a4c4-8d4d0b7a9eac").bytes_le
    data = b"".join([head, *(store + struct.pack("<QIQ", len(content), 0, 0) + content for content in (PROGRAM, b"b"))])
    assert identify(data) == "onenote"
    members, report = opened(data)
    assert members == [("file1", PROGRAM), ("file2", b"b")]
    assert opened(data[:-1])[1].unscanned in ([], ["damaged document"])
    assert {sight.trait for sight in report.sights} == {"package"}


def test_a_mail_in_something_else_is_taken_apart() -> None:
    mail = (
        b"From: a@example.org\r\nTo: b@example.org\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nGood morning\r\n--x\r\n"
        b"Content-Disposition: attachment; filename=a.exe\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(PROGRAM) + b"\r\n--x--\r\n"
    )
    assert identify(mail) == "eml"
    assert ("a.exe", PROGRAM) in opened(mail)[0]


# --- pages and scripts -----------------------------------------------------------------------------------------------

ZIP = archives.make_zip({"run.exe": PROGRAM * 3})
TEXT = base64.b64encode(ZIP).decode()
QUOTED = '"+"'.join(TEXT[at : at + 40] for at in range(0, len(TEXT), 40))
NUMBERS = ", ".join(str(octet) for octet in ZIP)


@pytest.mark.parametrize(
    "script",
    [
        f'var a=atob("{TEXT}");',
        f'var a = atob("{QUOTED}");',
        f"location='data:application/zip;base64,{TEXT}'",
        f"var b = new Uint8Array([{NUMBERS}]); save(new Blob([b]));",
        f"unescape('%{'%'.join(ZIP.hex()[at : at + 2] for at in range(0, 2 * len(ZIP), 2))}')",
        "atob(`" + "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)) + "`)",
    ],
    ids=["base64", "pieces", "uri", "numbers", "hex", "lines"],
)
@pytest.mark.parametrize("around", ["<html><script>%s</script></html>", "<svg><script>%s</script></svg>"])
def test_a_file_made_by_a_script_is_given(script: str, around: str) -> None:
    data = (around % script).encode()
    members, report = opened(data)
    assert members == [("smuggled1", ZIP)]
    assert report.sights == [Sight("smuggled", "zip")]


def test_pictures_in_a_page_are_not_given() -> None:
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4).decode()
    data = f'<html><img src="data:image/png;base64,{picture}"></html>'.encode()
    assert opened(data) == ([], Report())


def test_a_page_of_long_words_is_read_in_time() -> None:
    data = b"<html><script>atob('" + b"A" * 2_000_000 + b"') " + b"0x41," * 200_000 + b"1," * 200_000
    assert opened(data)[1].unscanned == []


def test_a_stream_longer_than_its_file_is_damage_and_costs_nothing() -> None:
    whole = bytearray(cfb.write({"Something": PROGRAM * 20}))
    entry = whole.find("Something".encode("utf-16-le"))
    whole[entry + 120 : entry + 124] = (2_000_000_000).to_bytes(4, "little")  # MS-CFB §2.6.1: the stream's size
    members, report = opened(bytes(whole))
    assert members == []
    assert report.unscanned == ["damaged document"]

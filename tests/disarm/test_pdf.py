"""PDF without what acts: the rules and the unpackers find nothing, the pages stay."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import pikepdf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pikepdf import Array, Dictionary, Name, Stream, String

from netinspect.disarm import pdf
from netinspect.disarm.contract import CannotClean
from netinspect.limits import Limits
from tests.disarm.looks import examine

LIMITS = Limits()


def document(change: Callable[[pikepdf.Pdf], None] = lambda _: None, **save: Any) -> bytes:
    """One page with a text, and what `change` does to it."""
    made = pikepdf.new()
    page = made.add_blank_page(page_size=(200, 200))
    page.obj.Contents = made.make_stream(b"BT /AA 12 Tf (visible text) Tj ET")
    font = made.make_indirect(Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica))
    page.obj.Resources = Dictionary(Font=Dictionary({"/AA": font}))
    change(made)
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pikepdf.PageCopyWarning)
        made.save(out, **save)
    return out.getvalue()


def javascript() -> Dictionary:
    return Dictionary(S=Name.JavaScript, JS=String("app.alert(1)"))


def launch() -> Dictionary:
    return Dictionary(Type=Name.Action, S=Name.Launch, F=String("cmd.exe"))


def attach(made: pikepdf.Pdf) -> Any:
    file = Stream(made, b"MZ\0\0")
    file.Type = Name.EmbeddedFile
    return made.make_indirect(
        Dictionary(Type=Name.Filespec, F=String("a.exe"), UF=String("a.exe"), EF=Dictionary(F=file))
    )


def annotate(*annotations: Callable[[], Any]) -> Callable[[pikepdf.Pdf], None]:
    def change(made: pikepdf.Pdf) -> None:
        made.pages[0].obj.Annots = Array([made.make_indirect(one()) for one in annotations])

    return change


def annotation(subtype: str, **more: Any) -> Dictionary:
    return Dictionary(Type=Name.Annot, Subtype=Name("/" + subtype), Rect=Array([0, 0, 9, 9]), **more)


def open_action(value: Callable[[], Any]) -> Callable[[pikepdf.Pdf], None]:
    def change(made: pikepdf.Pdf) -> None:
        made.Root.OpenAction = made.make_indirect(value())

    return change


def root(key: str, value: Callable[[pikepdf.Pdf], Any]) -> Callable[[pikepdf.Pdf], None]:
    def change(made: pikepdf.Pdf) -> None:
        made.Root[key] = value(made)

    return change


def media(made: pikepdf.Pdf) -> None:
    scene = Stream(made, b"U3D\0")
    scene.Type, scene.Subtype = Name("/3D"), Name.U3D
    annotate(
        lambda: annotation("3D", **{"3DD": scene}),
        lambda: annotation("Movie"),
        lambda: annotation("Screen", A=launch()),
    )(made)


def js_stream(made: pikepdf.Pdf) -> None:
    script = Stream(made, b"this.exportDataObject({nLaunch: 2})")
    made.Root.Names = Dictionary(
        JavaScript=Dictionary(Names=Array([String("a"), Dictionary(S=Name.JavaScript, JS=script)]))
    )


CASES: dict[str, tuple[Callable[[pikepdf.Pdf], None], set[str]]] = {
    "script when it is opened": (open_action(javascript), {"javascript"}),
    "program when it is opened": (open_action(launch), {"launch"}),
    "address when it is opened": (
        open_action(lambda: Dictionary(S=Name.URI, URI=String("http://a.example"))), {"open-action"},
    ),
    "script behind a harmless action": (
        open_action(lambda: Dictionary(S=Name.GoTo, D=String("x"), Next=Array([javascript()]))), {"javascript"},
    ),
    "named scripts": (js_stream, {"javascript"}),
    "attached files": (
        root("/Names", lambda made: Dictionary(EmbeddedFiles=Dictionary(Names=Array([String("a"), attach(made)])))),
        {"embedded-file"},
    ),
    "associated files": (root("/AF", lambda made: Array([attach(made)])), {"embedded-file"}),
    "attachment on a page": (
        lambda made: annotate(lambda: annotation("FileAttachment", FS=attach(made)))(made), {"embedded-file"},
    ),
    "actions of a page": (
        lambda made: made.pages[0].obj.__setitem__("/AA", Dictionary(O=launch())),
        {"additional-actions"},
    ),
    "a form in XML": (
        root("/AcroForm", lambda made: Dictionary(Fields=Array(), XFA=Array([String("x"), Stream(made, b"<xdp/>")]))),
        {"xfa"},
    ),
    "media": (media, {"multimedia", "launch"}),
    "remote files": (
        annotate(
            lambda: annotation("Link", A=Dictionary(S=Name.GoToR, F=String("\\\\host\\a.pdf"))),
            lambda: annotation("Link", A=Dictionary(S=Name.GoToE, T=Dictionary(R=Name.C))),
            lambda: annotation("Widget", A=Dictionary(S=Name.SubmitForm, F=String("http://a.example"))),
            lambda: annotation("Widget", A=Dictionary(S=Name.ImportData, F=String("a.fdf"))),
        ),
        {"remote-file", "embedded-file", "form-submission", "form-import"},
    ),
    "addresses of programs": (
        annotate(
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("java\nscript:alert(1)"))),
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("file:///c:/a.exe"))),
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("\\\\host\\share"))),
        ),
        {"link"},
    ),
    "commands of the menu": (
        annotate(lambda: annotation("Link", A=Dictionary(S=Name.Named, N=Name.Print))), {"menu-command"},
    ),
    "actions nobody knows": (annotate(lambda: annotation("Link", A=Dictionary(S=Name.Brandnew))), {"action"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_acts_is_taken_out(name: str) -> None:
    change, words = CASES[name]
    for save in ({}, {"object_stream_mode": pikepdf.ObjectStreamMode.generate}):
        data = document(change, **save)
        cleaned = pdf.clean(data, LIMITS)
        assert {removal.what for removal in cleaned.removed} == words
        assert examine(cleaned.data).findings == ()
        with pikepdf.open(io.BytesIO(cleaned.data)) as opened:
            assert opened.check_pdf_syntax() == []
            page = opened.pages[0].obj
            assert b"visible text" in page.Contents.read_bytes()
            assert set(page.Resources.Font.keys()) == {"/AA"}
        again = pdf.clean(cleaned.data, LIMITS)
        assert (again.data, again.removed) == (cleaned.data, ())
        assert pdf.clean(data, LIMITS) == cleaned


def test_a_harmless_document_comes_back_as_it_was() -> None:
    def harmless(made: pikepdf.Pdf) -> None:
        made.Root.OpenAction = Array([made.pages[0].obj, Name.Fit])
        annotate(
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("https://a.example/?x=1:2"))),
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("mailto:a@example.org"))),
            lambda: annotation("Link", A=Dictionary(S=Name.URI, URI=String("www.example.org"))),
            lambda: annotation("Link", A=Dictionary(S=Name.Named, N=Name.NextPage)),
            lambda: annotation("Link", A=Dictionary(S=Name.GoTo, D=Array([made.pages[0].obj, Name.Fit]))),
        )(made)
        made.Root.StructTreeRoot = Dictionary(K=Array([Dictionary(S=Name.P, A=Dictionary(O=Name.Layout))]))

    data = document(harmless)
    cleaned = pdf.clean(data, LIMITS)
    assert (cleaned.removed, cleaned.data) == ((), data)


def test_a_file_behind_the_document_is_gone() -> None:
    from netinspect.samples import archives

    data = document() + archives.eicar_zip()
    cleaned = pdf.clean(data, LIMITS)
    assert [removal.what for removal in cleaned.removed] == ["hidden-data"]
    assert b"PK" not in cleaned.data


def test_names_in_disguise_are_seen_through() -> None:
    data = document(open_action(javascript), compress_streams=False).replace(b"/JavaScript", b"/#4aavaScr#69pt")
    cleaned = pdf.clean(data, LIMITS)
    assert "javascript" in {removal.what for removal in cleaned.removed}
    assert b"alert" not in cleaned.data


@pytest.mark.parametrize("password", ["", "secret"])
def test_an_encrypted_document_cannot_be_cleaned(password: str) -> None:
    data = document(encryption=pikepdf.Encryption(user=password, owner="owner"))
    with pytest.raises(CannotClean, match="encrypted"):
        pdf.clean(data, LIMITS)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7\n", b"%PDF-1.7\n1 0 obj\n<<", b"x" * 100])
def test_what_is_no_document_cannot_be_cleaned(data: bytes) -> None:
    with pytest.raises(CannotClean, match="damaged"):
        pdf.clean(data, LIMITS)


def test_too_many_objects_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "OBJECTS", 3)
    with pytest.raises(CannotClean, match="too many objects"):
        pdf.clean(document(), LIMITS)


@given(name=st.sampled_from(sorted(CASES)), at=st.floats(0, 1), octets=st.binary(min_size=1, max_size=8))
def test_damage_is_cleaned_or_told(name: str, at: float, octets: bytes) -> None:
    data = document(CASES[name][0])
    place = int(at * len(data))
    mutated = data[:place] + octets + data[place + len(octets) :]
    try:
        cleaned = pdf.clean(mutated, LIMITS)
    except CannotClean:
        return
    if cleaned.removed:
        # The rules read octets: to them a name that came loose from its action is still the name.
        assert {finding.engine for finding in examine(cleaned.data).findings} <= {"rules"}
        # Some damage stays damage to qpdf, and is written anew each time.
        assert {removal.what for removal in pdf.clean(cleaned.data, LIMITS).removed} <= {"hidden-data"}

"""Behaviours are seen through the usual disguises, and honest macros show none."""

from __future__ import annotations

import time

import pytest

from netinspect.samples import office
from netinspect.scan.vba import behaviours, flatten


def signatures(source: str) -> list[str]:
    return [what.signature for what in behaviours(source)]


def test_the_melissa_sample_shows_every_behaviour_by_itself() -> None:
    assert signatures(office.MELISSA_SOURCE) == [
        "VBA.AutoExec", "mraptor.A-X", "Melissa.NormalTemplate", "Melissa.AddressBook", "Melissa.MacroProtection",
    ]  # fmt: skip


def test_an_honest_macro_shows_nothing() -> None:
    assert signatures(office.HARMLESS_SOURCE) == []


@pytest.mark.parametrize(
    "code",
    [
        "NormalTemplate.VBProject.VBComponents(1).CodeModule.AddFromString x",
        "NORMALTEMPLATE.VbProject.vbcomponents(1).codemodule.INSERTLINES 1, x",
        "Set p = NormalTemplate _\r\n  .VBProject\r\np.VBComponents.Import f",
        'Application.OrganizerCopy a, "C:\\Norm" & "al.dot", "m", 3',
        'Set t = Documents("nor" + "mal.dotm").VBProject\nt.CodeModule.AddFromString x',
        'FileCopy a, "c:\\templates\\norm" & Chr(97) & "l.dot"',
        'WordBasic.MacroCopy "x:AutoOpen", StrReverse("tod.lamron")',
    ],
)
def test_writing_into_the_normal_template_is_seen(code: str) -> None:
    assert "Melissa.NormalTemplate" in signatures(code)


@pytest.mark.parametrize(
    "code",
    [
        'For Each l In CreateObject("Outlook.Application").GetNameSpace("MAPI").AddressLists',
        'Set o = CreateObject("Out" & _\n "look.Application")\nn = o.Session.ADDRESSLISTS(1).addressentries.count',
        "Dim o As New Outlook.Application\nSet f = o.Session.GetDefaultFolder(olFolderContacts)",
    ],
)
def test_walking_the_address_book_is_seen(code: str) -> None:
    assert "Melissa.AddressBook" in signatures(code)


@pytest.mark.parametrize(
    "code",
    [
        "Options.VirusProtection = False",
        "With Options\n .virusprotection=0\nEnd With",
        "Options.VirusProtection = _\r\n (1 = 2)\nOptions.VirusProtection = 0",
        'System.PrivateProfileString("", "HKEY_CURRENT_USER\\Software\\X\\Office\\9.0\\Word\\Security", "Level") = 1',
        'CommandBars("Macro").Controls("Security...").Enabled = False',
        'w.RegWrite "HKCU\\Software\\Microsoft\\Office\\16.0\\Word\\Security\\AccessVBOM", 1, "REG_DWORD"',
        'w.RegWrite "HKCU\\Software\\Microsoft\\Off" & "ice\\16.0\\Excel\\Security\\VBAWarn" & "ings", 1',
    ],
)
def test_switching_the_macro_protection_off_is_seen(code: str) -> None:
    assert "Melissa.MacroProtection" in signatures(code)


@pytest.mark.parametrize(
    "code",
    [
        "NormalTemplate.Saved = True",
        "x = NormalTemplate.AutoTextEntries.Count",
        "' writes into NormalTemplate.VBProject by AddFromString",
        "Rem Options.VirusProtection = False",
        'Set o = CreateObject("Outlook.Application")\nSet m = o.CreateItem(0)\nm.To = "office@example.org"\nm.Send',
        "For Each e In addressEntries",
        "Options.VirusProtection = True",
        "Import data",
    ],
)
def test_what_honest_macros_do_is_no_replication(code: str) -> None:
    assert not [signature for signature in signatures(code) if signature.startswith("Melissa.")]


@pytest.mark.parametrize(
    "code",
    [
        "Sub AutoOpen()", "private sub DOCUMENT_OPEN()", "Sub _\r\n Auto_Open()",
        "Public Function Workbook_Open() As Long",
        "Sub InkPicture1_Painted(ByVal h As Long)", "Sub Document_Close()", "Sub AutoExec", "Sub Worksheet_Calculate()",
    ],
)  # fmt: skip
def test_procedures_that_run_by_themselves_are_seen(code: str) -> None:
    assert signatures(code) == ["VBA.AutoExec"]


@pytest.mark.parametrize(
    "code", ["Sub Button1_Click()", "' Sub AutoOpen()", "MsgBox AutoOpen", "Sub Total()", "Sub UserForm_Resize()"]
)
def test_procedures_that_wait_for_the_user_are_not(code: str) -> None:
    assert signatures(code) == []


def test_a_comment_sign_in_a_string_is_no_comment() -> None:
    assert flatten("x = \"it's\" ' gone") == 'x = "it\'s" '


@pytest.mark.parametrize(
    "piece", ['"', "'", '" & ', "chr(1) & ", " _\r\n", "normaltemplate ", "rem ", ' "', "strreverse(", "\t"]
)
def test_hostile_sources_cost_no_more_than_their_length(piece: str) -> None:
    source = piece * (200_000 // len(piece))
    start = time.process_time()
    behaviours(source)
    assert time.process_time() - start < 2

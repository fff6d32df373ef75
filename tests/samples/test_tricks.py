"""The samples of tricks are what they pretend to be, for programs other than ours too."""

from __future__ import annotations

import io

import olefile
import pytest
from oletools import olevba, rtfobj

from netinspect.files.kind import identify
from netinspect.samples import office, tricks


def test_olevba_reads_only_the_source_of_the_stomped_project() -> None:
    parser = olevba.VBA_Parser("sample", data=tricks.stomped_doc(), disable_pcode=True)
    (source,) = (code.replace("\r\n", "\n") for *_, code in parser.extract_macros())
    parser.close()
    assert source.endswith(office.HARMLESS_SOURCE)
    assert "no-such-program" not in source


def test_rtfobj_finds_the_package_and_its_name() -> None:
    parser = rtfobj.RtfObjParser(tricks.package_rtf("report.exe"))
    parser.parse()
    (one,) = parser.objects
    assert one.is_package
    assert one.filename == "report.exe"
    assert one.olepkgdata == b"harmless"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (tricks.xlm_xls(110, start=True), "xls"), (tricks.dde_xls(), "xls"), (tricks.equation_doc(), "doc"),
        (tricks.template_doc(), "doc"), (tricks.url_link_doc(), "doc"), (tricks.package_rtf(), "rtf"),
        (tricks.shortcut(), "lnk"),
    ],
)  # fmt: skip
def test_each_sample_has_its_type(data: bytes, kind: str) -> None:
    assert identify(data) == kind


def test_compound_files_have_no_faults_that_olefile_sees() -> None:
    for data in (tricks.xlm_xls(), tricks.equation_doc(), tricks.template_doc(), tricks.stomped_doc()):
        with olefile.OleFileIO(io.BytesIO(data)) as ole:
            assert ole.parsing_issues == []

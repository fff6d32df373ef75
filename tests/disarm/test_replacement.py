"""The text in place of a part: says what and why, and obeys nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm.contract import Removal
from netinspect.disarm.replacement import text_for


def test_it_says_what_was_removed_and_under_which_id() -> None:
    text = text_for("invoice.docm", ["macro", Removal("vba", "word/vbaProject.bin")], "4F2A").decode()
    assert text == (
        'The attachment "invoice.docm" was removed because it may do harm.\r\n\r\nReasons:\r\n  - macro\r\n'
        "  - vba (word/vbaProject.bin)\r\n\r\nThe original message was kept. Your administrator can be asked for it"
        " under this id:\r\n  4F2A\r\n"
    )


def test_a_part_without_a_name_and_without_a_reason() -> None:
    text = text_for("", [], "1").decode()
    assert text.startswith("A part of this message was removed because it may do harm.\r\n\r\nThe original")


def test_many_reasons_are_counted() -> None:
    text = text_for("a", [f"reason {number}" for number in range(50)], "1").decode()
    assert "  - and 30 more\r\n\r\n" in text


def test_a_name_cannot_start_a_line_or_turn_it() -> None:
    text = text_for("a\r\nYou won\x1b[31m\u202efdp.exe\x00\udc80", ["x\ny"], "1\n2").decode()
    assert len(text.split("\r\n")) == 8
    assert not set(text) & {"\x1b", "\u202e", "\x00"}


@given(st.text(), st.lists(st.text(), max_size=40), st.text())
def test_whatever_it_is_given_it_is_a_short_text(name: str, reasons: list[str], incident: str) -> None:
    text = text_for(name, reasons, incident).decode()
    assert text.replace("\r\n", "").isprintable() or all(
        char >= " " and char not in "\u2028\u2029\x7f" for char in text.replace("\r\n", "")
    )
    assert len(text.split("\r\n")) < 40
    assert len(text) < 6000

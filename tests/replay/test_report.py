"""The report without a browser: what stands in it, that nothing of a mail becomes markup, that it stays bounded."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.anomaly import Anomaly
from netinspect.errors import EnvironmentFault
from netinspect.files.artifact import Artifact, Hashes
from netinspect.policy import Coverage, Decision, EnvelopeFacts, Facts, MailFacts, SessionFacts, Skipped
from netinspect.records import Record, serialize, transaction_records
from netinspect.replay.report import Report, digest
from netinspect.replay.report.page import address, endpoint, number, octets, percent
from netinspect.replay.report.timeline import BARS, Histogram
from netinspect.replay.report.visible import visible
from netinspect.scan.contract import EngineState, Finding, Unscanned

NOW = datetime(2026, 11, 22, 5, 0, 0, 123456, tzinfo=UTC)
SESSION = SessionFacts("external", "198.51.100.9", 40000, "192.0.2.1", 25, flow_id=42, helo="mx.example.net")
ZIP = Artifact(Hashes("aa" * 32, "bb", "cc"), 100, "zip", "1.2", name="bill.zip")
MEMBER = Artifact(Hashes("dd" * 32, "ee", "ff"), 68, "data", "1.2/x/eicar.com", "eicar.com", "", "aa" * 32, "TRUNCATED")
FACTS = Facts(
    SESSION,
    EnvelopeFacts("a@example.net", ("b@example.org", "c@example.org")),
    MailFacts("A <a@example.net>", ("b@example.org",), "Bücher", "<1@example.net>", ("bill.zip",)),
    artifacts=(ZIP, MEMBER),
    findings=(Finding("clamd", "Eicar-Test-Signature", "malware", 1, "dd" * 32), Finding("names", "Two", "spoof", 3)),
    unscanned=(Unscanned("office", "timeout"),),
    anomalies=(Anomaly("base64_rubbish", "mime", 7, "x"),),
    coverage=Coverage(2, 168, 2, 168, 1, 100, (Skipped("1.2/x/eicar.com", "office: timeout"),)),
    engines=(EngineState("clamd", "1.4.3", "27459", 2),),
)
CLEAN = Facts(SESSION, FACTS.envelope, FACTS.mail, coverage=Coverage(1, 5, 1, 5, 1, 5))
REFUSED = Decision("reject", "malware: clamd Eicar", 550, "5.7.1", "Message refused (id {id})", ("malware",))
ACCEPTED = Decision("accept")

hostile = st.text(st.characters(), max_size=40) | st.sampled_from(
    [
        '"><script>alert(1)</script>',
        "<!-- mails -->",
        "' onload=x y='",
        "</style><b>",
        "&lt;i&gt;",
        "{{ 7*7 }}",
        "\udcff\x00",
    ]
)


def made(facts: Facts = FACTS, decision: Decision = REFUSED, late: float = 0, **rest: Any) -> list[Record]:
    return transaction_records(facts, decision, now=NOW + timedelta(seconds=late), incident_id="4f2c", **rest)


def page(report: Report, folder: Path) -> str:
    path = folder / "report.html"
    report.write(str(path), now=NOW, version="1.2.3")
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Elements with their attributes, and the text of all but styles and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self.comments: list[str] = []
        self._in = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        if self._in in self.raw:
            self.raw[self._in].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


# --- text from mails --------------------------------------------------------------------------------------------------


@given(hostile)
def test_what_is_shown_of_a_text_is_printable_and_opens_no_element(text: str) -> None:
    shown = Reader(visible(text))
    assert {tag for tag, _ in shown.elements} <= {"bdi", "b"}
    assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in shown.text)


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=60))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    empty = "\u115f\u1160\u3164\uffa0\u2800"  # drawn as nothing
    assert Reader(visible(text)).text == "".join(f"U+{ord(char):04X}" if char in empty else char for char in text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpj\u202eexe", "gpjU+202Eexe"),
        ("a\x1b[31m", "aU+001B[31m"),
        ("\u200bx\ufeff", "U+200BxU+FEFF"),
        ("\udc80", "U+DC80"),
        ("bill.pdf" + " " * 40 + ".exe", "bill.pdf40 blanks.exe"),
        ("bill\u00a0\u00a0\u2003.exe", "bill3 blanks.exe"),
        ("12\u00a0€", "12\u00a0€"),
        ("e\u0301\u0302\u0303\u0304", "e\u0301\u0302U+0303U+0304"),
        ("x" * 400, "x" * 300 + " 100 more characters"),
    ],
)
def test_what_hides_moves_or_turns_is_made_visible(text: str, shown: str) -> None:
    assert Reader(visible(text)).text == shown


@given(st.lists(hostile, min_size=12, max_size=12))
def test_nothing_from_a_mail_becomes_markup(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    read = Reader(_with_texts(tmp_path_factory.getbasetemp(), texts))
    # The marks for what cannot be seen are all that a text may add.
    known = _shapes(Reader(_harmless(tmp_path_factory.getbasetemp())))
    assert _shapes(read) - {("b", ("class",)), ("bdi", ())} <= known
    assert len(read.raw["script"]) == len(read.raw["style"]) == 1
    assert read.comments == []


def _shapes(read: Reader) -> set[tuple[str, tuple[str, ...]]]:
    """Each element with the names of its attributes."""
    return {(tag, tuple(attrs)) for tag, attrs in read.elements}


@functools.cache
def _harmless(folder: Path) -> str:
    return _with_texts(folder, [f"text{count}" for count in range(12)])


def _with_texts(folder: Path, texts: list[str]) -> str:
    helo, sender, recipient, from_, subject, message_id, *others = ("x" + one for one in texts)
    name, path, detail, reason, capture, event = others
    facts = replace(
        FACTS,
        session=replace(SESSION, helo=helo),
        envelope=EnvelopeFacts(sender, (recipient, recipient)),
        mail=MailFacts(from_, (recipient,), subject, message_id, (name,)),
        artifacts=(replace(ZIP, name=name, path=path),),
        findings=(Finding(detail, reason, "malware", 1, ZIP.hashes.sha256, detail), Finding(name, name, "spoof", 2)),
        unscanned=(Unscanned(detail, reason),),
        anomalies=(Anomaly(event, "mime", 7, detail),),
        coverage=Coverage(1, 1, 1, 1, 0, 0, (Skipped(path, reason),)),
        engines=(EngineState(detail, reason, event, 2),),
    )
    report = Report()
    report.add_records(made(facts, replace(REFUSED, reason=reason, rules=(detail,)), reply=reason), capture=capture)
    report.add_capture(capture, 5, [Anomaly(event, "tcp", 1, detail)])
    return page(report, folder)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
def test_records_of_any_shape_are_read(data: st.DataObject) -> None:
    records = [dict(record) for record in made()]
    for record in records:
        place = data.draw(st.sampled_from([record, cast("dict[str, Any]", record.get(record["event_type"], record))]))
        place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_value)
    report = Report()
    report.add_records(records)


# --- what stands in it ------------------------------------------------------------------------------------------------


def test_a_refused_mail_stands_in_it_with_all_its_evidence(tmp_path: Path) -> None:
    report = Report()
    report.add_records(made(reply="550 5.7.1 Message refused (id 4f2c)"), capture="monday.pcap")
    text = Reader(page(report, tmp_path)).text
    for expected in (
        "1 of 1 mail was stopped", "a@example.net", "b@example.org", "and 1 more", "Bücher", "bill.zip", "eicar.com",
        "dd" * 32, "at 1.2/x/eicar.com", "cut short", "Eicar-Test-Signature", "office: timeout", "base64_rubbish",
        "4f2c", "clamd 1.4.3", "550 5.7.1 Message refused (id 4f2c)", "198.51.100.9:40000 → 192.0.2.1:25",
        "mx.example.net", "monday.pcap", "59.5 %",
    ):  # fmt: skip
        assert expected in text


def test_members_stand_below_what_holds_them_and_findings_beside_their_file() -> None:
    mail = digest.read(made())
    roots, loose = digest.tree(mail)
    assert [(one.path, [child.path for child in one.children]) for one in roots] == [("1.2", ["1.2/x/eicar.com"])]
    assert [alert.signature for alert in roots[0].children[0].alerts] == ["Eicar-Test-Signature"]
    assert roots[0].children[0].skipped == "office: timeout"
    assert [alert.signature for alert in loose] == ["Two"]


def test_what_was_not_looked_at_is_never_counted_as_harmless(tmp_path: Path) -> None:
    report = Report()
    report.add_records(made(CLEAN, ACCEPTED))
    report.add_records(made(replace(CLEAN, unscanned=(Unscanned("replay", "gap"),)), ACCEPTED, 1, tx_id=1))
    text = Reader(page(report, tmp_path)).text
    assert "1 was accepted, wholly looked at" in text
    assert "Of 1 not all could be looked at" in text


def test_transactions_of_one_connection_are_one_session(tmp_path: Path) -> None:
    report = Report()
    for tx_id, connection in ((1, 10), (2, 10), (1, 99)):  # the third uses the port again
        report.add_records(made(CLEAN, ACCEPTED, tx_id=tx_id), connection=connection)
    entries = [attrs for tag, attrs in Reader(page(report, tmp_path)).elements if tag == "li" and "data-s" in attrs]
    assert [entry["data-s"] for entry in entries] == ["1", "1", "2"]


def test_mails_of_a_session_stand_together_though_others_came_between(tmp_path: Path) -> None:
    report = Report()
    other = replace(CLEAN, session=replace(SESSION, flow_id=7))
    for facts, tx_id in ((CLEAN, 1), (other, 1), (CLEAN, 2)):
        report.add_records(made(facts, ACCEPTED, tx_id=tx_id))
    entries = [attrs for tag, attrs in Reader(page(report, tmp_path)).elements if tag == "li" and "data-s" in attrs]
    assert [entry["id"] for entry in entries] == ["m1", "m3", "m2"]


def test_a_session_without_a_transaction_has_an_entry(tmp_path: Path) -> None:
    report = Report()
    report.add_records(made(Facts(SESSION, unscanned=(Unscanned("replay", "encrypted"),)), ACCEPTED))
    text = Reader(page(report, tmp_path)).text
    assert "no transaction" in text
    assert "replay: encrypted" in text


def test_what_another_policy_says_stands_beside_the_verdict(tmp_path: Path) -> None:
    records = made(CLEAN, ACCEPTED)
    records[-1]["verdict"] |= {"changed": True, "other": {"action": "reject", "reason": "too strict"}}
    report = Report()
    report.add_records(records)
    text = Reader(page(report, tmp_path)).text
    assert "other policy: reject" in text
    assert "reject: too strict" in text
    assert "Another policy would decide differently about 1." in text


def test_what_is_wrong_with_a_capture_is_no_verdict(tmp_path: Path) -> None:
    anomaly = {"type": "decode", "layer": "capture", "event": "block_truncated", "offset": 0, "detail": "at 77"}
    report = Report()
    report.add_records([{"event_type": "anomaly", "anomaly": anomaly}], capture="torn.pcap")
    text = Reader(page(report, tmp_path)).text
    assert "No mail was found" in text
    assert "block truncated at 77" in text


def test_a_transaction_that_was_reset_has_no_verdict_and_is_not_counted_as_accepted(tmp_path: Path) -> None:
    report = Report()
    report.add_records(transaction_records(replace(CLEAN, mail=None), None, now=NOW))
    text = Reader(page(report, tmp_path)).text
    assert "0 were accepted" in text
    assert "reset" in text


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    report = Report()
    report.add_capture("empty.pcap", 24, [Anomaly("truncated", "tcp", 24)] * 30)
    text = Reader(page(report, tmp_path)).text
    assert "No mail was found" in text
    assert "empty.pcap" in text
    assert "10 more" in text


def test_a_file_of_events_gives_the_same_entries_as_the_replay(tmp_path: Path) -> None:
    direct, read = Report(), Report()
    lines: list[bytes] = [b"\xff no record\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\n"]
    for count in range(5):
        records = made(late=count, tx_id=count)
        direct.add_records(records)
        lines += serialize(records).splitlines(keepends=True)
    reset = transaction_records(CLEAN, None, now=NOW, tx_id=9)
    direct.add_records(reset)
    read.add_events([*lines, *serialize(reset).splitlines()])
    assert read.unreadable == 3
    read.unreadable = 0
    assert page(read, tmp_path) == page(direct, tmp_path)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_where_not_all_fit_the_least_telling_are_left_out_and_counted(tmp_path: Path) -> None:
    report = Report(mails=3)
    for count in range(10):
        clean = count % 5 != 4
        report.add_records(made(CLEAN if clean else FACTS, ACCEPTED if clean else REFUSED, count, tx_id=count))
    read = Reader(page(report, tmp_path))
    assert [attrs["id"] for tag, attrs in read.elements if tag == "li" and "data-s" in attrs] == ["m1", "m5", "m10"]
    assert report.left_out == 7
    assert "shows 3 of 10 verdicts" in read.text
    assert "2 of 10 mails were stopped" in read.text


def test_the_page_has_a_size_that_it_keeps_to(tmp_path: Path) -> None:
    report = Report(octets=50_000)
    wide = replace(FACTS, artifacts=(ZIP,) * 5000, findings=FACTS.findings * 500, anomalies=FACTS.anomalies * 500)
    for count in range(30):
        report.add_records(made(wide, REFUSED, count))
    assert 0 < report.left_out < 30
    assert len(page(report, tmp_path)) < 50_000 + 80_000  # the page without entries


def test_an_ordinary_entry_is_small_enough_for_ten_thousand(tmp_path: Path) -> None:
    empty = len(page(Report(), tmp_path))
    report = Report()
    for count in range(100):
        report.add_records(made(late=count, tx_id=count), capture="monday.pcap")
    assert (len(page(report, tmp_path)) - empty) / 100 < 2500


@given(
    st.lists(st.tuples(st.integers(0, 253_402_300_799_999), st.sampled_from(digest.ACTIONS)), min_size=1, max_size=60)
)
def test_the_timeline_counts_everything_once_however_long_it_is(times: list[tuple[int, str]]) -> None:
    histogram = Histogram()
    for time, action in times:
        histogram.count(time, action)
    chart = histogram.chart([(time, count + 1) for count, (time, _) in enumerate(times)])
    assert sum(bar.total for bar in chart.bars) == len(times)
    assert len(chart.bars) <= BARS + 8
    assert all((bar.first > 0) == (bar.total > 0) for bar in chart.bars)


def test_a_long_timeline_gets_coarser_and_loses_nothing() -> None:
    histogram = Histogram()
    for count in range(20_000):
        histogram.count(1_700_000_000_000 + count * 977, "accept")
    chart = histogram.chart([])
    assert sum(bar.total for bar in chart.bars) == 20_000
    assert chart.unit == "5 minutes"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_nothing_and_allows_only_its_own_style_and_script(tmp_path: Path) -> None:
    report = Report()
    report.add_records(made())
    read = Reader(page(report, tmp_path))
    policy = next(attrs["content"] or "" for tag, attrs in read.elements if attrs.get("http-equiv"))
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        known = base64.b64encode(hashlib.sha256(read.raw[tag][0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{known}'" in policy
    for tag, attrs in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert not {"src", "style", "srcset", "action"} & attrs.keys()
        assert not any(name.startswith("on") for name in attrs)
        assert re.fullmatch(r"#[a-z]+\d*", attrs.get("href") or "#a")


def test_the_same_verdicts_give_the_same_page(tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        report = Report(mails=4)
        for count in range(9):
            report.add_records(made(CLEAN, ACCEPTED, count, tx_id=count))
        pages.append(page(report, tmp_path))
    assert pages[0] == pages[1]


def test_a_report_replaces_an_older_one_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old")
    assert "No mail was found" in page(Report(), tmp_path)
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "real.html").write_text("old")
    (tmp_path / "report.html").symlink_to("real.html")
    page(Report(), tmp_path)
    assert (tmp_path / "report.html").is_symlink()
    assert "No mail" in (tmp_path / "real.html").read_text()
    Report().write("/dev/null", now=NOW, version="1")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        page(Report(), tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]
    monkeypatch.undo()
    with pytest.raises(EnvironmentFault) as error:
        Report().write(str(tmp_path / "no" / "folder" / "x.html"), now=NOW, version="1")
    assert "\n" not in str(error.value)


def test_figures_are_written_for_people() -> None:
    assert [octets(size) for size in (0, 1023, 1024, 1_500_000, 1 << 42)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.4 MiB",
        "4.0 TiB",
    ]
    assert number(1_234_567) == "1\u202f234\u202f567"
    assert [percent(a, b) for a, b in ((1, 1), (0, 0), (99_999, 100_000), (1, 100_000), (0, 5))] == [
        "100 %", "100 %", "99.9 %", "< 0.1 %", "0.0 %",
    ]  # fmt: skip
    assert (endpoint("192.0.2.1", 25), endpoint("2001:db8::1", 25)) == ("192.0.2.1:25", "[2001:db8::1]:25")
    assert [address(one) for one in ("<a@b>", "<>", "", "x")] == ["a@b", "<>", "<>", "x"]

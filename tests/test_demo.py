"""The demo: every session comes out as it should, the table fits a terminal, and a fault is seen."""

from __future__ import annotations

import io

import pytest

from netinspect import demo
from netinspect.demo import WIDTH, Case, Outcome, cases
from netinspect.demo_server import DemoServer, Heard
from netinspect.errors import EnvironmentFault


@pytest.fixture(scope="module")
def shown() -> tuple[int, str]:
    out = io.StringIO()
    return demo.run(out), out.getvalue()


def test_all_sessions_come_out_as_they_should(shown: tuple[int, str]) -> None:
    code, text = shown
    assert code == 0, text
    assert text.count("\nok  ") == len(cases())
    assert "All as it should be" in text


def test_the_table_fits_into_80_columns(shown: tuple[int, str]) -> None:
    assert max(len(line) for line in shown[1].splitlines()) <= WIDTH


def test_the_table_names_what_each_session_was_told_and_which_rule_decided(shown: tuple[int, str]) -> None:
    lines = shown[1].splitlines()
    for case in cases():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"ok  {case.title}")]
        assert (case.rule or "(none: clean)") in lines[at]
        assert lines[at + 1].startswith(f"    {case.zone}: {case.code} ")


def test_a_session_that_came_out_wrong_is_marked_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [Case("a case that cannot be", "external", demo.OUTSIDER, b"Subject: x\r\n\r\nx\r\n", 550, 0, "malware")]
    monkeypatch.setattr(demo, "cases", lambda: wrong)
    out = io.StringIO()
    assert demo.run(out) == 1
    assert "\nNO  a case that cannot be" in out.getvalue()
    assert "NOT as it should be: a case that cannot be" in out.getvalue()


def test_a_mail_that_arrived_changed_is_not_called_byte_for_byte() -> None:
    out = io.StringIO()
    case = cases()[0]
    heard = Heard(["MAIL FROM:<x>"], [case.message + b"more"])
    demo._table([(case, Outcome("250 Ok", heard, "default", 1.0, False))], out)
    assert "byte for byte" not in out.getvalue()
    assert "another mail" in out.getvalue()


def test_a_gateway_that_does_not_start_is_one_error_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_config", lambda *_: "[nonsense]\n")
    with pytest.raises(EnvironmentFault, match=r'did not start: .*no table "nonsense".*; see `netinspect'):
        demo.run(io.StringIO())


def test_a_gateway_that_dies_in_a_session_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start = demo._start

    def start_and_kill(config: object) -> object:
        process = start(config)  # type: ignore[arg-type]
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(demo, "_start", start_and_kill)
    with pytest.raises(EnvironmentFault, match="a session broke off"):
        demo.run(io.StringIO())


def test_the_server_can_be_left_at_once() -> None:
    for _ in range(3):
        with DemoServer() as server:
            assert server.port

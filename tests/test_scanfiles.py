"""`netinspect scan`: what a file is judged as, what is printed, and what the exit code says."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from netinspect import cli, scanfiles
from netinspect.config import load
from netinspect.samples import mails
from netinspect.samples.archives import make_zip
from netinspect.samples.office import macro_doc, macro_docm, plain_docx
from netinspect.scanfiles import FAILED, FINE, FOUND, Failure, files, looks_like_mail, printable, run

CLEAN = b"From: a@outside.example\r\nSubject: hello\r\n\r\nA plain text.\r\n"
PLAIN_MACRO = macro_doc("Sub Total()\n  Range(1).Value = 2\nEnd Sub\n")


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NETINSPECT_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def put(name: str, data: bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


def scan(*names: str, settings: str = "", as_json: bool = False) -> tuple[int, str, str]:
    """Exit code, what stands on standard output, what stands on stderr."""
    out, err = io.StringIO(), io.StringIO()
    Path("netinspect.toml").write_text(settings or "[scan]\nworkers = 1\n")
    code = run(load(Path("netinspect.toml")), names, as_json=as_json, out=out, err=err)
    return code, out.getvalue(), err.getvalue()


def records(*names: str, settings: str = "") -> tuple[int, list[dict[str, Any]]]:
    code, out, _ = scan(*names, settings=settings, as_json=True)
    return code, [json.loads(line) for line in out.splitlines()]


def test_each_file_gets_one_verdict_and_its_name_on_every_record() -> None:
    names = [
        put("clean.eml", CLEAN), put("eicar.eml", mails.eicar_mail()), put("macro.doc", PLAIN_MACRO),
        put("note.txt", b"a text"), put("empty", b""),
    ]  # fmt: skip
    code, found = records(*names)
    verdicts = {record["file"]: record["verdict"]["action"] for record in found if record["event_type"] == "verdict"}
    assert verdicts == {
        "clean.eml": "accept", "eicar.eml": "reject", "macro.doc": "tag", "note.txt": "accept", "empty": "accept"
    }  # fmt: skip
    assert Counter(record["event_type"] for record in found)["verdict"] == len(names)
    assert {record["file"] for record in found} == set(names)
    assert code == FOUND


def test_a_file_that_is_no_mail_is_its_only_artifact() -> None:
    _, found = records(put("note.txt", b"a text"))
    (info,) = [record["fileinfo"] for record in found if record["event_type"] == "fileinfo"]
    assert (info["filename"], info["size"], info["path"], info["state"]) == ("note.txt", 6, "1", "CLOSED")


DISARM = """
[scan]
workers = 1
[quarantine]
directory = "/nowhere"
[[policy.rule]]
name = "macros"
when = { category = ["macro", "banned-type"] }
action = "disarm"
"""


def test_what_disarming_would_remove_is_shown_and_on_record() -> None:
    put("a.docm", macro_docm("Sub Total()\n  Range(1).Value = 2\nEnd Sub\n"))
    put("setup.exe", b"MZ" + bytes(100))
    put("macro.eml", mails.macro_mail())
    _, out, _ = scan("a.docm", "setup.exe", settings=DISARM)
    assert "  - 1 a.docm: disarmed\n      vba: word/vbaProject.bin\n" in out
    assert "  - 1 setup.exe: replaced by a text (file: " in out
    _, found = records("a.docm", "macro.eml", settings=DISARM)
    lone, mail = (record["verdict"] for record in found if record["event_type"] == "verdict")
    assert (lone["action"], mail["action"]) == ("disarm", "disarm")
    assert lone["disarm"][0]["removed"] == ["vba: word/vbaProject.bin"]
    assert [entry["replaced"] for entry in mail["disarm"]] == [False]


def test_the_order_is_that_of_the_arguments_whoever_is_ready_first() -> None:
    names = [put(f"{n:02}.txt", b"x" * (3_000_000 if n % 5 == 0 else n)) for n in range(30)]
    code, out, _ = scan(*names)
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == names
    assert code == FINE


def test_a_folder_is_walked_in_order_and_pipes_in_it_are_left_alone() -> None:
    expected = [put("in/a.txt", b"1"), put("in/b/c.eml", CLEAN), put("in/b/d", b"2"), put("in/e/f.txt", b"3")]
    os.mkfifo("in/pipe")
    os.symlink("../in", "in/loop")
    code, out, _ = scan("in")
    shown = [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert shown == [expected[0], *expected[1:]]
    assert code == FINE


def test_a_folder_that_is_empty_is_fine_and_says_nothing() -> None:
    Path("empty").mkdir()
    assert scan("empty") == (FINE, "", "")


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_judged() -> None:
    code, out, err = scan(put("one.txt", b"1"), "none.txt", "/proc/self/mem", put("two.txt", b"2"))
    assert code == FAILED
    assert err == (
        "netinspect: none.txt: No such file or directory\nnetinspect: /proc/self/mem: Input/output error\n"
    )
    assert [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")] == ["one.txt", "two.txt"]


def test_a_folder_that_cannot_be_read_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    put("in/a.txt", b"1")

    def refuse(top: str, onerror: Any) -> Any:
        onerror(PermissionError(13, "Permission denied", top))
        return iter(())

    monkeypatch.setattr(os, "walk", refuse)
    assert list(files(["in"])) == [Failure("in", "Permission denied")]


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("clean.eml", CLEAN, FINE),
        ("plain.docx", plain_docx(), FINE),
        ("macro.doc", PLAIN_MACRO, FOUND),
        ("eicar.eml", mails.eicar_mail(), FOUND),
        ("damaged.zip", make_zip({"a.txt": b"text" * 100})[:60], FOUND),
    ],
)
def test_the_exit_code_says_whether_something_was_found(name: str, data: bytes, code: int) -> None:
    assert scan(put(name, data))[0] == code


def test_a_finding_for_information_alone_is_no_reason_for_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    put("rules/info.yar", b'rule Letterhead { meta: category = "embedded-object" severity = 3 strings: $a = "ACME Ltd"'
        b" condition: $a }")  # fmt: skip
    settings = '[scan]\nworkers = 1\nrules_dir = "rules"\n'
    code, found = records(put("letter.txt", b"from ACME Ltd, with regards"), settings=settings)
    (alert,) = [record["alert"] for record in found if record["event_type"] == "alert"]
    assert alert["severity"] == 3
    assert code == FINE


def test_an_engine_that_gives_no_answer_is_no_clean_file() -> None:
    code, out, _ = scan(put("a.txt", b"1"), settings='[scan]\nclamd = "unix:/nowhere/clamd"\nworkers = 1\n')
    assert code == FOUND
    assert out.startswith("a.txt: tempfail (clamd: ")
    assert out.count("not looked at: clamd") == 1


@pytest.mark.parametrize("name", ["big.eml", "big.bin"])
def test_a_file_above_the_size_of_a_message_is_refused_unread(name: str) -> None:
    code, found = records(put(name, CLEAN + b"x" * 2_000_000), settings="[limits]\nmessage_size = 1000000\n")
    (verdict,) = [record["verdict"] for record in found if record["event_type"] == "verdict"]
    assert (verdict["action"], verdict["rules"]) == ("reject", ["limits"])
    assert "larger than message_size (1000000 octets)" in verdict["unscanned"][0]
    assert code == FOUND


def test_what_never_ends_is_read_up_to_the_limit() -> None:
    assert scan("/dev/zero", settings="[limits]\nmessage_size = 1000000\n")[0] == FOUND


def test_a_big_file_is_not_held_in_memory() -> None:
    """40 MB, and a process that may grow by much less."""
    with open("big.eml", "wb") as file:
        file.write(CLEAN)
        for _ in range(40):
            file.write(b"x" * 70 + b"\r\n" + (b"y" * 98 + b"\r\n") * 10_485)
    program = """
import resource, sys
from netinspect.cli import main
code = main(["scan", "small.eml"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code += main(["scan", "big.eml"])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, file=sys.stderr)
sys.exit(code)
"""
    put("small.eml", CLEAN)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == FINE, done.stdout + done.stderr
    assert int(done.stderr) < 30, "MiB"


def test_an_mbox_of_several_mails_is_not_clean_by_its_first() -> None:
    mark = b"From a@b.example Sun Nov 22 05:00:00 2026\r\n"
    code, found = records(put("two.mbox", mark + CLEAN + b"\r\n" + mark + CLEAN))
    (verdict,) = [record["verdict"] for record in found if record["event_type"] == "verdict"]
    assert verdict["action"] == "tempfail"
    assert "mbox" in verdict["unscanned"][0]
    assert code == FOUND
    assert records(put("one.mbox", mark + CLEAN + b"\r\nFrom Monday on at 12:30\r\n"))[0] == FINE


def test_an_mbox_is_counted_across_the_pieces_it_is_read_in() -> None:
    mark = b"From a@b.example Sun Nov 22 05:00:00 2026\n"
    for before in range(scanfiles.PIECE - 60, scanfiles.PIECE + 10, 7):
        data = mark + CLEAN + b"x" * (before - len(mark) - len(CLEAN)) + b"\n\n" + mark + b"Subject: 2\n\nx"
        pieces = scanfiles._Pieces(io.BytesIO(data[scanfiles.PIECE :]), data[: scanfiles.PIECE], 1 << 30)
        assert b"".join(pieces) == data
        assert pieces.mails == 2, before


def test_standard_input_is_a_file_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netinspect", "scan", "-"], input=mails.eicar_mail(), capture_output=True, check=False,
        timeout=60, env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == FOUND
    assert done.stdout.startswith(b"-: reject (malware: ")


def test_a_pipe_is_waited_for_alone_so_that_no_time_limit_runs_meanwhile() -> None:
    os.mkfifo("pipe")
    writer = threading.Timer(1.5, lambda: Path("pipe").write_bytes(b"late"))
    writer.start()
    first = put("first.doc", PLAIN_MACRO)
    code, out, _ = scan(first, "pipe", settings="[scan]\nworkers = 1\n[limits]\nworker_time = 1.0\nscan_time = 1.0\n")
    writer.join()
    assert "not looked at" not in out
    assert code == FOUND


def test_names_from_a_mail_cannot_write_lines_or_move_the_cursor() -> None:
    name = "x\x1b[2Jy\rz.txt"
    evil = b"Content-Type: text/plain; name*=utf-8''a%0Aother.eml%3A%20accept%1B%5B2J%E2%80%AEexe\r\n"
    head = b"MIME-Version: 1.0\r\n" + evil + b"Content-Disposition: attachment\r\n"
    code, out, _ = scan(put("m.eml", head + b"\r\nx"), put(name, b"text"))
    assert code in (FINE, FOUND)
    assert all(char.isprintable() or char == "\n" for char in out)
    assert [line for line in out.splitlines() if line.startswith("other.eml")] == []
    assert printable(name) == "x\\x1b[2Jy\\rz.txt"


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.eml", b"anything", True),
        ("A.EML", b"", True),
        ("a", b"Received: from x\r\n\tby y\r\nSubject: z\r\n", True),
        ("a", b"X-Foo: 1\r\nfrom: a@b\r\n\r\n", True),
        ("a", b"From a@b Sun Nov 22 05:00:00 2026\n", True),
        ("a", b"key: value\nother: value\n", False),
        ("a", b"PK\x03\x04: from:", False),
        ("a", b"", False),
    ],
)
def test_a_mail_is_known_by_its_name_or_its_header(name: str, head: bytes, expected: bool) -> None:
    assert looks_like_mail(name, head) is expected


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            return 2

    monkeypatch.setattr(scanfiles, "PROGRESS_AFTER", 0.0)
    monkeypatch.setattr(scanfiles, "PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((30, 20)))
    names = [put(f"a-file-with-a-name-of-some-length-{n}.txt", b"x") for n in range(5)]
    settings = load(Path(put("netinspect.toml", b"[scan]\nworkers = 1\n")))
    shown = Terminal()
    run(settings, names, as_json=False, out=io.StringIO(), err=shown)
    assert "5 files, a-file" in shown.getvalue()
    assert max(len(part) for part in shown.getvalue().replace("\x1b[K", "").split("\r")) < 30
    assert shown.getvalue().endswith("\r\x1b[K"), "nothing is left behind"
    plain = io.StringIO()
    run(settings, names, as_json=False, out=io.StringIO(), err=plain)
    assert plain.getvalue() == ""

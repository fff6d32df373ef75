"""The corpus target: which subfolders, what is read of the scorer's lines, and what is good enough."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import corpus as target
from tests.bench import files
from tests.bench.corpus import Score
from tests.bench.peers import BenchError
from tests.scan.eicar import EICAR

SCORER = """
import subprocess, sys, shlex
folder, passed = sys.argv[1], sys.argv[sys.argv.index("--only") + 1].count("o")
command = shlex.split(sys.argv[sys.argv.index("--netinspect") + 1])
ran = subprocess.run([*command, "scan", "--json", folder + "/eml-one/virus.txt"], capture_output=True, text=True)
print("FAIL eml-one/a: clean expected" if '"malware"' in ran.stdout else "no scanner")
print(f"total          {passed}/2     1/1  bounded 3/3")
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name in ("eml-one", "eml-foo", "docs-bar", "pcap-x", "db"):
        (tmp_path / name).mkdir()
    (tmp_path / "eml-one" / "virus.txt").write_bytes(EICAR)
    (tmp_path / "docs-bar" / "a.doc").write_bytes(b"x")
    (tmp_path / "db" / "test.ndb").write_text(f"Test.Eicar:0:*:{EICAR.hex()}\n")
    cases = {"docs-bar/a.doc": {"clean": True}, "eml-one/virus.txt": {"not_clean": True}}
    lines = [json.dumps({"id": name, "expect": expect}) + "\n" for name, expect in cases.items()]
    (tmp_path / "cases.jsonl").write_text("".join(lines))
    (tmp_path / "score.py").write_text(SCORER)
    return tmp_path


def test_the_scorer_runs_for_each_chosen_subfolder_with_a_scanner(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert target.run(corpus, corpus / "score.py", ["eml-*"], 75, 1)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["FAIL", "eml-foo", "FAIL", "eml-one", "all"]
    assert out[-1].split() == ["all", "3/4", "real", "(", "75.0", "%)", "2/2", "controls"]
    assert not target.run(corpus, corpus / "score.py", ["eml-*"], 76, 1)


def test_a_missed_control_is_not_good_enough() -> None:
    assert Score(10, 10, 3, 3).good(97)
    assert not Score(10, 10, 2, 3).good(97)
    assert not Score(96, 100, 3, 3).good(97)


@pytest.mark.parametrize("wrong", ["cases.jsonl", "score.py"])
def test_what_is_missing_is_named(corpus: Path, wrong: str) -> None:
    (corpus / wrong).unlink()
    with pytest.raises(BenchError, match="make corpus DIR="):
        target.run(corpus, corpus / "score.py", ["*"], 0, 1)


def test_a_scorer_that_says_nothing_is_an_error(corpus: Path) -> None:
    (corpus / "score.py").write_text("print('hm')")
    with pytest.raises(BenchError, match="no line of totals: hm"):
        target.score(corpus, corpus / "score.py", "eml-one", [sys.executable], 1)


def test_benign_files_are_those_that_the_corpus_says_are_clean(corpus: Path) -> None:
    assert files.benign(corpus) == [corpus / "docs-bar" / "a.doc"]
    assert files.benign(corpus / "eml-one") == [corpus / "eml-one" / "virus.txt"]


def test_documents_of_our_own_are_all_different_and_are_measured(tmp_path: Path) -> None:
    paths = files.own(tmp_path / "some", 4)
    assert len({path.read_bytes() for path in paths}) == 4
    (figure,) = files.documents(tmp_path, None, tmp_path / "some", 1)
    assert figure.value is not None
    assert figure.note.startswith("4 of some, 2 at a time, without clamd, 0 not accepted")


def test_the_memory_of_a_worker_is_measured() -> None:
    (figure,) = files.bombs(["zip"])
    assert figure.value is not None
    assert 20 < figure.value < 256

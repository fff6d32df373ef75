"""Plain texts are answered without a worker, and only where a worker would say the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from netinspect.limits import Limits
from netinspect.samples import archives, office
from netinspect.scan.examine import Examiner
from netinspect.scan.plaintext import MOST, PlainText
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine
from netinspect.spool import Spool, SpoolBudget


@dataclass
class Leaf:
    """A leaf as the MIME parser gives it."""

    data: bytes
    text: bool = True
    name: str = ""
    declared: str = "text/plain"
    path: str = "1"

    def __post_init__(self) -> None:
        self.content = Spool(Limits(), SpoolBudget(1 << 26))
        self.content.write(self.data)
        self.sha256 = hashlib.sha256(self.data).hexdigest()


@pytest.fixture(scope="module")
def rules() -> RuleEngine:
    return RuleEngine(load_sources(""))


@pytest.mark.parametrize("data", [b"Good morning,\r\nsee you.\r\n", b"\xc3\xa4" * 500, b"a line\n" * 5000])
def test_a_plain_text_gets_the_same_answer_as_from_a_worker(rules: RuleEngine, data: bytes) -> None:
    leaf = Leaf(data)
    answer = PlainText(rules).examine(leaf)
    examiner = Examiner(Limits(), rules, office=True)
    assert answer == examiner.examine(
        data, declared=leaf.declared, path=leaf.path, sha256=leaf.sha256, text=True
    )


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf(archives.eicar()),
        Leaf(b"text before " + archives.eicar_zip()),
        Leaf(office.melissa_doc()),
        Leaf(b"<html><body>x</body></html>"),
        Leaf(b"%PDF-1.5"),
        Leaf(b"", declared="text/plain"),
        Leaf(b"x" * (MOST + 1)),
        Leaf(b"hello", name="a.txt"),
        Leaf(b"hello", text=False),
        Leaf(b"hello", declared="text/html"),
        Leaf(b"\x00\x01\x02binary"),
    ],
    ids=["eicar", "zip", "doc", "html", "pdf", "empty", "large", "named", "attachment", "declared", "binary"],
)
def test_whatever_is_not_just_text_is_left_to_a_worker(rules: RuleEngine, leaf: Leaf) -> None:
    assert PlainText(rules).examine(leaf) is None

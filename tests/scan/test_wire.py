"""What a worker answers is believed only when every field can be what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.disarm.contract import Cleaned, Removal
from netinspect.limits import Limits
from netinspect.samples import archives, office
from netinspect.scan import wire
from netinspect.scan.examine import Examiner
from netinspect.scan.rulefiles import load_sources
from netinspect.scan.rules import RuleEngine

EXAMINER = Examiner(Limits(), RuleEngine(load_sources()))
EXAMPLES = [
    EXAMINER.examine(data, name="n\u00e4me \udc80", path="1")
    for data in (
        office.melissa_docm(),
        archives.eicar_zip(),
        archives.encrypted_zip(),
        b"text",
        b"GIF8" + archives.eicar_zip(),
    )
]


def answer(*examinations: Any, retire: Any = False) -> bytes:
    return b"".join(bytes(piece) for piece in wire.frame([retire, list(examinations)]))[wire.HEADER.size :]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_examination_survives_the_way(example: Any) -> None:
    sha256 = example.artifacts[0].hashes.sha256
    assert wire.read_answer(answer(wire.pack(example), retire=True), [sha256]) == (True, [example])


def test_an_answer_about_something_else_is_refused() -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(answer(wire.pack(EXAMPLES[0])), ["0" * 64])


@pytest.mark.parametrize("asked", [[], [""] * 2])
def test_another_number_of_answers_is_refused(asked: list[str]) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(answer(wire.pack(EXAMPLES[0])), asked)


def cleaned(value: Any) -> bytes:
    return b"".join(bytes(piece) for piece in wire.frame(value))[wire.HEADER.size :]


def test_a_cleaned_file_survives_the_way() -> None:
    file = Cleaned(b"octets", (Removal("vba", "word/vbaProject.bin"), Removal("n\u00e4me \udc80")))
    assert wire.read_cleaned(cleaned([True, wire.pack_cleaned(file)]), file.data) == (True, file)
    assert wire.read_cleaned(cleaned([False, wire.pack_reason("encrypted")]), b"") == (False, "encrypted")
    assert wire.read_cleaned(cleaned([False, ""]), b"") == (False, "no reason given")


def test_what_a_cleaner_lists_is_bounded_on_the_way() -> None:
    packed = wire.pack_cleaned(Cleaned(b"", tuple([Removal("w" * 999, "x" * 9999)] * 2000)))
    _, file = wire.read_cleaned(cleaned([False, packed]), b"")
    assert isinstance(file, Cleaned)
    assert len(file.removed) == wire.REMOVALS
    _, reason = wire.read_cleaned(cleaned([False, wire.pack_reason("y" * 9999)]), b"")
    assert isinstance(reason, str)


@pytest.mark.parametrize(
    "value",
    [
        None, 1, [], [False], [False, None], [False, {}], [False, 1], [False, [1]], [False, [[]]], [False, [["a"]]],
        [False, [["a", 1]]], [False, [[None, "b"]]], [False, [["a", "b", "c"]]], [False, [["a" * 65, "b"]]],
        [False, [["a", "b" * 301]]], [False, [["a", "b"]] * 1001], [False, "y" * 301], [False, "reason", 1],
    ],
)  # fmt: skip
def test_a_cleaned_file_that_cannot_be_is_refused(value: Any) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_cleaned(cleaned(value), b"")


def test_a_reason_has_no_octets() -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_cleaned(cleaned([False, "encrypted"]), b"x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(st.binary(max_size=60) | JSON.map(cleaned), st.binary(max_size=9))
def test_any_answer_about_a_cleaned_file_is_one_or_is_refused(text: bytes, octets: bytes) -> None:
    try:
        retire, file = wire.read_cleaned(text, octets)
    except wire.BadAnswer:
        return
    assert type(retire) is bool
    assert isinstance(file, str) or (type(file) is Cleaned and file.data == octets)
    if isinstance(file, Cleaned):
        assert all(type(one.what) is type(one.where) is str for one in file.removed)


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"1", b"null", b"[]", b"[false,{}]", b"[false,[[]]]", b"[" * 100_000, b"\xff"]
)
def test_rubbish_is_refused(octets: bytes) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(octets, [""])


WRONG: list[tuple[int, int, Any]] = [
    (0, 0, "A" * 64), (0, 0, "zz" * 32), (0, 0, "ab " + "a" * 61), (0, 0, 5), (0, 1, "aa"), (0, 2, None), (0, 3, -1),
    (0, 3, 1.5), (0, 3, True), (0, 4, None), (0, 5, 1), (0, 6, []), (0, 7, {}), (0, 8, "x"), (0, 9, "OPEN"), (0, 10, 1),
    (1, 0, 1), (1, 1, None), (1, 2, "nonsense"), (1, 2, ["malware"]), (1, 3, 0), (1, 3, 4), (1, 3, "1"), (1, 4, "x"),
    (1, 5, 1), (2, 0, None), (2, 1, 1), (2, 2, "x"), (3, 0, 1), (3, 1, "ip"), (3, 2, "0"), (3, 3, None),
]  # fmt: skip


@pytest.mark.parametrize(("table", "field", "value"), WRONG)
def test_a_field_that_cannot_be_is_refused(table: int, field: int, value: Any) -> None:
    sha = "a" * 64
    packed: list[list[list[Any]]] = [
        [[sha, "b" * 40, "c" * 32, 1, "text", "1", "", "", "", "CLOSED", True]],
        [["rules", "X", "malware", 1, sha, ""]],
        [["files", "encrypted", sha]],
        [["bare_lf", "file", 0, ""]],
    ]
    wire.read_answer(answer(packed), [sha])
    packed[table][0][field] = value
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(answer(packed), [""])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_any_json_is_refused_and_raises_nothing_else(value: Any) -> None:
    with pytest.raises(wire.BadAnswer):
        wire.read_answer(json.dumps([False, [value]]).encode(), [""])

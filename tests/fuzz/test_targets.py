"""The fuzz targets hold for their seeds, for changed seeds and for anything; `make fuzz` looks longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_pass(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=8)), min_size=1, max_size=12)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_changed_seeds_pass(name: str, data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(SEEDS[name])))
    for place, gone, come in data.draw(CHANGES):
        at = place % (len(raw) + 1)
        raw[at : at + gone] = come
    TARGETS[name](bytes(raw))


@pytest.mark.parametrize("name", TARGETS)
@given(raw=st.binary(max_size=1000))
def test_any_octets_pass(name: str, raw: bytes) -> None:
    TARGETS[name](raw)

"""Fuzz target of disarm: any octets give a file of which nothing is left to take out, or the word that it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netinspect.disarm.clean import clean
from netinspect.disarm.contract import CannotClean
from netinspect.samples import tricks
from tests.fuzz import seeds
from tests.fuzz.unpackers import LIMITS


def disarm(data: bytes) -> None:
    """Clean by its true type; to clean what was cleaned changes nothing."""
    try:
        cleaned = clean(data, name="x", limits=LIMITS)
    except CannotClean:
        return
    if not cleaned.removed:
        assert cleaned.data == data
        return
    try:
        again = clean(cleaned.data, name="x", limits=LIMITS)
    except CannotClean:  # so little is left that it is no document of its kind any more
        return
    assert not again.removed, [(one.what, one.where) for one in again.removed]
    assert again.data == cleaned.data


SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "disarm": (
        *seeds.packages(), *(some[-1] for some in seeds.compounds().values()), *seeds.rtfs()[:3], *seeds.pdfs()[:3],
        *seeds.texts()["html"][:2], *seeds.texts()["svg"], tricks.xlm_xls(start=True), tricks.dde_xls(),
    ),
}  # fmt: skip
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {"disarm": disarm}

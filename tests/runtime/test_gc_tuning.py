"""How often garbage in cycles is looked for."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from assetwatchd.runtime.gc_tuning import COLLECT_AFTER, collect_seldom

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


@pytest.fixture
def looks() -> Iterator[list[str]]:
    """Every look for garbage since; afterwards it is looked for as often as before."""
    seen: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)


def test_seldom(looks: list[str]) -> None:
    """Thousands of new objects are made without a look, which Python would have at every 700."""
    collect_seldom()
    gc.collect()
    looks.clear()
    kept = [[number] for number in range(COLLECT_AFTER[0] // 2)]
    assert looks == []
    kept += [[number] for number in range(COLLECT_AFTER[0])]
    assert looks

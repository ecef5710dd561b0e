"""Faults that meet nobody have not struck: a run with one of them is void."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import aiohttp

from faults.catalogue import FAULTS, answering
from faults.rig.process import Server
from faults.rig.upstreams import OMN
from faults.rig.world import Plan, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

T = TypeVar("T")
UPSTREAM = [("F4-back", 0), ("F10", 0), ("F10-down", 0), ("F10-clock", 0), ("F11", 0), ("F11", 1), ("F11", 2)]
"""Faults of upstreams, and which of the things each chooses from."""


class Choosing(random.Random):
    """Chooses by place; the first where there are not so many."""

    def __init__(self, place: int) -> None:
        super().__init__(0)
        self._place = place

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]  # narrower, as the catalogue calls it
        """Return it."""
        return seq[self._place] if self._place < len(seq) else seq[0]


@asynccontextmanager
async def unasked(directory: Path) -> AsyncIterator[World]:
    """Give upstreams that nobody asks, and a server that does not run."""
    world = World(Plan(1), directory)
    world.server = Server({}, directory)
    await world.upstreams.start()
    try:
        yield world
    finally:
        await world.upstreams.stop()


async def test_a_fault_that_meets_nobody_has_not_fired(tmp_path: Path) -> None:
    """No request, no connection, no stamp, no process: nothing was struck."""

    async def fired(name: str, place: int) -> bool:
        async with unasked(tmp_path) as world:
            return (await FAULTS[name](world, Choosing(place))).fired

    cases = [("F3", 0), *UPSTREAM]
    found = await asyncio.gather(*[fired(name, place) for name, place in cases])
    assert [case for case, struck in zip(cases, found, strict=True) if struck] == []


async def test_an_answer_that_is_not_asked_for_has_not_fired(tmp_path: Path) -> None:
    """A request whose answer is not the one that is spoiled does not count; that one does."""

    async def fired(path: str) -> bool:
        async with unasked(tmp_path) as world, aiohttp.ClientSession(world.upstreams[OMN].url) as session:
            window, answer = await asyncio.gather(answering(world, OMN, "empty list", 0.2), session.get(path))
            answer.close()
            return window.fired

    assert not await fired("/status")
    assert await fired("/query")

"""An adapter of a term: asked while that lasts, and not once after its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import pytest

from assetwatchd.replicas.in_term import InTerm

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from assetwatchd.upstream.port import Notice, Upstream

pytestmark = pytest.mark.unit


class Asked:
    """An adapter that counts what it is asked for."""

    capabilities = None

    def __init__(self) -> None:
        self.calls: list[str] = []

    def check(self, asset_id: str) -> str | None:
        """Look at an id."""
        return f"{asset_id} is none"

    async def probe(self) -> None:
        """Count it."""
        self.calls.append("probe")

    async def observe(self, asset_ids: Sequence[str], _: object) -> Sequence[str]:
        """Count it."""
        self.calls.append("observe")
        return asset_ids

    async def enumerate(self) -> str:
        """Count it."""
        self.calls.append("enumerate")
        return "all"

    async def notices(self) -> AsyncGenerator[str]:
        """Count it."""
        self.calls.append("notices")
        yield "news"

    async def close(self) -> None:
        """Count it."""
        self.calls.append("close")


async def _news(adapter: InTerm) -> Notice:
    async with aclosing(adapter.notices()) as notices:
        return await anext(notices)


CALLS: dict[str, Callable[[InTerm], Awaitable[object]]] = {
    "probe": lambda adapter: adapter.probe(),
    "observe": lambda adapter: adapter.observe(["a"]),
    "enumerate": lambda adapter: adapter.enumerate(),
    "notices": _news,
}


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_is_asked_after_the_term(name: str) -> None:
    """Whatever goes on when a process wakes asks nobody, and is over when it is cancelled."""
    asked, lasts = Asked(), True
    adapter = InTerm(cast("Upstream", asked), lambda: lasts)
    await CALLS[name](adapter)
    assert asked.calls == [name]
    lasts = False
    late = asyncio.ensure_future(CALLS[name](adapter))
    await asyncio.wait([late], timeout=0.02)
    assert not late.done()
    assert asked.calls == [name]
    late.cancel()
    await asyncio.wait([late])
    assert late.cancelled()


async def test_ids_are_looked_at_and_it_is_closed_at_any_time() -> None:
    """Neither asks the upstream."""
    asked = Asked()
    adapter = InTerm(cast("Upstream", asked), lambda: False)
    assert adapter.check("a") == "a is none"
    await adapter.close()
    assert asked.calls == ["close"]

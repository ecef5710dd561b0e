"""An adapter that is asked only while its source is this process's to ask.

A process that was paused learns that its term is over in the same turn of the loop in which whatever it waited for goes
on: without a look at the clock before each call, every one of them would ask once more, beside the owner of now.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from assetwatchd.upstream.answers import NOTHING_KNOWN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from assetwatchd.upstream.answers import Answer, Known
    from assetwatchd.upstream.port import Listed, Notice, Upstream


class InTerm:
    """Implements Upstream. lasts: whether the term does, now; a call after its end asks nobody, and never returns."""

    def __init__(self, upstream: Upstream, lasts: Callable[[], bool]) -> None:
        self.capabilities = upstream.capabilities
        self.check = upstream.check
        self.close = upstream.close
        self._upstream = upstream
        self._lasts = lasts

    async def _lasting(self) -> None:
        """Return at once if the term lasts; else wait until whoever calls is cancelled, as all are that it made."""
        if not self._lasts():
            await asyncio.get_running_loop().create_future()

    async def probe(self) -> None:
        """As of the adapter."""
        await self._lasting()
        await self._upstream.probe()

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """As of the adapter."""
        await self._lasting()
        return await self._upstream.observe(asset_ids, known)

    async def enumerate(self) -> Listed:
        """As of the adapter."""
        await self._lasting()
        return await self._upstream.enumerate()

    async def notices(self) -> AsyncGenerator[Notice]:
        """As of the adapter."""
        await self._lasting()
        async with aclosing(self._upstream.notices()) as notices:
            async for notice in notices:
                yield notice

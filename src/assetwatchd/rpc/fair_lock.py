"""A lock that waiting callers get in rotation, so that one who asks for much makes only itself wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FairLock:
    """A lock for one holder at a time. A caller that has had it goes behind all others that wait."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def held(self, caller: str) -> AsyncIterator[None]:
        """Hold the lock for as long as the context lasts. Who is cancelled while waiting holds up nobody."""
        await self._take(caller)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, caller: str) -> None:
        if not self._held:
            self._held = True
            return
        given = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            # Cancelled after the lock was handed over, before it ran: without this nobody would ever release it.
            if not given.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            caller, line = self._waiting.popitem(last=False)
            given = line.popleft()
            if line:
                self._waiting[caller] = line  # at the end: behind every other caller
            if not given.done():
                given.set_result(None)  # handed over while taken: nobody who comes just now can get in between
                return
        self._held = False

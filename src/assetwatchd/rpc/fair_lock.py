"""A lock that waiting callers get in rotation, so that one who asks for much makes only itself wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FairLock:
    """Held by one caller at a time. One that has held it goes behind all others that wait."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def held_by(self, caller: str) -> AsyncIterator[None]:
        """Wait for it, and hold it for as long as the context. Who is cancelled while waiting holds up nobody."""
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
            if not given.cancelled():  # it was given the lock already, so it has to give it to the next
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            caller, waiting = self._waiting.popitem(last=False)
            given = waiting.popleft()
            if waiting:
                self._waiting[caller] = waiting
            if not given.done():
                given.set_result(None)
                return
        self._held = False

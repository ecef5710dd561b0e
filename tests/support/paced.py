"""A reader of any stream that takes as much as a test permits; what it is not permitted to take waits where it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

Item = TypeVar("Item")


class Paced(Generic[Item]):
    """Takes items one by one as long as it has permits; None: any number.

    ended: why the stream did; None while it is open, "OK" when it ended well.
    """

    def __init__(self, *, permits: int | None = None) -> None:
        self.ended: BaseException | str | None = None
        self._permits = asyncio.Semaphore(permits or 0)
        self._flowing = permits is None
        self._task = asyncio.create_task(self._run())

    def allow(self, count: int | None) -> None:
        """Permit so many more items, or any number."""
        self._flowing = self._flowing or count is None
        for _ in range(count or 1):
            self._permits.release()

    def stall(self) -> None:
        """Permit no more, once what is under way is taken."""
        self._flowing = False

    async def cancel(self) -> None:
        """Go away, as a client that hangs up."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def end(self) -> None:
        """Return when the stream has ended."""
        await asyncio.wait([self._task])

    def stream(self) -> AbstractAsyncContextManager[AsyncIterator[Item]]:
        """Open the stream; it is closed with the context."""
        raise NotImplementedError

    def take(self, item: Item) -> None:
        """Take one item in."""
        raise NotImplementedError

    async def _run(self) -> None:
        try:
            async with self.stream() as items:
                while True:
                    if not self._flowing:
                        await self._permits.acquire()
                    self.take(await anext(items))
        except StopAsyncIteration:
            self.ended = "OK"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - whatever ended the stream is what the test asks about
            self.ended = error

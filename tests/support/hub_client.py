"""A hub over a store, and clients of it that read as fast, or as slowly, as a test wants."""

from __future__ import annotations

import asyncio
import functools
import random
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from assetwatchd.hub import Batch, Bookmark, Conditions, Hub, Signal, Started, Synced
from assetwatchd.store.memory import MemoryStore
from support.entries import draft, frame, read
from support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from assetwatchd.filters import Filter
    from assetwatchd.model import AssetKey, Condition, State
    from assetwatchd.store import Store
    from support.entries import Change

S = TypeVar("S", Started, Batch, Synced, Bookmark, Conditions)


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in virtual time."""

    @functools.wraps(test)
    def in_virtual_time(*args: Any, **kwargs: Any) -> None:
        run(test(*args, **kwargs))

    return in_virtual_time


class Taken(NamedTuple):
    """A signal and the loop's time at which it was taken."""

    at: float
    signal: Signal


class Client:
    """Takes signals one by one as long as it has permits; what it is not permitted to take waits at the hub.

    map: what it knows, by asset, as a client of the service would keep it. ended: why the stream did; None while it is
    open, "OK" when it ended well.
    """

    def __init__(self, hub: Hub, what: Filter, cursor: int | None = None, *, permits: int | None = None) -> None:
        self.what = what
        self.taken: list[Taken] = []
        self.map: dict[AssetKey, Change] = {}
        self.ended: BaseException | str | None = None
        self._permits = asyncio.Semaphore(permits or 0)
        self._flowing = permits is None
        self._task = asyncio.create_task(self._run(hub, cursor))

    def allow(self, count: int | None) -> None:
        """Permit so many more signals, or any number."""
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

    def all(self, kind: type[S]) -> list[S]:
        """Return the signals of one kind."""
        return [taken.signal for taken in self.taken if isinstance(taken.signal, kind)]

    def kinds(self) -> list[str]:
        """Return the names of the kinds of all signals, in order."""
        return [type(taken.signal).__name__ for taken in self.taken]

    def changes(self) -> list[Change]:
        """Return every change, in order."""
        return [change for batch in self.all(Batch) for change in read(batch.message).changes]

    def take(self, signal: Signal) -> None:
        """Take one signal in."""
        self.taken.append(Taken(asyncio.get_running_loop().time(), signal))
        if isinstance(signal, Batch):
            for change in read(signal.message).changes:
                if change.removed:
                    self.map.pop(change.key, None)
                else:
                    self.map[change.key] = change

    async def _run(self, hub: Hub, cursor: int | None) -> None:
        try:
            async with aclosing(hub.watch(self.what, cursor)) as signals:
                while True:
                    if not self._flowing:
                        await self._permits.acquire()
                    self.take(await anext(signals))
        except StopAsyncIteration:
            self.ended = "OK"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        except Exception as error:  # noqa: BLE001 - whatever ended the stream is what the test asks about
            self.ended = error


class Rig(NamedTuple):
    """A store and the hub over it."""

    store: Store
    hub: Hub

    async def commit(self, *names: str, **content: State | bool | float) -> int:
        """Commit one change an asset without publishing it; return the head."""
        await self.store.commit([draft(name, **content) for name in names])  # type: ignore[arg-type]  # as draft has it
        return self.store.head

    async def change(self, *names: str, **content: State | bool | float) -> int:
        """Commit and publish."""
        head = await self.commit(*names, **content)
        self.hub.publish()
        return head

    async def settle(self) -> None:
        """Let everybody do what can be done within a tenth of a second."""
        await asyncio.sleep(0.1)

    def tell(self, source: str, condition: Condition) -> None:
        """Say how a source is doing."""
        self.hub.tell(source, condition)


@asynccontextmanager
async def rigged(*, heartbeat_s: float = 5.0, stream_age_s: float = 1800.0, seed: int = 1) -> AsyncIterator[Rig]:
    """Run a hub over a memory store."""
    store = MemoryStore()
    rng = random.Random(seed)  # noqa: S311 - jitter, the same in every run
    hub = Hub(store, frame, heartbeat_s=heartbeat_s, stream_age_s=stream_age_s, rng=rng, worked_s=float)
    running = asyncio.create_task(hub.run())
    try:
        yield Rig(store, hub)
    finally:
        running.cancel()
        await asyncio.wait([running])

"""A hub over a store, and clients of it that read as fast, or as slowly, as a test wants."""

from __future__ import annotations

import asyncio
import functools
import random
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Signal, Started, Synced
from assetwatchd.changefeed.store.memory import MemoryStore
from support.entries import FRAMING, draft, read
from support.paced import Paced
from support.virtual_time import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Coroutine
    from contextlib import AbstractAsyncContextManager

    from assetwatchd.changefeed.filters import Filter
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import AssetKey, Condition, State
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


class Client(Paced[Signal]):
    """A paced reader of a hub.

    map: what it knows, by asset, as a client of the service would keep it.
    """

    def __init__(self, hub: Hub, what: Filter, cursor: int | None = None, *, permits: int | None = None) -> None:
        self.what = what
        self.taken: list[Taken] = []
        self.map: dict[AssetKey, Change] = {}
        self._hub = hub
        self._cursor = cursor
        super().__init__(permits=permits)

    def stream(self) -> AbstractAsyncContextManager[AsyncIterator[Signal]]:
        """Watch."""
        return aclosing(self._hub.watch(self.what, self._cursor))

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
async def rigged(
    *, heartbeat_s: float = 5.0, stream_age_s: float = 1800.0, seed: int = 1, incomplete: Collection[str] = ()
) -> AsyncIterator[Rig]:
    """Run a hub over a memory store; incomplete: sources of which there is more, as they are whenever it looks."""
    store = MemoryStore()
    rng = random.Random(seed)  # noqa: S311 - jitter, the same in every run
    hub = Hub(
        store,
        FRAMING,
        heartbeat_s=heartbeat_s,
        stream_age_s=stream_age_s,
        rng=rng,
        incomplete=lambda sources: tuple(sorted(sources & set(incomplete))),
        worked_s=float,
    )
    running = asyncio.create_task(hub.run())
    try:
        yield Rig(store, hub)
    finally:
        running.cancel()
        await asyncio.wait([running])

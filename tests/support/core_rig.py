"""One source's scheduler with all that is real around it, but its upstream and its clock."""

from __future__ import annotations

import asyncio
import functools
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ParamSpec

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pipeline import Pipeline
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.values import AssetKey, Condition, ConditionState, Entry, SourceKind, State
from assetwatchd.polling.scheduler import NOTHING_FOUND, Found, Scheduler
from assetwatchd.rpc import convert
from assetwatchd.settings.schema import SourceSettings
from support import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from support.fake_upstream import FakeUpstream

P = ParamSpec("P")
SOURCE = "src"


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        virtual_time.run(test(*args, **kwargs))

    return run


class Rig:
    """A scheduler and what it works on. told: every condition that was told, in order."""

    def __init__(
        self,
        upstream: FakeUpstream,
        store: MemoryStore | None = None,
        *,
        kind: type[SourceSettings] = SourceSettings,
        found: Found = NOTHING_FOUND,
        **settings: Any,
    ) -> None:
        self.upstream = upstream
        self.store = store or MemoryStore()
        self.hub = Hub(self.store, convert.WatchFraming(lambda: self.store.epoch), heartbeat_s=5, worked_s=float)
        self.told: list[Condition] = []
        self.pipeline = Pipeline(self.store, self.hub, convert.ProtobufEncoder())
        self.scheduler = Scheduler(
            SOURCE,
            SourceKind.OMN,
            upstream,
            kind.model_validate({"base_url": "http://fake.test", **settings}),
            store=self.store,
            pipeline=self.pipeline,
            tell=lambda _, condition: self.told.append(condition),
            now=wall,
            rng=random.Random(7),  # noqa: S311 - jitter, not a secret
            found=found,
        )

    def source_state(self) -> ConditionState:
        """How the source is doing now."""
        return self.scheduler.condition.state

    def entry(self, asset_id: str) -> Entry:
        """What is known of an asset; it must be known."""
        entry = self.store.get(AssetKey(SOURCE, asset_id))
        assert entry is not None, asset_id
        return entry

    def knows(self, asset_id: str) -> bool:
        """Whether there is an entry of an asset."""
        return self.store.get(AssetKey(SOURCE, asset_id)) is not None

    def state(self, asset_id: str) -> State:
        """The state of an asset as it is known."""
        return self.entry(asset_id).state


@asynccontextmanager
async def running(upstream: FakeUpstream, store: MemoryStore | None = None, **settings: Any) -> AsyncIterator[Rig]:
    """Run a scheduler as long as the context lasts; it must not have ended by itself."""
    rig = Rig(upstream, store, **settings)
    loops = asyncio.create_task(rig.scheduler.run())
    try:
        yield rig
        assert not loops.done(), "the scheduler ended by itself"
    finally:
        loops.cancel()
        await asyncio.wait([loops])


async def until(met: Callable[[], bool]) -> None:
    """Return within 0.05 s after something has become true."""
    while not met():  # noqa: ASYNC110 - it becomes true by the tested code, which knows of no event of ours
        await asyncio.sleep(0.05)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def wall() -> float:
    """Seconds since 1970 that go with the loop's time."""
    return 1_700_000_000 + now()

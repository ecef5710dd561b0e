"""Whatever happens in whatever order: in the end the store has what the upstream has."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assetwatchd.model.errors import AssetRejected, CallError, Refused, Throttled, Unreachable
from assetwatchd.model.values import GONE, ConditionState, Freshness, State
from assetwatchd.upstream.answers import NOTHING_KNOWN
from support import virtual_time
from support.core_rig import Rig, running
from support.examples import bounded
from support.fake_upstream import FakeUpstream, most_in_a_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.upstream.answers import Answer, Known

ASSETS = ("a", "b", "c", "d")
STEPS = 30
RATE = 20


class Careful(FakeUpstream):
    """Notes the assets that were read by two calls at a time."""

    def __init__(self, *, pushes: bool) -> None:
        super().__init__(*ASSETS, batch_max=2, enumerates=True, pushes=pushes)
        self.being_read: list[str] = []
        self.read_twice: set[str] = set()

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Answer as FakeUpstream does."""
        self.read_twice |= set(asset_ids) & set(self.being_read)
        self.being_read += asset_ids
        try:
            return await super().observe(asset_ids, known)
        finally:
            for asset_id in asset_ids:
                self.being_read.remove(asset_id)


class World:
    """One upstream, its scheduler, and things that happen to them, drawn from a seed."""

    def __init__(self, rig: Rig, upstream: Careful, seed: int) -> None:
        self.rig = rig
        self.upstream = upstream
        self.rng = random.Random(seed)  # noqa: S311 - a test's choice
        self.reading: list[asyncio.Task[None]] = []
        self.interests = ExitStack()

    async def happen(self) -> None:
        """Let one thing happen, and a little time go by or none."""
        things = (self.change, self.change, self.change, self.delete, self.read, self.break_calls, self.mend)
        more = (self.slow, self.drop_push, self.watch, self.unwatch)
        self.rng.choice((*things, *more))()
        await asyncio.sleep(self.rng.choice((0, 0, 0.01, 0.3, 1, 5, 40)))

    def change(self) -> None:
        """Something becomes of an asset; it is told, if the upstream tells."""
        asset_id = self.rng.choice(ASSETS)
        self.upstream.states[asset_id] = self.rng.choice([state for state in State if state not in GONE])
        self.upstream.push_touched(asset_id)

    def delete(self) -> None:
        """An asset is deleted."""
        self.upstream.push_removed(self.rng.choice(ASSETS))

    def read(self) -> None:
        """Somebody asks, and may not wait for the answer."""
        task = asyncio.create_task(self._read())
        self.reading.append(task)
        if self.rng.random() < 0.3:
            asyncio.get_running_loop().call_later(self.rng.random(), task.cancel)

    async def _read(self) -> None:
        try:
            await self.rig.scheduler.read(self.rng.sample(ASSETS, 2), max_age_s=self.rng.choice((None, 0.0, 3.0)))
        except CallError:
            return

    def break_calls(self) -> None:
        """Calls, or those about one asset, fail from now on."""
        fault = self.rng.choice(
            (Unreachable("x"), Refused("x"), Throttled("x", retry_after_s=7), AssetRejected("x"), KeyError("x"))
        )
        if self.rng.random() < 0.5:
            self.upstream.poison[self.rng.choice(ASSETS)] = fault
        else:
            self.upstream.fault = fault

    def mend(self) -> None:
        """Everything works again."""
        self.upstream.fault = self.upstream.push_fault = None
        self.upstream.poison.clear()
        self.upstream.latency_s = 0

    def slow(self) -> None:
        """Answers take longer."""
        self.upstream.latency_s = self.rng.choice((0.1, 1.0, 5.0))

    def drop_push(self) -> None:
        """The push connection breaks, and may not come back soon."""
        self.upstream.drop_push(Unreachable("reset"))
        if self.rng.random() < 0.3:
            self.upstream.push_fault = Unreachable("refused")

    def watch(self) -> None:
        """One more is interested."""
        what, whole = self.rng.sample(ASSETS, 2), self.rng.random() < 0.5
        self.interests.enter_context(self.rig.scheduler.interest(what, whole=whole))

    def unwatch(self) -> None:
        """Nobody is interested any more, or only those who asked lately; time for tidying up."""
        self.interests.close()
        self.reading.append(asyncio.create_task(self.rig.scheduler.tidy(forget_after_s=100)))


async def live_through(seed: int, *, pushes: bool) -> None:
    """Let things happen, then mend everything; what is known must become what is."""
    upstream = Careful(pushes=pushes)
    async with running(upstream, rate_per_s=RATE, linger_s=20, refused_backoff_max_s=60) as rig:
        world = World(rig, upstream, seed)
        for _ in range(STEPS):
            await world.happen()
        world.mend()
        with rig.scheduler.interest(ASSETS):
            await asyncio.sleep(200)
            assert rig.source_state() is ConditionState.HEALTHY
            for asset_id in ASSETS:
                entry = rig.entry(asset_id)
                assert entry.gone == (asset_id not in upstream.states), asset_id
                assert entry.gone or entry.state is upstream.states[asset_id], asset_id
                assert rig.scheduler.freshness(entry) is Freshness.FRESH
        assert all(task.done() for task in world.reading), "somebody was never answered"
        assert not rig.scheduler._outcomes.waiters._awaited
        assert not upstream.read_twice
        assert most_in_a_second(upstream.calls) <= RATE
        world.interests.close()


@pytest.mark.parametrize("pushes", [True, False], ids=["pushed", "polled"])
@bounded("reads, lists and pushes")
@example(seed=342)
@given(seed=st.integers(0, 2**32))
def test_in_the_end_it_is_known(pushes: bool, seed: int) -> None:  # noqa: FBT001 - a parameter of the test
    """After any faults, notices, interests and reads the store has the upstream's last word and nobody waits."""
    virtual_time.run(live_through(seed, pushes=pushes))

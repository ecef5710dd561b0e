"""However many assets a source has, nothing goes through all of them without giving others their turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from assetwatchd.model.values import Freshness
from assetwatchd.polling import interest, outcomes, plan, strangers
from assetwatchd.polling.target import Phase
from assetwatchd.runtime import slices
from assetwatchd.upstream.port import Listed
from support.core_rig import Rig, now, running, virtual
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from assetwatchd.changefeed.pipeline import Sighting
    from assetwatchd.model.values import Entry
    from assetwatchd.polling.target import Target

NAMES = tuple(f"a{number}" for number in range(200))
SLICE = 10


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 assets are many."""
    monkeypatch.setattr(slices, "SLICE", SLICE)
    monkeypatch.setattr(interest, "SLICE", SLICE)
    monkeypatch.setattr(outcomes, "SEEN_TOGETHER", SLICE)


@asynccontextmanager
async def knowing(upstream: FakeUpstream, **settings: Any) -> AsyncIterator[Rig]:
    """Run a scheduler over a store that knows all of them for an hour, each read once then."""
    async with running(FakeUpstream(*NAMES, batch_max=100), rate_per_s=1000) as earlier:
        await earlier.scheduler.read(NAMES, max_age_s=None)
    await asyncio.sleep(3600)
    async with running(upstream, earlier.store, **settings) as rig:
        await asyncio.sleep(0.1)
        yield rig


async def most_a_turn(rig: Rig, of: Callable[[Target], bool]) -> int:
    """Return how many targets became so in one turn of the loop, at most, until all of them are."""
    most = done = 0
    for _ in range(10 * len(NAMES)):
        await asyncio.sleep(0)
        before, done = done, sum(map(of, rig.scheduler._plan.targets))
        most = max(most, done - before)
        if done == len(NAMES):
            return most
    raise AssertionError(f"only {done} ever were")


@virtual
async def test_the_first_interest_in_the_whole() -> None:
    """The reads of a known source are planned a slice at a time."""
    async with knowing(FakeUpstream(*NAMES)) as rig:
        with rig.scheduler.interest([], whole=True):
            assert await most_a_turn(rig, lambda target: target.phase is not Phase.IDLE) <= SLICE


@virtual
async def test_interest_that_ends_and_begins_while_it_is_planned() -> None:
    """Whoever wants the whole has all of it read, also when the planning for one who left was only half done."""
    upstream = FakeUpstream(*NAMES)
    async with knowing(upstream, linger_s=1e-14, rate_per_s=1000) as rig:
        with rig.scheduler.interest([], whole=True):
            for _ in range(5):
                await asyncio.sleep(0)
        assert not rig.scheduler.interested
        for _ in range(5):
            await asyncio.sleep(0)
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(61)
        assert {name for _, names in upstream.reads for name in names} == set(NAMES)


@virtual
async def test_a_list() -> None:
    """A list is taken in a slice at a time, and so is who is not in it."""
    upstream = FakeUpstream(*NAMES, enumerates=True)
    async with running(upstream, busy_interval_s=1e6) as rig:
        with rig.scheduler.interest([], whole=True):
            assert await most_a_turn(rig, lambda target: target.presence.listed) <= SLICE
            await asyncio.sleep(1)
            lacking = asyncio.create_task(rig.scheduler._calls.lists.take(Listed(frozenset(["other"])), pushed=False))
            assert await most_a_turn(rig, lambda target: target.presence.absences == 1) <= SLICE
            await lacking


@virtual
async def test_lists_one_after_the_other() -> None:
    """A list that comes while another is taken in is compared with all of that one."""
    async with running(FakeUpstream(*NAMES, enumerates=True)) as rig:
        take = rig.scheduler._calls.lists.take
        await asyncio.gather(take(Listed(frozenset(NAMES)), pushed=False), take(Listed(frozenset()), pushed=False))
        assert {target.presence.absences for target in rig.scheduler._plan.targets} == {1}


@virtual
async def test_a_list_older_than_the_connection() -> None:
    """A list that was asked for counts for nothing once a push connection has begun with a newer one."""
    async with running(FakeUpstream(*NAMES, enumerates=True, pushes=True)) as rig:
        await asyncio.sleep(1)
        older = rig.scheduler._calls.lists.take(Listed(frozenset()), pushed=False)
        await asyncio.gather(rig.scheduler._push.listed(Listed(frozenset(NAMES))), older)
        assert {target.presence.absences for target in rig.scheduler._plan.targets} == {0}


@virtual
async def test_a_list_beyond_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is no room for costs one look at those who might give way, not one each."""
    looks = 0

    def idle(target: Target) -> bool:
        nonlocal looks
        looks += 1
        return real(target)

    real = strangers._idle
    monkeypatch.setattr(strangers, "_idle", idle)
    monkeypatch.setattr(slices, "SLICE", len(NAMES))
    monkeypatch.setattr(interest, "SLICE", len(NAMES))
    async with running(FakeUpstream(), assets_max=len(NAMES) // 2) as rig:
        await rig.scheduler._calls.lists.take(Listed(frozenset(NAMES)), pushed=False)
        assert len(rig.scheduler._plan.targets) == len(NAMES) // 2
        await rig.scheduler._calls.lists.take(Listed(frozenset(NAMES)), pushed=False)
    assert looks <= 2 * len(NAMES)


@virtual
async def test_tidying() -> None:
    """Tidying forgets a slice at a time, and what it forgets goes onto the road so."""
    async with knowing(FakeUpstream(*NAMES)) as rig:
        ingest, together = rig.pipeline.ingest, []

        async def noting(source: str, sightings: Sequence[Sighting]) -> Sequence[Entry]:
            together.append(len(sightings))
            await asyncio.sleep(1)
            return await ingest(source, sightings)

        rig.pipeline.ingest = noting  # type: ignore[method-assign]  # a disk that takes its time
        tidying = asyncio.create_task(rig.scheduler.tidy(forget_after_s=60))
        assert await most_a_turn(rig, lambda target: target.generation > 0) <= SLICE
        await tidying
        await asyncio.sleep(60)
        assert rig.store.count("src") == 0
        assert sum(together) == len(NAMES)
        assert max(together) <= SLICE


@virtual
async def test_tidying_what_came_anew_meanwhile() -> None:
    """An asset that went and came again between two slices is not taken for the one that went."""
    async with knowing(FakeUpstream()) as rig:
        tidying = asyncio.create_task(rig.scheduler.tidy(forget_after_s=60))
        await asyncio.sleep(0)
        its_targets = rig.scheduler._plan.targets
        old = its_targets.get(NAMES[-1])
        assert old is not None
        its_targets.drop(old)
        anew = its_targets.claim([NAMES[-1]])
        await tidying
        assert [its_targets.get(NAMES[-1])] == anew
        assert anew[0].generation == old.generation == 0


@virtual
async def test_a_push_connection() -> None:
    """What it begins with is taken in a slice at a time, and what is polled again when it ends."""
    upstream = FakeUpstream(*NAMES, pushes=True)
    async with knowing(upstream, settled_interval_s=5, busy_interval_s=5) as rig:
        with rig.scheduler.interest([], whole=True):
            upstream.open.clear()
            assert await most_a_turn(rig, lambda target: target.dirty) <= SLICE
            upstream.open.set()
            await asyncio.sleep(60)
            assert all(target.due > now() + 200 for target in rig.scheduler._plan.targets)
            upstream.push_fault = ConnectionError("not again")
            upstream.drop_push()
            assert await most_a_turn(rig, lambda target: target.due <= now() + 5) <= SLICE


@virtual
async def test_freshness_while_a_push_connection_begins() -> None:
    """No asset counts as told of before it was read anew, also while the connection's list is still taken in."""
    upstream = FakeUpstream(*NAMES, pushes=True)
    async with knowing(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            while not rig.scheduler.pushing:  # noqa: ASYNC110 - there is no bell for it
                await asyncio.sleep(0)
            for _ in range(5 * len(NAMES) // SLICE):
                read = {name for _, names in upstream.reads for name in names}
                fresh = {n for n in NAMES if rig.scheduler.freshness(rig.entry(n)) is Freshness.FRESH}
                assert fresh <= read
                await asyncio.sleep(0)
            await asyncio.sleep(60)
            assert rig.scheduler.freshness(rig.entry(NAMES[-1])) is Freshness.FRESH


@virtual
async def test_a_snapshot_waits_for_one_read_at_a_time() -> None:
    """Whoever waits for the first reads of all costs one waiter, and is done when the last was read."""
    upstream = FakeUpstream(*NAMES, enumerates=True)
    async with running(upstream, rate_per_s=100) as rig:
        with rig.scheduler.interest([], whole=True):
            waiting = asyncio.create_task(rig.scheduler.listed(60))
            while not waiting.done():
                await asyncio.sleep(0.01)
                assert sum(map(len, rig.scheduler._outcomes.waiters._awaited.values())) <= 1
            assert rig.store.count("src") == len(NAMES)
            assert len(upstream.reads) == len(NAMES)


@virtual
async def test_what_is_counted_as_polled() -> None:
    """Of a source that lists, an asset that is gone is of no interest to those who want the whole, named ones apart."""
    upstream = FakeUpstream(*NAMES, enumerates=True)
    async with running(upstream, rate_per_s=1000) as rig:
        with rig.scheduler.interest(["a0"], whole=True):
            await asyncio.sleep(1)
            assert await rig.scheduler.polled_assets() == len(NAMES)
            del upstream.states["a0"], upstream.states["a1"]
            await asyncio.sleep(100)
            assert rig.entry("a1").gone
            assert await rig.scheduler.polled_assets() == len(NAMES) - 1


@pytest.mark.parametrize("what", ["listed", "counted"])
@virtual
async def test_what_anybody_may_ask_for_at_any_time(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that needs no read, and the figures of a source, look at a slice a turn; the figures once for many."""
    looks = 0
    unread, wanted = plan.Plan.unread, interest.Interests._wanted

    def looking(look: Callable[..., bool]) -> Callable[..., bool]:
        def counted(*args: Any, **named: Any) -> bool:
            nonlocal looks
            looks += 1
            return look(*args, **named)

        return counted

    async with knowing(FakeUpstream(*NAMES)) as rig:
        monkeypatch.setattr(plan.Plan, "unread", looking(unread))
        monkeypatch.setattr(interest.Interests, "_wanted", looking(wanted))
        ask = {"listed": lambda: rig.scheduler.listed(5), "counted": rig.scheduler.polled_assets}[what]
        asking = [asyncio.create_task(ask()) for _ in range(1 if what == "listed" else 20)]
        most = before = looks
        while not all(task.done() for task in asking):
            await asyncio.sleep(0)
            most, before = max(most, looks - before), looks
        assert most <= 2 * SLICE  # that of planning may come in the same turn
        assert looks >= len(NAMES)
        if what == "counted":
            assert looks <= len(NAMES) + 1

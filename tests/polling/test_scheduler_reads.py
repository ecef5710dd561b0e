"""Reads on demand: shared, bounded in age, answered whatever happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import AssetRejected, SourceUnreachable, Throttled, Unreachable
from assetwatchd.model.values import Freshness, Observation, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assetwatchd.changefeed.store.port import Draft
    from assetwatchd.model.values import Entry
from support.core_rig import now, running, virtual, wall
from support.fake_upstream import FakeUpstream


@virtual
async def test_fresh_reads_are_shared() -> None:
    """50 fresh reads of one asset at the same time are one call."""
    upstream = FakeUpstream("a")
    upstream.latency_s = 1
    async with running(upstream) as rig:
        await asyncio.gather(*[rig.scheduler.read(["a"], max_age_s=0) for _ in range(50)])
        assert len(upstream.reads) == 1
        await rig.scheduler.read(["a"], max_age_s=0)
        assert len(upstream.reads) == 2


@pytest.mark.parametrize(
    ("max_age_s", "calls"), [(None, 1), (0.0, 2), (10.0, 2), (60.0, 1)], ids=["known", "now", "young", "old enough"]
)
@virtual
async def test_max_age(max_age_s: float | None, calls: int) -> None:
    """What is known will do if it is young enough; without a max age it always does, with 0 never."""
    upstream = FakeUpstream("a")
    async with running(upstream, busy_interval_s=1000, settled_interval_s=1000) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        await asyncio.sleep(30)
        await rig.scheduler.read(["a"], max_age_s=max_age_s)
    assert len(upstream.reads) == calls


@virtual
async def test_a_read_returns_what_it_read() -> None:
    """When a read returns, what the upstream said is known, and when it was asked."""
    upstream = FakeUpstream("a")
    upstream.latency_s = 2
    async with running(upstream) as rig:
        began = wall()
        await rig.scheduler.read(["a", "b"], max_age_s=None)
        assert rig.state("a") is State.AVAILABLE
        assert rig.scheduler.unseen("b") == Observation("b", State.MISSING)
        assert rig.scheduler.observed_at("a") == pytest.approx(began, abs=0.1)


@virtual
async def test_a_read_without_max_age_waits_for_the_store() -> None:
    """An asset read for the first time is known only once the store has it, so nobody is told too early."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        committing, may_commit, commit = asyncio.Event(), asyncio.Event(), rig.store.commit

        async def slowly(drafts: Sequence[Draft]) -> Sequence[Entry]:
            committing.set()
            await may_commit.wait()
            return await commit(drafts)

        rig.store.commit = slowly  # type: ignore[method-assign]  # a disk that takes its time
        first = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=None))
        await committing.wait()
        second = asyncio.create_task(rig.scheduler.read(["a"], max_age_s=None))
        await asyncio.sleep(1)
        assert not second.done()
        assert rig.scheduler.observed_at("a") is None
        may_commit.set()
        await asyncio.gather(first, second)
        assert rig.knows("a")
    assert len(upstream.reads) == 1


@virtual
async def test_cancelled_waiters_leave_nothing() -> None:
    """Waiters that give up are gone, and neither the read nor other waiters mind."""
    upstream = FakeUpstream("a")
    upstream.open.clear()
    async with running(upstream) as rig:
        waiters = [asyncio.create_task(rig.scheduler.read(["a"], max_age_s=0)) for _ in range(10)]
        await asyncio.sleep(1)
        for waiter in waiters[1:]:
            waiter.cancel()
        await asyncio.wait(waiters[1:])
        target = rig.scheduler._plan.targets.get("a")
        assert target is not None
        assert len(rig.scheduler._outcomes.waiters._awaited[target]) == 1
        upstream.open.set()
        await waiters[0]
        assert not target.demand.awaited
        assert not rig.scheduler._outcomes.waiters._awaited


@virtual
async def test_reads_that_linger_shorter_than_they_take() -> None:
    """A waiter is interest of its own: its read is made even if it waits its turn longer than reads linger."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=1, linger_s=0.5) as rig:
        await asyncio.gather(*[rig.scheduler.read([f"a{n}"], max_age_s=0) for n in range(5)])
    assert len(upstream.reads) == 5


@virtual
async def test_a_fresh_read_during_backoff_fails_at_once() -> None:
    """While a source is failing, a fresh read is told so at once, and when to come again."""
    upstream = FakeUpstream("a")
    upstream.fault = Unreachable("HTTP 503", retry_after_s=40)
    async with running(upstream) as rig:
        await asyncio.sleep(1)
        asked, calls = now(), len(upstream.calls)
        with pytest.raises(SourceUnreachable, match="HTTP 503") as raised:
            await rig.scheduler.read(["a"], max_age_s=0)
        assert now() == asked
        assert len(upstream.calls) == calls
        assert 30 <= raised.value.retry_after_s <= 40


@virtual
async def test_what_is_known_is_told_during_backoff() -> None:
    """While a source is failing, a read without max age is answered from what is known."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        upstream.fault = Throttled("HTTP 429", retry_after_s=1000)
        await asyncio.sleep(60)
        await rig.scheduler.read(["a"], max_age_s=None)
        assert rig.state("a") is State.AVAILABLE


@virtual
async def test_a_failed_read_tells_its_waiters() -> None:
    """A read that fails is an error for those who waited for it, with a time to come again."""
    upstream = FakeUpstream("a", "b")
    upstream.poison["b"] = Unreachable("HTTP 500")
    async with running(upstream) as rig:
        await rig.scheduler.read(["a"], max_age_s=0)
        with pytest.raises(SourceUnreachable, match="HTTP 500") as raised:
            await rig.scheduler.read(["a", "b"], max_age_s=0)
        assert raised.value.retry_after_s > 0


@virtual
async def test_everybody_is_told_when_the_source_turns() -> None:
    """When a source turns unreachable nobody who waits is left hanging, not even for assets that were not tried."""
    upstream = FakeUpstream()
    async with running(upstream, rate_per_s=2) as rig:
        await asyncio.sleep(1)
        upstream.fault = Unreachable("connection refused")
        asked = now()
        reads = [rig.scheduler.read([f"a{n}"], max_age_s=0) for n in range(100)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(result, SourceUnreachable) for result in results)
        assert now() - asked < 3


@virtual
async def test_a_list_and_its_reads() -> None:
    """`listed` returns once the source was listed and every asset in the list was read."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    upstream.latency_s = 0.5
    async with running(upstream) as rig:
        await rig.scheduler.listed(5)
        assert all(rig.knows(asset_id) for asset_id in upstream.states)


@virtual
async def test_the_known_are_read_where_there_is_no_list() -> None:
    """For a source that cannot list, `listed` returns once every asset known here was read."""
    upstream = FakeUpstream("a", "b")
    upstream.latency_s = 0.5
    async with running(upstream, pins=("a", "b")) as rig:
        await rig.scheduler.listed(5)
        assert rig.knows("a")
        assert rig.knows("b")


@virtual
async def test_what_cannot_be_read_is_waited_for_once() -> None:
    """An asset that fails does not cost every list a read of it."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    upstream.poison["b"] = AssetRejected("HTTP 400")
    async with running(upstream) as rig:
        await rig.scheduler.listed(5)
        reads = len(upstream.reads)
        for _ in range(100):
            await rig.scheduler.listed(5)
        assert len(upstream.reads) <= reads + 1


@virtual
async def test_listed_again_after_a_while() -> None:
    """A list of long ago does not do: what appeared since is found."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, linger_s=10) as rig:
        await rig.scheduler.listed(5)
        await asyncio.sleep(1000)
        upstream.states["b"] = State.AVAILABLE
        await rig.scheduler.listed(5)
        assert rig.knows("b")


@virtual
async def test_listed_does_not_wait_for_ever() -> None:
    """A source that does not answer, or is known to fail, does not hold a list up."""
    upstream = FakeUpstream("a", enumerates=True)
    upstream.open.clear()
    async with running(upstream) as rig:
        began = now()
        await rig.scheduler.listed(5)
        assert now() - began == pytest.approx(5)
        upstream.fault = Unreachable("connection refused")
        upstream.open.set()
        await asyncio.sleep(60)
        began = now()
        await rig.scheduler.listed(5)
        assert now() == began


@virtual
async def test_unchanged_reads_commit_nothing() -> None:
    """A read that finds the same moves the observe time and is no change."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(1)
            head, first = rig.store.head, rig.scheduler.observed_at("a")
            await asyncio.sleep(300)
            assert first is not None
            assert (rig.scheduler.observed_at("a") or 0) > first + 200
            assert rig.store.head == head == 1
            assert rig.scheduler.figures.changes == 1


@virtual
async def test_freshness_by_age() -> None:
    """What nobody has read for twice the settled interval is stale; a read makes it fresh."""
    upstream = FakeUpstream("a")
    async with running(upstream, linger_s=1, settled_interval_s=60) as rig:
        await rig.scheduler.read(["a"], max_age_s=None)
        assert rig.scheduler.freshness(rig.entry("a")) is Freshness.FRESH
        await asyncio.sleep(119)
        assert rig.scheduler.freshness(rig.entry("a")) is Freshness.FRESH
        await asyncio.sleep(10)
        assert rig.scheduler.freshness(rig.entry("a")) is Freshness.STALE
        await rig.scheduler.read(["a"], max_age_s=0)
        assert rig.scheduler.freshness(rig.entry("a")) is Freshness.FRESH


@virtual
async def test_figures() -> None:
    """The figures count what the source was asked and what came of it."""
    upstream = FakeUpstream("a", "b", batch_max=10)
    async with running(upstream) as rig:
        await asyncio.sleep(1)
        await rig.scheduler.read(["a", "b"], max_age_s=0)
        upstream.fault = Unreachable("HTTP 500")
        with pytest.raises(SourceUnreachable):
            await rig.scheduler.read(["a"], max_age_s=0)
        figures = rig.scheduler.figures
        assert (figures.calls, figures.failed_calls) == (3, 1)
        assert (figures.asset_reads, figures.changes, figures.notices) == (3, 2, 0)

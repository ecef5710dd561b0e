"""A scheduler that goes on where another one ended: over the same store, with the condition and the times it finds."""

from __future__ import annotations

import asyncio

import pytest

from assetwatchd.model.errors import Unreachable
from assetwatchd.model.values import AssetKey, ConditionState, Freshness
from assetwatchd.polling.scheduler import Found
from support.core_rig import SOURCE, Rig, running, virtual, wall
from support.fake_upstream import FakeUpstream

pytestmark = pytest.mark.unit


@virtual
async def test_taking_over_is_no_news() -> None:
    """Whoever goes on with a source that is well tells nobody so, and its assets stay as fresh as they were."""
    upstream = FakeUpstream("a")
    async with running(upstream, settled_interval_s=10, busy_interval_s=1) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(100)
    observed = rig.scheduler.observed_at("a")
    assert observed is not None
    found = Found(rig.scheduler.condition, {"a": observed, "never heard of": wall()})
    async with running(upstream, rig.store, found=found, settled_interval_s=10, busy_interval_s=1) as after:
        assert after.scheduler.condition == rig.scheduler.condition
        assert after.scheduler.freshness(after.entry("a")) is Freshness.FRESH
        assert after.scheduler.observed_at("a") == observed
        assert after.scheduler.observed_at("never heard of") is None
        with after.scheduler.interest(["a"]):
            await asyncio.sleep(100)
        assert after.told == []
        assert (after.scheduler.observed_at("a") or 0) > observed


@virtual
async def test_taking_over_what_is_down() -> None:
    """A source found unreachable is so until it answers; it is tried at once, and that it is back is told once."""
    upstream = FakeUpstream("a")
    async with running(upstream) as rig:
        with rig.scheduler.interest(["a"]):
            await asyncio.sleep(10)
            upstream.fault = Unreachable("down")
            await asyncio.sleep(100)
    assert rig.source_state() is ConditionState.UNREACHABLE
    upstream.fault = None
    async with running(upstream, rig.store, found=Found(rig.scheduler.condition)) as after:
        assert after.source_state() is ConditionState.UNREACHABLE
        await asyncio.sleep(1)
        assert [condition.state for condition in after.told] == [ConditionState.HEALTHY]
        assert after.store.get(AssetKey(SOURCE, "a")) is not None


async def test_a_scheduler_closes_its_adapter() -> None:
    """Whoever ends one gives back its connections by it."""
    upstream = FakeUpstream("a")
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    upstream.close = close  # type: ignore[method-assign]  # the fake has nothing to close
    await Rig(upstream).scheduler.close()
    assert closed == [True]

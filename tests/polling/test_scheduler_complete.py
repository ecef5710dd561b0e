"""When what is known of a source is all there is, and when it is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import BadAnswer, Unreachable
from assetwatchd.model.values import AssetKey, ConditionState
from support import virtual_time
from support.core_rig import SOURCE, Rig, now, running, until, virtual
from support.examples import bounded
from support.fake_upstream import FakeUpstream

if TYPE_CHECKING:
    from assetwatchd.model.values import Condition
    from assetwatchd.upstream.port import Listed

DOWN = Unreachable("connection refused")


@virtual
async def test_a_source_is_complete_once_it_was_listed_and_read() -> None:
    """Not before its list is there, nor before each asset of that was read."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    upstream.latency_s = 1
    async with running(upstream, concurrency=1, rate_per_s=1000) as rig:
        assert not rig.scheduler.complete
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.source_state() is ConditionState.HEALTHY)
            assert not rig.scheduler.complete
            await until(lambda: rig.scheduler.complete)
            assert all(rig.knows(asset_id) for asset_id in upstream.states)


@virtual
async def test_a_source_that_was_lost_before_it_was_listed() -> None:
    """Back, and well by a sign of life, it is not complete before it was listed, and that is as soon as can be."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    upstream.fault = DOWN
    async with running(upstream, enumerate_interval_s=3000) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(100)
            assert not rig.scheduler.complete
            upstream.fault, upstream.list_fault = None, BadAnswer("no list")
            await until(lambda: rig.source_state() is ConditionState.HEALTHY)
            assert not rig.scheduler.complete
            assert len(upstream.lists) >= 1
        upstream.list_fault = None
    async with running(FakeUpstream("a", "b", enumerates=True), enumerate_interval_s=3000) as rig:
        rig.upstream.fault = DOWN
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(100)
            rig.upstream.fault = None
            await until(lambda: rig.source_state() is ConditionState.HEALTHY)
            back = now()
            await until(lambda: rig.scheduler.complete)
            assert now() - back < 1


@virtual
async def test_a_source_that_is_lost_is_complete_again_after_one_more_list() -> None:
    """What it had is kept; what came meanwhile is not known before a list of it."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, enumerate_interval_s=3000) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.scheduler.complete)
            upstream.fault = DOWN
            await until(lambda: rig.source_state() is ConditionState.UNREACHABLE)
            assert not rig.scheduler.complete
            upstream.states["new"] = upstream.states["a"]
            upstream.fault = None
            await until(lambda: rig.scheduler.complete)
            assert rig.knows("new")


@virtual
async def test_a_source_that_can_be_read_and_not_listed() -> None:
    """Three lists in a row that fail: what is known may not be all any more, however well it is otherwise."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, enumerate_interval_s=30) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.scheduler.complete)
            upstream.list_fault = BadAnswer("no list")
            lists = len(upstream.lists)
            await until(lambda: len(upstream.lists) >= lists + 3)
            await asyncio.sleep(1)
            assert not rig.scheduler.complete
            upstream.list_fault = None
            await until(lambda: rig.scheduler.complete)


@pytest.mark.parametrize("listed", [["a", "b", "c"], ["a", "not-an-id"]], ids=["beyond assets_max", "no id"])
@virtual
async def test_a_list_of_which_not_all_can_be_taken(listed: list[str]) -> None:
    """Is not complete: there is more than can be known here, until a list has no more than that."""
    upstream = FakeUpstream("a", "b", "c", enumerates=True)
    upstream.listed = frozenset(listed)
    async with running(upstream, assets_max=2) as rig:
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(10)
            assert not rig.scheduler.complete
            upstream.listed = frozenset(name for name in listed if rig.knows(name))
            await until(lambda: rig.scheduler.complete)


@virtual
async def test_one_asset_that_cannot_be_read_does_not_keep_it_incomplete() -> None:
    """Once it is told that it cannot be read, all that there is is told."""
    upstream = FakeUpstream("a", "b", enumerates=True)
    upstream.poison["b"] = BadAnswer("not XML")
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.knows("a"))
            assert not rig.scheduler.complete
            await until(lambda: rig.scheduler.complete)
            assert rig.knows("b")


@virtual
async def test_a_list_from_long_ago_is_none() -> None:
    """Who wants the whole after nobody did is not told that it is complete before a list is made."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, linger_s=10) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.scheduler.complete)
        await asyncio.sleep(1000)
        upstream.open.clear()
        with rig.scheduler.interest([], whole=True):
            await asyncio.sleep(1)
            assert not rig.scheduler.complete
            upstream.open.set()
            await until(lambda: rig.scheduler.complete)


@virtual
async def test_a_source_that_cannot_list_is_complete_when_its_pins_are_read() -> None:
    """All there is to know are the pins, and what was found by name."""
    upstream = FakeUpstream("a", "b")
    upstream.open.clear()
    async with running(upstream, pins=("a", "b")) as rig:
        await asyncio.sleep(1)
        assert not rig.scheduler.complete
        upstream.open.set()
        await until(lambda: rig.scheduler.complete)
        assert all(rig.knows(asset_id) for asset_id in "ab")
        upstream.fault = DOWN
        await until(lambda: rig.source_state() is ConditionState.UNREACHABLE)
        assert not rig.scheduler.complete


@virtual
async def test_a_source_that_pushes() -> None:
    """It is complete by the list that a connection begins with, and while the source is well, by polled ones."""
    upstream = FakeUpstream("a", "b", enumerates=True, pushes=True)
    async with running(upstream) as rig:
        with rig.scheduler.interest([], whole=True):
            await until(lambda: rig.scheduler.complete)
            assert upstream.lists == []
            upstream.push_fault = Unreachable("no push")
            upstream.drop_push()
            await asyncio.sleep(100)
            assert rig.scheduler.complete
            upstream.fault = DOWN
            await until(lambda: rig.source_state() is ConditionState.UNREACHABLE)
            upstream.states["new"] = upstream.states["a"]
            upstream.fault = upstream.push_fault = None
            await until(lambda: rig.scheduler.complete)
            assert rig.knows("new")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["down", "up", "no list", "list", "new", "go", "bad"]),
        st.sampled_from([0.5, 3, 20, 70]),
    ),
    min_size=1,
    max_size=12,
)


class Recording(FakeUpstream):
    """Keeps what its last list said, and when that was asked for."""

    def __init__(self, *asset_ids: str) -> None:
        super().__init__(*asset_ids, enumerates=True)
        self.last: tuple[float, Listed] | None = None

    async def enumerate(self) -> Listed:
        """List, and keep it."""
        began = now()
        found = await super().enumerate()
        self.last = (began, found)
        return found


@given(steps=STEPS)
@bounded("complete or not")
def test_complete_is_said_of_nothing_else(steps: list[tuple[str, float]]) -> None:
    """Whatever happens: said to be complete, it was listed since it was lost, and of each asset something is told."""
    virtual_time.run(_complete_or_not(steps))


async def _complete_or_not(steps: list[tuple[str, float]]) -> None:
    upstream = Recording("a", "b", "c")
    async with running(upstream) as rig:
        lost_at = [0.0]
        with rig.scheduler.interest([], whole=True):
            for number, (what, span_s) in enumerate(steps):
                _do(upstream, what, number)
                end = now() + span_s
                seen = len(rig.told)
                while now() < end:
                    await asyncio.sleep(0.25)
                    lost_at += [now() for condition in rig.told[seen:] if _lost(condition)]
                    seen = len(rig.told)
                    _check(rig, upstream, lost_at[-1])
            upstream.fault = upstream.list_fault = None
            upstream.poison.clear()
            await asyncio.sleep(200)
            assert rig.scheduler.complete
            assert all(rig.knows(asset_id) for asset_id in upstream.states)


def _do(upstream: Recording, what: str, number: int) -> None:
    match what:
        case "down":
            upstream.fault = DOWN
        case "up":
            upstream.fault = None
        case "no list":
            upstream.list_fault = BadAnswer("no list")
        case "list":
            upstream.list_fault = None
        case "new":
            upstream.states[f"new{number}"] = upstream.states["a"]
        case "go" if len(upstream.states) > 1:
            upstream.states.popitem()
        case "bad":
            upstream.poison["b"] = BadAnswer("not XML")


def _lost(condition: Condition) -> bool:
    return not condition.readable


def _check(rig: Rig, upstream: Recording, lost_at: float) -> None:
    if not rig.scheduler.complete:
        return
    assert rig.scheduler.condition.readable
    assert upstream.last is not None
    listed_at, listed = upstream.last
    assert listed_at >= lost_at - 0.3
    for asset_id in listed.asset_ids:
        assert rig.store.get(AssetKey(SOURCE, asset_id)) is not None

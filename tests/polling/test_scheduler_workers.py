"""Tasks that make one call after the other take nobody's turn, and nobody notices that they stay."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from assetwatchd.model.errors import Unreachable
from assetwatchd.model.values import ConditionState, State
from support.core_rig import now, running, until, virtual
from support.fake_upstream import FakeUpstream


class Ready(FakeUpstream):
    """Answers without waiting for anything."""

    async def _answer(self, fault: Exception | None) -> None:
        if fault is not None:
            raise fault


class Cancelling(FakeUpstream):
    """Its first reads end as if they had been cancelled, though nobody did."""

    async def _answer(self, fault: Exception | None) -> None:
        await super()._answer(fault)
        if len(self.reads) <= 3:
            raise asyncio.CancelledError


@virtual
async def test_an_adapter_that_never_waits_holds_nobody_up() -> None:
    """Everybody else has a turn after each few calls, also when these are answered without waiting."""
    upstream = Ready(*[f"a{n}" for n in range(400)])
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(len(upstream.reads))
            await asyncio.sleep(0)

    async with running(upstream, concurrency=4, rate_per_s=1e6) as rig:
        bystander = asyncio.create_task(others())
        await rig.scheduler.read(upstream.states, max_age_s=None)
        bystander.cancel()
    assert len(upstream.reads) == 400
    assert max(later - before for before, later in itertools.pairwise(turns)) <= 8


class Noting(FakeUpstream):
    """Knows which tasks asked it."""

    def __init__(self, *asset_ids: str) -> None:
        super().__init__(*asset_ids)
        self.askers: set[asyncio.Task[None] | None] = set()

    async def _answer(self, fault: Exception | None) -> None:
        self.askers.add(asyncio.current_task())
        await super()._answer(fault)


@pytest.mark.parametrize("latency_s", [0, 0.01])
@virtual
async def test_while_there_is_work_a_task_goes_on(latency_s: float) -> None:
    """As long as something is due, no more tasks are made than there are calls at once, whoever else asks."""
    upstream = Noting(*[f"a{n}" for n in range(400)])
    upstream.latency_s = latency_s
    async with running(upstream, concurrency=4, rate_per_s=1e6) as rig:
        reading = asyncio.create_task(rig.scheduler.read(upstream.states, max_age_s=None))
        while not reading.done():
            with rig.scheduler.interest((), whole=True):
                await asyncio.sleep(latency_s / 8)
    assert len(upstream.reads) == 400
    assert len(upstream.askers) <= 5


@virtual
async def test_after_a_recovery_all_go_to_work_again() -> None:
    """As many calls as allowed are under way again once the single trial of a failing source has succeeded."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(50)])
    upstream.states = dict.fromkeys(upstream.states, State.PROCESSING)
    async with running(upstream, concurrency=5, rate_per_s=1000) as rig:
        with rig.scheduler.interest(upstream.states):
            upstream.fault = Unreachable("down")
            await asyncio.sleep(30)
            assert rig.source_state() is ConditionState.UNREACHABLE
            upstream.latency_s, upstream.most_running = 3.0, 0
            await asyncio.sleep(60)
            assert upstream.most_running == 1
            upstream.fault = None
            await asyncio.sleep(120)
    assert upstream.most_running == 5


@virtual
async def test_a_due_read_waits_for_no_long_call() -> None:
    """While one asset's read hangs, others are read as often as ever, whoever's turn it was to wait for them."""
    upstream = FakeUpstream("slow")
    upstream.states.update(dict.fromkeys(("a", "b"), State.PROCESSING))
    async with running(upstream, concurrency=3, rate_per_s=1000, timeout_s=60) as rig:
        with rig.scheduler.interest(["a", "b"]):
            await asyncio.sleep(10.5)
            upstream.latency_s = 50
            reading = asyncio.create_task(rig.scheduler.read(["slow"], max_age_s=0))
            await asyncio.sleep(0.1)
            upstream.latency_s = 0
            before = len(upstream.reads)
            await asyncio.sleep(40)
            reads = len(upstream.reads) - before
            await reading
    assert reads == 40


@virtual
async def test_a_call_that_ends_cancelled_gives_its_place_back() -> None:
    """An adapter that lets a CancelledError of its own escape costs those calls, neither the source nor the assets."""
    upstream = Cancelling(*[f"a{n}" for n in range(6)])
    async with running(upstream, concurrency=1) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(20)
            assert all(rig.knows(asset_id) for asset_id in upstream.states)


@virtual
async def test_a_long_list_holds_up_no_reads() -> None:
    """It has room of its own: even where one call is made at a time reads go on beside it, and no second list."""
    upstream = FakeUpstream("a", enumerates=True)
    async with running(upstream, concurrency=1, busy_interval_s=2, settled_interval_s=2, enumerate_interval_s=5) as rig:
        with rig.scheduler.interest(["a"], whole=True):
            await asyncio.sleep(10)
            upstream.list_open.clear()
            await until(lambda: upstream.most_lists > 0 and upstream.listing == 1)
            began = now()
            await asyncio.sleep(100)
            assert len(upstream.reads_of("a", since=began)) >= 40
            assert upstream.listing == upstream.most_lists == 1
            upstream.list_open.set()
            await asyncio.sleep(20)
            assert rig.source_state() is ConditionState.HEALTHY


@pytest.mark.parametrize("concurrency", [1, 4])
@virtual
async def test_stopping_ends_what_is_under_way(concurrency: int) -> None:
    """When the source is stopped its calls are cancelled, and none is left behind."""
    upstream = FakeUpstream(*[f"a{n}" for n in range(20)])
    upstream.open.clear()
    async with running(upstream, concurrency=concurrency) as rig:
        with rig.scheduler.interest(upstream.states):
            await asyncio.sleep(5)
            assert upstream.running == concurrency
    assert upstream.running == 0

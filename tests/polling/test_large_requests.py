"""A request that names as many assets as it may holds up the event loop no longer than a small one, in steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.filters import Filter
from assetwatchd.changefeed.signals import Started, Synced
from assetwatchd.model.values import AssetKey
from support.core_rig import now, running, virtual
from support.entries import asking
from support.fake_upstream import FakeUpstream
from support.hub_client import Client, rigged
from support.turns import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

CALLS_A_TURN_MAX = 25_000
"""Of functions, mostly of C, at 0.1 us each: two or three milliseconds. At one go they would be 40,000 at least."""
NAMES_OF_WATCH = 10_000
NAMES_OF_BATCH = 1_000
CALLER = ("host", "connection", "call")


def names(count: int) -> list[str]:
    """So many ids."""
    return [f"s3://bucket/{number}.usd" for number in range(count)]


@virtual
async def test_a_filter_of_many_names() -> None:
    """Its digest is made in parts."""
    keys = [AssetKey("dam", name) for name in names(NAMES_OF_WATCH)]
    with counted() as turns:
        await Filter.of(keys, [], [])
        await asyncio.sleep(0)
    assert 0 < turns.most <= CALLS_A_TURN_MAX


@pytest.mark.parametrize("named", [True, False], ids=["named", "whole"])
@virtual
async def test_the_snapshot_of_many_assets(named: bool) -> None:  # noqa: FBT001 - a parameter of the case
    """What a stream begins with is looked for in parts, and encoded as it is taken."""
    async with rigged() as rig:
        assets = [f"dam/{name}" for name in names(2 * NAMES_OF_WATCH)]
        await rig.change(*assets)
        what = asking(names=assets[:NAMES_OF_WATCH]) if named else asking(sources=["dam"])
        client = Client(rig.hub, what, permits=0)
        await rig.settle()
        with counted() as turns:
            client.allow(2)
            await rig.settle()
        assert client.all(Started)
        assert not client.all(Synced)
        assert 0 < turns.most <= CALLS_A_TURN_MAX
        await client.cancel()


async def most_calls(rig_names: Sequence[str], *, leave_after_s: float | None) -> int:
    """Have many assets read that were never seen; return the calls of the longest turn."""
    upstream = FakeUpstream(batch_max=100)
    upstream.latency_s = 0.05
    async with running(upstream, rate_per_s=20, assets_max=10_000, reads_per_peer_max=10_000) as rig:
        await asyncio.sleep(1)
        with counted() as turns:
            reading = asyncio.create_task(rig.scheduler.read(rig_names, max_age_s=0, caller=CALLER))
            await asyncio.wait([reading], timeout=leave_after_s)
            reading.cancel()
            await asyncio.wait([reading])
            await asyncio.sleep(5)
        assert now() > 5
        assert reading.cancelled() is (leave_after_s is not None)
    return turns.most


@pytest.mark.parametrize("leave_after_s", [None, 0.02, 0.2], ids=["read", "given up", "given up halfway"])
@virtual
async def test_many_reads_of_one_call(leave_after_s: float | None) -> None:
    """They are asked for, given up, and kept of interest in parts."""
    assert 0 < await most_calls(names(NAMES_OF_BATCH), leave_after_s=leave_after_s) <= CALLS_A_TURN_MAX


@virtual
async def test_who_named_many_assets_leaves() -> None:
    """The places of ten thousand first reads are given up in parts."""
    upstream = FakeUpstream()
    upstream.open.clear()
    async with running(upstream, assets_max=20_000, unknown_share_per_peer=1.0) as rig:
        interest = rig.scheduler.interest(names(NAMES_OF_WATCH), caller=CALLER)
        await asyncio.sleep(0.1)
        with counted() as turns:
            for _ in rig.scheduler.leave(CALLER):
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert 0 < turns.most <= CALLS_A_TURN_MAX
        interest.end()

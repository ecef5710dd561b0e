"""The pace of rounds when the process has no time left: regular, and rarer while streams begin."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pace import JOINING_S, ROUND_JOINING_S_MAX, ROUND_S_MAX
from assetwatchd.changefeed.signals import Batch
from assetwatchd.changefeed.store.memory import MemoryStore
from support.entries import FRAMING, asking
from support.hub_client import Client, Rig, virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.unit

DAM = asking(sources=["dam"])
CHANGE_EVERY_S = 0.01


@asynccontextmanager
async def saturated(share: float = 1.0) -> AsyncIterator[Rig]:
    """A hub in a thread that works for that share of the time, over a store in which something changes all the time."""
    store, loop = MemoryStore(), asyncio.get_running_loop()
    rig = Rig(store, Hub(store, FRAMING, heartbeat_s=1000.0, worked_s=lambda: share * loop.time()))
    tasks = [asyncio.create_task(rig.hub.run()), asyncio.create_task(changing(rig))]
    try:
        yield rig
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def changing(rig: Rig) -> None:
    """Change one asset after another."""
    for number in itertools.count():
        await rig.change(f"dam/{number % 100}")
        await asyncio.sleep(CHANGE_EVERY_S)


def gaps(client: Client) -> list[float]:
    """Return the seconds between one message with changes and the next."""
    came = [taken.at for taken in client.taken if isinstance(taken.signal, Batch)]
    return [later - earlier for earlier, later in itertools.pairwise(came)]


@virtual
async def test_a_saturated_process_still_has_its_rounds() -> None:
    """However long the watchers of a round take, the next begins after the longest pause."""
    async with saturated() as rig:
        client = Client(rig.hub, DAM)
        await asyncio.sleep(10)
        assert gaps(client)[3:] == pytest.approx([ROUND_S_MAX] * len(gaps(client)[3:]), abs=CHANGE_EVERY_S)
        assert len(gaps(client)) >= 10 / (ROUND_S_MAX + CHANGE_EVERY_S) - 10


@virtual
async def test_rounds_leave_a_fifth_of_the_time() -> None:
    """A thread that rests for so long has a round for each change; one that rests less has them rarely."""
    async with saturated(0.79) as rested, saturated(0.85) as busy:
        clients = [Client(rig.hub, DAM) for rig in (rested, busy)]
        await asyncio.sleep(10)
        assert max(gaps(clients[0])[3:]) == pytest.approx(CHANGE_EVERY_S, abs=CHANGE_EVERY_S)
        assert min(gaps(clients[1])[3:]) == pytest.approx(ROUND_S_MAX, abs=CHANGE_EVERY_S)


@virtual
async def test_rounds_make_room_for_streams_that_begin_and_for_no_longer() -> None:
    """While a stream has begun since the last round there is more time to the next; then all is as before."""
    async with saturated() as rig:
        client = Client(rig.hub, DAM)
        await asyncio.sleep(5)
        newcomers = [Client(rig.hub, DAM)]
        await asyncio.sleep(5)
        assert sum(gap > 2 * ROUND_S_MAX for gap in gaps(client)[3:]) == 1
        assert max(gaps(client)[3:]) == pytest.approx(ROUND_JOINING_S_MAX, abs=CHANGE_EVERY_S)
        for _ in range(100):
            newcomers.append(Client(rig.hub, DAM))
            await asyncio.sleep(0.05)
        assert max(gaps(client)[3:]) == pytest.approx(ROUND_JOINING_S_MAX, abs=CHANGE_EVERY_S)


@virtual
async def test_a_client_that_is_slow_to_catch_up_slows_rounds_for_a_moment_only() -> None:
    """Messages it takes at once make rounds rarer, those that it takes late do not."""
    async with saturated() as rig:
        client = Client(rig.hub, DAM)
        await asyncio.sleep(1)
        await rig.commit(*[f"dam/{number}" for number in range(2000)])
        await asyncio.sleep(4)
        settled = len(gaps(client))
        slow = Client(rig.hub, DAM, permits=1)
        for _ in range(15):
            await asyncio.sleep(0.5)
            slow.allow(1)
        assert len(slow.all(Batch)) > 10
        assert 1 <= sum(gap > 2 * ROUND_S_MAX for gap in gaps(client)[settled:]) <= JOINING_S / 0.5

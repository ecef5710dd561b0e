"""Streams opened by the thousand, and cancelled by their clients or ended by the server, leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random

import pytest

from assetwatchd.changefeed.store.memory import MemoryStore
from faults.rig import limits
from faults.rig.recorder import Recorder, Wanted, cancel_at_random
from faults.rig.upstreams import OMN, PIECES
from faults.rig.world import Plan, world
from faults.runs import run
from faults.serving import census
from support.watch_service import WatchService

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

STREAMS = int(os.environ.get("FAULTS_STREAMS", "5000"))
TOGETHER = 200
"""So many are open when the server stops."""


def test_cancelled_streams_leave_nothing() -> None:
    """T93: tasks, files and watchers are back to what they were; memory is within 10 % + 20 MiB."""

    async def scenario() -> tuple[dict[str, int], dict[str, int]]:
        async with world(Plan(10, recorders=2, churners=0, stalled=0)) as running:
            running.work(50)
            address = f"127.0.0.1:{running.server.port}"
            rng = random.Random(1)  # noqa: S311 - a run must be repeatable
            await cancel_at_random(address, Wanted(frozenset({OMN})), count=500, rng=rng)  # every buffer has grown
            await asyncio.sleep(1)
            before = (await running.server.ask(census=True))["census"]
            await cancel_at_random(address, Wanted(frozenset({OMN, PIECES})), count=STREAMS, rng=rng)
            await running.rest()
            assert await running.settles(10), running.unsettled()
            after = before
            for _ in range(20):
                after = (await running.server.ask(census=True))["census"]
                if after["watchers"] == len(running.recorders):
                    break
                await asyncio.sleep(0.5)
            return before, after

    before, after = run(scenario())
    assert after["watchers"] == 2
    assert list(limits.i14(before, after)) == []


def test_streams_ended_by_the_server_leave_nothing() -> None:
    """T93: a server that stops with 200 streams open, again and again, ends each for its reason, and keeps none."""

    async def scenario() -> tuple[dict[str, int], dict[str, int]]:
        for _ in range(3):
            await _stopped_with_streams()  # every buffer has grown
        before = _census()
        for _ in range(STREAMS // TOGETHER):
            await _stopped_with_streams()
        return before, _census()

    before, after = run(scenario())
    assert after["watchers"] == 0
    assert list(limits.i14(before, after)) == []


async def _stopped_with_streams() -> None:
    """Start a service, open streams, stop it while they are open."""
    service = WatchService(MemoryStore(), [OMN], heartbeat_s=5)
    await service.start()
    crowd = [
        Recorder(f"crowd-{number}", lambda: service.address, Wanted(frozenset({OMN}))) for number in range(TOGETHER)
    ]
    following = [asyncio.create_task(each.run()) for each in crowd]
    async with asyncio.timeout(30):
        while not all(each.synced for each in crowd):  # noqa: ASYNC110 - it becomes true elsewhere
            await asyncio.sleep(0.01)
        service.stop()
        await service.ended()
        while not all(each.streams[0].end for each in crowd):  # noqa: ASYNC110 - it becomes true elsewhere
            await asyncio.sleep(0.01)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    ends = [each.streams[0].end for each in crowd]
    assert {(end.code, end.reason) for end in ends if end} == {("UNAVAILABLE", "SERVER_DRAINING")}


def _census() -> dict[str, int]:
    gc.collect()
    return census()

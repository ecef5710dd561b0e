"""Streams opened and cancelled by the thousand leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from faults.rig import limits
from faults.rig.recorder import Wanted, cancel_at_random
from faults.rig.upstreams import OMN, PIECES
from faults.rig.world import Plan, world
from faults.runs import run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

STREAMS = int(os.environ.get("FAULTS_STREAMS", "5000"))


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

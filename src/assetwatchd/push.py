"""The bridge from pushed notices to the scheduler: connect while somebody is interested, again and again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from assetwatchd import schedule, telemetry
from assetwatchd.errors import Unreachable, UpstreamError
from assetwatchd.upstream import Listed, Removed, Touched

if TYPE_CHECKING:
    import random

    from assetwatchd.scheduler import Scheduler
    from assetwatchd.upstream import Notice

INTEREST_CHECK_S = 1.0
"""How often it is looked whether anybody is (still) interested."""


async def follow(scheduler: Scheduler, *, rng: random.Random) -> None:
    """Keep a push connection as long as there is interest, with growing pauses between tries; until cancelled."""
    failures = 0
    while True:
        while not scheduler.interested:  # noqa: ASYNC110 - interest also lapses by the clock, which sets no event
            await asyncio.sleep(INTEREST_CHECK_S)
        try:
            await _connected(scheduler)
            scheduler.push_ended(None)
        except UpstreamError as error:
            failures = 1 if scheduler.pushing else failures + 1
            scheduler.push_ended(error)
            await asyncio.sleep(schedule.backoff_s(failures, scheduler.settings, rng))


async def _connected(scheduler: Scheduler) -> None:
    """Take in notices until interest is gone; raises when the connection ends by itself."""
    reading = asyncio.create_task(_read(scheduler), name=f"{scheduler.name}.notices")
    try:
        while scheduler.interested:
            done, _ = await asyncio.wait([reading], timeout=INTEREST_CHECK_S)
            if done:
                reading.result()
                raise Unreachable("the push connection was closed")
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _read(scheduler: Scheduler) -> None:
    async with aclosing(scheduler.upstream.notices()) as notices:
        async for notice in notices:
            _take(scheduler, notice)


def _take(scheduler: Scheduler, notice: Notice) -> None:
    scheduler.figures.notices += 1
    match notice:
        case Listed(asset_ids):
            scheduler.push_listed(asset_ids)
        case Touched(asset_ids):
            scheduler.push_touched(asset_ids)
        case Removed(observation):
            with telemetry.push(scheduler.name, 1):
                scheduler.push_removed(observation, telemetry.traceparent())

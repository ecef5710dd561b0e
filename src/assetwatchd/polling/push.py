"""The bridge from pushed notices to the scheduler: connect while somebody is interested, again and again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.polling import intervals
from assetwatchd.polling.conditions import refuses_us
from assetwatchd.polling.plan import SLICE, slices
from assetwatchd.runtime import telemetry
from assetwatchd.upstream.port import Listed, Removed, Touched

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from assetwatchd.polling.scheduler import Scheduler
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Notice

INTEREST_CHECK_S = 1.0
"""How often it is looked whether anybody is still interested."""
WAITING_MAX = 2000
"""So many sightings may wait for the road before no more notices are taken in: a store that is slow is waited for."""
WAITING_CHECK_S = 0.02
"""How often it is looked whether they have become fewer: the road takes some hundred in that time."""

log = logging.getLogger(__name__)


async def follow(scheduler: Scheduler, *, rng: random.Random) -> None:
    """Keep a push connection as long as there is interest, with growing pauses between tries; until cancelled.

    A pause is at least backoff_first_s, and what the upstream asked for; they grow until a connection has lasted for
    backoff_max_s. It ends when all that fails is to be tried at once, though not before what the upstream asked for.
    """
    settings = scheduler.settings
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        if not scheduler.interested:
            await scheduler.push_ended(None)
            await scheduler.interest_begun()
        began, secret = loop.time(), scheduler.secrets.digest()
        error = await _connected(scheduler)
        if error is None:
            await scheduler.push_ended(None)
            continue
        if refuses_us(error):
            scheduler.secrets.refused(secret)
        failures = 1 if loop.time() - began >= settings.backoff_max_s else failures + 1
        asked_s = error.retry_after_s or 0.0
        pause_s = max(asked_s, _pause_s(error, failures, settings, rng))
        scheduler.retried.clear()
        await scheduler.push_ended(error, pause_s=pause_s)
        await asyncio.sleep(asked_s)
        await _retried(scheduler, pause_s - asked_s)


def _pause_s(error: UpstreamError, failures: int, settings: SourceSettings, rng: random.Random) -> float:
    if refuses_us(error):
        return intervals.refused_backoff_s(failures, settings, rng)
    return max(settings.backoff_first_s, intervals.backoff_s(failures, settings, rng))


async def _retried(scheduler: Scheduler, timeout_s: float) -> None:
    """Return once all that fails is to be tried at once, or after timeout_s."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await scheduler.retried.wait()


async def _connected(scheduler: Scheduler) -> UpstreamError | None:
    """Take in notices until the connection ends by itself (return why) or interest is gone (return None)."""
    reading = asyncio.create_task(_read(scheduler), name=f"{scheduler.name}.notices")
    try:
        while scheduler.interested:
            done, _ = await asyncio.wait([reading], timeout=INTEREST_CHECK_S)
            if done:
                return reading.result()
        return None
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _read(scheduler: Scheduler) -> UpstreamError:
    """Take in notices until the connection ends; return why it did."""
    left_out = 0
    try:
        async with aclosing(scheduler.upstream.notices()) as notices:
            async for notice in notices:
                left_out = _complain(scheduler, left_out, left_out + await _take(scheduler, notice))
    except UpstreamError as error:
        return error
    except Exception:  # an adapter's defect must not stop the other sources
        log.exception("source %s: the adapter failed", scheduler.name)
        return BadAnswer("the adapter failed; see the log")
    return Unreachable("the push connection was closed")


async def _take(scheduler: Scheduler, notice: Notice) -> int:
    """Take in a notice; return for how many of its assets there was no room."""
    left_out = 0
    scheduler.figures.notices += 1
    match notice:
        case Listed():
            await scheduler.push_listed(notice)
        case Touched(asset_ids):
            with telemetry.push(scheduler.name, len(asset_ids)):
                left_out = await _touched(scheduler, asset_ids)
        case Removed(observation):
            with telemetry.push(scheduler.name, 1):
                scheduler.push_removed(observation, telemetry.traceparent())
            await _until_few_wait(scheduler)
    return left_out


async def _touched(scheduler: Scheduler, asset_ids: Iterable[str]) -> int:
    """Have assets read anew, slice by slice; return for how many there was no room."""
    left_out = 0
    for some in slices(asset_ids):
        left_out += scheduler.push_touched(some)
        if len(some) == SLICE:
            await asyncio.sleep(0)
    return left_out


async def _until_few_wait(scheduler: Scheduler) -> None:
    """Wait until few sightings wait for the road; further notices wait at their server meanwhile."""
    while scheduler.waiting > WAITING_MAX:  # noqa: ASYNC110 - nobody rings when one of many went
        await asyncio.sleep(WAITING_CHECK_S)


def _complain(scheduler: Scheduler, before: int, now: int) -> int:
    """Log, once per connection, that there is no room for all of its assets; return `now`."""
    if now and not before:
        limit = scheduler.settings.assets_max
        log.warning("source %s tells of assets beyond assets_max = %d; those are left out", scheduler.name, limit)
    return now

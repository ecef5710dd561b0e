"""The bridge from pushed notices to what is planned: connect while somebody is interested, again and again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from assetwatchd.changefeed.pipeline import Sighting
from assetwatchd.model.errors import BadAnswer, Unanswered, Unreachable, UpstreamError
from assetwatchd.polling.pauses import Tries
from assetwatchd.polling.target import AT_ONCE
from assetwatchd.polling.verdicts import refuses_us
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.logs import Defects, Seldom
from assetwatchd.runtime.slices import SLICE, slices
from assetwatchd.upstream.port import Listed, Removed, Touched

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from assetwatchd.model.values import Observation
    from assetwatchd.polling.calls import Calls
    from assetwatchd.polling.outcomes import Outcomes
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.report import Report
    from assetwatchd.polling.stats import Figures
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Notice, Upstream

LINE_EVERY_S = 600.0
"""So seldom the log has that a source tells of more assets than there is room for."""
INTEREST_CHECK_S = 1.0
"""How often it is looked whether anybody is still interested."""
STEADY_TIMES = 2
"""A connection is well once it has lasted for so many times as long as one that answers nothing takes to show it."""
WAITING_MAX = 2000
"""So many sightings may wait for the road before no more notices are taken in: a store that is slow is waited for."""
WAITING_CHECK_S = 0.02
"""How often it is looked whether they have become fewer: the road takes some hundred in that time."""

log = logging.getLogger(__name__)


class Push:
    """What one source pushes, taken in.

    interest_begun: set by whoever becomes interested, so that a connection is made.
    taking_in: what the connection began with is being taken in, so not all that changed meanwhile is known.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        plan: Plan,
        report: Report,
        calls: Calls,
        outcomes: Outcomes,
        figures: Figures,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.interest_begun = asyncio.Event()
        self.taking_in = False
        self._name = name
        self._defects = Defects(name)
        self._upstream = upstream
        self._settings = settings
        self._plan = plan
        self._report = report
        self._calls = calls
        self._outcomes = outcomes
        self._figures = figures
        self._now = now
        self._rng = rng
        self._seldom = Seldom(LINE_EVERY_S, 1, loop_time)

    # The connection --------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keep a connection as long as there is interest, with growing pauses between tries; until cancelled.

        A pause is at least backoff_first_s, and what the upstream asked for; they grow until a connection has lasted
        (`_lasting_s`). It ends when all that fails is to be tried at once, though not before what the upstream asked
        for.
        """
        tries = Tries(self._settings, self._rng)
        while True:
            if not self._plan.interests.any:
                await self.ended(None)
                await self._interest()
            began, secret = loop_time(), self._calls.secrets.digest()
            error = await self._connected()
            if error is None:
                await self.ended(None)
                continue
            if refuses_us(error):
                self._calls.secrets.refused(secret)
            if loop_time() - began >= self._lasting_s(error):
                tries.over()
            asked_s = error.retry_after_s or 0.0
            pause_s = max(asked_s, self._settings.backoff_first_s, tries.failed(error))
            self._calls.retried.clear()
            await self.ended(error, pause_s=pause_s)
            await asyncio.sleep(asked_s)
            await self._retried(pause_s - asked_s)

    def _lasting_s(self, error: UpstreamError) -> float:
        """How long a connection must last to have been well: one that answers nothing may seem so for a while."""
        shows_after_s = error.shows_after_s if isinstance(error, Unanswered) else 0.0
        return max(self._settings.backoff_max_s, STEADY_TIMES * shows_after_s)

    async def _interest(self) -> None:
        """Return when somebody is interested."""
        while not self._plan.interests.any:
            self.interest_begun.clear()
            await self.interest_begun.wait()

    async def _retried(self, timeout_s: float) -> None:
        """Return once all that fails is to be tried at once, or after timeout_s."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._calls.retried.wait()

    async def _connected(self) -> UpstreamError | None:
        """Take in notices until the connection ends by itself (return why) or interest is gone (return None)."""
        reading = asyncio.create_task(self._read(), name=f"{self._name}.notices")
        try:
            while self._plan.interests.any:
                done, _ = await asyncio.wait([reading], timeout=INTEREST_CHECK_S)
                if done:
                    return reading.result()
            return None
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> UpstreamError:
        """Take in notices until the connection ends; return why it did."""
        try:
            async with aclosing(self._upstream.notices()) as notices:
                async for notice in notices:
                    if await self._take(notice):
                        self._complain()
        except UpstreamError as error:
            return error
        except Exception as error:  # noqa: BLE001 - an adapter's defect must not stop the other sources
            self._defects.log(error)
            return BadAnswer("the adapter failed; see the log")
        return Unreachable("the push connection was closed")

    def _complain(self) -> None:
        """Log, now and then, that there is no room for all of its assets: each connection may find that anew."""
        if self._seldom.more("assets_max") is not None:
            limit = self._settings.assets_max
            log.warning("source %s tells of assets beyond assets_max = %d; those are left out", self._name, limit)

    # Notices ---------------------------------------------------------------------------------------------------------

    async def _take(self, notice: Notice) -> int:
        """Take in a notice; return for how many of its assets there was no room."""
        left_out = 0
        self._figures.notices += 1
        match notice:
            case Listed():
                await self.listed(notice)
            case Touched(asset_ids):
                with telemetry.push(self._name, len(asset_ids)):
                    left_out = await self._touched(asset_ids)
            case Removed(observation):
                with telemetry.push(self._name, 1):
                    self.removed(observation, telemetry.traceparent())
                await self._until_few_wait()
        return left_out

    async def listed(self, listed: Listed) -> None:
        """Take in the list that the connection began with, or had made, and have all of it read anew.

        Anything may have happened. It is read in line, so that what is asked for, or changes now, need not wait for it.
        """
        self._plan.pushing = self.taking_in = True
        self._report.note(self._report.health.push_lost("", self._now()))
        self._calls.try_again()
        await self._calls.lists.take(listed, pushed=True)
        for targets in self._plan.targets.slices():
            for target in targets:
                if target.presence.listed:
                    self._touch(target, at=loop_time())
            await asyncio.sleep(0)
        self.taking_in = False

    async def _touched(self, asset_ids: Iterable[str]) -> int:
        """Have assets read anew, slice by slice; return for how many there was no room."""
        left_out = 0
        for some in slices(asset_ids):
            left_out += self.touched(some)
            if len(some) == SLICE:
                await asyncio.sleep(0)
        return left_out

    def touched(self, asset_ids: Iterable[str]) -> int:
        """Have assets that changed upstream read at once, and once more if they are being read.

        Returns for how many of them there was no room.
        """
        left_out = 0
        for asset_id in asset_ids:
            if self._plan.targets.get(asset_id) is None and self._upstream.check(asset_id) is not None:
                continue  # nobody could ask for it
            if (target := self._plan.targets.admit(asset_id)) is None:
                left_out += 1
                self._calls.lists.no_room()
            else:
                self._touch(target, at=AT_ONCE)
        return left_out

    def _touch(self, target: Target, *, at: float) -> None:
        self._plan.targets.pushed(target)
        if self._plan.interests.wanted(target):
            self._plan.touch(target, at=at)
        else:
            self._outcomes.outdated(target)

    def removed(self, observation: Observation, traceparent: str) -> None:
        """Take in that an asset was deleted. Any read under way is older and no longer counts."""
        if (target := self._plan.targets.get(observation.asset_id)) is not None:
            self._plan.targets.unlist(target)
            self._outcomes.told(target, Sighting(observation, self._now(), traceparent))

    async def _until_few_wait(self) -> None:
        """Wait until few sightings wait for the road; further notices wait at their server meanwhile."""
        while self._outcomes.waiting > WAITING_MAX:  # noqa: ASYNC110 - nobody rings when one of many went
            await asyncio.sleep(WAITING_CHECK_S)

    async def ended(self, error: UpstreamError | None, *, pause_s: float = 0.0) -> None:
        """Poll as with any other source, since the connection broke, or was given up (None), until it is back.

        pause_s: until it is tried again.
        """
        was_pushing, self._plan.pushing = self._plan.pushing, False
        self.taking_in = False
        health, now = self._report.health, self._now()
        if health.failing:
            self._calls.lists.lose()
        if error is None:
            self._report.note(health.push_lost("", now))
        else:
            lasting_s = self._lasting_s(error)
            self._report.note(health.push_lost(str(error), now, next_at=now + pause_s, steady_s=lasting_s))
            self._calls.request_probe()
        self._plan.changed.set()
        if was_pushing:
            await self._plan.poll_again()

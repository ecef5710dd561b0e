"""The lists of one source: when the next is made, what one says of all there is, and what follows when one fails.

It owns when a list is due and what the last one lacked. How assets are compared with a list is in listing.py, and that
a list is a call like others, with its turn and its limit, is for calls.py, which alone has lists made.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from assetwatchd.changefeed.pipeline import Sighting
from assetwatchd.model.errors import AssetRejected, BadAnswer
from assetwatchd.model.values import GONE, Observation, State
from assetwatchd.polling import listing
from assetwatchd.polling.pauses import Tries
from assetwatchd.polling.target import AT_ONCE, NEVER
from assetwatchd.runtime import telemetry
from assetwatchd.runtime.clock import loop_time

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from assetwatchd.model.errors import UpstreamError
    from assetwatchd.polling.outcomes import Outcomes
    from assetwatchd.polling.plan import Plan
    from assetwatchd.polling.report import Report
    from assetwatchd.polling.stats import Figures
    from assetwatchd.polling.target import Target
    from assetwatchd.settings.schema import SourceSettings
    from assetwatchd.upstream.port import Listed, Upstream


class Lists:
    """When a source is listed, and what comes of it.

    made: set once there is a list that is recent enough for those who wait for one. lacking: what of all there is was
    not taken in, and why; empty when all was. under_way: one is being made, and no other may be.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        settings: SourceSettings,
        *,
        report: Report,
        plan: Plan,
        outcomes: Outcomes,
        figures: Figures,
        rng: random.Random,
    ) -> None:
        self.made = asyncio.Event()
        self.lacking = ""
        self._name = name
        self._upstream = upstream
        self._settings = settings
        self._report = report
        self._health = report.health
        self._plan = plan
        self._outcomes = outcomes
        self._figures = figures
        self._tries = Tries(settings, rng)
        self._comparing = asyncio.Lock()
        self.under_way = False
        self._at = AT_ONCE

    # When one is made ------------------------------------------------------------------------------------------------

    def next_at(self) -> float:
        """When the next is made; NEVER while one is, nobody wants one, or changes are pushed."""
        can = self._upstream.capabilities
        pushed = self._plan.pushing or not self._health.push.state.is_amiss
        polled = can.enumerates and not (can.pushes and pushed)
        return self._at if polled and self._plan.whole_wanted and not self.under_way else NEVER

    def begin(self) -> None:
        """Have no other made until `end`."""
        self.under_way = True

    def end(self) -> None:
        """Let another be made: this one was taken in, or has failed."""
        self.under_way = False

    def want(self) -> None:
        """Have one made, unless the last one is recent, or is kept up to date by what is pushed."""
        if self._at <= loop_time() and not (self.under_way or self._plan.pushing):
            self.made.clear()
        self._say_what_lacks()
        self._plan.changed.set()

    def retry(self) -> None:
        """Have one made at once if they fail."""
        if self._health.list.state.is_amiss:
            self._at = loop_time()

    @property
    def complete(self) -> bool:
        """Whether, since the source could last not be read or listed, there was a list, and all of it was taken in."""
        return self.made.is_set() and not (self.lacking or self._health.list.state.is_amiss)

    def lose(self) -> None:
        """Let the last one count no more, and have one made, as assets may have come; not while changes are pushed."""
        if not self._plan.pushing:
            self.made.clear()
            self._at = loop_time()  # one under way sets that anew when it is made, and will do

    # What one says ---------------------------------------------------------------------------------------------------

    async def make(self, pace: Callable[[], None]) -> None:
        """Ask the upstream for one and take it in; pace: called before each further call. Raises: UpstreamError."""
        try:
            with telemetry.poll(self._name, 0):
                listed = await self._upstream.enumerate()
                if not listed.unreadable and (target := await listing.proof(self._plan, listed.asset_ids)) is not None:
                    pace()
                    await self._confirm_gone(target)
        finally:
            self._at = loop_time() + self._settings.enumerate_interval_s
        await self.take(listed, pushed=False)

    async def _confirm_gone(self, target: Target) -> None:
        """Read one asset of those that a list lacks altogether. Raises: BadAnswer when it is there."""
        self._figures.asset_reads += 1
        with contextlib.suppress(AssetRejected):
            answers = await self._upstream.observe([target.asset_id])
            if not answers or not isinstance(answers[0], Observation) or answers[0].state not in GONE:
                raise BadAnswer("a list has nothing of all that was there, and yet it can be read")

    async def take(self, listed: Listed, *, pushed: bool) -> None:
        """Compare a list with what was listed before, one list after the other.

        While changes are pushed, the list that the connection began with is the newest, and of what it lacks they tell.
        What a list lacks of which something cannot be read may be that, so it is left to the reads.
        """
        async with self._comparing:
            if self._plan.pushing and not pushed:
                return
            asset_ids, unfit = await listing.fitting(listed.asset_ids, self._upstream.check)
            gone = None if listed.unreadable else _nothing if pushed else self._gone
            left_out = await listing.compare(self._plan, asset_ids, gone)
        self._tries.over()
        lacking = [listed.lack] if listed.lack else []
        if unfit:
            lacking.append(f"{len(unfit)} ids that cannot be one, e.g. {unfit[0][:100]!a}")
        if left_out:
            lacking.append(f"{left_out} {self._beyond}")
        self._at = loop_time() + self._settings.enumerate_interval_s
        self.lacking = "; ".join(lacking)
        next_at = None if self._plan.pushing else self._report.wall(self._at)
        self._report.note(self._health.listed(self._report.now(), lacking=self.lacking, next_at=next_at))
        self.made.set()

    @property
    def _beyond(self) -> str:
        return f"assets beyond assets_max = {self._settings.assets_max}"

    def no_room(self) -> None:
        """Note that something was pushed that there is no room for."""
        self.lacking = self.lacking or self._beyond
        self._say_what_lacks()

    def _say_what_lacks(self) -> None:
        if self.lacking and self._plan.whole_wanted and not self._health.list.state.is_amiss:
            self._report.note(self._health.lacks(self.lacking, self._report.now()))

    def _gone(self, target: Target) -> None:
        self._plan.targets.unlist(target)
        self._outcomes.told(target, Sighting(Observation(target.asset_id, State.MISSING), self._report.now()))

    # When one fails, or cannot tell ----------------------------------------------------------------------------------

    def failed(self, error: UpstreamError) -> None:
        """Try again after a pause.

        That begins with the end of the silence that was asked for: reads keep that too, and are to have a turn.
        """
        pauses = self._report.pauses
        pauses.asked(error, loop_time())
        self._at = max(loop_time(), pauses.until) + self._tries.failed(error)
        next_at = self._report.wall(self._at)
        self._report.note(self._health.list_failed(error, self._report.now(), next_at=next_at))
        self.doubt()

    def doubt(self) -> None:
        """Let the last one count no more once it is known that none can be made now."""
        if self._health.list.failures and self._health.list.state.is_amiss:
            self.made.clear()

    def forget_if_unwanted(self) -> None:
        """Say nothing of lists any more that fail if nobody wants one: none is made that could tell."""
        if self._health.list.state.is_amiss and not self._plan.whole_wanted:
            self._report.note(self._health.list_unwanted(self._report.now()))


def _nothing(_: Target) -> None:
    pass

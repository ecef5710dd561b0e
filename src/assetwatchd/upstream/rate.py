"""Paces requests to one upstream: one budget, whatever they are for. Knows nothing of the requests."""

from __future__ import annotations

import asyncio

from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.timelimit import TIMER_S


class Pacer:
    """Lets at most rate_per_s requests per second start, in the order in which they ask.

    Beyond a thousand per second the requests of one millisecond start together, as timers are no finer.
    """

    def __init__(self, rate_per_s: float) -> None:
        self._every_s = 1 / rate_per_s
        self._slack_s = slack_s(rate_per_s)
        self.free_at = 0.0

    async def slot(self) -> None:
        """Wait until a request may start, and count it."""
        # The slot is taken before the wait, so who asks later gets a later slot though both wait at the same time. A
        # cancelled wait leaves its slot unused, which keeps the rate.
        now = loop_time()
        start = max(now, self.free_at)
        self.free_at = start + self._every_s
        if start > now + self._slack_s:
            await asyncio.sleep(start - now)


def slack_s(rate_per_s: float) -> float:
    """Return how much earlier than its slot a request may start, as no timer can measure a shorter wait."""
    return max(0.0, TIMER_S - 1 / rate_per_s)

"""How often requests to one upstream may start, whatever they are for."""

from __future__ import annotations

import asyncio

from assetwatchd.runtime.clock import loop_time
from assetwatchd.runtime.timelimit import TIMER_S


class Pacer:
    """Lets requests start at most rate_per_s a second, in the order in which they ask.

    Beyond a thousand a second those of one turn of the clock start together.
    """

    def __init__(self, rate_per_s: float) -> None:
        self._every_s = 1 / rate_per_s
        self._slack_s = slack_s(rate_per_s)
        self.free_at = 0.0

    async def turn(self) -> None:
        """Wait until a request may start, and let it be counted."""
        now = loop_time()
        start = max(now, self.free_at)
        self.free_at = start + self._every_s
        if start > now + self._slack_s:
            await asyncio.sleep(start - now)


def slack_s(rate_per_s: float) -> float:
    """Return how much earlier than its turn a request may start, for a wait that no timer can measure."""
    return max(0.0, TIMER_S - 1 / rate_per_s)

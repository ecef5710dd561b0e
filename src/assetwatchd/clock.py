"""Time as a thing one is given, so that a test can own it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where the core reads the time and waits for it."""

    def time(self) -> float:
        """Seconds since 1970, for people and upstreams."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump, for intervals."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return delay_s seconds later."""
        ...


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Return delay_s seconds later."""
        await asyncio.sleep(delay_s)

"""The event loop's time, by which everything is planned; what was seen is stamped in seconds since 1970 instead."""

from __future__ import annotations

import asyncio
import time

BOOTTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux alone has the former."""


def loop_time() -> float:
    """Return the event loop's time in seconds, from a zero of its own."""
    return asyncio.get_running_loop().time()


def lasting_time() -> float:
    """Return seconds that go on while the machine is suspended, where it can tell, from a zero of its own.

    What others count by their own clocks, as the end of a lease, is counted here by this one: the loop's may stand.
    """
    return time.clock_gettime(BOOTTIME)

"""The event loop's time, by which everything is planned; what was seen is stamped in seconds since 1970 instead."""

from __future__ import annotations

import asyncio


def loop_time() -> float:
    """Return the event loop's time in seconds, from a zero of its own."""
    return asyncio.get_running_loop().time()

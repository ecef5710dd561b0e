"""Waits for what becomes so elsewhere, in another process, and tells nobody."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.05


async def until(so: Callable[[], bool], within_s: float) -> bool:
    """Return whether it becomes so in that time."""
    end = time.monotonic() + within_s
    while not (now := so()) and time.monotonic() < end:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(LOOK_S)
    return now

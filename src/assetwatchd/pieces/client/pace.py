"""Bound how much of a stream is taken in a second: the rest is not read, and TCP has it wait at its server.

Pure but for the clock. It counts what it is told, and knows neither sockets nor frames.
"""

from __future__ import annotations

import asyncio
import math

FRAMES_PER_S = 500
"""Frames of any kind, pings among them: each costs a turn of the event loop. A user's work makes a few a second."""
IDS_PER_S = 20_000
"""Assets that frames speak of, at 20 us each: what a list of everything takes, and an import of many."""
BYTES_PER_S = 16 * 1024 * 1024
"""Text: reading it in a process beside goes at some 30 MB a second."""
CREDIT_S = 5.0
"""So much of all three may come at once after a quiet time: the list that a stream begins with, a burst of changes."""


class Pace:
    """Measure what a connection has brought by the seconds that it should have taken for that."""

    def __init__(self) -> None:
        self._paid_until = -math.inf

    def note(self, *, frames: int = 0, ids: int = 0, size_bytes: int = 0) -> None:
        """Take note of what came."""
        seconds = frames / FRAMES_PER_S + ids / IDS_PER_S + size_bytes / BYTES_PER_S
        self._paid_until = max(self._paid_until, _now() - CREDIT_S) + seconds

    async def wait(self) -> None:
        """Return when more may come; others always go on before, even where there is nothing to wait for."""
        await asyncio.sleep(max(0.0, self._paid_until - _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()

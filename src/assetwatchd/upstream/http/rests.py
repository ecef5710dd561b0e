"""Measures what an upstream's answers cost of the event loop, and makes a pause after that, for everybody else.

So an upstream whose answers are costly to take in, by intent or not, has a fifth of the event loop at most.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

COSTLY_S = 0.001
"""Taking in RECEIVE_BYTES of an ordinary body costs a twentieth of this, reading an ordinary small answer a tenth."""
REST_TIMES = 4
"""After what was costly, there is no more of it for so many times as long; its part of the event loop is a fifth."""


class Rest:
    """The pause of one kind of work for one upstream. until: when it may go on, by the event loop's clock."""

    def __init__(self) -> None:
        self.until = 0.0

    def spent(self, seconds: float) -> None:
        """Add a rest for work that took so many seconds of the processor; none for what was not costly."""
        if seconds >= COSTLY_S:
            self.until = max(self.until, asyncio.get_running_loop().time()) + REST_TIMES * seconds

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Note what the block costs, in time of the processor; it awaits nothing."""
        # Processor time, not wall time: on a busy machine others would be blamed on the upstream.
        began = time.thread_time()
        try:
            yield
        finally:
            self.spent(time.thread_time() - began)

    async def over(self) -> None:
        """Return once there was a rest for all that was costly by now; at once when nothing was."""
        if (wait_s := self.until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait_s)

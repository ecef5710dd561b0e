"""Decide when all there is, is asked for anew, since there was news that nobody could read, maybe of any asset.

It wraps the frames of one stream and asks for nothing itself: how all is asked for belongs to who follows the stream.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatchd.pieces.client.frames import Frame

ANEW_FIRST_S = 1.0
"""So soon after all was asked for it may be again: what a user does on two assets is some seconds apart."""
ANEW_S_MAX = 60.0
"""That doubles up to this while there is more that nobody can read: all of it costs the server a list each time, and as
many reads as there are assets."""


class Doubted:
    """Iterate over the frames of a stream, and None whenever all there is, is to be asked for.

    At once for the first that nobody can read, and so for the first after a quiet time; then once for all that came in
    a pause, which grows. Asking is over, and the pause begins, when the next frame is asked for.
    Raises: as the iteration over the frames.
    """

    def __init__(self, news: AsyncIterator[Frame]) -> None:
        self._news = news
        self._owed = self._asking = False
        self._pause_s = ANEW_FIRST_S
        self._due = -math.inf

    def __aiter__(self) -> Doubted:
        return self

    async def __anext__(self) -> Frame | None:
        if self._asking:
            self._asked(_now())
        if self._owed and _now() >= self._due:  # looked at first, as a stream may bring more at any time
            self._ask()
            return None
        try:
            async with asyncio.timeout_at(self._due if self._owed else None):
                frame = await anext(self._news)
        except TimeoutError:
            self._ask()
            return None
        self._owed |= bool(frame.unreadable)
        return frame

    def _ask(self) -> None:
        self._owed, self._asking = False, True

    def _asked(self, now: float) -> None:
        """Begin the next pause, once there was an answer; after a time without doubt it is the first again."""
        quiet = now - self._due >= self._pause_s
        self._pause_s = ANEW_FIRST_S if quiet else min(2 * self._pause_s, ANEW_S_MAX)
        self._asking, self._due = False, now + self._pause_s


def _now() -> float:
    return asyncio.get_running_loop().time()

"""A time limit shared by many blocks of many tasks: what asyncio.timeout does, with one timer instead of one per block.

Knows nothing of what the blocks do.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMER_S = 0.001
"""The event loop's clock and timers count milliseconds: a shorter wait would be spent turning in circles."""


class TimeLimit:
    """Its blocks may all last equally long, so the one that was entered first is the first to have lasted too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._blocks: dict[_Block, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def block(self) -> _Block:
        """Make a block for one `with` of the current task. Raises from there: TimeoutError, once it was cancelled."""
        return _Block(self)

    def enter(self, block: _Block) -> None:
        """Watch a block from now on."""
        # All blocks last equally long, so a dict, which keeps the order of entering, is a queue ordered by deadline,
        # and one timer for its head is enough.
        loop = asyncio.get_running_loop()
        block.until = loop.time() + self.seconds
        self._blocks[block] = None
        if self._timer is None:
            self._timer = loop.call_at(block.until, self._look)

    def leave(self, block: _Block) -> None:
        """Watch a block no more; without any, no timer is left behind."""
        self._blocks.pop(block, None)
        if not self._blocks and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Cancel what has lasted too long, and look again when the next one will have."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while (first := next(iter(self._blocks), None)) is not None:
            if first.until > now:
                self._timer = loop.call_at(max(first.until, now + TIMER_S), self._look)
                break
            del self._blocks[first]
            first.end()


class _Block:
    """One `with`, which ends as that of asyncio.timeout does: cancelled from elsewhere too, it stays cancelled."""

    __slots__ = ("_cancelling", "_ended", "_limit", "_task", "until")

    until: float

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._ended = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a with of a coroutine, which some task runs
        self._task, self._cancelling = task, task.cancelling()
        self._limit.enter(self)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limit.leave(self)
        # As in asyncio.timeout: take our own cancellation back, and turn it into TimeoutError only if nobody else has
        # cancelled the task meanwhile. Without that count a cancelled task would go on with a TimeoutError.
        if self._ended and self._task.uncancel() <= self._cancelling and exc_type is asyncio.CancelledError:
            raise TimeoutError from exc

    def end(self) -> None:
        """Cancel the task of the block, as its time is up."""
        self._ended = True
        self._task.cancel()

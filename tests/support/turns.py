"""Work in steps, not seconds: how many functions of Python are called before others have a turn of the event loop."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Steps:
    """most: calls of functions in the longest turn so far. turns: how many there were."""

    def __init__(self) -> None:
        self.most = 0
        self.turns = 0
        self._calls = 0
        self._loop = asyncio.get_running_loop()
        self._counting = True

    def count(self, _frame: Any, event: str, _what: Any) -> None:
        """Take note of a call."""
        self._calls += event in {"call", "c_call"}

    def turn(self) -> None:
        """Take note of the end of a turn."""
        self.most, self._calls, self.turns = max(self.most, self._calls), 0, self.turns + 1
        if self._counting:
            self._loop.call_soon(self.turn)

    def end(self) -> None:
        """Count no more."""
        self._counting = False


@contextmanager
def counted() -> Iterator[Steps]:
    """Count while the context lasts."""
    steps = Steps()
    steps.turn()
    sys.setprofile(steps.count)
    try:
        yield steps
    finally:
        sys.setprofile(None)
        steps.end()

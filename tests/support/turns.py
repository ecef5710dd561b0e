"""Work in steps, not seconds: how many functions of Python are called before others have a turn of the event loop."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Turns:
    """most: calls of functions in the longest turn so far."""

    def __init__(self) -> None:
        self.most = 0
        self._calls = 0
        self._loop = asyncio.get_running_loop()
        self._counting = True

    def note(self, _frame: Any, event: str, _what: Any) -> None:
        """Take note of a call."""
        self._calls += event in {"call", "c_call"}

    def turn(self) -> None:
        """Take note of the end of a turn."""
        self.most, self._calls = max(self.most, self._calls), 0
        if self._counting:
            self._loop.call_soon(self.turn)

    def end(self) -> None:
        """Count no more."""
        self._counting = False


@contextmanager
def counted() -> Iterator[Turns]:
    """Count while the context lasts."""
    turns = Turns()
    turns.turn()
    sys.setprofile(turns.note)
    try:
        yield turns
    finally:
        sys.setprofile(None)
        turns.end()

"""Work in steps, not seconds: how many functions of Python are called before others have a turn of the event loop."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Turns:
    """most: calls of functions in the longest turn so far."""

    def __init__(self) -> None:
        self.most = 0
        self._calls = 0

    def note(self, _frame: Any, event: str, _what: Any) -> None:
        """Take note of a call."""
        self._calls += event in {"call", "c_call"}

    def over(self) -> None:
        """Take note of the end of a turn."""
        self.most, self._calls = max(self.most, self._calls), 0


@contextmanager
def counted() -> Iterator[Turns]:
    """Count while the context lasts, in the running loop, which must be one of asyncio's own."""
    turns, loop = Turns(), asyncio.get_running_loop()
    turn: Callable[[], None] = loop._run_once  # type: ignore[attr-defined]  # the one place where a turn begins and ends

    def run_once() -> None:
        turn()
        turns.over()

    debug = loop.get_debug()
    loop.set_debug(False)  # what it looks up for messages is no work of the product
    with patch.object(loop, "_run_once", run_once):
        sys.setprofile(turns.note)
        try:
            yield turns
        finally:
            sys.setprofile(None)
            turns.over()
            loop.set_debug(debug)

"""An event loop whose time jumps to the next timer when nothing else is to be done: no test waits for real.

Only for code without sockets; a loop that would sleep for ever raises instead.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits: where the loop would, its time is moved on instead."""

    jumped = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that nothing will bring")
            self.jumped += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 1,000 s."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds that pass only when everybody waits."""
        return 1000.0 + self._virtual.jumped


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run main to its end in virtual time, with asyncio's debug mode on."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop, debug=True) as runner:
        return runner.run(main)

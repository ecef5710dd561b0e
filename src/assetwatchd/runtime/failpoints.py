"""Named places where a test may delay, fail or end the process; in service nothing is armed and nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_armed: dict[str, Callable[[], Awaitable[None]]] = {}


async def hit(name: str) -> None:
    """Run what is armed for this name; without that return at once, without yielding to the event loop."""
    # The empty dict is tested first: this stands on the hot path, and costs one truth test in service.
    if _armed and (act := _armed.get(name)) is not None:
        await act()


def arm(name: str, act: Callable[[], Awaitable[None]]) -> None:
    """Have every caller of `hit` with this name await act()."""
    _armed[name] = act


def disarm() -> None:
    """Disarm all failpoints."""
    _armed.clear()

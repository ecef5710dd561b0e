"""Named places where a test may delay, fail or end the process; in service nothing is armed and nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_armed: dict[str, Callable[[], Awaitable[None]]] = {}


async def hit(name: str) -> None:
    """Do what is armed at this place; without that it does not even let others run."""
    if _armed and (act := _armed.get(name)) is not None:
        await act()


def arm(name: str, act: Callable[[], Awaitable[None]]) -> None:
    """Let everybody who passes this place do this."""
    _armed[name] = act


def disarm() -> None:
    """Take everything away."""
    _armed.clear()

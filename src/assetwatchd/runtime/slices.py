"""Work on much in parts, everybody else having a turn of the event loop between two of them."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

T = TypeVar("T")

SLICE = 200
"""So many assets of a large source are gone through before everybody else has a turn: some milliseconds."""


def parts_of(items: Iterable[T], length: int) -> Iterator[list[T]]:
    """Yield so many items at a time."""
    remaining = iter(items)
    while part := list(islice(remaining, length)):
        yield part


def slices(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield SLICE items at a time."""
    return parts_of(items, SLICE)


async def in_turns(parts: Iterable[T]) -> AsyncIterator[T]:
    """Yield parts as they come, each in a turn of its own; what is of one part does not wait."""
    for number, part in enumerate(parts):
        if number:
            await asyncio.sleep(0)
        yield part


async def finish(steps: Iterator[object]) -> None:
    """Take all steps, others having a turn after each; if cancelled, all that remain at one go."""
    try:
        async for _ in in_turns(steps):
            pass
    finally:
        for _ in steps:
            pass

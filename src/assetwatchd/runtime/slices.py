"""Splits long work into parts, and yields to the event loop between them, so that it holds up nobody.

Knows nothing of the items. What is true of them may change between two parts: callers look again.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

T = TypeVar("T")

SLICE = 200
"""So many assets of a large source are gone through before the event loop serves others: some milliseconds."""


def parts_of(items: Iterable[T], length: int) -> Iterator[list[T]]:
    """Yield lists of length items, the last one perhaps shorter."""
    remaining = iter(items)
    while part := list(islice(remaining, length)):
        yield part


def parts_within(items: Iterable[T], length: int, weigh: Callable[[T], int], weight: int) -> Iterator[list[T]]:
    """Yield lists of up to length items that weigh no more than weight together; one that does alone is one."""
    part: list[T] = []
    room = weight
    for item in items:
        room -= weigh(item)
        if part and (len(part) == length or room < 0):
            yield part
            part, room = [], weight - weigh(item)
        part.append(item)
    if part:
        yield part


def slices(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield lists of SLICE items, the last one perhaps shorter."""
    return parts_of(items, SLICE)


async def in_turns(parts: Iterable[T]) -> AsyncIterator[T]:
    """Yield parts as they come, yielding to the event loop between two; work of a single part does not wait."""
    for number, part in enumerate(parts):
        if number:  # not before the first: most work is one part, and shall not wait for the loop
            await asyncio.sleep(0)
        yield part


async def finish(steps: Iterator[object]) -> None:
    """Take all steps, yielding to the event loop after each; if cancelled, take the remaining ones at once."""
    try:
        async for _ in in_turns(steps):
            pass
    finally:
        # Steps give something up (places, interest): half done they would leave what nobody gives up any more.
        for _ in steps:
            pass

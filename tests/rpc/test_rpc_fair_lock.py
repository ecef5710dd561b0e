"""FairLock: one at a time, callers in rotation, and nobody's end holds up the others."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.rpc.fair_lock import FairLock

pytestmark = pytest.mark.unit


class Line:
    """Callers that take the lock, hold it for some iterations of the loop, and note when they had it."""

    def __init__(self) -> None:
        self.lock = FairLock()
        self.holding = 0
        self.had: list[str] = []

    async def stand(self, caller: str, hold: int = 1) -> None:
        """Have the lock once."""
        async with self.lock.held(caller):
            self.holding += 1
            assert self.holding == 1
            self.had.append(caller)
            try:
                for _ in range(hold):
                    await asyncio.sleep(0)
            finally:
                self.holding -= 1


async def test_who_is_cancelled_as_the_lock_comes_passes_it_on() -> None:
    """The lock was given to it, and it never ran again to take it."""
    line = Line()
    async with line.lock.held("a"):
        second, third = (asyncio.create_task(line.stand(caller)) for caller in "bc")
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait_for(third, 5)
    assert line.had == ["c"]


async def test_callers_are_served_in_rotation() -> None:
    """Three of one, two of another, one of a third that came last."""
    line = Line()
    await asyncio.gather(*[line.stand(caller) for caller in "aaaabbc"])
    assert "".join(line.had) == "aabcaba"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans(), st.integers(0, 4)), max_size=20))
async def test_every_holder_ends_and_the_next_begins(steps: list[tuple[str, int, bool, int]]) -> None:
    """Whoever comes, holds, or is cancelled, at any moment: never two at once, and in the end nobody waits."""
    line, tasks = Line(), list[asyncio.Task[None]]()
    for caller, hold, cancelled, pause in steps:
        tasks.append(asyncio.create_task(line.stand(caller, hold)))
        for _ in range(pause):
            await asyncio.sleep(0)
        if cancelled:
            tasks[len(tasks) // 2].cancel()
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in ended)
    await asyncio.wait_for(line.stand("d"), 5)

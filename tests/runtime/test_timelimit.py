"""A time limit that many share ends each of them as asyncio.timeout would."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
import asyncio
from typing import TypeVarTuple

import pytest

from assetwatchd.runtime.timelimit import TimeLimit
from support import virtual_time
from support.core_rig import now, virtual

pytestmark = pytest.mark.unit


async def lasting(limit: TimeLimit, wait_s: float) -> float:
    """Work for that long under a limit; return when it was over, having lasted too long or not."""
    try:
        with limit.block():
            await asyncio.sleep(wait_s)
    except TimeoutError:
        return -now()
    return now()


@virtual
async def test_what_lasts_too_long_is_ended() -> None:
    """Each block is ended when its own time is up, and no other with it, whenever it began."""
    limit, began = TimeLimit(5), now()
    waits = [(0, 9), (1, 2), (2, 9), (6, 4.5), (7, 9)]

    async def after(pause_s: float, wait_s: float) -> float:
        await asyncio.sleep(pause_s)
        return await lasting(limit, wait_s)

    ends = await asyncio.gather(*[after(*wait) for wait in waits])
    assert ends == [-(began + 5), began + 3, -(began + 7), began + 10.5, -(began + 12)]


@virtual
async def test_a_task_may_use_it_again() -> None:
    """A block that was ended leaves its task as it was: the next one has all the time, and can be ended too."""
    limit, began = TimeLimit(5), now()
    assert [await lasting(limit, wait_s) for wait_s in (9, 4, 9)] == [-(began + 5), began + 9, -(began + 14)]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@virtual
async def test_cancelled_from_elsewhere_it_stays_cancelled() -> None:
    """Who cancels the task ends it, also in the very moment in which time is up."""
    limit = TimeLimit(5)
    for cancel_after_s in (2, 5):
        task = asyncio.create_task(lasting(limit, 9))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(cancel_after_s, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task


@virtual
async def test_the_inner_limit_ends_the_inner_block() -> None:
    """Limits may be nested: the one whose time is up ends what is inside it, and only that."""
    outer, inner, began = TimeLimit(5), TimeLimit(3), now()
    with outer.block():
        assert await lasting(inner, 9) == -(began + 3)
        await asyncio.sleep(1)

    async def three_times() -> None:
        with outer.block():
            for _ in range(3):
                assert await lasting(inner, 2) == now()

    with pytest.raises(TimeoutError):
        await three_times()
    assert now() == began + 9


@virtual
async def test_another_error_goes_on() -> None:
    """What a block raises itself is not replaced, even after its time was up."""
    limit = TimeLimit(5)
    with pytest.raises(KeyError), limit.block():
        raise KeyError

    async def misread() -> None:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), limit.block():
        await misread()


Ts = TypeVarTuple("Ts")


class CountingLoop(virtual_time.VirtualTimeLoop):
    """Counts the timers it is asked for, and knows which were not given back."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Note it."""
        self.timers.append(super().call_at(when, callback, *args, context=context))
        return self.timers[-1]


def test_one_timer_does_for_many() -> None:
    """However many blocks come and go while there is one, there is one timer; and none is left without any."""

    async def main() -> None:
        limit, turn = TimeLimit(1000), asyncio.Event()

        async def under_limit() -> None:
            for _ in range(20):
                with limit.block():
                    await turn.wait()

        working = [asyncio.create_task(under_limit()) for _ in range(5)]
        await asyncio.sleep(0)
        turn.set()
        await asyncio.gather(*working)

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, CountingLoop)
        runner.run(main())
        assert sum(timer.when() >= 2000 for timer in loop.timers) <= 25
        assert all(timer.cancelled() for timer in loop.timers if timer.when() >= 2000)

"""When all there is, is asked for anew because of frames that nobody could read."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.pieces.client import doubts
from assetwatchd.pieces.client.doubts import ANEW_FIRST_S, ANEW_S_MAX, Doubted
from assetwatchd.pieces.client.frames import Frame
from support import virtual_time
from support.core_rig import now, virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

UNREADABLE, READABLE = Frame((), unreadable=1), Frame(())
ANSWER_S = 0.25


class News:
    """Frames, each so long after the one before, and then nothing; they wait for who reads them."""

    def __init__(self, frames: Sequence[tuple[float, Frame]]) -> None:
        self.last_s = 0.0
        self._waiting: asyncio.Queue[Frame] = asyncio.Queue()
        for after_s, frame in frames:
            self.last_s += after_s
            asyncio.get_running_loop().call_later(self.last_s, self._waiting.put_nowait, frame)

    def __aiter__(self) -> News:
        return self

    async def __anext__(self) -> Frame:
        return await self._waiting.get()


async def followed(frames: Sequence[tuple[float, Frame]]) -> tuple[list[Frame], list[float], list[float]]:
    """Return the frames that came, when some could not be read, and when all was asked for."""
    found, doubted_at, asked = [], [], []
    coming = News(frames)
    try:
        async with asyncio.timeout(coming.last_s + 3 * ANEW_S_MAX):
            async for frame in Doubted(coming):
                if frame is None:
                    asked.append(now())
                    await asyncio.sleep(ANSWER_S)
                    continue
                found.append(frame)
                if frame.unreadable:
                    doubted_at.append(now())
    except TimeoutError:
        return found, doubted_at, asked
    raise AssertionError("it ended by itself")


gaps_s = st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 30.0, 59.0, 61.0, 200.0])


@given(st.lists(st.tuples(gaps_s, st.sampled_from([READABLE, UNREADABLE])), max_size=80))
def test_all_is_asked_for(frames: list[tuple[float, Frame]]) -> None:
    """Soon after each frame that could not be read, seldom while there are many, and never without one."""

    async def check() -> None:
        found, doubted_at, asked = await followed(frames)
        assert sorted(found) == sorted(frame for _, frame in frames)
        for doubt in doubted_at:
            assert min((at - doubt for at in asked if at >= doubt), default=math.inf) <= ANEW_S_MAX + ANSWER_S
        for before, at in zip([-math.inf, *asked], asked, strict=False):
            assert at - before >= ANEW_FIRST_S + ANSWER_S
            assert any(before <= doubt <= at for doubt in doubted_at)

    virtual_time.run(check())


@virtual
async def test_of_many_doubts_few_are_asked_about() -> None:
    """Half an hour of them, one a second, costs about one list a minute."""
    _, doubted_at, asked = await followed([(1.0, UNREADABLE)] * 1800)
    assert len(doubted_at) == 1800
    assert 30 <= len(asked) <= 36


@virtual
async def test_doubts_far_apart_are_asked_about_at_once() -> None:
    """Each of them, as the first: nobody waits for longer than the server takes."""
    _, doubted_at, asked = await followed([(2 * ANEW_FIRST_S + 1, UNREADABLE)] * 20)
    assert asked == doubted_at


class Flood:
    """There is always one more frame to take; each takes STEP_S to be taken in. time_s: what that comes to."""

    STEP_S = 0.01

    def __init__(self, *first: Frame) -> None:
        self.time_s = 0.0
        self._first = list(first)

    def __aiter__(self) -> Flood:
        return self

    async def __anext__(self) -> Frame:
        self.time_s += self.STEP_S
        return self._first.pop(0) if self._first else READABLE


async def test_a_flood_puts_nothing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody waits for a frame, what is owed is asked for in time."""
    flood = Flood(UNREADABLE, UNREADABLE)
    monkeypatch.setattr(doubts, "_now", lambda: flood.time_s)
    asked = [flood.time_s async for frame in first(300, Doubted(flood)) if frame is None]
    assert asked == [pytest.approx(flood.STEP_S), pytest.approx(ANEW_FIRST_S, abs=3 * flood.STEP_S)]


async def first(count: int, doubted: Doubted) -> AsyncIterator[Frame | None]:
    """Yield the first of them."""
    for _ in range(count):
        yield await anext(doubted)


async def test_it_can_be_given_up() -> None:
    """Whoever waits for a frame may be cancelled, and ask again."""
    doubted = Doubted(News([(0.01, READABLE)]))
    waiting = asyncio.ensure_future(anext(doubted))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await anext(doubted) == READABLE

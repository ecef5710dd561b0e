"""Work in parts, with turns of others in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from assetwatchd.runtime.slices import finish, in_turns
from support.core_rig import virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit


def counting(done: list[int], count: int) -> Iterator[None]:
    """Note each step."""
    for number in range(count):
        done.append(number)
        yield


@virtual
async def test_others_have_a_turn_between_two_parts() -> None:
    """Who comes after a part began is served before the next begins."""
    seen: list[str] = []
    async for part in in_turns("abc"):
        seen.append(part)
        asyncio.get_running_loop().call_soon(seen.append, part.upper())
    assert seen == ["a", "A", "b", "B", "c"]


@virtual
async def test_one_part_does_not_wait() -> None:
    """A small thing is as quick as if there were no parts."""
    seen: list[str] = []
    asyncio.get_running_loop().call_soon(seen.append, "later")
    seen += [part async for part in in_turns(["only"])]
    assert seen == ["only"]


@virtual
async def test_all_is_finished_though_it_is_cancelled() -> None:
    """What has to be done is: in turns, or at one go once nobody waits for it."""
    done: list[int] = []
    finishing = asyncio.create_task(finish(counting(done, 100)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert 0 < len(done) < 100
    finishing.cancel()
    await asyncio.wait([finishing])
    assert finishing.cancelled()
    assert done == list(range(100))

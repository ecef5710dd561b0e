"""A client that takes nothing ends its stream in time; one that is slow, or has nothing to take, does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assetwatchd.model.errors import SlowConsumer
from assetwatchd.rpc.write_deadline import WriteDeadline
from support.hub_client import virtual

pytestmark = pytest.mark.unit

LIMIT_S = 60.0


class Taking:
    """A stream whose client takes each message so many seconds after it was written; None: never."""

    def __init__(self, *after_s: float | None) -> None:
        self._after_s = list(after_s)

    async def write(self, _message: bytes) -> None:
        """Return when the message is taken."""
        after_s = self._after_s.pop(0)
        await (asyncio.Event().wait() if after_s is None else asyncio.sleep(after_s))


async def ended(*after_s: float | None, idle_s: float = 0.0) -> float:
    """Write to a client, idle_s before each message; return how long after the start it was given up."""
    began = asyncio.get_running_loop().time()
    with pytest.raises(SlowConsumer, match="for 60 s"):
        await written(*after_s, idle_s=idle_s)
    return asyncio.get_running_loop().time() - began


async def written(*after_s: float | None, idle_s: float = 0.0) -> None:
    """Write to a client that takes each message so late."""
    context: Any = Taking(*after_s)
    async with WriteDeadline(context, LIMIT_S) as client:
        for _ in after_s:
            await asyncio.sleep(idle_s)
            await client.write(b"")


@virtual
async def test_a_message_that_is_never_taken_ends_the_stream_at_the_limit() -> None:
    """Counted from the write, whenever that was, to the moment."""
    assert await ended(None) == pytest.approx(LIMIT_S)
    assert await ended(59.0, None) == pytest.approx(59.0 + LIMIT_S)
    assert await ended(None, idle_s=100.0) == pytest.approx(100.0 + LIMIT_S)
    assert await ended(30.0, 30.0, 30.0, None, idle_s=7.0) == pytest.approx(4 * 7.0 + 90.0 + LIMIT_S)


@virtual
async def test_slow_and_idle_streams_go_on() -> None:
    """Whoever takes each message just within the limit, or has none for long, is never cut off."""
    await written(*[59.9] * 20)
    await written(*[1.0] * 20, idle_s=1000.0)


@virtual
async def test_what_else_ends_a_stream_passes() -> None:
    """Errors and cancellations are as they were."""
    context: Any = Taking()
    for error in (ValueError, asyncio.CancelledError):
        with pytest.raises(error):
            async with WriteDeadline(context, LIMIT_S):
                raise error

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from assetwatch_client import Synced, Watch
from assetwatchd.model import errors
from support.scripted_watch import (
    HANG,
    batch,
    started,
    synced,
    until,
    upsert,
)
from support.watch_client import FIRST, calling, following


def tasks() -> set[asyncio.Task[object]]:
    """Return every task but those in which a server of gRPC waits for the next call: it makes them anew."""
    return {task for task in asyncio.all_tasks() if "coro=<AioServer." not in repr(task)}


@pytest.mark.parametrize("moment", ["reading", "pausing", "connecting"])
async def test_cancelled_watch_leaves_nothing(moment: str) -> None:
    """Cancelled while it reads, pauses or waits for a server, a watch leaves no task here and no stream there."""
    draining = errors.ServerDraining(retry_after_s=60)
    async with calling((*FIRST, draining if moment == "pausing" else HANG)) as (server, client):
        before = tasks()
        async with following(client):
            await until(lambda: "Synced" in client.told)
            if moment == "connecting":
                client.backoff.first_s = 0
                await server.kill()
            await until(lambda: moment == "reading" or client.breaks)
            await asyncio.sleep(0.01)
        await until(lambda: not server.open)
        await until(lambda: tasks() <= before)


async def test_consumer_that_breaks_out_leaves_nothing() -> None:
    """`break` alone, without aclosing, ends the stream: no task here, no stream there."""
    async with calling((*FIRST, HANG)) as (server, client):
        before = tasks()
        async for event in client.watch.events():
            if isinstance(event, Synced):
                break
        await until(lambda: not server.open)
        await until(lambda: tasks() <= before)


async def test_consumer_that_fails_leaves_nothing() -> None:
    """An exception of the consumer passes, and ends the stream."""
    async with calling((*FIRST, HANG)) as (server, client):
        mine = TimeoutError("mine")  # a kind the watch knows too: it must not take it for its own
        with pytest.raises(TimeoutError, match="mine"):
            await failing(client.watch, mine)
        await until(lambda: not server.open)
    assert client.breaks == []


async def failing(watching: Watch, error: Exception) -> None:
    """Take one event in, and fail."""
    async with aclosing(watching.events()) as events:
        async for _ in events:
            raise error


async def test_small_windows_hold_the_server_back() -> None:
    """A reader that stops holds a server back after little: the rest is not under way, and can be conflated there."""
    kilobytes = [batch(upsert("x" * 1000, 1))] * 4000
    async with (
        calling((started(), synced("t1"), *kilobytes, HANG)) as (server, client),
        aclosing(client.watch.messages()) as messages,
    ):
        for _ in range(100):
            await anext(messages)
        sent = -1
        while sent != server.sent:
            sent = server.sent
            await asyncio.sleep(0.1)
    assert sent < 1000

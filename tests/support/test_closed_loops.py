"""An earlier test's loop is nobody's error; anything else that goes wrong in a loop is told."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

import grpc
import pytest

from support.raw_calls import one_to_one

if TYPE_CHECKING:
    from collections.abc import Coroutine

UNUSED = "/a.Service/Method"


def run(work: Coroutine[object, object, None]) -> None:
    """Run in a loop of its own, as every test is."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def left_behind(channel: grpc.aio.Channel) -> None:
    """Begin a call that ends, unanswered, when this loop has been closed."""
    one_to_one(channel, UNUSED)(b"", timeout=0.1)
    await asyncio.sleep(0.02)


async def next_test(address: str) -> None:
    """Make a call that ends later than that one."""
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await one_to_one(channel, UNUSED)(b"", timeout=0.3)


async def mistaken() -> None:
    """Fail where nobody waits for it."""

    def fail() -> None:
        raise RuntimeError("Event loop is closed")

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)


def test_what_ends_after_its_test_is_not_told_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """The call of a closed loop ends while another runs: no error is logged there, though a callback that fails is."""
    channels = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        async def first() -> None:
            channels.append(grpc.aio.insecure_channel(address))
            await left_behind(channels[0])

        run(first())
        run(next_test(address))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    run(mistaken())
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["asyncio"]

"""A watch that is refused without a reason before its first message: tried a few times again, and then said."""

from __future__ import annotations

import grpc
import pytest

from assetwatch_client import UNEXPLAINED_MAX, Unexplained, connect, wait
from assetwatchd import errors
from support.fake_service import Refusal, serving
from support.scripted_watch import HANG, Script, until
from support.watch_client import AGAIN, FIRST, FOUND, Pauses, calling, following

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
BARE = [EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
FAILED: Script = [errors.SlowConsumer("slow")]
"""An end with a reason."""


@pytest.mark.parametrize("code", BARE, ids=lambda code: code.name)
async def test_a_call_that_was_never_served_is_given_up(code: grpc.StatusCode) -> None:
    """After the last try the error says how often, with which code, what may be wrong, and what was said."""
    async with calling(*[[code]] * (UNEXPLAINED_MAX + 1)) as (server, client):
        with pytest.raises(Unexplained, match=f"{UNEXPLAINED_MAX + 1} times in a row with {code.name}") as raised:
            await client.follow()
    assert raised.value.code() is code
    assert "ask for less at a time (nobody knows why)" in str(raised.value.details())
    assert len(server.requests) == raised.value.times == UNEXPLAINED_MAX + 1
    assert len(client.breaks) == UNEXPLAINED_MAX


async def test_one_that_was_served_is_given_up_when_it_is_too_large() -> None:
    """RESOURCE_EXHAUSTED comes again with the same call, however long that was well."""
    async with calling(FIRST, *[[EXHAUSTED]] * (UNEXPLAINED_MAX + 1)) as (_, client):
        with pytest.raises(Unexplained):
            await client.follow()
    assert client.told == [FOUND, "Synced"]


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN], ids=lambda code: code.name)
async def test_one_that_was_served_outlives_a_server_in_trouble(code: grpc.StatusCode) -> None:
    """The call can be served: what fails now is the server or a proxy, and may be well again."""
    async with calling(FIRST, *[[code]] * (2 * UNEXPLAINED_MAX), [*AGAIN, HANG]) as (_, client):
        await client.until_told(FOUND, "Synced", "Synced")


@pytest.mark.parametrize("between", [FAILED, FIRST, [grpc.StatusCode.UNAVAILABLE]], ids=["reason", "served", "down"])
async def test_only_refusals_in_a_row_count(between: Script) -> None:
    """An end with a reason, a stream with a message, or a server that is not there, and they are counted anew."""
    refused: list[Script] = [[EXHAUSTED]] * UNEXPLAINED_MAX
    async with calling(*refused, between, *refused, [*FIRST, HANG]) as (server, client), following(client):
        await until(lambda: len(server.requests) == 2 * UNEXPLAINED_MAX + 2 and client.watch.resume_token)


async def test_a_wait_is_given_up_too() -> None:
    """Though there is time left."""
    async with serving() as fake, connect(fake.address) as channel:
        fake.refusal = Refusal(EXHAUSTED, "too large")
        with pytest.raises(Unexplained, match="too large"):
            await wait(channel, "dam", "tid:1", timeout_s=60, backoff=Pauses())
    assert len(fake.requests) == UNEXPLAINED_MAX + 1

"""A watch that is refused without a reason before its first message: tried a few times again, and then said."""

from __future__ import annotations

import grpc
import pytest

from assetwatch_client import UNEXPLAINED_MAX, Unexplained, connect, wait
from assetwatchd.model import errors
from support.fake_service import Refusal, serving
from support.scripted_watch import HANG, Script, batch, started, until, upsert
from support.watch_client import AGAIN, FIRST, FOUND, Pauses, calling, following

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
BARE = [EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
PASSING = [
    *BARE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
]
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


@pytest.mark.parametrize("code", PASSING, ids=lambda code: code.name)
async def test_an_end_without_a_reason_says_nothing_of_the_token(code: grpc.StatusCode) -> None:
    """Whatever gRPC or a proxy says: a pause as after a failure, then the same token, and the map is kept."""
    async with calling([*FIRST, code], [*AGAIN, HANG]) as (server, client):
        await client.until_told(FOUND, "Synced", "Synced")
        assert [key.asset_id for key in client.watch.statuses] == ["a"]
    assert server.tokens == ["", "t1"]
    assert len(client.backoff.noted) == 1


async def test_one_without_a_map_begins_without_a_token() -> None:
    """A watch made anew sends none, until it was told of one; nor does it offer one that only its own map can use."""
    broken: Script = (started(), batch(upsert("a", 1), token="t1"), HANG)
    async with calling(broken) as (server, client), following(client):
        await until(lambda: client.told == [FOUND])
        assert client.watch.resume_token == ""
    assert server.tokens == [""]


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

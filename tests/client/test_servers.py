"""Several servers over one store: a client goes on at the next, with its token."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest

from assetwatch_client import Servers, connect_any, wait
from assetwatchd.model import errors
from support.fake_service import Refusal, serving
from support.scripted_watch import HANG, Script, ScriptedServer, batch, started, synced, until, upsert
from support.watch_client import AGAIN, FIRST, FOUND, Client, following

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

THEN: Script = (started(resumed=True), batch(upsert("b", 2), token="t2"), synced("t2"), HANG)


@asynccontextmanager
async def standing_still() -> AsyncIterator[str]:
    """Take connections and say nothing, as a process that is stopped does; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"127.0.0.1:{silent.getsockname()[1]}"


def nobody() -> str:
    """Return an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def calling(
    *scripts: list[Script], patient: bool = True
) -> AsyncIterator[tuple[list[ScriptedServer], Client, Servers]]:
    """Run a server for each list of scripts, and a client of all of them."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(ScriptedServer(*each)) for each in scripts]
        both = await stack.enter_async_context(connect_any(each.target for each in servers))
        yield servers, Client(both, patient=patient), both


async def test_a_watch_goes_on_at_the_next_server() -> None:
    """A server that dies is left: the next is given the last token, and nothing is told twice."""
    async with calling([(*FIRST, HANG)], [THEN]) as ((first, second), client, _), following(client):
        await until(lambda: client.told == [FOUND, "Synced"])
        assert not second.requests
        await first.kill()
        await until(lambda: len(client.told) == 4)
    assert client.told == [FOUND, "Synced", "Upsert b@2", "Synced"]
    assert (first.tokens, second.tokens) == ([""], ["t1"])
    assert len(client.breaks) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        errors.ServerDraining(retry_after_s=0.01),
        errors.SlowConsumer("slow"),
        errors.TooManyStreams("full", subject="server", limit=1, retry_after_s=0.01),
        grpc.StatusCode.INTERNAL,
    ],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_whatever_may_be_better_elsewhere_is_tried_there(refusal: errors.CallError | grpc.StatusCode) -> None:
    """A server that drains, has no patience, is full or in trouble is left for the next one."""
    async with calling([[*FIRST, refusal]], [THEN]) as ((_, second), client, _), following(client):
        await until(lambda: len(client.told) == 4)
    assert second.tokens == ["t1"]


async def test_an_end_that_is_no_failure_moves_nobody() -> None:
    """A stream that reached its age, and a token that is of no use any more, are asked for at the same server again."""
    expired = errors.ResumeTokenExpired(requested=1, oldest=5, current=9)
    async with (
        calling([FIRST, [expired], (*AGAIN, HANG)], [THEN]) as ((first, second), client, _),
        following(client),
    ):
        await until(lambda: len(client.told) == 3)
    assert first.tokens == ["", "t1", ""]
    assert not second.requests


async def test_a_silent_stream_goes_on_elsewhere() -> None:
    """A server that stands still, its connection open, is left after three heartbeats."""
    silent: Script = (started(heartbeat_s=0.02), *FIRST[1:], HANG)
    async with calling([silent], [THEN]) as ((_, second), client, _), following(client):
        await until(lambda: len(client.told) == 4)
    assert second.tokens == ["t1"]
    assert isinstance(client.breaks[0], TimeoutError)


async def test_it_comes_round_to_the_first() -> None:
    """After the last comes the first again, if it is back by then."""
    async with calling([(*FIRST, HANG), THEN], [(*AGAIN, HANG)]) as ((first, second), client, _), following(client):
        await until(lambda: len(client.told) == 2)
        await first.kill()
        await until(lambda: len(client.told) == 3)
        await first.start()
        await second.kill()
        await until(lambda: len(client.told) == 5)
    assert client.told == [FOUND, "Synced", "Synced", "Upsert b@2", "Synced"]


@pytest.mark.parametrize("patient", [True, False])
async def test_who_is_not_there_is_passed_over(*, patient: bool) -> None:
    """A first server that is gone, or stands still, does not keep a client from the next; an impatient one neither."""
    async with (
        ScriptedServer((*FIRST, HANG)) as there,
        standing_still() as still,
        connect_any([nobody(), *([still] if patient else []), there.target]) as servers,
    ):
        if patient:
            await servers.ready()
        await Client(servers, patient=patient).until_told(FOUND, "Synced")


async def test_an_impatient_watch_raises_when_nobody_answers() -> None:
    """patient=False: each of them is tried once, and then it is an error."""
    async with connect_any([nobody(), nobody()]) as servers:
        client = Client(servers, patient=False)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.until_told("nothing")
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(client.breaks) == 1


async def test_a_wrong_call_is_not_tried_elsewhere() -> None:
    """What only the caller can mend is raised by the first that says so."""
    wrong = errors.InvalidRequest(("sources[0]", "is empty"))
    async with calling([[wrong]], [THEN]) as ((_, second), client, _):
        with pytest.raises(grpc.aio.AioRpcError):
            await client.until_told("nothing")
    assert not second.requests


async def test_a_wait_goes_on_at_the_next_server() -> None:
    """A wait that a server ends because it drains is asked for again at the next."""
    async with serving() as first, serving() as second, connect_any([first.address, second.address]) as servers:
        first.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "stopping", "SERVER_DRAINING")
        answer = await wait(servers, "dam", "tid:1", timeout_s=30)
    assert answer.condition_met
    assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_no_wait_for_a_server_is_left_behind() -> None:
    """Once one can be called nobody waits for the others any more."""
    async with ScriptedServer() as there, standing_still() as still, connect_any([still, there.target]) as servers:
        before = asyncio.all_tasks()
        await servers.ready()
        await until(lambda: asyncio.all_tasks() == before)
        assert servers.channel.get_state() is grpc.ChannelConnectivity.READY


def test_without_a_server_there_is_nothing_to_call() -> None:
    """An empty list is refused where it is given."""
    with pytest.raises(ValueError, match="at least one server"):
        connect_any([])

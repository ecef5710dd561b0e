from __future__ import annotations

from contextlib import aclosing

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import ASSET_STATUS_VIEW_BASIC, AssetState

from assetwatch_client import Key, Watch, connect
from assetwatchd.model import errors
from support.ports import free_port
from support.scripted_watch import (
    HANG,
    Script,
    ScriptedServer,
    batch,
    removed,
    started,
    synced,
    until,
    upsert,
)
from support.watch_client import AGAIN, FIRST, FOUND, Client, brief, calling, following


async def test_request_says_what_is_watched() -> None:
    """Assets, sources, states, prefix and view are sent as given, with the token given."""
    async with ScriptedServer([started(), HANG]) as server, connect(server.target) as channel:
        watching = Watch(
            channel,
            assets=[("dam", "a")],
            sources=["mam"],
            states=[AssetState.ASSET_STATE_FAILED],
            asset_id_prefix="s3://b/",
            view=ASSET_STATUS_VIEW_BASIC,
            resume_token="t0",
        )
        async with aclosing(watching.messages()) as messages:
            await anext(messages)
    (request,) = server.requests
    assert [(asset.source, asset.asset_id) for asset in request.assets] == [("dam", "a")]
    assert (list(request.sources), list(request.states)) == (["mam"], [AssetState.ASSET_STATE_FAILED])
    assert (request.asset_id_prefix, request.view) == ("s3://b/", ASSET_STATUS_VIEW_BASIC)
    assert request.resume_token == "t0"


async def test_no_proxy_is_asked_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not between a client and a server on the same host."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with calling((*FIRST, HANG), patient=False) as (_, client):
        await client.until_told(FOUND, "Synced")


async def test_goes_on_after_a_kill_and_a_restart() -> None:
    """A server that dies and comes back on the same port is resumed with the last token; nothing is told twice."""
    second: Script = (started(resumed=True), batch(upsert("a", 1), upsert("b", 2), token="t2"), synced("t2"), HANG)
    async with calling((*FIRST, HANG), second) as (server, client), following(client):
        await until(lambda: client.told == [FOUND, "Synced"])
        await server.kill()
        await until(lambda: client.breaks)
        await server.start()
        await until(lambda: len(client.told) == 4)
    assert client.told == [FOUND, "Synced", "Upsert b@2", "Synced"]
    assert server.tokens == ["", "t1"]
    assert len(client.breaks) == 1
    assert isinstance(client.breaks[0], grpc.aio.AioRpcError)


async def test_waits_for_a_server_that_is_not_there_yet() -> None:
    """A patient watch is told once that nobody answers, and goes on when somebody does."""
    server = ScriptedServer((*FIRST, HANG))
    server.port = free_port()
    async with connect(server.target) as channel:
        client = Client(channel)
        async with following(client):
            await until(lambda: client.breaks)
            async with server:
                await until(lambda: client.told == [FOUND, "Synced"])
    assert [error.code() for error in client.breaks if isinstance(error, grpc.aio.AioRpcError)] == [
        grpc.StatusCode.UNAVAILABLE
    ]


async def test_impatient_watch_raises_when_nobody_answers() -> None:
    """patient=False: a server that is not there is an error at once."""
    async with connect(f"127.0.0.1:{free_port()}") as channel:
        client = Client(channel, patient=False)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await client.until_told("nothing")
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert client.backoff.noted == []


async def test_impatient_watch_raises_when_it_is_not_let_in() -> None:
    """patient=False: a limit of streams is an error too, though it passes."""
    full = errors.TooManyStreams("full", subject="server", limit=1, retry_after_s=10)
    async with calling([full], patient=False) as (_, client):
        with pytest.raises(grpc.aio.AioRpcError, match="full"):
            await client.until_told("nothing")


async def test_impatient_watch_goes_on_once_it_has_begun() -> None:
    """patient=False is about the beginning: a stream that breaks later is resumed."""
    async with calling([*FIRST, errors.SlowConsumer("slow")], (*AGAIN, HANG), patient=False) as (_, client):
        await client.until_told(FOUND, "Synced", "Synced")


async def test_impatient_watch_drops_a_token_of_no_use() -> None:
    """patient=False: an expired token is no reason to fail; the snapshot is had at once."""
    expired = errors.ResumeTokenExpired(requested=1, oldest=5, current=9)
    async with calling([expired], (*FIRST, HANG), patient=False, resume_token="old") as (server, client):
        await client.until_told(FOUND, "Synced")
    assert server.tokens == ["old", ""]


@pytest.mark.parametrize(
    "refusal",
    [errors.ResumeTokenExpired(requested=1, oldest=5, current=9), errors.ResumeEpochChanged("another store")],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_token_of_no_use_is_dropped(refusal: errors.CallError) -> None:
    """A token that the server cannot go on from is dropped: a snapshot is asked for at once and replaces the map."""
    anew: Script = (started(epoch="e2"), batch(upsert("b", 1), token="u1"), synced("u1"), HANG)
    async with calling((*FIRST, errors.SlowConsumer("slow")), [refusal], anew) as (server, client):
        await client.until_told(FOUND, "Synced", "Upsert b@1", "Removed a@1", "Synced")
        assert list(client.watch.statuses) == [Key("dam", "b")]
    assert server.tokens == ["", "t1", ""]


@pytest.mark.parametrize(
    "refusal",
    [
        errors.ResumeTokenInvalid("altered"),
        errors.ResumeFilterMismatch("other sources"),
        errors.SourceNotFound("dam", ["mam"]),
        errors.InvalidRequest(("sources[0]", "is empty")),
        errors.TooManyAssets("dam", 10),
    ],
    ids=lambda refusal: type(refusal).__name__,
)
async def test_wrong_call_is_raised(refusal: errors.CallError) -> None:
    """What only the caller can mend is raised, at once and also from a patient watch; on_break is not told."""
    async with calling([refusal]) as (server, client):
        with pytest.raises(grpc.aio.AioRpcError):
            await client.until_told("nothing")
        await until(lambda: not server.open)
    assert (len(server.requests), client.breaks) == (1, [])


async def test_snapshot_that_breaks_goes_on() -> None:
    """A snapshot cut in the middle is resumed by the token inside it; until it is complete no token is given away."""
    cut: Script = (started(), batch(upsert("a", 1), token="t1"), errors.SlowConsumer("slow"))
    rest: Script = (started(resumed=True), batch(upsert("b", 2), token="t2"), synced("t3"), HANG)
    tokens = []
    async with calling(cut, rest) as (server, client), aclosing(client.watch.events()) as events:
        for expected in (FOUND, "Upsert b@2", "Synced"):
            assert brief(await anext(events)) == expected
            tokens.append(client.watch.resume_token)
    assert server.tokens == ["", "t1"]
    assert tokens == ["", "", "t3"]


async def test_who_stops_in_a_message_gets_the_rest_later() -> None:
    """A consumer that leaves in the middle of a message and comes back is told the rest, and nothing again."""
    both = batch(upsert("a", 1), upsert("b", 2), token="t2")
    async with calling((started(), synced("t0"), both, HANG), (*AGAIN[:1], both, synced("t2"), HANG)) as (
        server,
        client,
    ):
        await client.until_told("Synced", FOUND)
        await client.until_told("Synced", FOUND, "Upsert b@2")
    assert server.tokens == ["", "t0"]


async def test_messages_come_as_they_are() -> None:
    """The messages of stream after stream are given raw; the map is the one before the message at hand."""
    async with (
        calling([*FIRST, errors.SlowConsumer("slow")], (*AGAIN, HANG)) as (server, client),
        aclosing(client.watch.messages()) as messages,
    ):
        got = [(await anext(messages), len(client.watch.statuses)) for _ in range(5)]
    assert got == [(FIRST[0], 0), (FIRST[1], 0), (FIRST[2], 1), (AGAIN[0], 1), (AGAIN[1], 1)]
    assert server.tokens == ["", "t1"]


async def test_map_and_head_can_be_read() -> None:
    """statuses, conditions, head_revision and resume_token stand where the events do."""
    async with calling((started(head=9), batch(upsert("a", 1), token="t1"), synced("t1", head=9), HANG)) as (_, client):
        await client.until_told(FOUND, "Synced")
        assert client.watch.statuses[Key("dam", "a")].revision == 1
        assert (client.watch.head_revision, client.watch.resume_token) == (9, "t1")


async def test_removed_is_told_live() -> None:
    """A removal in a live stream is told and leaves the map."""
    async with calling((*FIRST, batch(removed("a", 2), token="t2"), HANG)) as (_, client):
        await client.until_told(FOUND, "Synced", "Removed a@2")
        assert not client.watch.statuses

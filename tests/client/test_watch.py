from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import State

from assetwatch_client import Backoff, Key, Removed, Synced, Upsert, Watch, connect, watch
from assetwatchd import errors
from support.scripted_watch import (
    HANG,
    PATIENCE_S,
    Script,
    ScriptedServer,
    batch,
    bookmark,
    removed,
    started,
    synced,
    until,
    upsert,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse

    from assetwatch_client import Event

Break = grpc.aio.AioRpcError | TimeoutError | None
HEARTBEAT_S = 0.03
FIRST: Script = (started(), batch(upsert("a", 1), token="t1"), synced("t1"))
"""A stream's beginning: one asset, in sync."""
AGAIN: Script = (started(resumed=True), synced("t1"))
FOUND = "Upsert a@1"


class Pauses(Backoff):
    """A quick backoff that notes its pauses."""

    def __init__(self) -> None:
        super().__init__(first_s=0.01, max_s=0.02)
        self.noted: list[float] = []

    def pause_s(self, asked_s: float = 0.0, *, failed: bool = True) -> float:
        """Return and note it."""
        self.noted.append(super().pause_s(asked_s, failed=failed))
        return self.noted[-1]


class Client:
    """A watch of the source dam, and what became of it."""

    def __init__(self, channel: grpc.aio.Channel, *, patient: bool = True, resume_token: str = "") -> None:
        self.backoff = Pauses()
        self.breaks: list[Break] = []
        self.told: list[str] = []
        self.watch = Watch(
            channel,
            sources=["dam"],
            resume_token=resume_token,
            patient=patient,
            backoff=self.backoff,
            on_break=self.breaks.append,
        )

    async def follow(self) -> None:
        """Take events in for ever."""
        async with aclosing(self.watch.events()) as events:
            async for event in events:
                self.told.append(brief(event))

    async def until_told(self, *expected: str) -> None:
        """Take events in until these were told, and no others."""
        async with asyncio.timeout(PATIENCE_S), aclosing(self.watch.events()) as events:
            async for event in events:
                self.told.append(brief(event))
                if len(self.told) >= len(expected):
                    break
        assert self.told == list(expected)


def brief(event: Event) -> str:
    """Write an event in a few characters."""
    if isinstance(event, Upsert | Removed):
        return f"{type(event).__name__} {event.key.asset_id}@{event.status.revision}"
    return type(event).__name__


def tasks() -> set[asyncio.Task[object]]:
    """Return every task but those in which a server of gRPC waits for the next call: it makes them anew."""
    return {task for task in asyncio.all_tasks() if "coro=<AioServer." not in repr(task)}


@asynccontextmanager
async def calling(*scripts: Script, **options: bool | str) -> AsyncIterator[tuple[ScriptedServer, Client]]:
    """Run a scripted server and a client of it."""
    async with ScriptedServer(*scripts) as server, connect(server.target) as channel:
        yield server, Client(channel, **options)  # type: ignore[arg-type]  # patient and resume_token


@asynccontextmanager
async def following(client: Client) -> AsyncIterator[asyncio.Task[None]]:
    """Let the client take events in meanwhile."""
    task = asyncio.create_task(client.follow())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_request_says_what_is_watched() -> None:
    """Assets, sources and states are sent as given, with the token given."""
    async with ScriptedServer([started(), HANG]) as server, connect(server.target) as channel:
        watching = Watch(
            channel, assets=[("dam", "a")], sources=["mam"], states=[State.STATE_FAILED], resume_token="t0"
        )
        async with aclosing(watching.messages()) as messages:
            await anext(messages)
    (request,) = server.requests
    assert [(asset.source, asset.asset_id) for asset in request.assets] == [("dam", "a")]
    assert (list(request.sources), list(request.states)) == (["mam"], [State.STATE_FAILED])
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
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server.port = taken.getsockname()[1]
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
    with socket.create_server(("127.0.0.1", 0)) as taken:
        target = f"127.0.0.1:{taken.getsockname()[1]}"
    async with connect(target) as channel:
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


async def test_draining_server_is_given_the_time_it_asks_for() -> None:
    """RetryInfo is honoured: the next stream is not asked for earlier, and not much later."""
    draining = errors.ServerDraining(retry_after_s=0.08)
    async with calling([*FIRST, draining], (*AGAIN, HANG)) as (server, client):
        await client.until_told(FOUND, "Synced", "Synced")
    assert server.asked_at[1] - server.ended_at[0] >= 0.08
    assert 0.08 <= client.backoff.noted[0] <= 0.08 + client.backoff.max_s
    assert server.tokens == ["", "t1"]


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


async def test_server_that_refuses_its_own_tokens_is_not_hammered() -> None:
    """Snapshot, break, refused token, snapshot...: pauses grow."""
    refusal = errors.ResumeEpochChanged("another store")
    around: list[Script] = [[*FIRST, errors.SlowConsumer("slow")], [refusal]] * 3
    async with calling(*around, (*FIRST, HANG)) as (_, client):
        await client.until_told(FOUND, *["Synced"] * 4)
    assert len(client.backoff.noted) == 6
    assert all(client.backoff.noted)


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


async def test_stream_that_reached_its_age_is_resumed_at_once() -> None:
    """An end that is OK costs no pause."""
    async with calling([*FIRST, bookmark("t7")], (*AGAIN, HANG)) as (server, client):
        await client.until_told(FOUND, "Synced", "Synced")
    assert (client.backoff.noted, client.breaks) == ([0.0], [None])
    assert server.tokens == ["", "t7"]


async def test_streams_that_keep_ending_are_paused_between() -> None:
    """A server, or a proxy, that ends every stream OK is not hammered."""
    async with calling(*[AGAIN] * 4, (*AGAIN, HANG), resume_token="t1") as (_, client):
        await client.until_told(*["Synced"] * 5)
    assert client.backoff.noted[0] == 0
    assert all(client.backoff.noted[1:])


async def test_silent_stream_is_dead() -> None:
    """After three heartbeats of silence the stream is cancelled, at the server too, and resumed with the last token."""
    first: Script = (started(heartbeat_s=HEARTBEAT_S), synced("t1"), bookmark("t2"), HANG)
    async with calling(first, (*AGAIN, HANG)) as (server, client):
        await client.until_told("Synced", "Synced")
        assert server.tokens == ["", "t2"]
        assert isinstance(client.breaks[0], TimeoutError)
        await until(lambda: server.ended_at)
    assert 3 * HEARTBEAT_S <= server.asked_at[1] - server.asked_at[0] < 3


async def test_heartbeats_keep_a_quiet_stream() -> None:
    """Bookmarks, and nothing else, for longer than three heartbeats: nothing breaks."""
    quiet = [step for _ in range(12) for step in (bookmark("t2"), HEARTBEAT_S)]
    async with calling((started(heartbeat_s=HEARTBEAT_S), *quiet[:2], synced("t1"), *quiet, upsert_b(), HANG)) as (
        server,
        client,
    ):
        await client.until_told("Synced", "Upsert b@2")
    assert (len(server.requests), client.breaks) == (1, [])


def upsert_b() -> WatchStatusResponse:
    """Tell of a second asset."""
    return batch(upsert("b", 2), token="t3")


async def test_slow_reader_takes_no_stream_for_dead() -> None:
    """Silence counts while the client listens: one that was busy for longer than that finds its stream alive."""
    async with (
        calling((started(heartbeat_s=HEARTBEAT_S), synced("t1"), upsert_b(), HANG)) as (_, client),
        aclosing(client.watch.events()) as events,
    ):
        assert brief(await anext(events)) == "Synced"
        await asyncio.sleep(4 * HEARTBEAT_S)
        assert brief(await anext(events)) == "Upsert b@2"
    assert client.breaks == []


async def test_first_reads_may_take_longer_than_heartbeats() -> None:
    """Before it is in sync a stream may be silent for longer: the server may be reading upstream."""
    async with calling((started(heartbeat_s=0.01), 0.06, synced("t1"), HANG)) as (_, client):
        await client.until_told("Synced")
    assert client.breaks == []


async def test_resumed_stream_may_take_longer_than_heartbeats() -> None:
    """That the stream before was in sync gives the next one no less time to begin."""
    first: Script = (started(heartbeat_s=0.01), synced("t1"), errors.SlowConsumer("slow"))
    async with calling(first, (0.06, *AGAIN, HANG)) as (_, client):
        await client.until_told("Synced", "Synced")
    assert [type(error) for error in client.breaks] == [grpc.aio.AioRpcError]


async def test_stream_that_never_begins_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is in sync there is a limit to silence too."""
    monkeypatch.setattr(watch, "SYNC_SILENCE_S", 0.1)
    async with calling([HANG], (started(), HANG), [HANG]) as (server, client), following(client):
        await until(lambda: len(client.breaks) == 2)
        await until(lambda: len(server.ended_at) == 2)
    assert [type(error) for error in client.breaks] == [TimeoutError, TimeoutError]


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


def test_pauses_double_with_full_jitter_up_to_a_limit() -> None:
    """Each pause is anything between nothing and a ceiling, which doubles from first_s to max_s."""
    tries = [Backoff(first_s=1, max_s=10) for _ in range(300)]
    for ceiling in (1, 2, 4, 8, 10, 10):
        pauses = [backoff.pause_s() for backoff in tries]
        assert 0 <= min(pauses) < 0.1 * ceiling
        assert 0.9 * ceiling < max(pauses) <= ceiling


def test_pauses_are_short_again_after_a_stream_that_held() -> None:
    """Only a stream in sync for settled_s makes the next pause short."""
    backoff = Backoff(first_s=1, max_s=1000, settled_s=60)
    for _ in range(5):
        backoff.pause_s()
    backoff.held(59)
    assert backoff.failures == 5
    backoff.held(60)
    assert backoff.failures == 0
    assert backoff.pause_s(failed=False) == 0


async def test_stream_that_held_makes_the_next_pause_short() -> None:
    """The time in sync is what counts: after enough of it, an end that is OK is resumed at once, again."""
    held: Script = (*AGAIN, 0.05)
    async with calling(held, held, held, (*AGAIN, HANG), resume_token="t1") as (_, client):
        client.backoff.settled_s = 0.04
        await client.until_told(*["Synced"] * 4)
    assert client.backoff.noted == [0, 0, 0]


async def test_stream_that_never_was_in_sync_did_not_hold() -> None:
    """Time before the stream is in sync does not count: the pauses go on growing."""
    long: Script = (started(resumed=True), 0.05)
    async with calling(long, long, (*AGAIN, HANG), resume_token="t1") as (_, client):
        client.backoff.settled_s = 0.04
        await client.until_told("Synced")
    assert client.backoff.failures == 2


def test_pause_asked_for_is_the_least() -> None:
    """What the server asks for comes before our own jitter, so that those told the same do not come at once."""
    backoff = Backoff(first_s=1)
    pauses = {backoff.pause_s(5.0) for _ in range(5)}
    assert len(pauses) == 5
    assert min(pauses) > 5


async def test_removed_is_told_live() -> None:
    """A removal in a live stream is told and leaves the map."""
    async with calling((*FIRST, batch(removed("a", 2), token="t2"), HANG)) as (_, client):
        await client.until_told(FOUND, "Synced", "Removed a@2")
        assert not client.watch.statuses

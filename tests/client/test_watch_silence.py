from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc

from assetwatch_client import watch
from assetwatchd.model import errors
from support.scripted_watch import (
    HANG,
    Script,
    batch,
    bookmark,
    started,
    synced,
    until,
    upsert,
)
from support.watch_client import AGAIN, HEARTBEAT_S, brief, calling, following

if TYPE_CHECKING:
    import pytest
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse


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
    quiet = [step for _ in range(15) for step in (bookmark("t2"), HEARTBEAT_S / 3)]
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

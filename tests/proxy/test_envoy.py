"""deploy/envoy.yaml bounds what gRPC's server does not, and lets through what clients need."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.v1.asset_status_pb2 import ASSET_STATE_FAILED
from google.protobuf.duration_pb2 import Duration

from assetwatchd.rpc import receiving
from support.envoy import proxied
from support.http2 import EMPTY, LIST_SOURCES, connected
from support.rig import Rig, sample

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.proxy

OK, RESOURCE_EXHAUSTED = 0, 8


async def test_calls_and_watches_get_through(tmp_path: Path) -> None:
    """A read, a watch with its changes and bookmarks, and an error with its details."""
    async with proxied(tmp_path) as (rig, address), grpc.aio.insecure_channel(address) as channel:
        behind = Rig(rig.sandbox, rig.app, address, channel)
        assert (await behind.get(sample("omn"))).asset.source == "omn"
        watch = behind.watch(sources=["omn"])
        while not (await watch.next()).HasField("synced"):
            pass
        rig.vary("omn")
        while not (await watch.next()).changes:
            pass
        while not (await watch.next()).HasField("bookmark"):
            pass


async def test_a_wait_is_longer_than_others_may_be_silent(tmp_path: Path) -> None:
    """It says that it was heard, and nothing more until its time is over."""
    async with (
        proxied(tmp_path, stream_idle_timeout="0.5s") as (rig, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        behind = Rig(rig.sandbox, rig.app, address, channel)
        answer = await behind.wait(sample("omn"), states=[ASSET_STATE_FAILED], timeout=Duration(seconds=2))
    assert not answer.condition_met


async def test_a_flood_of_resets_ends_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its end, and few of its calls reach the server; other clients are answered."""
    reached = 0
    intercept = receiving.Receiving.intercept_service

    async def counted(self: receiving.Receiving, *args: object) -> object:
        nonlocal reached
        reached += 1
        return await intercept(self, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(receiving.Receiving, "intercept_service", counted)
    async with proxied(tmp_path) as (_, address), connected(address) as other, connected(address) as flood:
        await flood.call(LIST_SOURCES)
        sent = 0
        while not flood.closed and not flood.told_to_go and sent < 20_000:
            for _ in range(50):
                flood.reset(flood.begin(LIST_SOURCES))
            sent += 50
            flood.flush()
            await asyncio.sleep(0.001)
        await flood.until_closed()
        assert sent <= 500
        assert reached <= 500
        assert (await other.call(LIST_SOURCES)).status == OK


async def test_a_request_that_does_not_come_is_ended_and_metadata_are_told_of(tmp_path: Path) -> None:
    """The first by Envoy, the second by assetwatch, so that the client knows what to do."""
    async with proxied(tmp_path, request_timeout="0.5s") as (_, address), connected(address) as client:
        stream = client.begin(LIST_SOURCES)
        client.send(stream, EMPTY[:-1])
        client.flush()
        assert (await client.end_of(stream)).status != OK
        ended = await client.call(LIST_SOURCES, metadata=[("x-a", "b" * 17_000)])
        assert (ended.status, ended.reason) == (RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE")

"""Two clients of one server: what one asks for does not keep the other waiting, nor take what room there is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from google.protobuf.duration_pb2 import Duration

from assetwatchd.model.values import AssetKey
from support.problems import problem_of
from support.rig import SAMPLES, Rig, ref, running, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOURCE = "usd-search"
BATCHES, OF = 5, 200
SLOW = {"rate_per_s": 20, "concurrency": 1, "pins": []}


@asynccontextmanager
async def another_client(rig: Rig) -> AsyncIterator[Any]:
    """Connect once more, by a connection of its own."""
    async with grpc.aio.insecure_channel(rig.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield AssetStatusServiceStub(channel)


def invented(number: int, count: int) -> list[Any]:
    """Name assets that nobody has."""
    return [ref(AssetKey(SOURCE, f"s3://studio-assets/{number}/{index}.usd")) for index in range(count)]


@pytest.mark.parametrize("apart", [True, False], ids=["another connection", "the same connection"])
async def test_a_fresh_read_does_not_wait_for_another_callers_thousand(apart: bool) -> None:  # noqa: FBT001 - a case
    """It is made in its turn; once those calls are cancelled nothing more of theirs is read."""
    async with running((SOURCE,), count=0, usd_search=SLOW) as rig, another_client(rig) as other:
        read = SAMPLES[SOURCE].observe
        requests = [pb.BatchGetAssetStatusesRequest(assets=invented(n, OF), max_age=Duration()) for n in range(BATCHES)]
        calls = [rig.statuses.BatchGetAssetStatuses(request) for request in requests]
        await rig.shows(SOURCE, lambda source: source.poll_stats.polled_assets > BATCHES * OF - OF / 2)
        before = rig[SOURCE].requests.count(read)
        wanted = pb.GetAssetStatusRequest(asset=ref(sample(SOURCE)), max_age=Duration())
        await (other if apart else rig.statuses).GetAssetStatus(wanted, timeout=20)
        assert rig[SOURCE].requests.count(read) - before <= BATCHES + 2
        for call in calls:
            call.cancel()
        await rig.shows(SOURCE, lambda source: source.poll_stats.polled_assets <= 1)
        rig[SOURCE].requests.clear()
        for _ in range(3):
            await other.GetAssetStatus(wanted, timeout=20)
        assert rig[SOURCE].requests.count(read) <= 5


async def test_invented_names_of_one_caller_leave_room_for_another() -> None:
    """RESOURCE_EXHAUSTED / TOO_MANY_ASSETS is for who names them, and says that it is his limit."""
    async with (
        running((SOURCE,), count=0, usd_search={"assets_max": 100, "pins": []}) as rig,
        another_client(rig) as other,
    ):
        stream = await rig.watch(assets=invented(0, 20)).synced()
        told = await problem_of(rig.watch(assets=invented(8, 20)).next())
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ASSETS")
        assert told.quotas == ["caller:ipv4:127.0.0.1"]
        assert told.metadata == {"source": SOURCE, "limit": "50"}
        await other.BatchGetAssetStatuses(pb.BatchGetAssetStatusesRequest(assets=invented(9, 20)), timeout=20)
        stream.call.cancel()
        await rig.shows(SOURCE, lambda source: source.watcher_count == 0)
        await rig.watch(assets=invented(8, 20)).synced()


async def test_more_reads_than_a_caller_may_wait_for_are_refused() -> None:
    """RESOURCE_EXHAUSTED / TOO_MANY_READS with QuotaFailure and RetryInfo; what asks no upstream is still answered."""
    async with running((SOURCE,), count=0, usd_search={**SLOW, "reads_per_peer_max": 100}) as rig:
        await rig.get(sample(SOURCE))
        call = rig.statuses.BatchGetAssetStatuses(
            pb.BatchGetAssetStatusesRequest(assets=invented(0, 20), max_age=Duration())
        )
        await rig.asked(SOURCE, SAMPLES[SOURCE].observe)
        told = await problem_of(
            rig.batch([AssetKey(SOURCE, each.asset_id) for each in invented(1, 20)], max_age=Duration())
        )
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_READS")
        assert told.quotas == ["caller:ipv4:127.0.0.1"]
        assert told.metadata == {"source": SOURCE, "limit": "100"}
        assert told.retry_after_s is not None
        await rig.get(sample(SOURCE))
        await rig.get(sample(SOURCE), max_age=Duration())
        call.cancel()
        await asyncio.wait([asyncio.ensure_future(call.code())])

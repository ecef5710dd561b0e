"""What a call that failed leaves behind: nothing of its request, even before anybody looks for garbage."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
import pytest
from assetwatch.pieces.v1 import asset_pb2, seed_pb2
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import GetAssetStatusRequest, WatchStatusRequest

from assetwatchd.model.values import AssetKey
from assetwatchd.rpc.names import ASSET_STATUS
from assetwatchd.rpc.reflection import V1
from support.pieces_rig import pieces_rig
from support.problems import problem_of
from support.raw_calls import many_to_many, one_to_many
from support.rig import running

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 4
NOBODYS = AssetRef(source="nobody", asset_id="x")
MIB = 2**20


@contextmanager
def kept() -> Iterator[list[int]]:
    """Give back by how many bytes there are more at the end; no garbage is looked for meanwhile."""
    grown: list[int] = []
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield grown
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_a_refused_request_is_let_go() -> None:
    """Of four requests of two megabytes, each refused for what is in it, less than one is left."""
    keys = [AssetKey("omn", "x" * 2000)] * 1000
    async with running(("omn",)) as rig:
        await problem_of(rig.batch(keys))
        with kept() as grown:
            for _ in range(CALLS):
                await problem_of(rig.batch(keys))
            await asyncio.sleep(0.05)
    assert grown[0] < 2 * MIB


@pytest.mark.parametrize("rpc", ["GetAssetStatus", "WatchStatus"])
async def test_bytes_that_are_no_request_are_let_go(rpc: str) -> None:
    """Nor is any left of those that are refused before they are one, for their length or for what they are."""
    async with running(()) as rig:

        async def refused() -> None:
            call = one_to_many(rig.channel, f"/{ASSET_STATUS.full_name}/{rpc}")(b"\xff" * 2 * MIB)
            with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
                await call.read()

        await refused()
        with kept() as grown:
            for _ in range(CALLS):
                await refused()
            await asyncio.sleep(0.05)
    assert grown[0] < 2 * MIB


async def test_a_refused_request_of_a_stream_is_let_go() -> None:
    """Nor is any left of those that reflection refuses, which come in a stream."""
    async with running(()) as rig:

        async def refused() -> None:
            call = many_to_many(rig.channel, f"/{V1}/ServerReflectionInfo")()
            await call.write(b"x" * 2 * MIB)
            with pytest.raises(grpc.aio.AioRpcError, match="the request has 2097152 bytes"):
                await call.read()

        await refused()
        with kept() as grown:
            for _ in range(CALLS):
                await refused()
            await asyncio.sleep(0.05)
    assert grown[0] < 2 * MIB


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        (f"{ASSET_STATUS.full_name}/GetAssetStatus", GetAssetStatusRequest(asset=NOBODYS).SerializeToString()),
        (f"{ASSET_STATUS.full_name}/WatchStatus", WatchStatusRequest(assets=[NOBODYS]).SerializeToString()),
        (f"{V1}/ServerReflectionInfo", b"\xff"),
        (f"{ASSET_STATUS.full_name}/GetAssetStatus", None),
    ],
)
async def test_nothing_of_a_call_that_failed_is_left(method: str, sent: bytes | None) -> None:
    """Neither it nor its error is in a cycle: of small calls too there may be thousands a second."""
    async with running(()) as rig:
        with kept():
            for _ in range(3 * CALLS):
                call = many_to_many(rig.channel, f"/{method}")()
                await (call.done_writing() if sent is None else call.write(sent))
                with pytest.raises(grpc.aio.AioRpcError):
                    await call.read()
            await asyncio.sleep(0.05)
            left = [type(each).__name__ for each in gc.get_objects()]
    assert left.count("AbortError") < CALLS
    assert left.count("_ServicerContext") < CALLS


async def test_one_that_could_not_be_sent_on_is_let_go() -> None:
    """Four documents for an upstream that is not there, a megabyte each as a list: all are gone."""
    raw = bytes(range(256)) * 512
    file = asset_pb2.Content(bytes=asset_pb2.TransferableBytes(raw=raw))
    seed = seed_pb2.Seed(asset=seed_pb2.SeededAsset(format=seed_pb2.SeededFormat(file=file)))
    async with pieces_rig(source={"base_url": "http://127.0.0.1:9"}) as rig:
        await problem_of(rig.call("DraftAsset", seed=seed))
        with kept() as grown:
            for _ in range(CALLS):
                await problem_of(rig.call("DraftAsset", seed=seed))
            await asyncio.sleep(0.05)
    assert grown[0] < 2 * MIB

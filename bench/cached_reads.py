"""Read one asset that is known, again and again, and tell how long each read took.

Reads lines of JSON: the address, the asset, for how many seconds, and whether it is to be read anew upstream each time.
Prints a line of JSON with the longest waits.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time

import grpc
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2 import GetAssetStatusRequest
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from say import say

EVERY_S = 0.005
DEADLINE_S = 5.0
"""A read that takes as long counts as this; the measurement goes on."""


async def read(address: str, source: str, asset_id: str, span_s: float, *, fresh: bool = False) -> dict[str, float]:
    """Read for a while, each read EVERY_S after the one before began, or at once."""
    async with grpc.aio.insecure_channel(address) as channel:
        statuses = AssetStatusServiceStub(channel)
        request = GetAssetStatusRequest(asset=AssetRef(source=source, asset_id=asset_id))
        if fresh:
            request.max_age.SetInParent()
        await statuses.GetAssetStatus(request, wait_for_ready=True)
        took: list[float] = []
        end = time.perf_counter() + span_s
        while (began := time.perf_counter()) < end:
            try:
                await statuses.GetAssetStatus(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
            took.append(time.perf_counter() - began)
            await asyncio.sleep(max(0.0, EVERY_S - took[-1]))
    cuts = statistics.quantiles(took, n=100, method="inclusive") if len(took) > 1 else took * 99
    return {"p50_ms": 1000 * cuts[49], "p99_ms": 1000 * cuts[98], "max_ms": 1000 * max(took), "reads": len(took)}


async def main() -> None:
    """Do what is told, line by line."""
    gc.disable()  # its pauses would be taken for the server's
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(**await read(**json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())

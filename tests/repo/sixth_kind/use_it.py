"""Serves a building of Acme doors, and watches one open and jam; prints what a client saw, as JSON."""

from __future__ import annotations

import asyncio
import json

import grpc
from aiohttp import web
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import asset_status_service_pb2_grpc as rpc
from assetwatch.v1 import source_pb2, source_service_pb2, source_service_pb2_grpc
from assetwatch.v1.asset_status_pb2 import AssetRef, AssetState

from assetwatchd.app import serve
from assetwatchd.settings.schema import Settings

DOORS = {"7": "open"}


async def door(request: web.Request) -> web.Response:
    """Tell where a door stands."""
    number = request.match_info["number"]
    return web.json_response({"position": DOORS[number]}) if number in DOORS else web.Response(status=404)


async def main() -> None:
    """Run building, server and client."""
    building = web.Application()
    building.router.add_get("/doors/{number}", door)
    runner = web.AppRunner(building)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    source = {"kind": "acme", "base_url": url, "busy_interval_s": 0.05, "settled_interval_s": 0.05, "rate_per_s": 100}
    settings = Settings.model_validate({"server": {"listen": "127.0.0.1:0"}, "sources": {"doors": source}})
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(settings, on_ready=ready.set_result))
    await asyncio.wait([server, ready], return_when=asyncio.FIRST_COMPLETED)
    async with grpc.aio.insecure_channel(ready.result()) as channel:
        print(json.dumps(await seen(channel)))
    server.cancel()
    await asyncio.wait([server])
    await runner.cleanup()


async def seen(channel: grpc.aio.Channel) -> dict[str, object]:
    """Ask for a door that is there and one that is not, watch the first, and jam it."""
    stub = rpc.AssetStatusServiceStub(channel)
    there, missing = [
        await stub.GetAssetStatus(pb.GetAssetStatusRequest(asset=AssetRef(source="doors", asset_id=number)), timeout=20)
        for number in ("7", "8")
    ]
    states = []
    async for message in stub.WatchStatus(
        pb.WatchStatusRequest(assets=[AssetRef(source="doors", asset_id="7")]), timeout=20
    ):
        states += [AssetState.Name(change.status.state) for change in message.changes]
        DOORS["7"] = "jammed"
        if "ASSET_STATE_FAILED" in states:
            break
    told = await source_service_pb2_grpc.SourceServiceStub(channel).ListSources(source_service_pb2.ListSourcesRequest())
    return {
        "kind": source_pb2.SourceKind.Name(told.sources[0].kind),
        "detail": there.status.acme.position,
        "missing": AssetState.Name(missing.status.state),
        "watched": states,
    }


asyncio.run(main())

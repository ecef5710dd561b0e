"""Change assets of a USD Search stand-in, and tell how long clients take to see it: by a watch, or polling themselves.

Prints a line with the settings of a source, reads one with `address` (of a server over it) or `budget_per_s` (requests
that the clients may make together), then prints the delays.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from say import say
from upstreams import settings

from assetwatch_sandbox import Sandbox

if TYPE_CHECKING:
    from assetwatch_sandbox.standin import Standin
    from assetwatch_sandbox.usd_search.switches import UsdSearchSwitches

SOURCE = "usd-search"
STATUS = "/info/indexing/asset/status?return_asset_metadata=false&url="
CHANGE_EVERY_S = 0.1
SETTLE_S = 2.0


class Seen:
    """What each client has seen of each asset; a change is seen with it or with a later one of the same asset."""

    def __init__(self, clients: int) -> None:
        self.delays_s: list[float] = []
        self._clients = clients
        self._changed_at: dict[str, list[float]] = defaultdict(list)
        self._known: dict[tuple[int, str], int] = defaultdict(int)

    def changed(self, asset_id: str) -> str:
        """Note a change that is about to be made; return what the asset's hash is to be."""
        self._changed_at[asset_id].append(time.monotonic())
        return f"serial-{len(self._changed_at[asset_id])}"

    def seen(self, client: int, asset_id: str, content: str) -> None:
        """Note what a client has just read."""
        if not content.startswith("serial-"):
            return
        serial, known = int(content.removeprefix("serial-")), self._known[client, asset_id]
        now = time.monotonic()
        self.delays_s += [now - at for at in self._changed_at[asset_id][known:serial]]
        self._known[client, asset_id] = max(serial, known)


async def change(standin: Standin[UsdSearchSwitches], seen: Seen, span_s: float) -> None:
    """Change random assets."""
    dice, ids = random.Random(1), standin.asset_ids()  # noqa: S311 - the same in every run
    until = time.monotonic() + span_s
    while time.monotonic() < until:
        asset_id = dice.choice(ids)
        standin.put(asset_id, {"storage_asset_hash": seen.changed(asset_id)})
        await asyncio.sleep(CHANGE_EVERY_S)


async def watch(address: str, client: int, seen: Seen) -> None:
    """Watch all assets."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        async for message in AssetStatusServiceStub(channel).WatchStatus(pb.WatchStatusRequest(sources=[SOURCE])):
            for each in message.changes:
                seen.seen(client, each.status.asset.asset_id, each.status.usd_search.storage_asset_hash)


async def poll(standin: Standin[UsdSearchSwitches], client: int, per_s: float, seen: Seen) -> None:
    """Ask for one asset after another, so many times a second."""
    ids = standin.asset_ids()
    await asyncio.sleep(client % 10 / 10 / per_s)
    async with aiohttp.ClientSession(standin.url) as session:
        began, turn = time.monotonic(), 0
        while True:
            asset_id = ids[turn % len(ids)]
            async with session.get(STATUS + quote(asset_id, safe="")) as reply:
                answer = await reply.json()
            seen.seen(client, asset_id, answer["storage_backend_info"]["storage_asset_hash"])
            turn += 1
            await asyncio.sleep(began + turn / per_s - time.monotonic())


async def main(args: argparse.Namespace) -> None:
    """Measure once."""
    sandbox = Sandbox((SOURCE,))
    standin = sandbox.standins[SOURCE]
    standin.seed(random.Random(1), args.assets)  # noqa: S311 - the same in every run
    await sandbox.start()
    say(sources={SOURCE: settings(standin)})
    how = json.loads(await asyncio.to_thread(sys.stdin.readline))
    seen = Seen(args.clients)
    if "address" in how:
        reading = [watch(how["address"], client, seen) for client in range(args.clients)]
    else:
        each = how["budget_per_s"] / args.clients
        reading = [poll(standin, client, each, seen) for client in range(args.clients)]
    tasks = [asyncio.create_task(one) for one in reading]
    await asyncio.sleep(SETTLE_S)
    before, began = standin.requests.count(), time.monotonic()
    await change(standin, seen, args.span)
    requests = (standin.requests.count() - before) / (time.monotonic() - began)
    await asyncio.sleep(args.wait)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    ages = sorted(seen.delays_s)
    say(p50_s=ages[len(ages) // 2], p99_s=ages[int(len(ages) * 0.99)], seen=len(ages), requests_per_s=requests)
    await sandbox.stop()


def arguments() -> argparse.Namespace:
    """What the measurement varies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, default=20)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--span", type=float, default=6, help="seconds of changes")
    parser.add_argument("--wait", type=float, default=1, help="seconds for the last changes to be seen")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))

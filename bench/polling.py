"""Poll as fast as it goes: our scheduler and adapter, or bare aiohttp; prints how many answers came a second.

`serve` instead answers: one recorded answer to whatever is asked, by as little code as can be, so that it is not what
is measured. It prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from typing import cast

import aiohttp
from pydantic import AnyHttpUrl
from say import say

from assetwatch_sandbox import Sandbox
from assetwatchd.adapters.usd_search import UsdSearch, status_path
from assetwatchd.changefeed.hub import Hub
from assetwatchd.changefeed.pipeline import Pipeline
from assetwatchd.changefeed.store.memory import MemoryStore
from assetwatchd.model.values import SourceKind
from assetwatchd.polling.scheduler import Scheduler
from assetwatchd.rpc import convert
from assetwatchd.runtime.gc_tuning import collect_seldom
from assetwatchd.settings.schema import UsdSearchSource

CONCURRENCY = 16
ASSETS = 1000
WARM_UP_S = 1.0
END_OF_REQUEST = b"\r\n\r\n"
ASSET_IDS = [f"s3://studio-assets/props/crate-{number:05}.usd" for number in range(ASSETS)]


class Canned(asyncio.Protocol):
    """Answers each request that ends with a packet."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if data.endswith(END_OF_REQUEST):
            self._transport.write(self._answer)


async def serve() -> None:
    """Record an answer of the stand-in, and give it to everybody until ended."""
    sandbox = Sandbox(("usd-search",))
    standin = sandbox.standins["usd-search"]
    standin.put(ASSET_IDS[0], {})
    await sandbox.start()
    async with (
        aiohttp.ClientSession(standin.url) as session,
        session.get(status_path(ASSET_IDS[0], metadata=True)) as got,
    ):
        answer = await got.json()
    del answer["url"]  # it is given for every asset, and one about another asset tells nothing
    body = json.dumps(answer).encode()
    await sandbox.stop()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    server = await asyncio.get_running_loop().create_server(lambda: Canned(head.encode() + body), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    say(url=f"http://{host}:{port}", bytes=len(body))
    await server.serve_forever()


async def ours(url: str, span_s: float) -> float:
    """Return reads a second of a thousand assets that are all due, always."""
    every = {"settled_interval_s": 0.001, "busy_interval_s": 0.001, "rate_per_s": 1e6, "concurrency": CONCURRENCY}
    settings = UsdSearchSource.model_validate(
        {"kind": "usd_search", "base_url": AnyHttpUrl(url), "pins": ASSET_IDS, **every}
    )
    store = MemoryStore()
    hub = Hub(store, convert.WatchFraming(lambda: store.epoch), heartbeat_s=5)
    scheduler = Scheduler(
        "bench",
        SourceKind.USD_SEARCH,
        UsdSearch("bench", settings),
        settings,
        store=store,
        pipeline=Pipeline(store, hub, convert.ProtobufEncoder()),
        tell=hub.tell,
    )
    running = asyncio.create_task(scheduler.run())
    await asyncio.sleep(WARM_UP_S)
    before, began = scheduler.figures.asset_reads, time.perf_counter()
    await asyncio.sleep(span_s)
    rate = (scheduler.figures.asset_reads - before) / (time.perf_counter() - began)
    running.cancel()
    await asyncio.wait([running])
    await scheduler.upstream.close()
    if scheduler.condition.state.is_amiss:
        raise RuntimeError(scheduler.condition.message)
    return rate


async def bare(url: str, span_s: float, *, parse: bool) -> float:
    """Return answers a second; parse: decoded as JSON too."""
    answers = 0

    async def ask(session: aiohttp.ClientSession) -> None:
        nonlocal answers
        while True:
            async with session.get(status_path(random.choice(ASSET_IDS), metadata=True)) as reply:  # noqa: S311 - any
                body = await reply.read()
            if parse:
                json.loads(body)
            answers += 1

    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        asking = [asyncio.create_task(ask(session)) for _ in range(CONCURRENCY)]
        await asyncio.sleep(WARM_UP_S)
        before, began = answers, time.perf_counter()
        await asyncio.sleep(span_s)
        rate = (answers - before) / (time.perf_counter() - began)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if not rate:
        raise RuntimeError("nothing was answered")
    return rate


async def main(args: argparse.Namespace) -> None:
    """Do what was asked for, all with the garbage collector as the product has it."""
    collect_seldom()
    if args.what == "serve":
        await serve()
    elif args.what == "ours":
        say(polls_per_s=await ours(args.url, args.span))
    else:
        say(polls_per_s=await bare(args.url, args.span, parse=args.what == "parsing"))


def arguments() -> argparse.Namespace:
    """What the measurement varies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["serve", "ours", "bare", "parsing"])
    parser.add_argument("--url", default="")
    parser.add_argument("--span", type=float, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(arguments()))

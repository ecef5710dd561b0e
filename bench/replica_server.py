"""Serve the made-up source of fanout_server.py over a store that is given, and change its assets as told.

Prints a line of JSON with the address, then an answer to each line of JSON that it reads: see `Orders`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from changes import NOWHERE, SOURCE
from fanout_server import Feed, Silent
from say import say

from assetwatchd import app
from assetwatchd.changefeed.store.etcd.store import EtcdStore
from assetwatchd.runtime import telemetry
from assetwatchd.settings import schema

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.01


class Orders:
    """What it can be told. Whoever is to change assets has to own the source first.

    {"own": true}: answered once it does. {"fill": true}: make all assets known. {"rate": R}: change R a second from now
    on. {"changes": true}: how many there were. {"each": N, "lanes": L, "span_s": S}: commit as fast as it goes, N
    assets an ingest, L at a time.
    """

    def __init__(self, server: app.App, assets: int) -> None:
        self._server = server
        self._assets = assets
        self._feed = Feed(server, assets)
        self._turn = assets
        self._feeding: asyncio.Task[None] | None = None

    async def obey(self) -> None:
        """Do what is read, until there is no more."""
        reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            if "own" in order:
                await self._own()
                say(own=True)
            elif "fill" in order:
                await self._feed.fill()
                say(count=self._server.store.count(SOURCE))
            elif "changes" in order:
                say(changes=sum(Silent.turns.values()))
            elif "rate" in order:
                self._feeding = asyncio.create_task(self._feed.run(order["rate"]))
                say(**order)
            else:
                say(**await self._commit(**order))

    async def _own(self) -> None:
        store = self._server.store
        while isinstance(store, EtcdStore) and store.terms.term(SOURCE) is None:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(LOOK_S)

    async def _commit(self, each: int, lanes: int, span_s: float) -> dict[str, float]:
        began, took = time.perf_counter(), list[float]()
        await asyncio.gather(*(self._lane(each, began + span_s, took.append) for _ in range(lanes)))
        per_s = len(took) * each / (time.perf_counter() - began)
        return {"entries_per_s": per_s, "ingest_p50_ms": 1000 * statistics.median(took)}

    async def _lane(self, each: int, until: float, tell: Callable[[float], None]) -> None:
        while (began := time.perf_counter()) < until:
            turns = range(self._turn, self._turn + each)
            self._turn += each
            await self._feed.change(turns)
            tell(time.perf_counter() - began)


def settings(store: dict[str, Any]) -> schema.Settings:
    """One source that is never read by itself, and the store."""
    source = {**NOWHERE, "settled_interval_s": 100_000, "busy_interval_s": 100_000}
    server = {"listen": "127.0.0.1:0", "streams_max": 20_000, "streams_per_peer_max": 20_000}
    told = {"server": server, "store": store, "telemetry": {"log_level": "error"}, "sources": {SOURCE: source}}
    return schema.Settings.model_validate(told)


async def main(args: argparse.Namespace) -> None:
    """Serve and obey until told to stop."""
    app.ADAPTERS["omn"] = Silent
    told = settings(json.loads(args.store))
    shut_telemetry = telemetry.configure(told.telemetry, version="bench")
    server = app.App(told, await app.open_store(told.store))
    obeying = asyncio.create_task(Orders(server, args.assets).obey())
    obeying.add_done_callback(lambda _: server.stop())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve(lambda address: say(address=address))
    shut_telemetry()


def arguments() -> argparse.Namespace:
    """What the measurements vary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="its settings, as JSON")
    parser.add_argument("--assets", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(arguments()))

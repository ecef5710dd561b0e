"""Serve one made-up source whose assets change at a given rate: the whole road from ingest to streams.

Prints a line of JSON with the address when it serves and all assets are known; ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time

from changes import SOURCE, Silent, asset, observation

from assetwatchd import app, config, telemetry
from assetwatchd.pipeline import Pipeline, Sighting
from assetwatchd.rpc import service
from assetwatchd.rpc.convert import ProtobufEncoder

TICK_S = 0.005
FILLED_AT_ONCE = 1000


class Feed:
    """Changes one asset after another, by the road that every change takes."""

    def __init__(self, server: app.App, assets: int) -> None:
        self._road = Pipeline(server.store, server.hub, ProtobufEncoder())
        self._assets = assets

    async def fill(self) -> None:
        """Make every asset known."""
        for first in range(0, self._assets, FILLED_AT_ONCE):
            await self._change(range(first, min(first + FILLED_AT_ONCE, self._assets)))

    async def run(self, rate: float) -> None:
        """Change rate assets a second, those due at one moment together, as one read of an upstream finds them."""
        began, turn = time.perf_counter(), self._assets
        while True:
            due = self._assets + int((time.perf_counter() - began) * rate)
            if turn < due:
                await self._change(range(turn, due))
                turn = due
            await asyncio.sleep(TICK_S)

    async def _change(self, turns: range) -> None:
        now = {asset(turn % self._assets): turn // self._assets for turn in turns}
        Silent.turns |= now
        with telemetry.poll(SOURCE, len(now)):
            found = telemetry.traceparent()
            sightings = [Sighting(observation(name, turn), time.time(), found) for name, turn in now.items()]
        await self._road.ingest(SOURCE, sightings)


def settings(args: argparse.Namespace) -> config.Settings:
    """One source, and the store and the tracing asked for."""
    store = {"kind": "sqlite", "path": args.sqlite} if args.sqlite else {"kind": "memory"}
    source = {
        "kind": "omn",
        "base_url": "http://127.0.0.1:1",
        "auth": {"kind": "bearer", "token": "made-up"},
        "settled_interval_s": 100_000,
        "busy_interval_s": 100_000,
    }
    server = {"listen": args.listen, "streams_max": 20_000, "streams_per_peer_max": 20_000}
    tracing = {"otlp_endpoint": args.otlp or None, "sample_ratio": args.sample_ratio}
    return config.Settings.model_validate(
        {"server": server, "store": store, "telemetry": tracing, "sources": {SOURCE: source}}
    )


async def main(args: argparse.Namespace) -> None:
    """Serve and feed until told to stop."""
    app.ADAPTERS["omn"] = Silent
    if args.unvalidated:
        vars(service)["validate"] = unchecked
    told = settings(args)
    shut_telemetry = telemetry.configure(told.telemetry, version="bench")
    server = app.App(told, await app.open_store(told.store))
    feed = Feed(server, args.assets)
    if server.store.count(SOURCE) < args.assets:
        await feed.fill()
    feeding = asyncio.create_task(feed.run(args.rate))
    feeding.add_done_callback(lambda _: server.stop())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, feeding.cancel)
    await server.serve(say)
    shut_telemetry()


def unchecked(_request: object) -> None:
    """Take any request."""


def say(address: str) -> None:
    """Tell the caller where."""
    sys.stdout.write(json.dumps({"address": address}) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """What the measurements vary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--assets", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--sqlite", default="", help="file; without it, in memory")
    parser.add_argument("--otlp", default="", help="endpoint; without it, no tracing and no metrics")
    parser.add_argument("--sample-ratio", type=float, default=0.01)
    parser.add_argument("--unvalidated", action="store_true", help="requests are not held against the schema's rules")
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(arguments()))

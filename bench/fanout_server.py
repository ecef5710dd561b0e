"""Serve one made-up source whose assets change at a given rate: the whole road from ingest to streams.

Prints a line of JSON with the address when it serves and all assets are known; ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar

from changes import NOWHERE, SOURCE, asset, observation
from say import say

from assetwatchd import app
from assetwatchd.changefeed.pipeline import Pipeline, Sighting
from assetwatchd.rpc import requests
from assetwatchd.rpc.convert import ProtobufEncoder
from assetwatchd.runtime import telemetry
from assetwatchd.settings import schema
from assetwatchd.upstream.answers import NOTHING_KNOWN
from assetwatchd.upstream.port import Capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from google.protobuf.message import Message

    from assetwatchd.model.values import Observation
    from assetwatchd.upstream.answers import Known
    from assetwatchd.upstream.port import Listed, Notice

TICK_S = 0.005
FILLED_AT_ONCE = 1000


class Silent:
    """An upstream whose changes are fed in behind it. turns: how often each asset was changed.

    They are the class's, since the service makes the adapter itself, and the feed has no other way to it.
    """

    capabilities = Capabilities(batch_max=100)
    turns: ClassVar[dict[str, int]] = {}

    def __init__(self, *_: object) -> None:
        """Take what an adapter takes."""

    def check(self, _asset_id: str) -> str | None:
        """Any id will do."""
        return None

    async def probe(self) -> None:
        """It is there."""

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> list[Observation]:  # noqa: ARG002 - what adapters take
        """As they were fed in last, whatever is known."""
        return [observation(asset_id, self.turns.get(asset_id, 0)) for asset_id in asset_ids]

    async def enumerate(self) -> Listed:
        """Never called: it does not say that it can."""
        raise NotImplementedError

    def notices(self) -> AsyncGenerator[Notice]:
        """Never called either."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing is held."""


class Feed:
    """Changes one asset after another, by the road that every change takes."""

    def __init__(self, server: app.App, assets: int) -> None:
        self._road = Pipeline(server.store, server.hub, ProtobufEncoder())
        self._assets = assets

    async def fill(self) -> None:
        """Make every asset known."""
        for first in range(0, self._assets, FILLED_AT_ONCE):
            await self.change(range(first, min(first + FILLED_AT_ONCE, self._assets)))

    async def run(self, rate: float) -> None:
        """Change rate assets a second, those due at one moment together, as one read of an upstream finds them."""
        began, turn = time.perf_counter(), self._assets
        while True:
            due = self._assets + int((time.perf_counter() - began) * rate)
            if turn < due:
                await self.change(range(turn, due))
                turn = due
            await asyncio.sleep(TICK_S)

    async def change(self, turns: range) -> None:
        """Have as many assets change, found by one read."""
        now = {asset(turn % self._assets): turn // self._assets for turn in turns}
        Silent.turns |= now
        with telemetry.poll(SOURCE, len(now)):
            found = telemetry.traceparent()
            sightings = [Sighting(observation(name, turn), time.time(), found) for name, turn in now.items()]
        await self._road.ingest(SOURCE, sightings)


def settings(args: argparse.Namespace) -> schema.Settings:
    """One source, and the store and the tracing asked for."""
    store = {"kind": "sqlite", "path": args.sqlite} if args.sqlite else {"kind": "memory"}
    source = {**NOWHERE, "settled_interval_s": 100_000, "busy_interval_s": 100_000}
    server = {"listen": args.listen, "streams_max": 20_000, "streams_per_peer_max": 20_000}
    tracing = {"otlp_endpoint": args.otlp or None, "sample_ratio": args.sample_ratio}
    return schema.Settings.model_validate(
        {"server": server, "store": store, "telemetry": tracing, "sources": {SOURCE: source}}
    )


async def main(args: argparse.Namespace) -> None:
    """Serve and feed until told to stop."""
    app.ADAPTERS["omn"] = Silent
    if args.unvalidated:
        vars(requests)["_reading"] = unchecked  # by its dict: no type checker lets anybody assign a function
    told = settings(args)
    shut_telemetry = telemetry.configure(told.telemetry, version="bench")
    server = app.App(told, await app.open_store(told.store))
    feed = Feed(server, args.assets)
    if server.store.count(SOURCE) < args.assets:
        await feed.fill()
    feeding = asyncio.create_task(feed.run(args.rate))
    feeding.add_done_callback(lambda _: server.stop())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, feeding.cancel)
    await server.serve(lambda address: say(address=address))
    shut_telemetry()


def unchecked(given: bytes, request: type[Message]) -> Generator[None, None, Message]:
    """Take any request."""
    yield from ()
    return request.FromString(given)


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

"""Serve one made-up source whose assets change at a given rate: the whole road from ingest to streams.

Prints a line of JSON with the address when it serves; ends with SIGTERM, printing what it used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING

from assetwatchd import app, config
from assetwatchd.details import OmnDetail
from assetwatchd.model import Facet, Observation, State
from assetwatchd.pipeline import Pipeline, Sighting
from assetwatchd.rpc.convert import ProtobufEncoder
from assetwatchd.upstream import Capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = "bench"
TICK_S = 0.005
STATES = (State.PENDING, State.PROCESSING, State.AVAILABLE)


class Silent:
    """An upstream that is never asked: the changes are fed in behind it."""

    capabilities = Capabilities(batch_max=1000)

    def __init__(self, *_: object) -> None:
        """Take what an adapter takes."""

    def check(self, _asset_id: str) -> str | None:
        """Any id will do."""
        return None

    async def probe(self) -> None:
        """It is there."""

    async def observe(self, asset_ids: Sequence[str]) -> list[Observation]:
        """As they were first."""
        return [observation(asset_id, 0) for asset_id in asset_ids]

    async def close(self) -> None:
        """Nothing is held."""


def observation(asset_id: str, turn: int) -> Observation:
    """One status of a plausible size."""
    state = STATES[turn % len(STATES)]
    facets = (
        Facet("import", state, f"running-{turn}", "made for the measurement"),
        Facet("object", State.AVAILABLE, "available"),
    )
    return Observation(
        asset_id, state, facets=facets, detail=OmnDetail(asset_id, str(turn), "running", "import incomplete")
    )


async def feed(server: app.App, *, assets: int, rate: float) -> None:
    """Change one asset after another, rate a second, by the road that every change takes."""
    road = Pipeline(server.store, server.hub, ProtobufEncoder())
    began, turn = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - began) * rate)
        sightings = [
            Sighting(observation(f"tid:asset-{number % assets:06d}", number // assets), time.time())
            for number in range(turn, due)
        ]
        turn = max(turn, due)
        await road.ingest(SOURCE, sightings)
        await asyncio.sleep(TICK_S)


def settings(args: argparse.Namespace) -> config.Settings:
    """One source, and the store asked for."""
    store = {"kind": "sqlite", "path": args.sqlite} if args.sqlite else {"kind": "memory"}
    source = {
        "kind": "omn",
        "base_url": "http://127.0.0.1:1",
        "auth": {"kind": "bearer", "token": "made-up"},
        "settled_interval_s": 100_000,
        "busy_interval_s": 100_000,
    }
    return config.Settings.model_validate(
        {"server": {"listen": args.listen}, "store": store, "sources": {SOURCE: source}}
    )


async def main(args: argparse.Namespace) -> None:
    """Serve and feed until told to stop."""
    app.ADAPTERS["omn"] = Silent
    told = settings(args)
    server = app.App(told, await app.open_store(told.store))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(server, assets=args.assets, rate=args.rate))
        await server.serve(lambda address: say(address=address))
        feeding.cancel()
    used = resource.getrusage(resource.RUSAGE_SELF)
    say(cpu_s=used.ru_utime + used.ru_stime, rss_mib=used.ru_maxrss / 1024)


def say(**what: object) -> None:
    """Tell the caller, a line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """What the measurement may vary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--assets", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--sqlite", default="")
    return parser.parse_args()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(arguments()))

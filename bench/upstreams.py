"""Run stand-ins of upstreams for a measurement; Pieces can have its assets changed at a rate.

Prints a line of JSON: the settings of a source over each, what ids it has, and the address to ask how often they were
asked.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

from say import say

from assetwatch_sandbox import KINDS, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox.standin import Standin

TICK_S = 0.001


def settings(standin: Standin[Any]) -> Mapping[str, object]:
    """Return the settings of a source over a stand-in."""
    known, ids = standin.credentials, standin.asset_ids()
    of_kind: dict[str, dict[str, object]] = {
        "usd_search": {"pins": ids},
        "omn": {"auth": {"kind": "bearer", "token": known.get("token")}},
        "media_intelligence": {
            "access_key": known.get("access_key"),
            "secret_key": known.get("secret_key"),
            "projects": sorted({asset_id.rpartition("/")[0] for asset_id in ids}),
        },
        "oracle_sbc": {"username": known.get("username"), "password": known.get("password"), "pins": ids},
    }
    return {"kind": standin.kind, "base_url": standin.url, **of_kind.get(standin.kind, {})}


async def change(standin: Standin[Any], rate: float) -> None:
    """Rename one asset after another, evenly spread over time."""
    ids = standin.asset_ids()
    began, turn = time.perf_counter(), 0
    while True:
        if turn < (time.perf_counter() - began) * rate:
            standin.put(ids[turn % len(ids)], {"name": f"turn {turn}", "pseudo": False})
            turn += 1
        await asyncio.sleep(TICK_S)


async def main(args: argparse.Namespace) -> None:
    """Run until ended."""
    sandbox = Sandbox(tuple(args.sources))
    for standin in sandbox.standins.values():
        standin.seed(random.Random(1), args.assets)  # noqa: S311 - the same in every run
    await sandbox.start()
    sources = {name: settings(standin) for name, standin in sandbox.standins.items()}
    assets = {name: standin.asset_ids() for name, standin in sandbox.standins.items()}
    say(control=sandbox.control_url, sources=sources, assets=assets)
    if args.rate:
        await change(sandbox.standins["pieces"], args.rate)
    await asyncio.Event().wait()


def arguments() -> argparse.Namespace:
    """What the measurements vary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=list(KINDS))
    parser.add_argument("--assets", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0, help="changes of Pieces assets a second")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))

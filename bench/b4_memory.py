"""B4: memory, of an idle process, an asset, and a watcher."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from children import pid_rss_kib
from report import Part, at_most
from rig import LOAD_CORE

if TYPE_CHECKING:
    from children import Result
    from rig import Rig

ASSETS, WATCHERS = 100_000, 1000
SETTLE_S = 2.0


def run(rig: Rig) -> Part:
    """Measure each as a difference of two processes."""
    how = (
        "Resident memory (VmRSS). Idle: `assetwatch serve` over all five stand-ins, nobody watching. An asset: a"
        f" process restarted on {ASSETS:,} assets with one watcher of all, so with what its polling plan holds, less"
        f" one with a single asset. A watcher: {WATCHERS:,} streams of 1,000 assets on 8 connections, less one stream."
    )
    idle = rig.repeated(3, partial(_idle, rig))["rss_kib"]
    many, one = (rig.repeated(3, partial(_restarted, rig, assets))["server_rss_kib"] for assets in (ASSETS, 1))
    crowd, single = (rig.repeated(3, partial(_watched, rig, streams))["server_rss_kib"] for streams in (WATCHERS, 1))
    return Part(
        "B4 memory",
        how,
        [
            at_most("idle", idle / 1024, 80, "MiB"),
            at_most("an asset", (many - one) / (ASSETS - 1), 1.5, "KiB", f"{many / 1024:,.0f} MiB in all"),
            at_most("a watcher", (crowd - single) / (WATCHERS - 1), 40, "KiB", f"{crowd / 1024:,.0f} MiB in all"),
        ],
    )


def _idle(rig: Rig) -> Result:
    with (
        rig.python("upstreams.py", core=LOAD_CORE) as upstreams,
        rig.product(upstreams.said()["sources"]) as (server, _),
    ):
        time.sleep(SETTLE_S)
        return {"rss_kib": pid_rss_kib(server.pid)}


def _restarted(rig: Rig, assets: int) -> Result:
    options = ("--assets", assets, "--rate", 0, "--sqlite", rig.filled(assets))
    return rig.fanout(*options, streams=1, warm_up="0s", patience="60s", span="1s")


def _watched(rig: Rig, streams: int) -> Result:
    options = ("--rate", 100, "--sqlite", rig.fresh("store.sqlite"))
    return rig.fanout(*options, streams=streams, patience="30s", span="1s")

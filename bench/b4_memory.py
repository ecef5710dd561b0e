"""B4: memory, of an idle process, an asset, and a watcher."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from children import pid_rss_mb
from report import Part, at_most, unless_missing
from rig import LOAD_CORE

if TYPE_CHECKING:
    from children import Result
    from report import Row
    from rig import Rig

ASSETS, WATCHERS = 100_000, 1000
SETTLE_S = 2.0


def run(rig: Rig) -> Part:
    """Measure each as a difference of two processes."""
    how = (
        "Resident memory (VmRSS), in MB of 10^6 and KB of 10^3 bytes. Idle: `assetwatch serve` over all five stand-ins,"
        " nobody watching. An asset: a"
        f" process restarted on {ASSETS:,} assets with one watcher of all, so with what its polling plan holds, less"
        f" one with a single asset. A watcher: {WATCHERS:,} streams of 1,000 assets on 8 connections, less one stream."
    )
    rows = [*_idle(rig), *unless_missing("an asset, a watcher", partial(_each, rig))]
    return Part("B4 memory", how, rows)


def _idle(rig: Rig) -> list[Row]:
    found = rig.repeated(3, partial(_nobody, rig))
    return [at_most("idle", found["rss_mb"], 80, "MB", n=found["n"])]


def _each(rig: Rig) -> list[Row]:
    many, one = (rig.repeated(3, partial(_restarted, rig, assets)) for assets in (ASSETS, 1))
    crowd, single = (rig.repeated(3, partial(_watched, rig, streams)) for streams in (WATCHERS, 1))
    return [
        _difference("an asset", many, one, ASSETS - 1, 1.5),
        _difference("a watcher", crowd, single, WATCHERS - 1, 40),
    ]


def _difference(what: str, more: Result, less: Result, count: int, limit_kb: float) -> Row:
    each_kb = 1000 * (more["server_rss_mb"] - less["server_rss_mb"]) / count
    return at_most(what, each_kb, limit_kb, "KB", f"{more['server_rss_mb']:,.0f} MB in all", n=more["n"])


def _nobody(rig: Rig) -> Result:
    with (
        rig.python("upstreams.py", core=LOAD_CORE) as upstreams,
        rig.product(upstreams.said()["sources"]) as (server, _),
    ):
        time.sleep(SETTLE_S)
        return {"rss_mb": pid_rss_mb(server.pid)}


def _restarted(rig: Rig, assets: int) -> Result:
    options = ("--assets", assets, "--rate", 0, "--sqlite", rig.filled(assets))
    return rig.fanout(*options, streams=1, warm_up="0s", patience="60s", span="1s")


def _watched(rig: Rig, streams: int) -> Result:
    options = ("--rate", 100, "--sqlite", rig.fresh("store.sqlite"))
    return rig.fanout(*options, streams=streams, warm_up="1s", patience="30s", span="1s")

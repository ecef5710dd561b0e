"""B2: what the upstreams are asked, and what that gives, beside clients that ask for themselves."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from functools import partial
from typing import TYPE_CHECKING

from report import Part, Row, at_least, figure, unless_missing
from rig import LOAD_CORE, paired, spread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from children import Child, Result
    from rig import Pairs, Rig

WATCHERS = (0, 1, 10, 500)
NOBODY_PER_S = 1.0
"""What may be asked while nobody watches: whether the source is there."""
USD_ASSETS, USD_EVERY_S = 100, 1.0
OMN_ASSETS, OMN_BATCH, OMN_EVERY_S = 1000, 100, 1.0
SETTLE_S, COUNT_S = 3.0, 6.0
CLIENTS, SHARED_ASSETS, SHARED_EVERY_S = 10, 20, 0.5


def run(rig: Rig) -> Part:
    """Count requests, then compare."""
    how = (
        f"Requests: USD Search, {USD_ASSETS} assets that each watcher names and nothing else asks for, read every"
        f" {USD_EVERY_S:g} s; counted by the stand-in for {COUNT_S:g} s. OMN: {OMN_ASSETS:,} assets, {OMN_BATCH} a"
        f" call, read every {OMN_EVERY_S:g} s."
        " Polls: scheduler, adapter and diff against one recorded answer, as fast as it goes, in turns with aiohttp"
        f" alone. Delay: a change of one of {SHARED_ASSETS} assets until each of {CLIENTS} clients has seen it; clients"
        " that poll for themselves share out as many requests as assetwatch made."
    )
    counted = unless_missing("requests", lambda: [*_requests(rig), *_batches(rig)])
    return Part("B2 upstream", how, [*counted, *_polls(rig), *_delay(rig)])


# Requests ------------------------------------------------------------------------------------------------------------


def _requests(rig: Rig) -> list[Row]:
    counts = {watchers: _asked(rig, watchers) for watchers in WATCHERS}
    rows = [_count_row(watchers, *counts[watchers]) for watchers in WATCHERS]
    one, _ = counts[1]
    for watchers in WATCHERS[2:]:
        ratio = counts[watchers][0] / one if one else 0
        rows.append(Row(f"{watchers} watchers to 1", f"{ratio:.3f}", "1.00 ± 0.02", abs(ratio - 1) <= 0.02))
    return rows


def _count_row(watchers: int, count: int, synced: int) -> Row:
    per_s = count / COUNT_S
    right = synced == watchers and (per_s <= NOBODY_PER_S if watchers == 0 else count > 0)
    target = f"≤ {NOBODY_PER_S:g}/s" if watchers == 0 else "all in sync"
    return Row(f"requests for {watchers} watchers", f"{per_s:.1f}/s", target, right, f"{synced} of {watchers} in sync")


def _asked(rig: Rig, watchers: int) -> tuple[int, int]:
    """Return how many requests came, and how many watchers were in sync to the end; nobody but they asks."""
    with rig.python("upstreams.py", "usd-search", "--assets", USD_ASSETS, core=LOAD_CORE) as upstreams:
        said = upstreams.said()
        sources = _every({"usd-search": {**said["sources"]["usd-search"], "pins": []}}, USD_EVERY_S)
        names = rig.fresh("assets")
        names.write_text("\n".join(said["assets"]["usd-search"]))
        with (
            rig.product(sources) as (server, address),
            _watching(rig, address, "usd-search", watchers, assets=names) as load,
        ):
            count = _count(said["control"], "usd-search")
            assert server.process.poll() is None  # noqa: S101 - else the figures are of nothing
            found = load.said()
    return count, found["synced"] - found["failed"]


def _every(sources: Mapping[str, Mapping[str, object]], seconds: float) -> dict[str, object]:
    fixed = {"busy_interval_s": seconds, "settled_interval_s": seconds, "rate_per_s": 5000}
    return {name: {**settings, **fixed} for name, settings in sources.items()}


def _watching(rig: Rig, address: str, source: str, watchers: int, **options: object) -> AbstractContextManager[Child]:
    span = SETTLE_S + COUNT_S + 1
    return rig.loading(address, source=source, streams=watchers, warm_up=f"{span}s", span="100ms", **options)


def _count(control: str, source: str, path: str = "") -> int:
    time.sleep(SETTLE_S)
    before = _requests_of(control, source, path)
    time.sleep(COUNT_S)
    return _requests_of(control, source, path) - before


def _requests_of(control: str, source: str, path: str) -> int:
    with urllib.request.urlopen(f"{control}/sources/{source}/requests?path={path}") as reply:  # noqa: S310 - ours
        return int(json.load(reply)["count"])


def _batches(rig: Rig) -> list[Row]:
    with rig.python("upstreams.py", "omn", "--assets", OMN_ASSETS, core=LOAD_CORE) as upstreams:
        said = upstreams.said()
        settings = {**said["sources"]["omn"], "batch_size": OMN_BATCH}
        with (
            rig.product(_every({"omn": settings}, OMN_EVERY_S)) as (_, address),
            _watching(rig, address, "omn", 1) as load,
        ):
            calls = _count(said["control"], "omn", "assets/status") / COUNT_S * OMN_EVERY_S
            synced = load.said()["synced"]
    wanted = math.ceil(OMN_ASSETS / OMN_BATCH)
    met = synced == 1 and abs(calls / wanted - 1) <= 0.02
    return [Row("OMN calls a round", f"{calls:.2f}", f"{wanted}", met, f"{synced} of 1 in sync")]


# Beside others -------------------------------------------------------------------------------------------------------


def _polls(rig: Rig) -> list[Row]:
    with rig.python("polling.py", "serve", core=LOAD_CORE) as canned:
        said = canned.said()
        polled = partial(_polled, rig, said["url"])
        found = rig.turns(4, {what: partial(polled, what) for what in ("ours", "bare", "parsing")})
    bare, parsing = (paired(found["ours"], found[other], "polls_per_s") for other in ("bare", "parsing"))
    answers = f"answers of {said['bytes']:,} bytes"
    return [
        at_least("polls to those of bare aiohttp", 100 * bare.ratio, 80, "%", f"{_beside(bare)}; {answers}", n=bare.n),
        Row(
            "polls to those of aiohttp and json.loads",
            f"{100 * parsing.ratio:.0f} %",
            "",
            None,
            _beside(parsing),
            parsing.n,
        ),
    ]


def _beside(found: Pairs) -> str:
    return f"{figure(found.one)}/s to {figure(found.other)}/s; {spread(found)}"


def _polled(rig: Rig, url: str, what: str) -> Result:
    with rig.python("polling.py", what, "--url", url) as child:
        return child.said()


def _delay(rig: Rig) -> list[Row]:
    mine = _watched(rig)
    budget = mine["requests_per_s"]
    round_s = SHARED_ASSETS / (budget / CLIENTS)
    theirs = _self_polled(rig, budget, 1.2 * round_s)
    return [
        Row(
            f"change to {CLIENTS} clients, {who}",
            f"p50 {1000 * found['p50_s']:,.0f} ms, p99 {1000 * found['p99_s']:,.0f} ms",
            note=f"{found['requests_per_s']:.0f} requests/s",
        )
        for who, found in (("assetwatch", mine), ("each polling for itself", theirs))
    ]


def _delays(rig: Rig, wait_s: float) -> AbstractContextManager[Child]:
    options = ("--clients", CLIENTS, "--assets", SHARED_ASSETS, "--wait", wait_s)
    return rig.python("delays.py", *options, core=LOAD_CORE)


def _watched(rig: Rig) -> dict[str, float]:
    with _delays(rig, 1) as clients:
        sources = _every(clients.said()["sources"], SHARED_EVERY_S)
        with rig.product(sources) as (_, address):
            clients.tell(address=address)
            return clients.said()


def _self_polled(rig: Rig, budget: float, wait_s: float) -> dict[str, float]:
    with _delays(rig, wait_s) as clients:
        clients.said()
        clients.tell(budget_per_s=budget)
        return clients.said()

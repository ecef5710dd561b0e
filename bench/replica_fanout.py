"""A part of B9: changes delivered to many watchers through replicas, on one core and on two."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from replica_group import SIZES, named, servers
from report import Row, figure
from rig import LOAD_CORE, SERVER_CORE, medians, used

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from children import Result
    from replica_group import Serving
    from rig import Rig

WATCHERS, FILTERS = 900, 4
RATES = {500: 1, 2000: 3}
"""Changes a second, and how often each is measured."""
FULL = max(RATES)
CROWD = 1800
"""On two cores: more than one core can tell at that rate."""
TIMES = {"warm_up": "3s", "patience": "9s", "span": "3s"}
ONE, BESIDE, TWO = (
    "1 replica, the load on the other core",
    "1 replica, the load beside it",
    "2 replicas, a core each, the load beside each",
)


def rows(rig: Rig) -> Iterator[Row]:
    """Measure on one core, then on two."""
    for rate, times in RATES.items():
        found = rig.turns(times, {named(*size): partial(_delivered, rig, rate, *size) for size in SIZES})
        for name, runs in found.items():
            yield _row(name, WATCHERS, rate, medians(runs))
    yield from _two_cores(rig)


def _two_cores(rig: Rig) -> Iterator[Row]:
    first, second = (SERVER_CORE,), (LOAD_CORE,)
    pinned = {ONE: (first, second), BESIDE: (first, first), TWO: (first + second, first + second)}
    found = rig.turns(3, {what: partial(_on_cores, rig, *cores) for what, cores in pinned.items()})
    shown = {what: medians(runs) for what, runs in found.items()}
    for what, each in shown.items():
        yield _row(what, CROWD, FULL, each)
    for what, other in (("has a core for itself", ONE), ("has the load beside it", BESIDE)):
        ratio = shown[TWO]["changes_per_s"] / shown[other]["changes_per_s"]
        yield Row(f"2 replicas on 2 cores to 1 that {what}", f"{ratio:.2f} x", note="etcd is on the second core")


def _delivered(rig: Rig, rate: int, count: int, members: int) -> Result:
    with servers(rig, count, members) as serving:
        serving[0].told(rate=rate)
        return _watched(rig, serving, [LOAD_CORE] * count, WATCHERS)


def _on_cores(rig: Rig, cores: tuple[int, ...], loads: tuple[int, ...]) -> Result:
    with servers(rig, len(cores), 1, cores) as serving:
        serving[0].told(rate=FULL)
        return _watched(rig, serving, loads, CROWD)


def _watched(rig: Rig, serving: Sequence[Serving], loads: Sequence[int], watchers: int) -> Result:
    """Share out the streams, with a client for each server on the core that is given; add up what they say."""
    told = {"streams": watchers // len(serving), "filters": FILTERS, **TIMES}
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(rig.loading(each.address, core, pid=each.child.pid, **told))
            for each, core in zip(serving, loads, strict=True)
        ]
        said = [client.said() for client in clients]
    added = ("changes_per_s", "server_share", "load_share", "streams", "synced", "failed")
    worst = ("age_p50_ms", "age_p99_ms")
    others = 0.0 if SERVER_CORE in loads else _others(said)  # with the load on it, it cannot be told
    return {
        **{name: sum(each[name] for each in said) for name in added},
        **{name: max(each[name] for each in said) for name in worst},
        "others_share": others,
    }


def _others(said: Sequence[Result]) -> float:
    """Return what others had of the servers' core: to each client, the other servers are others."""
    first, *rest = said
    left: float = first["others_share"] - sum(each["server_share"] for each in rest)
    return max(0.0, left)


def _row(name: str, watchers: int, rate: int, found: Result) -> Row:
    share = f"{100 * found['changes_per_s'] / (watchers * rate):.0f} % of those due"
    lag = f"p50 {figure(found['age_p50_ms'])} ms, p99 {figure(found['age_p99_ms'])} ms"
    what = f"fan-out, {name}, {watchers:,} x {rate:,}/s"
    return Row(what, f"{found['changes_per_s']:,.0f}/s", note=f"{share}; {lag}; {used(found)}", n=found["n"])

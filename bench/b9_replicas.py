"""B9: several processes over one etcd: what they deliver, how soon, and what that costs, beside one over SQLite."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

import replica_ways
from changes import SOURCE
from children import pid_used_s
from replicas import alone, group
from report import Part, Row, at_most, figure, unless_missing
from rig import LOAD_CORE, SERVER_CORE, medians

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from children import Result
    from replicas import Serving
    from rig import Rig

ASSETS = 1000
INGESTS = {
    "1 an ingest": (1, 1),
    "1 an ingest, 20 ingests under way": (1, 20),
    "20 an ingest": (20, 1),
    "200 an ingest": (200, 1),
}
"""How many assets an ingest finds changed, and how many ingests are under way at a time."""
COMMIT_S = 2.0
WATCHERS, RATES, FILTERS = 900, (500, 2000), 4
TIMES = {"warm_up": "3s", "patience": "9s", "span": "3s"}
DELAY_STREAMS, DELAY_RATE, DELAY_P99_MS = 9, 100, 25
MIRROR_RATE, MIRROR_S = 2000, 5.0
SIZES = ((1, 1), (3, 3))
"""Replicas, and members of etcd."""
ONE_S = 1e6


def run(rig: Rig) -> Part:
    """Measure what is short first, and what takes minutes last."""
    how = (
        "Replicas on the server's core, all members of etcd and the load on the other; etcd flushes each write. Commits:"
        f" ingests of one source for {COMMIT_S:g} s, each until its changes can be read. Fan-out: {WATCHERS:,} streams"
        " shared out among the replicas, which share a core; one of them makes the changes. Delay: from when a change"
        f" was found, at the owner, to its receipt at {DELAY_STREAMS} streams. What is left is told beside each row."
    )
    measured: dict[str, Callable[[Rig], Iterable[Row]]] = {
        "commits": _commits,
        "delay": _delays,
        "fan-out": _fanout,
        "two replicas, a core each": _two_cores,
        "a mirror": _mirror,
        **replica_ways.MEASURED,
    }
    rows = [row for what, rows in measured.items() for row in unless_missing(what, partial(_all, rows, rig))]
    return Part("B9 replicas", how, rows)


def _all(rows: Callable[[Rig], Iterable[Row]], rig: Rig) -> list[Row]:
    return list(rows(rig))


@contextlib.contextmanager
def _servers(rig: Rig, count: int, members: int, cores: tuple[int, ...] = (SERVER_CORE,)) -> Iterator[list[Serving]]:
    """Run one process over SQLite: no members; or replicas over so many."""
    if not members:
        with alone(rig, assets=ASSETS) as server:
            yield [server]
        return
    with group(rig, members) as replicas, replicas.serving(count, assets=ASSETS, cores=cores) as servers:
        yield servers


def _named(count: int, members: int) -> str:
    if not members:
        return "one process, SQLite"
    return f"{count} replica{'s' * (count > 1)}, {members} etcd"


# Commits -------------------------------------------------------------------------------------------------------------


def _commits(rig: Rig) -> Iterator[Row]:
    for count, members in ((1, 0), *SIZES):
        found = rig.repeated(3, partial(_committed, rig, count, members))
        for what in INGESTS:
            per_s, took_ms = found[f"{what}, entries_per_s"], found[f"{what}, ingest_p50_ms"]
            note = f"an ingest {figure(took_ms)} ms (median)"
            yield Row(f"commits, {_named(count, members)}: {what}", f"{per_s:,.0f} entries/s", note=note, n=found["n"])


def _committed(rig: Rig, count: int, members: int) -> Result:
    with _servers(rig, count, members) as (owner, *_):
        return {
            f"{what}, {name}": value
            for what, (each, lanes) in INGESTS.items()
            for name, value in owner.told(each=each, lanes=lanes, span_s=COMMIT_S).items()
        }


# Fan-out -------------------------------------------------------------------------------------------------------------


def _fanout(rig: Rig) -> Iterator[Row]:
    for rate in RATES:
        found = rig.turns(3, {_named(*size): partial(_delivered, rig, rate, *size) for size in ((1, 0), *SIZES)})
        for name, runs in found.items():
            yield _fanout_row(f"fan-out, {name}, {WATCHERS} x {rate:,}/s", WATCHERS * rate, medians(runs))


def _fanout_row(what: str, due: int, found: Result) -> Row:
    share = f"{100 * found['changes_per_s'] / due:.0f} % of those due"
    lag = f"p50 {figure(found['age_p50_ms'])} ms, p99 {figure(found['age_p99_ms'])} ms"
    used = f"servers {100 * found['server_share']:.0f} %, load {100 * found['load_share']:.0f} %"
    apart = f", {found['apart']:.0f} streams not in sync" if found["apart"] else ""
    others = f", others {100 * found['others_share']:.0f} %" if found["others_share"] > 0.05 else ""  # noqa: PLR2004 - as rig.NAMED
    return Row(what, f"{found['changes_per_s']:,.0f}/s", note=f"{share}; {lag}; {used}{apart}{others}", n=found["n"])


def _delivered(rig: Rig, rate: int, count: int, members: int) -> Result:
    with _servers(rig, count, members) as servers:
        servers[0].told(rate=rate)
        return _watched(rig, servers, [LOAD_CORE] * count)


def _watched(rig: Rig, servers: Sequence[Serving], cores: Sequence[int]) -> Result:
    """Share out the streams among servers, with a client for each on the core that is given; add up what they say."""
    told = {"streams": WATCHERS // len(servers), "filters": FILTERS, **TIMES}
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(rig.loading(each.address, core=core, pid=each.child.pid, **told))
            for each, core in zip(servers, cores, strict=True)
        ]
        said = [client.said() for client in clients]
    added = {name: sum(each[name] for each in said) for name in ("changes_per_s", "server_share", "load_share")}
    worst = {name: max(each[name] for each in said) for name in ("age_p50_ms", "age_p99_ms")}
    apart = sum(each["streams"] - each["synced"] for each in said)
    return {**added, **worst, "apart": apart, "others_share": _others(said, cores)}


def _others(said: Sequence[Result], cores: Sequence[int]) -> float:
    """Return what others than ours had of the server's core; 0 where the load is on it, too: it cannot be told."""
    if SERVER_CORE in cores:
        return 0.0
    return max(0.0, said[0]["others_share"] - sum(each["server_share"] for each in said[1:]))


def _two_cores(rig: Rig) -> Iterator[Row]:
    rate = RATES[-1]
    both = (SERVER_CORE, LOAD_CORE)
    found = rig.turns(
        3,
        {
            "one replica, the load on the other core": partial(_on_cores, rig, (SERVER_CORE,), (LOAD_CORE,)),
            "one replica, the load beside it": partial(_on_cores, rig, (SERVER_CORE,), (SERVER_CORE,)),
            "two replicas, a core each, the load beside each": partial(_on_cores, rig, both, both),
        },
    )
    shown = {what: medians(runs) for what, runs in found.items()}
    for what, each in shown.items():
        yield _fanout_row(f"{what}, {WATCHERS} x {rate:,}/s", WATCHERS * rate, each)
    one, beside, two = (each["changes_per_s"] for each in shown.values())
    note = "etcd is on the second core in each"
    yield Row("two replicas to one that has the load beside it", f"{two / beside:.2f} x", note=note)
    yield Row("two replicas to one that has a core for itself", f"{two / one:.2f} x", note=note)


def _on_cores(rig: Rig, servers: tuple[int, ...], loads: tuple[int, ...]) -> Result:
    with _servers(rig, len(servers), 1, servers) as replicas:
        replicas[0].told(rate=RATES[-1])
        return _watched(rig, replicas, loads)


# Delay, and what a mirror costs --------------------------------------------------------------------------------------


def _delays(rig: Rig) -> Iterator[Row]:
    for members in (1, 3):
        found = rig.repeated(3, partial(_delayed, rig, members))
        where = f"{DELAY_RATE} changes/s, {members} etcd"
        yield Row(f"delay at the owner, {where}", f"p99 {figure(found['owner_p99_ms'])} ms", n=found["n"])
        note = f"p50 {figure(found['other_p50_ms'])} ms; at the owner {figure(found['owner_p50_ms'])} ms"
        what = f"delay at another replica (p99), {where}"
        yield at_most(what, found["other_p99_ms"], DELAY_P99_MS, "ms", note, n=found["n"])


def _delayed(rig: Rig, members: int) -> Result:
    told = {"streams": DELAY_STREAMS, "warm_up": "1s", "patience": "10s", "span": "2s" if rig.quick else "10s"}
    with _servers(rig, 2, members) as servers:
        servers[0].told(rate=DELAY_RATE)
        with (
            rig.loading(servers[0].address, **told) as at_owner,
            rig.loading(servers[1].address, **told) as at_other,
        ):
            said = {"owner": at_owner.said(), "other": at_other.said()}
    return {f"{who}_{q}_ms": each[f"age_{q}_ms"] for who, each in said.items() for q in ("p50", "p99")}


def _mirror(rig: Rig) -> Iterator[Row]:
    found = rig.repeated(3, partial(_mirrored, rig))
    note = f"{figure(found['mirror_us'])} µs a change; its owner {100 * found['owner']:.0f} %, etcd {100 * found['etcd']:.0f} %"
    what = f"of a core for a mirror, {MIRROR_RATE:,} changes/s"
    yield Row(what, f"{100 * found['mirror']:.1f} %", note=f"nobody watches; {note}", n=found["n"])


def _mirrored(rig: Rig) -> Result:
    with group(rig) as replicas, replicas.serving(2, assets=ASSETS) as (owner, other):
        owner.told(rate=MIRROR_RATE)
        time.sleep(1)
        began = {"owner": pid_used_s(owner.child.pid), "mirror": pid_used_s(other.child.pid), "etcd": replicas.used_s()}
        at = time.monotonic()
        time.sleep(MIRROR_S)
        lasted = time.monotonic() - at
        ended = {"owner": pid_used_s(owner.child.pid), "mirror": pid_used_s(other.child.pid), "etcd": replicas.used_s()}
    shares = {who: (ended[who] - began[who]) / lasted for who in began}
    return {**shares, "mirror_us": ONE_S * shares["mirror"] / MIRROR_RATE}

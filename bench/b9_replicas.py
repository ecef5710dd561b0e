"""B9: several processes over one etcd: what they deliver, how soon, and what that costs, beside one over SQLite."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import replica_fanout
import replica_many
import replica_reads
from children import pid_used_s
from replica_group import ASSETS, SIZES, group, named, servers
from report import Part, Row, at_most, figure, unless_missing
from rig import BENCH, etcd_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from children import Result
    from rig import Rig

INGESTS = {
    "1 an ingest": (1, 1),
    "1 an ingest, 20 under way": (1, 20),
    "20 an ingest": (20, 1),
    "200 an ingest": (200, 1),
}
"""How many assets an ingest finds changed, and how many ingests are under way at a time."""
COMMIT_S = 1.0
DELAY_STREAMS, DELAY_RATE, DELAY_P99_MS = 9, 100, 25
MIRROR_RATE, MIRROR_S = 2000, 5.0
LEASE_BESIDE_S, DRAINED_S, LEADER_S, REQUESTS_BESIDE = 1.5, 0.5, 3.0, 0.03


def run(rig: Rig) -> Part:
    """Measure what is short first, and what takes minutes last. Raises: Missing."""
    etcd_program()
    how = (
        "Replicas on the server's core, all members of etcd and the load on the other; etcd flushes each write."
        f" Commits: ingests of one source for {COMMIT_S:g} s, each until its changes can be read. Delay: from when a"
        f" change was found, at the owner, to its receipt at {DELAY_STREAMS} streams of a replica. Fan-out: streams"
        " shared out among the replicas, one of which makes the changes. Requests, takeovers and the election are"
        " measured by the rig of the fault tests (tests/faults/measures.py), with both cores for all."
    )
    measured: dict[str, Callable[[Rig], Iterable[Row]]] = {
        "delay": _delays,
        "fan-out": replica_fanout.rows,
        "commits": _commits,
        "a mirror": _mirror,
        "many assets": replica_many.rows,
        "fresh reads": replica_reads.rows,
        "requests": _requests,
        "takeovers": _takeovers,
        "an election": _election,
    }
    rows = [row for what, rows in measured.items() for row in unless_missing(what, partial(_all, rows, rig))]
    return Part("B9 replicas", how, rows)


def _all(rows: Callable[[Rig], Iterable[Row]], rig: Rig) -> list[Row]:
    return list(rows(rig))


def _commits(rig: Rig) -> Iterator[Row]:
    for size in SIZES:
        found = rig.repeated(3, partial(_committed, rig, *size))
        for what in INGESTS:
            note = f"an ingest {figure(found[f'{what}, ingest_p50_ms'])} ms (median)"
            per_s = f"{found[f'{what}, entries_per_s']:,.0f} entries/s"
            yield Row(f"commits, {named(*size)}: {what}", per_s, note=note, n=found["n"])


def _committed(rig: Rig, count: int, members: int) -> Result:
    with servers(rig, count, members) as (owner, *_):
        return {
            f"{what}, {name}": value
            for what, (each, lanes) in INGESTS.items()
            for name, value in owner.told(each=each, lanes=lanes, span_s=COMMIT_S).items()
        }


def _delays(rig: Rig) -> Iterator[Row]:
    for members in (1, 3):
        found = rig.repeated(3, partial(_delayed, rig, members))
        other = f"p50 {figure(found['other_p50_ms'])} ms"
        owner = f"p50 {figure(found['owner_p50_ms'])} ms, p99 {figure(found['owner_p99_ms'])} ms"
        what = f"p99 of the delay at another replica, {DELAY_RATE} changes/s, {members} etcd"
        note = f"{other}; at the owner {owner}"
        yield at_most(what, found["other_p99_ms"], DELAY_P99_MS, "ms", note, n=found["n"])


def _delayed(rig: Rig, members: int) -> Result:
    told = {"streams": DELAY_STREAMS, "warm_up": "1s", "patience": "10s", "span": "2s" if rig.quick else "8s"}
    with servers(rig, 2, members) as (owner, other):
        owner.told(rate=DELAY_RATE)
        with rig.loading(owner.address, **told) as at_owner, rig.loading(other.address, **told) as at_other:
            said = {"owner": at_owner.said(), "other": at_other.said()}
    return {f"{who}_{q}_ms": each[f"age_{q}_ms"] for who, each in said.items() for q in ("p50", "p99")}


def _mirror(rig: Rig) -> Iterator[Row]:
    found = rig.repeated(3, partial(_mirrored, rig))
    each_us = 1e6 * found["mirror"] / found["changes"]
    others = f"the owner {100 * found['owner']:.0f} %, etcd {100 * found['etcd']:.0f} %"
    what = f"of a core for a mirror at {MIRROR_RATE:,} changes/s"
    note = f"{figure(each_us)} µs a change, {found['changes']:,.0f} a second; {others}; nobody watches"
    yield Row(what, f"{100 * found['mirror']:.1f} %", note=note, n=found["n"])


def _mirrored(rig: Rig) -> Result:
    with group(rig) as replicas, replicas.serving(2, assets=ASSETS) as (owner, other):
        owner.told(rate=MIRROR_RATE)

        def used() -> Result:
            own, mirror = (pid_used_s(each.child.pid) for each in (owner, other))
            figures = {"owner": own, "mirror": mirror, "etcd": replicas.used_s(), "at": time.monotonic()}
            return {**figures, **owner.told(changes=True)}

        time.sleep(1)
        before = used()
        time.sleep(MIRROR_S)
        after = used()
    lasted = after.pop("at") - before.pop("at")
    return {who: (after[who] - before[who]) / lasted for who in before}


# By the rig of the fault tests ---------------------------------------------------------------------------------------


def _requests(rig: Rig) -> Iterator[Row]:
    for source, (one, three) in _measured(rig, "requests").items():
        ratio = three / one
        met = abs(ratio - 1) <= REQUESTS_BESIDE
        note = f"{figure(three)}/s to {figure(one)}/s"
        yield Row(f"requests of {source}, 3 replicas to 1", f"{ratio:.3f}", f"1.00 ± {REQUESTS_BESIDE}", met, note)


def _takeovers(rig: Rig) -> Iterator[Row]:
    found = _measured(rig, "takeover")
    lease_s = found["lease_s"]
    for end, limit in (("SIGTERM", DRAINED_S), ("kill -9", lease_s + LEASE_BESIDE_S)):
        owned, asked = (sorted(found[end][name]) for name in ("owned_s", "asked_s"))
        note = f"median {figure(owned[len(owned) // 2])} s; asked upstream again after {figure(asked[-1])} s at most"
        what = f"longest takeover of {found['assets']:,} assets after {end}, lease {lease_s} s"
        yield at_most(what, owned[-1], limit, "s", note, n=len(owned))


def _election(rig: Rig) -> Iterator[Row]:
    found = _measured(rig, "leader")
    note = f"p99 {figure(found['p99_s'])} s of {found['changes']:,} told around it"
    yield at_most("longest delay of a change through an election of etcd", found["max_s"], LEADER_S, "s", note, n=1)


def _measured(rig: Rig, what: str) -> Result:
    env = {
        "PYTHONPATH": str(BENCH.parent / "tests"),
        "GRPC_ENABLE_FORK_SUPPORT": "0",
        "GRPC_VERBOSITY": "ERROR",
    }
    with rig.child(sys.executable, "-m", "faults.measures", "--json", what, core=None, env=env) as child:
        return child.said()

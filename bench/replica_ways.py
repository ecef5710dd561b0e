"""The rest of B9: replicas with many assets, reads that are passed on, and what faults cost."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.source_service_pb2 import ListSourcesRequest
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub
from changes import NOWHERE, SOURCE
from replicas import group, serving
from report import Row, at_most, figure
from rig import BENCH, LOAD_CORE, medians, spread, Pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from children import Result
    from replicas import Group
    from rig import Rig

MANY = 100_000
COLD_S = 6
FEW_S, FORWARDED = 2.0, 1.6
LEASE_BESIDE_S, DRAINED_S, LEADER_S = 1.5, 0.5, 3.0
REQUESTS_BESIDE = 0.03
OWNER_S = 30.0


# Many assets ---------------------------------------------------------------------------------------------------------


def _many(rig: Rig) -> Iterator[Row]:
    with group(rig) as replicas:
        with replicas.serving(1, assets=MANY):
            started = rig.repeated(3, partial(_cold, rig, replicas))
            yield at_most(f"cold start with {MANY:,} assets", started["s"], COLD_S, "s", n=started["n"])
            mirror = rig.repeated(3, partial(_memory, rig, replicas.store("mirror")))
        owner = rig.repeated(3, partial(_memory, rig, replicas.store("owner")))
    sqlite = rig.repeated(3, partial(_sqlite_memory, rig))
    for what, found in (("that owns the source", owner), ("that does not", mirror)):
        note = f"{figure(sqlite['server_rss_mb'])} MB over SQLite; one watcher of all"
        mb, limit = found["server_rss_mb"], sqlite["server_rss_mb"]
        yield at_most(f"memory of a replica with {MANY:,} assets, {what}", mb, limit, "MB", note, n=found["n"])


def _cold(rig: Rig, replicas: Group) -> Result:
    began = time.perf_counter()
    with rig.product({SOURCE: NOWHERE}, store=replicas.store("cold")):
        return {"s": time.perf_counter() - began}


def _memory(rig: Rig, store: Mapping[str, object]) -> Result:
    with serving(rig, dict(store), assets=MANY) as server:
        if store["replica" if store["kind"] == "etcd" else "kind"] in {"owner", "sqlite"}:
            server.told(own=True)
        return rig.load(server.address, pid=server.child.pid, streams=1, warm_up="0s", patience="60s", span="1s")


def _sqlite_memory(rig: Rig) -> Result:
    return _memory(rig, {"kind": "sqlite", "path": str(rig.filled(MANY))})


# Reads that are passed on --------------------------------------------------------------------------------------------


def _reads(rig: Rig) -> Iterator[Row]:
    eager = {"busy_interval_s": 3600, "settled_interval_s": 3600, "rate_per_s": 5000}
    with (
        rig.python("upstreams.py", "usd-search", "--assets", 1, core=LOAD_CORE) as upstreams,
        group(rig) as replicas,
        rig.python("cached_reads.py", core=LOAD_CORE) as reads,
    ):
        said = upstreams.said()
        [asset_id] = said["assets"]["usd-search"]
        sources = {"usd-search": {**said["sources"]["usd-search"], **eager}}

        def read(address: str) -> Result:
            reads.tell(address=address, source="usd-search", asset_id=asset_id, span_s=FEW_S, fresh=True)
            return reads.said()

        with rig.product(sources, store=replicas.store("first")) as (_, first):
            _owned_by("first", first)
            with rig.product(sources, store=replicas.store("second")) as (_, second):
                _owned_by("first", second)
                found = rig.pairs(5, partial(read, second), partial(read, first), "p50_ms")
    note = f"{figure(found.one)} ms to {figure(found.other)} ms (medians); {spread(found)}"
    yield at_most("a fresh read through another replica, to one at the owner", found.ratio, FORWARDED, "x", note, n=found.n)


def _owned_by(name: str, address: str) -> None:
    """Wait until a replica knows that another one owns the one source. Raises: TimeoutError."""
    with grpc.insecure_channel(address) as channel:
        sources, until = SourceServiceStub(channel), time.monotonic() + OWNER_S
        while time.monotonic() < until:
            if [each.owner for each in sources.ListSources(ListSourcesRequest()).sources] == [name]:
                return
            time.sleep(0.05)
    raise TimeoutError(f"{name} did not become owner")


# Faults --------------------------------------------------------------------------------------------------------------


def _requests(rig: Rig) -> Iterator[Row]:
    for source, (one, three) in _measures(rig, "requests").items():
        ratio = three / one
        met = abs(ratio - 1) <= REQUESTS_BESIDE
        note = f"{figure(three)}/s to {figure(one)}/s"
        yield Row(f"requests of {source}, 3 replicas to 1", f"{ratio:.3f}", f"1.00 ± {REQUESTS_BESIDE}", met, note)


def _takeovers(rig: Rig) -> Iterator[Row]:
    found = _measures(rig, "takeover")
    lease_s = found["lease_s"]
    for how, limit in (("SIGTERM", DRAINED_S), ("kill -9", lease_s + LEASE_BESIDE_S)):
        owned, asked = found[how]["owned_s"], found[how]["asked_s"]
        note = f"median {figure(sorted(owned)[len(owned) // 2])} s; first request upstream after {figure(max(asked))} s at most"
        what = f"takeover of {MANY:,} assets after {how}, lease {lease_s} s"
        yield at_most(what, max(owned), limit, "s", note, n=len(owned))


def _leader(rig: Rig) -> Iterator[Row]:
    found = _measures(rig, "leader")
    note = f"p99 {figure(found['p99_s'])} s of {found['changes']:,} told around it"
    yield at_most("latest change through an election of etcd", found["max_s"], LEADER_S, "s", note, n=1)


def _measures(rig: Rig, what: str) -> Result:
    """Have the rig of the fault tests measure; it has both cores."""
    tests = BENCH.parent / "tests"
    env = {"PYTHONPATH": str(tests), "GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "ERROR"}
    with rig.child(sys.executable, "-m", "faults.measures", "--json", what, core=None, env=env) as child:
        return child.said()


MEASURED: dict[str, Callable[[Rig], Iterator[Row]]] = {
    f"{MANY:,} assets": _many,
    "fresh reads": _reads,
    "requests": _requests,
    "takeovers": _takeovers,
    "an election": _leader,
}
"""What is measured of them, by what a row says when it cannot be."""

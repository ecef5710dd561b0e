"""A part of B9: the start and the memory of a replica with many assets."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from changes import NOWHERE, SOURCE
from replica_group import group, serving
from report import at_most, figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from children import Result
    from replica_group import Group
    from report import Row
    from rig import Rig

MANY = 100_000
START_S = 6


def rows(rig: Rig) -> Iterator[Row]:
    """Measure with all that there is in an etcd of one member."""
    with group(rig) as replicas:
        with replicas.serving(1, assets=MANY):
            started = rig.repeated(3, partial(_start, rig, replicas))
            mirror = rig.repeated(3, partial(_memory, rig, replicas.store("mirror"), owns=False))
        owner = rig.repeated(3, partial(_memory, rig, replicas.store("owner"), owns=True))
    sqlite = rig.repeated(3, lambda: _memory(rig, {"kind": "sqlite", "path": str(rig.filled(MANY))}, owns=True))
    yield at_most(f"cold start of a replica with {MANY:,} assets", started["s"], START_S, "s", n=started["n"])
    limit = sqlite["server_rss_mb"]
    note = f"the limit is what one process over SQLite has ({figure(limit)} MB); one watcher of all in each"
    for what, found in (("owns their source", owner), ("does not", mirror)):
        name = f"memory of a replica that has {MANY:,} assets and {what}"
        yield at_most(name, found["server_rss_mb"], limit, "MB", note, n=found["n"])


def _start(rig: Rig, replicas: Group) -> Result:
    began = time.perf_counter()
    with rig.product({SOURCE: NOWHERE}, store=replicas.store("started")):
        return {"s": time.perf_counter() - began}


def _memory(rig: Rig, store: Mapping[str, object], *, owns: bool) -> Result:
    with serving(rig, store, assets=MANY) as server:
        if owns:
            server.told(own=True)
        return rig.load(server.address, pid=server.child.pid, streams=1, warm_up="0s", patience="60s", span="1s")

"""A part of B9: a read that has to be made upstream, asked of another replica than the one that makes it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.source_service_pb2 import ListSourcesRequest
from assetwatch.v1.source_service_pb2_grpc import SourceServiceStub
from replica_group import group
from report import at_most, figure
from rig import LOAD_CORE, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from children import Child, Result
    from report import Row
    from rig import Pairs, Rig

KIND = "usd-search"
SELDOM = {"busy_interval_s": 3600, "settled_interval_s": 3600, "rate_per_s": 5000}
"""Nothing but what is asked for is read, and as soon as it is."""
SPAN_S, PAIRS, LIMIT = 2.0, 5, 1.6
OWNED_S = 30.0


def rows(rig: Rig) -> Iterator[Row]:
    """Read at both in turns."""
    with (
        rig.python("upstreams.py", KIND, "--assets", 1, core=LOAD_CORE) as upstreams,
        rig.python("cached_reads.py", core=LOAD_CORE) as reads,
        group(rig) as replicas,
    ):
        said = upstreams.said()
        sources = {KIND: {**said["sources"][KIND], **SELDOM}}
        with rig.product(sources, store=replicas.store("owner")) as (_, owner):
            _owned(owner)
            with rig.product(sources, store=replicas.store("other")) as (_, other):
                _owned(other)
                [asset_id] = said["assets"][KIND]
                found = _in_turns(rig, reads, asset_id, other, owner)
    note = f"{figure(found.one)} ms to {figure(found.other)} ms (medians); {spread(found)}"
    yield at_most("a fresh read through another replica to one at the owner", found.ratio, LIMIT, "x", note, n=found.n)


def _in_turns(rig: Rig, reads: Child, asset_id: str, one: str, other: str) -> Pairs:
    def read(address: str) -> Result:
        reads.tell(address=address, source=KIND, asset_id=asset_id, span_s=SPAN_S, fresh=True)
        return reads.said()

    return rig.pairs(PAIRS, partial(read, one), partial(read, other), "p50_ms")


def _owned(address: str) -> None:
    """Wait until a replica knows that "owner" owns the source. Raises: TimeoutError."""
    with grpc.insecure_channel(address) as channel:
        until = time.monotonic() + OWNED_S
        while time.monotonic() < until:
            listed = SourceServiceStub(channel).ListSources(ListSourcesRequest()).sources
            if [source.owner for source in listed] == ["owner"]:
                return
            time.sleep(0.05)
    raise TimeoutError("the first replica did not become the owner")

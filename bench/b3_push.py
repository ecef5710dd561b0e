"""B3: from a change that an upstream pushes to the subscribers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from report import Part, Row, at_least, at_most, figure
from rig import LOAD_CORE, used

if TYPE_CHECKING:
    from children import Result
    from rig import Rig

WATCHERS, RATE, ASSETS = 100, 100, 100
CHANGE_TIME = 8
"""The field of AssetStatus with the upstream's own moment of the change."""


def run(rig: Rig) -> Part:
    """Measure how old a change is when it arrives."""
    found = rig.repeated(3, partial(_pushed, rig))
    how = (
        f"Pieces OS: {RATE} changes a second of {ASSETS} assets, {WATCHERS} watchers. The age counts from the"
        " upstream's own time of the change, in whole milliseconds (so up to 1 ms too much), to the receipt; within it"
        " are the push, the read that it causes, and the commit to SQLite. The stand-in runs on the load's core."
    )
    n = found["n"]
    rows = [
        Row("push to subscriber, p50", f"{figure(found['age_p50_ms'])} ms", note=used(found), n=n),
        at_most("push to subscriber, p99", found["age_p99_ms"], 10, "ms", n=n),
        at_least("changes due that arrive", 100 * found["changes_per_s"] / (WATCHERS * RATE), 98, "%", n=n),
    ]
    return Part("B3 push", how, rows)


def _pushed(rig: Rig) -> Result:
    with rig.python("upstreams.py", "pieces", "--assets", ASSETS, "--rate", RATE, core=LOAD_CORE) as upstreams:
        sources = {"pieces": {**upstreams.said()["sources"]["pieces"], "rate_per_s": 5000}}
        with rig.product(sources) as (server, address):
            options = {"source": "pieces", "streams": WATCHERS, "stamp": CHANGE_TIME, "pid": server.pid, "span": "5s"}
            return rig.load(address, **options)

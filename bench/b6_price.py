"""B6: what tracing, SQLite and validation cost: the server's time for a unit of work, with each and without."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from report import Part, Row, figure
from rig import server_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig import Rig

PAIRS = 3
WATCHERS, RATE = 300, 1000
CALLERS = 16
SPAN = "2s"


def run(rig: Rig) -> Part:
    """Measure in pairs, in turns."""
    traced = ("--otlp", rig.otlp(), "--sample-ratio", 0.01)
    stream, call = partial(_streams, rig), partial(_calls, rig)
    rows = [
        _row(rig, "tracing 1 % and metrics, a delivered change", partial(stream, traced), partial(stream, ()), 5),
        _row(rig, "tracing 1 % and metrics, a GetAssetStatus", partial(call, traced), partial(call, ())),
        _row(rig, "SQLite, a delivered change", partial(stream, (), sqlite=True), partial(stream, ())),
        _row(rig, "validation, a GetAssetStatus", partial(call, ()), partial(call, ("--unvalidated",))),
    ]
    how = (
        f"Processor time of the server for one unit of work, with and without, in pairs in turns: a change"
        f" delivered ({WATCHERS} watchers x {RATE:,}/s) or a GetAssetStatus ({CALLERS} at a time). Requests are"
        " validated, messages that the server makes are not, so validation has no part in a delivered change."
    )
    return Part("B6 price", how, rows)


def _row(rig: Rig, what: str, on: partial[float], off: partial[float], limit: float | None = None) -> Row:
    found = rig.pairs(PAIRS, on, off)
    price = 100 * (found.ratio - 1)
    note = f"{figure(found.one)} µs with, {figure(found.other)} µs without; {found.note}"
    if limit is None:
        return Row(what, f"{price:+.1f} %", note=note)
    return Row(what, f"{price:+.1f} %", f"≤ {limit:g} %", price <= limit, note)


def _streams(rig: Rig, options: Sequence[object], *, sqlite: bool = False) -> float:
    store = ("--sqlite", rig.fresh("store.sqlite")) if sqlite else ()
    load = {"streams": WATCHERS, "warm_up": "2s", "patience": "6s", "span": SPAN}
    return server_us(rig.fanout("--rate", RATE, *options, *store, **load))


def _calls(rig: Rig, options: Sequence[object]) -> float:
    load = {"mode": "get", "named": 1000, "streams": CALLERS, "warm_up": "1s", "span": SPAN}
    return server_us(rig.fanout("--rate", 0, *options, **load))

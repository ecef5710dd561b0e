"""B6: what tracing, SQLite and validation cost: the server's time for a unit of work, with each and without."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from report import Part, Row, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from children import Result
    from rig import Pairs, Rig

COST = "us_a_unit"
PAIRS, JUDGED_PAIRS = 3, 8
WATCHERS, RATE = 100, 500
CALLERS = 16
TIMES = {"warm_up": "1s", "patience": "6s", "span": "1s"}
TRACED = "tracing 1 % and metrics"


def run(rig: Rig) -> Part:
    """Measure in pairs, in turns."""
    traced = ("--otlp", rig.otlp(), "--sample-ratio", 0.01)
    stream, call = partial(_streams, rig), partial(_calls, rig)
    rows = [
        _judged(rig.pairs(JUDGED_PAIRS, partial(stream, traced), partial(stream, ()), COST), 5),
        _row(f"{TRACED}, a GetAssetStatus", rig.pairs(PAIRS, partial(call, traced), partial(call, ()), COST)),
        _row(
            "SQLite, a delivered change", rig.pairs(PAIRS, partial(stream, (), sqlite=True), partial(stream, ()), COST)
        ),
        _row(
            "validation, a GetAssetStatus", rig.pairs(PAIRS, partial(call, ()), partial(call, ("--unvalidated",)), COST)
        ),
    ]
    how = (
        "Processor time of the server for one unit of work, with and without, in pairs in turns: a change delivered"
        f" ({WATCHERS} watchers x {RATE:,}/s, which leaves the core time, since at a full one whatever is dearer sends"
        f" larger messages and looks cheaper) or a GetAssetStatus ({CALLERS} at a time). Requests are validated,"
        " messages that the server makes are not, so validation has no part in a delivered change."
    )
    return Part("B6 price", how, rows)


def _row(what: str, found: Pairs) -> Row:
    note = f"{_price(min(found.ratios))} to {_price(max(found.ratios))}"
    note += f"; {figure(found.one)} µs with, {figure(found.other)} µs without"
    return Row(what, _price(found.ratio), note=note, n=found.n)


def _judged(found: Pairs, limit: float) -> Row:
    row = _row(f"{TRACED}, a delivered change", found)
    return replace(row, target=f"≤ {limit:g} %", met=100 * (found.ratio - 1) <= limit)


def _price(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def _streams(rig: Rig, options: Sequence[object], *, sqlite: bool = False) -> Result:
    store = ("--sqlite", rig.fresh("store.sqlite")) if sqlite else ()
    return _costed(rig.fanout("--rate", RATE, *options, *store, streams=WATCHERS, **TIMES))


def _calls(rig: Rig, options: Sequence[object]) -> Result:
    return _costed(rig.fanout("--rate", 0, *options, mode="get", named=1000, streams=CALLERS, **TIMES))


def _costed(found: Result) -> Result:
    return {**found, COST: 1e6 * found["server_share"] / found["changes_per_s"]}

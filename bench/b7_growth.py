"""B7: how B1 and B5 grow with the number of assets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import plots
from b1_fanout import assetwatch
from b5_start import restart, snapshot
from cells import Cell
from report import Part, Row, figure
from rig import troubles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from children import Result
    from rig import Rig

SIZES = (1_000, 10_000, 100_000)
SATURATED, NAMED = Cell(1000, 2000), Cell(1000, 500)
FLAT = 1.5
"""A figure whose largest is at most so many times its smallest is called independent of the assets."""
LINEAR = (0.5, 2.0)
"""Between these, the marginal cost from the second size to the third is called that from the first to the second."""
P99 = f"p99, ms, {SATURATED}"
RSS, SNAPSHOT, RESTART = "RSS, MB", "snapshot to 1 client, s", "start to SERVING again, s"
DRAWN = (RSS, SNAPSHOT, RESTART, P99)


def run(rig: Rig) -> Part:
    """Measure each size, and tell how each figure grows."""
    sizes = {assets: _measured(rig, assets) for assets in SIZES}
    by_name = {name: {assets: size[name] for assets, size in sizes.items()} for name in sizes[SIZES[0]]}
    rows = [_row(name, by_assets) for name, by_assets in by_name.items()]
    how = (
        f"At {', '.join(f'{assets:,}' for assets in SIZES)} assets. Growth is told by the marginal costs, those of"
        " 1,000 assets more, between the smaller two sizes and between the larger two: linear when they are alike (one"
        f" at most {LINEAR[1]:g} times the other). The streams of {SATURATED} resume, but for one a filter, so that no"
        " snapshots are under way; RSS is that of the streams of one asset."
    )
    drawn = {name: {assets: value for assets, (value, _) in by_name[name].items()} for name in DRAWN}
    return Part("B7 growth", how, rows, plots.growth("growth", drawn, "see the legend"))


def _measured(rig: Rig, assets: int) -> dict[str, tuple[float, Result]]:
    """Return the figures by their names in the table, each with the result it is of."""
    busy = rig.repeated(1, partial(assetwatch, rig, SATURATED, assets=assets, resume="true", patience="20s"))
    named = rig.repeated(1, partial(assetwatch, rig, NAMED, assets=assets, named=assets, patience="20s"))
    taken = rig.repeated(3, partial(snapshot, rig, assets, 1))
    again = rig.repeated(2, partial(restart, rig, assets))
    return {
        f"delivered/s, {SATURATED}": (busy["changes_per_s"], busy),
        P99: (busy["age_p99_ms"], busy),
        f"server %, {NAMED}, each watching one asset": (100 * named["server_share"], named),
        RSS: (named["server_rss_mb"], named),
        SNAPSHOT: (taken["synced_after_s"], taken),
        RESTART: (again["s"], again),
    }


def _row(name: str, by_assets: Mapping[int, tuple[float, Result]]) -> Row:
    values = {assets: value for assets, (value, _) in by_assets.items()}
    doubts = "".join(
        f"; {assets:,}: {said[2:]}" for assets, (_, found) in by_assets.items() if (said := troubles(found))
    )
    n = min(found["n"] for _, found in by_assets.values())
    return Row(name, " / ".join(figure(value) for value in values.values()), note=verdict(values) + doubts, n=n)


def verdict(by_assets: Mapping[int, float]) -> str:
    """Say how a figure grows over three sizes."""
    (few, least), (some, middle), (many, most) = by_assets.items()
    if max(by_assets.values()) <= FLAT * min(by_assets.values()):
        return "independent"
    if most < least:
        return "falls"
    first, then = 1000 * (middle - least) / (some - few), 1000 * (most - middle) / (many - some)
    costs = f"1,000 more cost {first:+.3g}, then {then:+.3g}"
    if first <= 0 or then <= 0:
        return f"neither way all along: {costs}"
    low, high = LINEAR
    if then / first > high:
        return f"more than linear: {costs}"
    return f"{'linear' if then / first >= low else 'less than linear'}: {costs}"

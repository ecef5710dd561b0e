"""B7: how B1 and B5 grow with the number of assets."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import plots
from b1_fanout import Cell, assetwatch
from b5_start import restart, snapshot
from report import Part, Row, figure
from rig import server_us

if TYPE_CHECKING:
    from rig import Rig

SIZES = (1_000, 10_000, 100_000)
CELL = Cell(30, 500)
NAMED = Cell(1000, 500)
SETTLE = "4s"
"""What changed while the streams got their snapshots is a matter of B5."""
FLAT, LINEAR, STEEP = 0.15, 0.85, 1.15
"""Exponents below which a figure is called independent of the assets, from which linear in them, above which more."""
P99 = f"p99, ms, {CELL}"
RSS, SNAPSHOT, RESTART = "RSS, MiB", "snapshot to 1 client, s", "start to SERVING again, s"
DRAWN = (RSS, SNAPSHOT, RESTART, P99)


def run(rig: Rig) -> Part:
    """Measure each size, and tell how each figure grows."""
    sizes = {assets: _measured(rig, assets) for assets in SIZES}
    series = {name: {assets: size[name] for assets, size in sizes.items()} for name in sizes[SIZES[0]]}
    rows = [_row(name, by_assets) for name, by_assets in series.items()]
    how = (
        f"At {', '.join(f'{assets:,}' for assets in SIZES)} assets. The growth is the exponent between the last two"
        " sizes: 1 is linear, 0 does not depend on the assets."
    )
    drawn = {name: series[name] for name in DRAWN}
    return Part("B7 growth", how, rows, plots.growth("growth", drawn, "see the legend"))


def _measured(rig: Rig, assets: int) -> dict[str, float]:
    """Return the figures by their names in the table."""
    whole = assetwatch(rig, CELL, assets=assets, warm_up="1s", patience="60s", settle=SETTLE)
    named = assetwatch(rig, NAMED, assets=assets, named=assets, patience="20s")
    taken = rig.repeated(3, partial(snapshot, rig, assets, 1))
    return {
        f"delivered/s, {CELL}": whole["changes_per_s"],
        P99: whole["age_p99_ms"],
        f"server µs a delivered change, {CELL}": server_us(whole),
        f"server %, {NAMED}, each watching one asset": 100 * named["server_share"],
        RSS: whole["server_rss_kib"] / 1024,
        SNAPSHOT: taken["synced_after_s"],
        RESTART: rig.repeated(2, partial(restart, rig, assets))["s"],
    }


def _row(name: str, by_assets: dict[int, float]) -> Row:
    (few, least), (many, most) = list(by_assets.items())[-2:]
    exponent = math.log(most / least) / math.log(many / few) if least > 0 and most > 0 else 0.0
    figures = " / ".join(figure(value) for value in by_assets.values())
    return Row(name, figures, note=f"{_verdict(exponent)} (exponent {exponent:.2f})")


def _verdict(exponent: float) -> str:
    if exponent > LINEAR:
        return "linear" if exponent < STEEP else "more than linear"
    return "independent" if abs(exponent) < FLAT else "less than linear"

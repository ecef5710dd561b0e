"""B7: how B1 and B5 grow with the number of assets."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import plots
from b1_fanout import Cell, assetwatch
from b5_start import restart, snapshot
from report import Part, Row, figure

if TYPE_CHECKING:
    from rig import Rig

SIZES = (1_000, 10_000, 100_000)
CELL = Cell(30, 500)
NAMED = Cell(1000, 500)
SETTLE = "4s"
"""What changed while the streams got their snapshots is a matter of B5."""
FLAT, LINEAR, STEEP = 0.15, 0.85, 1.15
"""Exponents below which a figure is called independent of the assets, from which linear in them, above which more."""


class Size(NamedTuple):
    """The figures of one number of assets."""

    delivered_per_s: float
    p99_ms: float
    cpu_us: float
    named_cpu_percent: float
    rss_mib: float
    snapshot_s: float
    restart_s: float


NAMES = {
    "delivered_per_s": f"delivered/s, {CELL}",
    "p99_ms": f"p99, ms, {CELL}",
    "cpu_us": f"server µs a delivered change, {CELL}",
    "named_cpu_percent": f"server %, {NAMED}, each watching one asset",
    "rss_mib": "RSS, MiB",
    "snapshot_s": "snapshot to 1 client, s",
    "restart_s": "start to SERVING again, s",
}


def run(rig: Rig) -> Part:
    """Measure each size, and tell how each figure grows."""
    sizes = {assets: _measured(rig, assets) for assets in SIZES}
    rows = [_row(name, {assets: getattr(size, name) for assets, size in sizes.items()}) for name in Size._fields]
    series = {
        NAMES[name]: {assets: getattr(size, name) for assets, size in sizes.items()}
        for name in ("rss_mib", "snapshot_s", "restart_s", "p99_ms")
    }
    how = (
        f"At {', '.join(f'{assets:,}' for assets in SIZES)} assets. The growth is the exponent between the last two"
        " sizes: 1 is linear, 0 does not depend on the assets."
    )
    return Part("B7 growth", how, rows, plots.growth("growth", series, "see the legend"))


def _measured(rig: Rig, assets: int) -> Size:
    whole = assetwatch(rig, CELL, assets=assets, warm_up="1s", patience="60s", settle=SETTLE)
    named = assetwatch(rig, NAMED, assets=assets, named=assets, patience="20s")
    taken = rig.repeated(3, partial(snapshot, rig, assets, 1))
    return Size(
        delivered_per_s=whole["changes_per_s"],
        p99_ms=whole["age_p99_ms"],
        cpu_us=1e6 * whole["server_cpu"] / whole["changes_per_s"],
        named_cpu_percent=100 * named["server_cpu"],
        rss_mib=whole["server_rss_kb"] / 1024,
        snapshot_s=taken["synced_after_s"],
        restart_s=rig.repeated(2, partial(restart, rig, assets))["s"],
    )


def _row(name: str, by_assets: dict[int, float]) -> Row:
    (few, least), (many, most) = list(by_assets.items())[-2:]
    exponent = math.log(most / least) / math.log(many / few) if least > 0 and most > 0 else 0.0
    figures = " / ".join(figure(value) for value in by_assets.values())
    return Row(NAMES[name], figures, note=f"{_verdict(exponent)} (exponent {exponent:.2f})")


def _verdict(exponent: float) -> str:
    if exponent > LINEAR:
        return "linear" if exponent < STEEP else "more than linear"
    return "independent" if abs(exponent) < FLAT else "less than linear"

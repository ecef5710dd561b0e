"""The pictures, drawn where matplotlib is (`make bench` installs it); without it there are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cells import Cell
    from children import Result

OF_RESULTS = Path(__file__).resolve().parent / "plots"
folder = OF_RESULTS
"""Where pictures go; those of a part measured alone go elsewhere."""
BAR = 0.27
COLOURS = ("#0072b2", "#e69f00", "#999999")
"""Told apart by those who see colours otherwise, too."""


def fanout(shown: Mapping[str, Mapping[Cell, Result]], ceiling_per_s: float, ceiling_streams: int) -> list[Path]:
    """Draw, of each system in each cell, what was delivered, with the ceiling as a line, and beside it how late."""
    figure = _figure(1, 2)
    if figure is None:
        return []
    picture, (delivered, late) = figure
    systems = [name for name, cells in shown.items() if any(found["age_p99_ms"] > 0 for found in cells.values())]
    cells = list(shown[systems[0]])
    for place, name in enumerate(systems):
        at = [cells.index(cell) + BAR * (place - (len(systems) - 1) / 2) for cell in shown[name]]
        found = shown[name].values()
        delivered.barh(at, [each["changes_per_s"] for each in found], BAR, label=name, color=COLOURS[place])
        late.barh(at, [each["age_p99_ms"] for each in found], BAR, color=COLOURS[place])
    delivered.axvline(ceiling_per_s, color="black", linestyle="--", label=f"bare grpc.aio, {ceiling_streams:,} streams")
    names = [f"{cell.watchers:,} x {cell.rate:,}/s" for cell in cells]
    for axes, x, least in ((delivered, "changes delivered a second", 100), (late, "age at the receipt, p99, ms", 1)):
        axes.set(xscale="log", xlabel=x, yticks=range(len(cells)))
        axes.set_xlim(left=least)
        axes.minorticks_off()
        axes.set_yticklabels(names if axes is delivered else [])
        axes.invert_yaxis()
        axes.grid(visible=True, axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    delivered.set_ylabel("watchers x changes a second")
    picture.legend(loc="outside upper center", ncols=4, frameon=False)
    return [_saved(picture, "fanout")]


def growth(title: str, series: Mapping[str, Mapping[int, float]], unit: str) -> list[Path]:
    """Draw figures over the number of assets."""
    figure = _figure(1, 1)
    if figure is None:
        return []
    picture, axes = figure
    for name, points in series.items():
        axes.plot(list(points), list(points.values()), "o-", label=name)
    _axes(axes, "assets", unit)
    axes.legend()
    return [_saved(picture, title)]


def _figure(rows: int, columns: int) -> tuple[Any, Any] | None:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"  # text as text: small, and read by a screen reader
    mpl.rcParams["svg.hashsalt"] = "assetwatch"  # the same figures give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 - same

    figure: tuple[Any, Any] = plt.subplots(rows, columns, figsize=(5.5 * columns, 4), layout="constrained")
    return figure


def _axes(axes: Any, x: str, y: str) -> None:  # noqa: ANN401 - matplotlib is not typed
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)


def _saved(picture: Any, name: str) -> Path:  # noqa: ANN401 - same
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    picture.savefig(path, metadata={"Date": None})
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))
    return path

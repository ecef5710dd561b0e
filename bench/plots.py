"""The pictures, drawn where matplotlib is (`make bench` installs it); without it there are none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b1_fanout import Cell
    from children import Result

OF_RESULTS = Path(__file__).resolve().parent / "plots"
folder = OF_RESULTS
"""Where pictures go; those of a part measured alone go elsewhere."""


def fanout(ours: Mapping[Cell, Result], peers: Mapping[str, Mapping[Cell, Result]]) -> list[Path]:
    """Draw what was delivered, and how late, over what was due, of each system."""
    figure = _figure(1, 2)
    if figure is None:
        return []
    picture, (delivered, late) = figure
    for name, cells in {"assetwatch": ours, **peers}.items():
        in_order = sorted((cell for cell in cells if cells[cell]["age_p99_ms"] > 0), key=lambda cell: cell.due)
        due = [cell.due for cell in in_order]
        delivered.plot(due, [cells[cell]["changes_per_s"] for cell in in_order], "o-", label=name)
        late.plot(due, [cells[cell]["age_p99_ms"] for cell in in_order], "o-", label=name)
    _axes(delivered, "changes due a second (watchers x rate)", "changes delivered a second")
    _axes(late, "changes due a second (watchers x rate)", "age at the receipt, p99, ms")
    delivered.legend()
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
    mpl.rcParams["svg.hashsalt"] = "assetwatch"  # the same figures give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415 - same

    figure: tuple[Any, Any] = plt.subplots(rows, columns, figsize=(5.5 * columns, 4), layout="constrained")
    return figure


def _axes(axes: Any, x: str, y: str) -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.grid(visible=True, alpha=0.3)


def _saved(picture: Any, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    picture.savefig(path, metadata={"Date": None})
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))
    return path

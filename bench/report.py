"""The rows of the table: a figure, the target beside it, and whether it was met; printed, and written to RESULTS.md."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

HEADS = ("what", "figure", "target", "", "n", "beside it")
PACKAGES = ("grpcio", "protobuf", "aiohttp", "uvloop", "pydantic", "opentelemetry-sdk")


class Missing(Exception):
    """A program that a measurement needs is not here; the text says which."""


@dataclass(frozen=True)
class Row:
    """One line. met: None where there is no target, or nothing to hold against it. n: of how many runs, or pairs."""

    what: str
    figure: str
    target: str = ""
    met: bool | None = None
    note: str = ""
    n: int = 1

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in each column."""
        mark = {None: "", True: "✓", False: "✗"}[self.met]
        return self.what, self.figure, self.target, mark, str(self.n or ""), self.note


@dataclass(frozen=True)
class Part:
    """One measurement: its rows, a text about how it was made, and the pictures drawn of it."""

    title: str
    how: str
    rows: Sequence[Row]
    plots: Sequence[Path] = ()


def at_most(what: str, value: float, limit: float, unit: str = "", note: str = "", *, n: int) -> Row:
    """Make the row of a figure that has an upper limit; a negative one was not found out, so it is not met."""
    return Row(what, _with(value, unit), f"≤ {_with(limit, unit)}", 0 <= value <= limit, note, n)


def at_least(what: str, value: float, limit: float, unit: str = "", note: str = "", *, n: int) -> Row:
    """Make the row of a figure that has a lower limit."""
    return Row(what, _with(value, unit), f"≥ {_with(limit, unit)}", value >= limit, note, n)


def unless_missing(what: str, measure: Callable[[], Sequence[Row]]) -> Sequence[Row]:
    """Measure, or make the row that says which program is not here."""
    try:
        return measure()
    except Missing as missing:
        return [Row(what, "not measured", note=str(missing), n=0)]


def _with(value: float, unit: str) -> str:
    return f"{figure(value)} {unit}".rstrip()


def figure(value: float) -> str:
    """Write a number with three digits that count, thousands apart; a negative one, which stands for none, as "no"."""
    if value < 0:
        return "no"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(part: Part) -> None:
    """Print a part for a terminal."""
    rows = [row.cells for row in part.rows]
    widths = [max(len(cell) for cell in column) for column in zip(HEADS, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (HEADS, *rows))
    sys.stdout.write(f"\n{part.title}\n" + "\n".join(line.rstrip() for line in lines) + "\n")
    sys.stdout.flush()


def markdown(parts: Iterable[Part], facts: Mapping[str, str], took_s: float, into: Path) -> str:
    """Write all parts as RESULTS.md."""
    listed = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    sections = "\n\n".join(_section(part, into) for part in parts)
    intro = "Written by `make bench`; how it measures is in [README.md](README.md)."
    return f"# Results\n\n{intro}\n\n{listed}\n- took {took_s / 60:.0f} min\n\n{sections}\n"


def _section(part: Part, into: Path) -> str:
    table = [f"| {' | '.join(HEADS)} |", "| --- | ---: | ---: | --- | ---: | --- |"]
    table += [f"| {' | '.join(cell.replace('|', '/') for cell in row.cells)} |" for row in part.rows]
    plots = [f"![{plot.stem}]({plot.relative_to(into.parent)})" for plot in part.plots]
    return "\n\n".join([f"## {part.title}", part.how, "\n".join(table), *plots])


def machine() -> dict[str, str]:
    """What it ran on, and how busy that was before."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    system = f"{platform.system()} {platform.release()}"
    return {
        "machine": f"{os.cpu_count()} cores, {model or platform.machine()}, {memory / 2**20:.0f} GiB, {system}",
        "Python": f"{platform.python_version()}; " + ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        "load before": ", ".join(f"{load:.1f}" for load in os.getloadavg()) + " (1, 5, 15 min)",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []

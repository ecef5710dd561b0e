"""The live table of a watch: hints, the assets that changed last, what is wrong, and the sources, on one screen.

No line is beyond the screen's edge: hints stay where they are, a line at least says that something is wrong, and both
come before more assets than a few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from assetwatch.v1.asset_status_pb2 import AssetState, Freshness
from assetwatch.v1.source_pb2 import SourceConditionState
from rich.console import Group
from rich.table import Table
from rich.text import Text

from assetwatch_client import Removed, Synced, Upsert
from assetwatchd.cli.output import COLOURS, STATUS_HEADER, incomplete_text, label, status_row, trouble_text
from assetwatchd.cli.terminal import safe
from assetwatchd.model.texts import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from assetwatch.v1.asset_status_pb2 import AssetStatus
    from rich.console import Console

    from assetwatch_client import Event, View, Watch

ROWS_MIN = 3
HINTS_PART, NOTES_PART, SOURCES_PART = 2, 3, 4
"""What stands above the table gets at most the first such part of the screen's lines, what is wrong with sources and
assets the second, the sources the third."""
NOTE_LINES = 2
"""What a note takes at most; all of it is in the answer to get and sources."""
ASSETS_NOTED = 3
"""So many troubles of assets are told under the table, of those that changed last."""
Hints: TypeAlias = "Callable[[int, int], Sequence[str]]"
"""Lines to stand above the table, of a width, and as many as there is room for."""
SOURCE_PART = 5
"""The names of sources get at most one such part of the screen."""
WIDTHS = {
    "SOURCE": 20,
    "ASSET": 24,
    "STATE": max(len(label(AssetState, state)) for state in AssetState.values()),
    "FRESHNESS": max(len(label(Freshness, freshness)) for freshness in Freshness.values()),
    "OBSERVED": len("999d ago"),
    "REVISION": len("REVISION"),
    "FAILURE": 16,
}
"""What each column of STATUS_HEADER needs to be of use."""
RATIOS = {"ASSET": 3, "FAILURE": 2}
"""Who shares what the other columns leave."""
LEFT_OUT = ("FAILURE", "REVISION", "OBSERVED")
"""What a narrow screen does without, in this order."""


@dataclass(slots=True)
class Board:
    """The content of the live table. held: the map; changes: since it was first complete; note: of the last break."""

    held: Watch | View
    synced: bool = False
    changes: int = 0
    note: str = ""

    def take(self, event: Event) -> None:
        """Count an event that is in the map already."""
        self.note = ""
        if isinstance(event, Synced):
            self.synced = True
        elif isinstance(event, Upsert | Removed):
            self.changes += self.synced

    def latest(self, most: int) -> Iterator[AssetStatus]:
        """Yield so many statuses at most, the last to change first."""
        # A copy, as rich draws in a thread of its own while the watch changes the map.
        yield from islice(reversed(tuple(self.held.statuses.values())), most)


def page(board: Board, console: Console, hints: Hints | None = None) -> Group:
    """Draw a screen: hints, the assets that there is room for under them, what is wrong, the sources."""
    # From the bottom up: what is wrong and the sources are measured first, then hints, and assets get what is left. So
    # nothing falls off the screen, and a person never sees FAILED without why.
    width, height = console.size
    sources = _sources(board)
    if len(sources.wrap(console, width)) > height // SOURCES_PART:
        sources = _counts(board)
    wanted = len(hints(width, height // HINTS_PART)) if hints else 0
    left = height - wanted - ROWS_MIN - len(console.render_lines(picture(board, 0, width, [sources])))
    below = [*_fitting(list(_notes(board, console, width)), min(height // NOTES_PART, max(1, left))), sources]
    room = height - len(console.render_lines(picture(board, 0, width, below)))
    above = hints(width, min(height // HINTS_PART, max(0, room - ROWS_MIN))) if hints else ()
    shown = [Text(safe(line), no_wrap=True) for line in above][: max(0, room - ROWS_MIN)]
    return Group(*shown, picture(board, max(0, room - len(shown)), width, below))


def picture(board: Board, rows: int, width: int, below: Sequence[Text]) -> Group:
    """Draw the assets that changed last, so many rows of them, and lines under them."""
    now = datetime.now(UTC)
    widths = fitting(width)
    table = Table(title=_title(board), title_justify="left", expand=True, box=None, pad_edge=False)
    table.collapse_padding = True
    for name, needed in widths.items():
        least, most = (None, needed) if name == "SOURCE" else (needed, None)
        ratio = RATIOS.get(name)
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=ratio, min_width=least, max_width=most)
    for status in board.latest(rows):
        cells = zip(STATUS_HEADER, status_row(status, now), strict=True)
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for name, cell in cells if name in widths))
    return Group(table, Text(), *below)


def fitting(width: int) -> dict[str, int]:
    """Return the columns of STATUS_HEADER that a screen so wide has room for, and what each needs."""
    widths = WIDTHS | {"SOURCE": max(WIDTHS["SOURCE"], width // SOURCE_PART)}
    for name in LEFT_OUT:
        if sum(widths.values()) + len(widths) - 1 > width:
            del widths[name]
    return widths


def _title(board: Board) -> Text:
    counts = f"{counted(len(board.held.statuses), 'asset')}, {counted(board.changes, 'change')}"
    state = counts if board.synced else "reading the snapshot"
    return Text(safe(f"{state}; the last to change first. Ctrl-C stops. {board.note}".rstrip()), style="bold")


def _sources(board: Board) -> Text:
    line = Text()
    for name, condition in sorted(board.held.conditions.items()):
        state = label(SourceConditionState, condition.state)
        line.append(safe(f"{name} ")).append(state, style=COLOURS.get(state, "")).append("   ")
    return line


def _counts(board: Board) -> Text:
    """Say how many sources are in each condition: where there are too many to name."""
    states = [label(SourceConditionState, condition.state) for condition in tuple(board.held.conditions.values())]
    line = Text("sources: ")
    for state in sorted(set(states)):
        line.append(f"{states.count(state)} ").append(state, style=COLOURS.get(state, "")).append("   ")
    return line


def _notes(board: Board, console: Console, width: int) -> Iterator[Sequence[Text]]:
    """Yield the lines of each note."""
    for text in (*_of_sources(board), *_of_assets(board, console.height, width)):
        lines = Text(safe(text)).wrap(console, width)
        if len(lines) > NOTE_LINES:
            lines[NOTE_LINES - 1].append("…")
            lines[NOTE_LINES - 1].truncate(width, overflow="ellipsis")
        yield lines[:NOTE_LINES]


def _of_sources(board: Board) -> Iterator[str]:
    """Yield what is wrong with each source that is in trouble, and what is not all there is."""
    if board.synced and (lacking := incomplete_text(board.held.incomplete)):
        yield lacking
    for name, condition in sorted(board.held.conditions.items()):
        if condition.message:
            yield f"{name}: {condition.message}"


def _of_assets(board: Board, most: int, width: int) -> Iterator[str]:
    """Yield what is wrong with assets that changed last, each text once, unless its column or its source says it."""
    whose: dict[tuple[str, str], list[str]] = {}
    for status in board.latest(most):
        source, text = status.asset.source, trouble_text(status)
        condition = board.held.conditions.get(source)
        known = condition is not None and condition.message and text.endswith(condition.message)
        if text and not known and ("FAILURE" not in fitting(width) or len(text) > WIDTHS["FAILURE"]):
            whose.setdefault((source, text), []).append(status.asset.asset_id)
    for (source, text), ids in islice(whose.items(), ASSETS_NOTED):
        more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        yield f"{_shortened(f'{source} {ids[0]}', width // 2)}{more}: {text}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _fitting(notes: Sequence[Sequence[Text]], room: int) -> list[Text]:
    """Return the lines of the notes that have room, and of how many others there is more to know."""
    lines: list[Text] = []
    for count, note in enumerate(notes):
        left = len(notes) - count - 1
        if len(lines) + len(note) + (left > 0) > room:
            return [*lines, Text(f"and {left + 1} more: see `assetwatch sources`, `assetwatch list`")]
        lines += note
    return lines

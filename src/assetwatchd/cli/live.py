"""Shows a watch as it goes: a live table on a terminal, a line a change or a JSON object a message elsewhere."""

from __future__ import annotations

import sys
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import typer
from assetwatch.v1.asset_status_pb2 import State
from assetwatch.v1.asset_status_service_pb2 import Change
from assetwatch.v1.source_pb2 import ConditionState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from assetwatchd.cli.options import Format
from assetwatchd.cli.output import COLOURS, STATUS_HEADER, encode, failure_text, label, one_line, status_row
from assetwatchd.cli.watching import AssetMap, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatch.v1.asset_status_service_pb2 import WatchStatusRequest, WatchStatusResponse

    from assetwatchd.cli.client import Client

REFRESH_PER_S = 4
ROWS_MIN, ROWS_MAX = 3, 1000
FRAME_LINES = 8
"""Lines of the screen that hold no asset: title, frame, header, sources, margins."""


async def show(client: Client, request: WatchStatusRequest, output: Format | None, *, rows_max: int = ROWS_MAX) -> None:
    """Show a watch until it is cancelled. output None: a live table on a terminal, else a JSON object a message."""
    if output in {None, Format.TABLE} and sys.stdout.isatty():
        await _table(client, request, rows_max)
    else:
        await _lines(client, request, output or Format.NDJSON)


async def _table(client: Client, request: WatchStatusRequest, rows_max: int) -> None:
    held, console, notes = AssetMap(), Console(), [""]

    def note(text: str) -> None:
        notes[0] = text

    stream = messages(client, request, notice=note)
    with Live(
        get_renderable=lambda: picture(held, min(rows_max, console.height - FRAME_LINES), notes[0]),
        console=console,
        refresh_per_second=REFRESH_PER_S,
    ):
        async with aclosing(stream):
            async for message in stream:
                held.apply(message)
                notes[0] = ""


async def _lines(client: Client, request: WatchStatusRequest, output: Format) -> None:
    held = AssetMap()
    stream = messages(client, request, notice=lambda text: typer.echo(f"assetwatch: {text}", err=True))
    async with aclosing(stream):
        async for message in stream:
            if output is Format.TABLE:
                for line in text_lines(message, held):
                    typer.echo(line)
                held.apply(message)
            else:
                typer.echo(("---\n" if output is Format.YAML else "") + encode(message, output))


def text_lines(message: WatchStatusResponse, before: AssetMap) -> Iterator[str]:
    """Yield a line a condition and a line a change: time, source, asset, the state before and now, the failure."""
    time = f"{datetime.now(UTC):%H:%M:%S}"
    for told in message.source_conditions:
        condition = label(ConditionState, told.condition.state)
        yield f"{time} {told.source} is {condition} {one_line(told.condition.message)}".rstrip()
    for change in message.changes:
        status = change.status
        now = "REMOVED" if change.kind == Change.KIND_REMOVED else label(State, status.state)
        known = before.statuses.get((status.asset.source, status.asset.asset_id))
        then = label(State, known.state) if known else None
        states = f"{then} -> {now}" if then and then != now else now
        failure = failure_text(status.failure) if status.HasField("failure") else ""
        yield f"{time} {status.asset.source} {one_line(status.asset.asset_id)} {states} {failure}".rstrip()
    if message.WhichOneof("signal") == "synced":
        yield f"{time} synced: the list is complete, changes follow"


def picture(held: AssetMap, rows: int, note: str) -> Group:
    """Draw the assets that changed last, so many rows of them, and the sources under them."""
    now = datetime.now(UTC)
    table = Table(title=_title(held, note), title_justify="left", expand=True, box=None, pad_edge=False)
    for name in STATUS_HEADER:
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=3 if name == "ASSET" else None)
    for status in islice(reversed(held.statuses.values()), max(ROWS_MIN, rows)):
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in status_row(status, now)))
    return Group(table, Text(), _sources(held))


def _title(held: AssetMap, note: str) -> Text:
    state = f"{len(held.statuses)} assets, {held.changes} changes" if held.synced else "reading the snapshot"
    return Text(f"{state}; the last to change first. Ctrl-C stops. {note}".rstrip(), style="bold")


def _sources(held: AssetMap) -> Text:
    line = Text()
    for name, condition in sorted(held.conditions.items()):
        state = label(ConditionState, condition.state)
        line.append(f"{name} ").append(state, style=COLOURS.get(state, "")).append("   ")
    return line

"""Prints messages: as a table, JSON, one JSON object a line, or YAML; field names as in the schema."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any

from assetwatch.v1.asset_status_pb2 import AssetFailureKind, AssetState, Freshness
from assetwatch.v1.source_pb2 import SourceConditionState, SourceKind

from assetwatchd.cli.options import Format
from assetwatchd.cli.plain import as_dict
from assetwatchd.cli.terminal import Safe, as_json, as_yaml, cells, coloured, lines, safe, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from assetwatch.v1.asset_status_pb2 import AssetFailure, AssetStatus
    from assetwatch.v1.server_service_pb2 import ServerInfo
    from assetwatch.v1.source_pb2 import Source, SourceCondition
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper as EnumTypeWrapper
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

COLOURS = {
    "PENDING": "blue",
    "PROCESSING": "cyan",
    "AVAILABLE": "green",
    "OUT_OF_SYNC": "yellow",
    "FAILED": "red",
    "DELETING": "magenta",
    "HEALTHY": "green",
    "DEGRADED": "yellow",
    "UNREACHABLE": "red",
    "REFUSED": "red",
}
STATUS_HEADER = ("SOURCE", "ASSET", "STATE", "FRESHNESS", "OBSERVED", "REVISION", "FAILURE")
FACET_HEADER = ("FACET", "STATE", "NATIVE", "CHANGED", "MESSAGE")
SOURCE_HEADER = (
    *("NAME", "KIND", "CONDITION", "SINCE", "LAST OK", "NEXT TRY"),
    *("OWNER", "PUSH", "ASSETS", "WATCHERS", "CALLS", "FAILED", "WHY"),
)
SERVER_HEADER = ("VERSION", "REPLICA", "SERVES SINCE", "HEAD", "EPOCH")
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def write(
    message: Message, output: Format, table: Callable[[], Safe], *, lines: Iterable[Message] | None = None
) -> None:
    """Print a message; lines are the messages that ndjson prints instead, one a line."""
    if output is Format.NDJSON and lines is not None:
        for line in lines:
            tell(encode(line, output))
    else:
        tell(table() if output is Format.TABLE else encode(message, output, is_list=lines is not None))


def encode(message: Message, output: Format, *, is_list: bool = False) -> Safe:
    """Write one message as JSON, as one line of JSON, or as YAML; is_list: also that it lists nothing."""
    data = as_dict(message, is_list=is_list)
    if output is Format.YAML:
        return as_yaml(data)
    return as_json(data, indent=2 if output is Format.JSON else None)


def document(message: Message, output: Format) -> Safe:
    """Write one message of a stream: what tells it from the one before comes with it."""
    written = encode(message, output)
    return lines([Safe("---"), written]) if output is Format.YAML else written


def columns(names: Sequence[str], rows: Sequence[Sequence[Safe]]) -> Safe:
    """Align rows under a header; nothing is cut, so that ids can be copied."""
    header = cells(*names)
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    return lines(
        Safe("  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())
        for row in (header, *rows)
    )


def _padded(cell: Safe, width: int) -> Safe:
    colour = COLOURS.get(cell) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else None
    return Safe((coloured(cell, colour) if colour else cell) + " " * (width - len(cell)))


def status_table(statuses: Iterable[AssetStatus], now: datetime) -> Safe:
    """Write a line an asset."""
    return columns(STATUS_HEADER, [status_row(status, now) for status in statuses])


def status_row(status: AssetStatus, now: datetime) -> tuple[Safe, ...]:
    """Return the cells under STATUS_HEADER."""
    asset = status.asset
    freshness = label(Freshness, status.freshness)
    observed = age(status.observe_time, now) if status.HasField("observe_time") else "never"
    return cells(
        asset.source,
        asset.asset_id,
        label(AssetState, status.state),
        freshness,
        observed,
        str(status.revision),
        trouble_text(status),
    )


def facet_table(status: AssetStatus, now: datetime) -> Safe:
    """Write a line a facet."""
    rows = [
        cells(
            facet.name,
            label(AssetState, facet.state),
            facet.native,
            age(facet.change_time, now) if facet.HasField("change_time") else "",
            facet.message,
        )
        for facet in status.facets
    ]
    return columns(FACET_HEADER, rows)


def source_table(sources: Sequence[Source], now: datetime, replica: str = "") -> Safe:
    """Write a line a source, and one about the replica that tells so, where others own some of them."""
    rows = [
        cells(
            source.name,
            label(SourceKind, source.kind).lower(),
            label(SourceConditionState, source.condition.state),
            age(source.condition.transition_time, now),
            _last_ok(source.condition, now),
            _next_try(source.condition, now),
            source.owner or "-",
            "yes" if source.capabilities.push else "no",
            str(source.asset_count),
            str(source.watcher_count),
            str(source.poll_stats.calls),
            str(source.poll_stats.failed_calls),
            source.condition.message,
        )
        for source in sources
    ]
    table = columns(SOURCE_HEADER, rows)
    alone = not replica or all(source.owner == replica for source in sources)
    return table if alone else lines([table, Safe(""), safe(f"told by {replica}")])


def server_table(server: ServerInfo, now: datetime) -> Safe:
    """Write a line about a server."""
    since = age(server.start_time, now)
    row = cells(server.version, server.replica, since, str(server.head_revision), server.epoch)
    return columns(SERVER_HEADER, [row])


def _last_ok(condition: SourceCondition, now: datetime) -> str:
    return age(condition.last_success_time, now) if condition.HasField("last_success_time") else "never"


def _next_try(condition: SourceCondition, now: datetime) -> str:
    """Say in how many seconds or minutes what fails is tried again; "now": it is being tried."""
    if not condition.HasField("next_try_time"):
        return "-"
    seconds = math.ceil(condition.next_try_time.seconds + condition.next_try_time.nanos / 1e9 - now.timestamp())
    if seconds <= 0:
        return "now"
    return f"in {seconds}s" if seconds < MINUTE_S else f"in {math.ceil(seconds / MINUTE_S)}m"


def incomplete_text(sources: Iterable[str]) -> str:
    """Say of which sources there may be more than is shown; nothing if it is all there is."""
    names = ", ".join(sorted(sources))
    return f"not complete: there may be more in {names}" if names else ""


def trouble_text(status: AssetStatus) -> str:
    """Return the asset's failure, and why its status could not be confirmed, unless that is the same."""
    failure = failure_text(status.failure) if status.HasField("failure") else ""
    reason = status.freshness_reason
    unconfirmed = f"not confirmed: {reason}" if reason and reason not in failure else ""
    return "; ".join(filter(None, (failure, unconfirmed)))


def failure_text(failure: AssetFailure) -> str:
    """Return kind, code and message of a failure."""
    kind = label(AssetFailureKind, failure.kind).lower()
    return " ".join(part for part in (kind, failure.code, failure.message) if part)


def label(kind: EnumTypeWrapper[Any], value: int) -> str:
    """Return the name of an enum's value without what all of them begin with; the number, when it is a newer one."""
    prefix = kind.Name(0).removesuffix("UNSPECIFIED")
    return kind.Name(value).removeprefix(prefix) if value in kind.values() else str(value)


def age(time: Timestamp, now: datetime) -> str:
    """Say how long ago that was, in the largest whole unit."""
    seconds = max(0, int(now.timestamp() - time.seconds))
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"

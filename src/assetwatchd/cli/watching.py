"""The client's side of a watch: the map a stream keeps up to date, and a stream that goes on after a break."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import grpc
from assetwatch.v1.asset_status_service_pb2 import Change, WatchStarted, WatchStatusRequest

from assetwatchd.cli.failures import reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from assetwatch.v1.asset_status_pb2 import AssetStatus
    from assetwatch.v1.asset_status_service_pb2 import WatchStatusResponse
    from assetwatch.v1.source_pb2 import SourceCondition

    from assetwatchd.cli.client import Client

DELAY_MIN_S = 0.2
DELAY_MAX_S = 10.0
PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}
"""A stream that broke with one of these may be opened again."""

Key = tuple[str, str]


class AssetMap:
    """What a watch has told: the latest status of each asset, in the order of change, and each source's condition."""

    def __init__(self) -> None:
        self.statuses: dict[Key, AssetStatus] = {}
        self.conditions: dict[str, SourceCondition] = {}
        self.synced = False
        self.changes = 0
        self._snapshot: dict[Key, AssetStatus] | None = None

    def apply(self, message: WatchStatusResponse) -> None:
        """Take in one message, in the order of the stream."""
        if message.WhichOneof("signal") == "started" and message.started.mode == WatchStarted.MODE_SNAPSHOT:
            self._snapshot = {}
        for change in message.changes:
            self._put(change)
        for told in message.source_conditions:
            self.conditions[told.source] = told.condition
        if message.WhichOneof("signal") == "synced":
            self.synced = True
            if self._snapshot is not None:
                self.statuses, self._snapshot = self._snapshot, None

    def _put(self, change: Change) -> None:
        held = self.statuses if self._snapshot is None else self._snapshot
        key = (change.status.asset.source, change.status.asset.asset_id)
        held.pop(key, None)
        if change.kind == Change.KIND_UPSERT:
            held[key] = change.status
        self.changes += self._snapshot is None


async def messages(
    client: Client, request: WatchStatusRequest, *, notice: Callable[[str], None]
) -> AsyncGenerator[WatchStatusResponse]:
    """Yield the messages of a watch for ever, from stream after stream.

    A stream that ends is resumed by the last token; where that token is refused, the next begins with a snapshot.
    notice is told of every break, once. Raises: AioRpcError when the first stream fails before its first message, or
    any for a reason that does not pass.
    """
    resume = WatchStatusRequest()
    resume.CopyFrom(request)
    delay_s, begun, broken = DELAY_MIN_S, False, False
    while True:
        try:
            async for message in client.statuses.WatchStatus(resume):
                yield message
                delay_s, begun, broken = DELAY_MIN_S, True, False
                resume.resume_token = message.resume_token or resume.resume_token
        except grpc.aio.AioRpcError as error:
            if begun and (reason_of(error) or "").startswith("RESUME_"):
                resume.resume_token = ""
            elif not begun or error.code() not in PASSING:
                raise
            if not broken:
                notice(f"the stream broke ({reason_of(error) or error.code().name}); watching again")
            broken = True
        await asyncio.sleep(random.uniform(delay_s / 2, delay_s))  # noqa: S311 - jitter
        delay_s = min(delay_s * 2, DELAY_MAX_S)

"""Follows the streams of a Pieces OS, call after call: there is nothing to resume from, so each begins with all."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import ChangeKind
from assetwatch.v1.source_pb2 import SourceConditionState

from assetwatch_client import Action, Backoff, action_for, reason_of, retry_delay_s
from assetwatchd.cli.options import Format
from assetwatchd.cli.output import document, label
from assetwatchd.cli.pieces import tables
from assetwatchd.cli.pieces.actions import run
from assetwatchd.cli.terminal import complain, safe, tell

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from assetwatch.pieces.v1.pieces_assets_service_pb2_grpc import PiecesAssetsServiceAsyncStub

    from assetwatchd.cli.pieces.actions import CallContext, Session

    Told = pb.StreamAssetsResponse | pb.StreamAssetIdentifiersResponse | pb.StreamAssetTransferablesResponse

FIRST_SILENCE_S = 60.0
"""How long a stream may be silent before it has said how often its heartbeat comes."""
DEAD_AFTER_HEARTBEATS = 3


def follow(context: CallContext, *, ids: bool, raw: bool) -> None:
    """Print a stream until interrupted."""

    async def call(at: Session) -> None:
        async with aclosing(_messages(at.stub, at.source, ids=ids, raw=raw)) as messages:
            async for message in messages:
                if context.output is Format.TABLE:
                    for line in text_lines(message):
                        tell(safe(f"{datetime.now(UTC):%H:%M:%S} {line}".rstrip()))
                else:
                    tell(document(message, context.output))

    run(context, call)


async def _messages(stub: PiecesAssetsServiceAsyncStub, source: str, *, ids: bool, raw: bool) -> AsyncGenerator[Told]:
    """Yield the messages of stream after stream, for ever.

    Raises: AioRpcError, TimeoutError when the first ends so before its first message, or any call is wrong.
    """
    backoff, begun = Backoff(), False
    while True:
        began = time.monotonic()
        try:
            async with aclosing(_stream(_call(stub, source, ids=ids, raw=raw, patient=begun))) as messages:
                async for message in messages:
                    begun = True
                    yield message
            backoff.held(time.monotonic() - began)
            pause_s = backoff.pause_s(failed=False)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            told = error if isinstance(error, grpc.aio.AioRpcError) else None
            # Before a first message the caller may have mistyped something, so that is told and not tried for ever.
            if not begun or (told and action_for(told) is not Action.RESUME):
                raise
            why = (reason_of(told) or told.code().name) if told else "it fell silent"
            complain(f"the stream broke ({why}); calling again")
            backoff.held(time.monotonic() - began)
            pause_s = backoff.pause_s((told and retry_delay_s(told)) or 0.0)
        await asyncio.sleep(pause_s)


def _call(stub: PiecesAssetsServiceAsyncStub, source: str, *, ids: bool, raw: bool, patient: bool) -> object:
    if ids:
        return stub.StreamAssetIdentifiers(pb.StreamAssetIdentifiersRequest(source=source), wait_for_ready=patient)
    if raw:
        return stub.StreamAssetTransferables(pb.StreamAssetTransferablesRequest(source=source), wait_for_ready=patient)
    return stub.StreamAssets(pb.StreamAssetsRequest(source=source), wait_for_ready=patient)


async def _stream(call: Any) -> AsyncGenerator[Told]:  # noqa: ANN401 - no type tells EOF from a message
    """Yield the messages of one stream; the call never outlives this. Raises: TimeoutError when it falls silent."""
    silence_s = FIRST_SILENCE_S
    try:
        while True:
            async with asyncio.timeout(silence_s):
                message = await call.read()
            if message is grpc.aio.EOF:
                return
            if message.HasField("started"):
                heartbeat_s = message.started.heartbeat_interval.ToMilliseconds() / 1000
                silence_s = DEAD_AFTER_HEARTBEATS * heartbeat_s or FIRST_SILENCE_S
            yield message
    finally:
        call.cancel()  # also when the caller left its loop: the server would keep the stream open


def text_lines(message: Told) -> Iterator[str]:
    """Yield a line a condition, a line a change, and one where the list is complete."""
    if message.HasField("condition"):
        state = label(SourceConditionState, message.condition.state)
        yield f"{state} {message.condition.message}"
    if message.HasField("started"):
        yield f"{label(pb.StreamStarted.Mode, message.started.mode).lower()}: everything there is follows"
    for change in message.changes:
        yield f"{label(ChangeKind, change.kind).lower()} {_of(change)}"
    if message.HasField("synced"):
        yield "synced: the list is complete, changes follow"


def _of(change: pb.AssetChange | pb.IdentifierChange) -> str:
    if isinstance(change, pb.IdentifierChange):
        return change.asset_id
    held = ",".join(dict.fromkeys(tables.holds(each.classification) for each in change.asset.formats.iterable))
    left_out = f"{change.omitted_bytes} bytes, left out" if change.omitted_bytes else ""
    return " ".join(part for part in (change.asset_id, change.asset.name, held, left_out) if part)

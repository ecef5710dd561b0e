"""The three streams: items of frames become encoded changes, signals of a feed become messages."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetwatch.pieces.v1 import asset_pb2
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED, CHANGE_KIND_UPSERT

from assetwatchd.changefeed.signals import Batch, Bookmark, Conditions, Synced
from assetwatchd.pieces.client.frames import Omitted
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.pieces.feeds.feed import Begun
from assetwatchd.rpc import convert as status_convert
from assetwatchd.rpc.pieces import convert
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.rpc.stream_log import logged
from assetwatchd.rpc.write_deadline import WriteDeadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from assetwatchd.model.values import Condition
    from assetwatchd.pieces.client.api import PiecesApi
    from assetwatchd.pieces.client.frames import Item
    from assetwatchd.pieces.feeds.feed import Signal
    from assetwatchd.pieces.feeds.registry import Feeds
    from assetwatchd.rpc.admission import Admission
    from assetwatchd.rpc.signatures import BytesContext
    from assetwatchd.settings.schema import ServerSettings

CHANGES = pb.StreamAssetsResponse.CHANGES_FIELD_NUMBER
"""The three responses have the same members, so their messages are made alike."""
UPSERT, REMOVED = bytes([CHANGE_KIND_UPSERT]), bytes([CHANGE_KIND_REMOVED])
"""The kind of a change, written last: the other form differs in nothing but its last byte.

The number of its field is another one in each of the two kinds of changes.
"""


def encoder(message_bytes_max: int) -> Callable[[Stream, Item], bytes]:
    """Return the function that makes one change, an UPSERT, as bytes of a response."""

    def encode(stream: Stream, item: Item) -> bytes:
        change: pb.AssetChange | pb.IdentifierChange
        if stream is Stream.IDENTIFIERS:
            identifier = convert.message(asset_pb2.StreamedIdentifier, item.document)
            change = pb.IdentifierChange(asset_id=item.asset_id, identifier=identifier)
        elif item.omitted is not None:
            change = _omitted(item.asset_id, item.omitted)
        else:
            change = pb.AssetChange(asset_id=item.asset_id, asset=convert.message(asset_pb2.Asset, item.document))
            if (size := change.ByteSize()) > message_bytes_max:
                change = _omitted(item.asset_id, Omitted("server.message_bytes_max", size))
        return _sealed(change)

    return encode


def _omitted(asset_id: str, why: Omitted) -> pb.AssetChange:
    return pb.AssetChange(asset_id=asset_id, omitted_bytes=why.size_bytes, omitted_setting=why.setting)


def _sealed(change: pb.AssetChange | pb.IdentifierChange) -> bytes:
    kind = bytes([change.KIND_FIELD_NUMBER << 3]) + UPSERT
    return status_convert.field(CHANGES, change.SerializeToString(deterministic=True) + kind)


class StreamFraming:
    """Implements Framing: makes the responses of all three streams, which have no tokens."""

    def basic(self, upsert: bytes) -> bytes:
        """Return the same: these streams have one view."""
        return upsert

    def removal(self, upsert: bytes) -> bytes:
        """Return the REMOVED of the same asset."""
        return upsert[: -len(UPSERT)] + REMOVED

    def message(self, changes: Sequence[bytes], *, revision: int, head: int, digest: bytes) -> bytes:  # noqa: ARG002 - as Framing has it
        """Join encoded changes."""
        return b"".join(changes)


@dataclass(frozen=True, slots=True)
class Streaming:
    """What every stream needs. replica: the name of this one."""

    feeds: Feeds
    admission: Admission
    limits: ServerSettings
    replica: str

    async def stream(self, api: PiecesApi, which: Stream, context: BytesContext) -> None:
        """Serve one stream until it ends; a stream counts until its last word was taken, or its peer is gone."""
        peer = context.peer()
        with self.admission.stream(peer), logged(f"Pieces stream {which.value}", peer, api.source):
            async with (
                ErrorsAsStatus(context),
                aclosing(self.feeds.watch(api, which)) as signals,
                WriteDeadline(context, self.limits.slow_consumer_s, then="call again") as client,
            ):
                async for signal in signals:
                    await client.write(self._message(signal))

    def _message(self, signal: Signal) -> bytes:
        match signal:
            case Batch(_, message, _):
                return message
            case Begun(resync, condition):
                return self._started(resync, condition).SerializeToString()
            case Synced():
                return pb.StreamAssetsResponse(synced=pb.StreamSynced()).SerializeToString()
            case Bookmark():
                return pb.StreamAssetsResponse(bookmark=pb.StreamBookmark()).SerializeToString()
            case Conditions(by_source):
                [condition] = by_source.values()
                return pb.StreamAssetsResponse(condition=status_convert.condition(condition)).SerializeToString()

    def _started(self, resync: bool, condition: Condition) -> pb.StreamAssetsResponse:  # noqa: FBT001 - a signal's member
        heartbeat = status_convert.duration(self.limits.heartbeat_s)
        mode = pb.StreamStarted.MODE_RESYNC if resync else pb.StreamStarted.MODE_SNAPSHOT
        return pb.StreamAssetsResponse(
            started=pb.StreamStarted(mode=mode, heartbeat_interval=heartbeat, replica=self.replica),
            condition=status_convert.condition(condition),
        )

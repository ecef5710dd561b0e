"""The servicer of the assets API of Pieces OS. What is not said here is said in the schema."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pb
from assetwatch.pieces.v1 import pieces_assets_service_pb2_grpc as grpc_pb

from assetwatchd.model.errors import (
    AnswerTooLarge,
    AssetGone,
    BadAnswer,
    ContentTooLarge,
    InvalidRequest,
    SourceKindMismatch,
    SourceUnreachable,
    UpstreamError,
)
from assetwatchd.model.values import SourceKind
from assetwatchd.pieces.client.api import GIVEN_BYTES_MAX, READ_BACK_BYTES
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.rpc.fair_lock import FairLock
from assetwatchd.rpc.peers import host_of
from assetwatchd.rpc.pieces import convert, writes
from assetwatchd.rpc.status import ErrorsAsStatus
from assetwatchd.runtime import telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from google.protobuf.message import Message

    from assetwatchd.changefeed.hub import Hub
    from assetwatchd.changefeed.store.port import Store
    from assetwatchd.model.values import Observation
    from assetwatchd.pieces.client.api import Operations, PiecesApi
    from assetwatchd.pieces.client.body import Body
    from assetwatchd.polling.sources import Sources
    from assetwatchd.rpc.pieces.streams import Streaming
    from assetwatchd.rpc.signatures import Context
    from assetwatchd.settings.schema import ServerSettings

Encoded: TypeAlias = Any
"""A response as bytes, where the servicer has messages: made and encoded where the answer was read, and passed on."""

RETRY_AFTER_S = 1.0
"""When the upstream does not say how long to wait."""
LARGE_BYTES = 256 * 1024
LARGE_TOGETHER = 2
"""So many requests larger than that are under way to a source at the same time, the others wait in line: as JSON one
may have five times its bytes, and is made of objects that take ten times as many."""


def _together() -> asyncio.Semaphore:
    return asyncio.Semaphore(LARGE_TOGETHER)


class Request(Protocol):
    """What each request has: the source that it is for, and a length."""

    @property
    def source(self) -> str: ...  # noqa: D102 - a member of the schema

    def ByteSize(self) -> int: ...  # noqa: D102 - as messages have it


@dataclass(frozen=True, slots=True)
class CallContext:
    """What every call needs. apis: those of the sources of this kind, by name. tombstone: of a deleted asset's id.

    large: who may make a large request, writing: whose request is written as JSON, by the name of its source.
    """

    sources: Sources
    apis: Mapping[str, PiecesApi]
    store: Store
    hub: Hub
    limits: ServerSettings
    tombstone: Callable[[str], Observation]
    large: dict[str, asyncio.Semaphore] = field(default_factory=lambda: defaultdict(_together))
    writing: dict[str, FairLock] = field(default_factory=lambda: defaultdict(FairLock))

    def api(self, source: str) -> PiecesApi:
        """Return a source's API. Raises: SourceNotFound, SourceKindMismatch."""
        kind = self.sources.get(source).kind
        if kind is not SourceKind.PIECES:
            raise SourceKindMismatch(source, kind=kind.name.lower(), wanted=SourceKind.PIECES.name.lower())
        return self.apis[source]

    @asynccontextmanager
    async def call(self, request: Request, context: Context) -> AsyncIterator[PiecesApi]:
        """Check a request and give the API it is for; what goes wrong inside becomes the status of the call."""
        async with ErrorsAsStatus(context):
            api = self.api(request.source)
            try:
                async with self.large[api.source] if request.ByteSize() > LARGE_BYTES else nullcontext():
                    yield api
            except AnswerTooLarge as error:
                setting = f"sources.{request.source}.body_bytes_max"
                raise ContentTooLarge(request.source, setting=setting, limit=error.limit) from error
            except UpstreamError as error:
                wait_s = RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
                raise SourceUnreachable(request.source, str(error), retry_after_s=wait_s) from error

    async def body(self, api: PiecesApi, name: str, of: Message, context: Context) -> Body:
        """Write a member of a request as JSON; of the larger ones to a source one, of each caller in turn.

        Raises: InvalidRequest.
        """
        given = of.SerializeToString()
        try:
            async with self._written(api, len(given), context):
                return await api.body(given, convert.body, type(of))
        except ValueError:
            text = "cannot be written as JSON: leave out NaN, infinities, and extra_json that is no valid JSON"
        except BadAnswer:
            text = "takes too long, or too much memory, to be written as JSON; send less"
        raise InvalidRequest((name, text))

    def _written(self, api: PiecesApi, size_bytes: int, context: Context) -> AbstractAsyncContextManager[None]:
        if size_bytes <= GIVEN_BYTES_MAX:
            return nullcontext()
        return self.writing[api.source].held(host_of(context.peer()))

    def check_readable(self, request: pb.CreateAssetRequest) -> None:
        """Check that what is made of a request can be read back in one message. Raises: InvalidRequest."""
        size, limit = request.ByteSize(), self.limits.message_bytes_max - READ_BACK_BYTES
        if size > limit:
            text = f"is too large to be read back: {size} bytes, where server.message_bytes_max leaves {limit}"
            raise InvalidRequest(("seed", f"{text}; send less, or raise it"))

    def answer(self, api: PiecesApi, response: type[Message]) -> Operations[bytes]:
        """Return the API so that it answers with an encoded response, which holds one message.

        Raises: ContentTooLarge, from its operations, when that is beyond the limit of a message.
        """
        return api.into(partial(convert.encoded, response, api.source, self.limits.message_bytes_max))


class PiecesAssetsService(grpc_pb.PiecesAssetsServiceServicer):
    """The fifteen operations."""

    def __init__(self, calls: CallContext, streaming: Streaming) -> None:
        self._calls = calls
        self._streaming = streaming

    # Writes ----------------------------------------------------------------------------------------------------------

    async def CreateAsset(self, request: pb.CreateAssetRequest, context: Context) -> Encoded:
        """Create, then have it read."""
        async with self._calls.call(request, context) as api:
            self._calls.check_readable(request)
            seed = await self._calls.body(api, "seed", request.seed, context)
            make = partial(convert.created, request.source, self._calls.limits.message_bytes_max)
            asset_id, answer = await api.into(make).create(seed, transferables=_flag(request, "transferables"))
            source = self._calls.sources.get(request.source)
            revision = await writes.created(source, self._calls.store, asset_id)
            rest = pb.CreateAssetResponse(revision=revision).SerializeToString()
            return answer + rest  # messages that are joined are one message

    async def DeleteAsset(self, request: pb.DeleteAssetRequest, context: Context) -> pb.DeleteAssetResponse:
        """Delete, then tell so."""
        async with self._calls.call(request, context) as api:
            calls, source = self._calls, self._calls.sources.get(request.source)
            asset_id = _asset_id(request)
            tombstone, traceparent = calls.tombstone(asset_id), telemetry.traceparent()
            try:
                await api.delete(asset_id)
            except AssetGone:
                await writes.found_gone(source, calls.store, calls.hub, tombstone, traceparent)
                raise
            except BadAnswer:
                await source.push_touched([asset_id])
                raise
            revision = await writes.deleted(source, calls.store, calls.hub, tombstone, traceparent)
            return pb.DeleteAssetResponse(asset_id=asset_id, revision=revision)

    # Reads -----------------------------------------------------------------------------------------------------------

    async def DraftAsset(self, request: pb.DraftAssetRequest, context: Context) -> Encoded:
        """POST /assets/draft."""
        async with self._calls.call(request, context) as api:
            seed = await self._calls.body(api, "seed", request.seed, context)
            answer = self._calls.answer(api, pb.DraftAssetResponse)
            return await answer.draft(seed, transferables=_flag(request, "transferables"))

    async def GetAsset(self, request: pb.GetAssetRequest, context: Context) -> Encoded:
        """GET /assets/{asset}."""
        async with self._calls.call(request, context) as api:
            answer = self._calls.answer(api, pb.GetAssetResponse)
            return await answer.get(_asset_id(request), transferables=_flag(request, "transferables"))

    async def ListAssets(self, request: pb.ListAssetsRequest, context: Context) -> Encoded:
        """GET /assets."""
        async with self._calls.call(request, context) as api:
            return await self._calls.answer(api, pb.ListAssetsResponse).snapshot(
                transferables=_flag(request, "transferables"),
                suggested=_flag(request, "suggested"),
                pseudo=_flag(request, "pseudo"),
            )

    async def ListAssetIdentifiers(self, request: pb.ListAssetIdentifiersRequest, context: Context) -> Encoded:
        """GET /assets/identifiers."""
        async with self._calls.call(request, context) as api:
            answer = self._calls.answer(api, pb.ListAssetIdentifiersResponse)
            return await answer.identifiers(pseudo=_flag(request, "pseudo"))

    async def ListPseudoAssets(self, request: pb.ListPseudoAssetsRequest, context: Context) -> Encoded:
        """GET /assets/pseudo."""
        async with self._calls.call(request, context) as api:
            return await self._calls.answer(api, pb.ListPseudoAssetsResponse).pseudo()

    async def ListAssetFormats(self, request: pb.ListAssetFormatsRequest, context: Context) -> Encoded:
        """GET /assets/{asset}/formats."""
        async with self._calls.call(request, context) as api:
            answer = self._calls.answer(api, pb.ListAssetFormatsResponse)
            return await answer.formats(_asset_id(request), transferables=_flag(request, "transferables"))

    async def SearchAssets(self, request: pb.SearchAssetsRequest, context: Context) -> Encoded:
        """GET /assets/search."""
        async with self._calls.call(request, context) as api:
            return await self._calls.answer(api, pb.SearchAssetsResponse).search(
                query=request.query if request.HasField("query") else None,
                searchable_tags=",".join(request.searchable_tags) or None,
                transferables=_flag(request, "transferables"),
                pseudo=_flag(request, "pseudo"),
            )

    async def SearchAssetsWithFilters(self, request: pb.SearchAssetsWithFiltersRequest, context: Context) -> Encoded:
        """POST /assets/search."""
        async with self._calls.call(request, context) as api:
            return await self._calls.answer(api, pb.SearchAssetsWithFiltersResponse).search_with_filters(
                await self._calls.body(api, "input", request.input, context),
                transferables=_flag(request, "transferables"),
                pseudo=_flag(request, "pseudo"),
            )

    async def ListRelatedAssets(self, request: pb.ListRelatedAssetsRequest, context: Context) -> Encoded:
        """GET /assets/related with a body."""
        async with self._calls.call(request, context) as api:
            assets = await self._calls.body(api, "assets", request.assets, context)
            return await self._calls.answer(api, pb.ListRelatedAssetsResponse).related(assets)

    async def RecommendAssets(self, request: pb.RecommendAssetsRequest, context: Context) -> Encoded:
        """GET /assets/recommended with a body."""
        async with self._calls.call(request, context) as api:
            recommendation = await self._calls.body(api, "recommendation", request.recommendation, context)
            return await self._calls.answer(api, pb.RecommendAssetsResponse).recommended(recommendation)

    # Streams: they write encoded messages themselves (registered without a serializer, see handlers.py) ---------------

    async def StreamAssets(self, request: pb.StreamAssetsRequest, context: Context) -> None:  # type: ignore[override]  # typed to yield
        """WebSocket /assets/stream."""
        await self._stream(Stream.ASSETS, request, context)

    async def StreamAssetIdentifiers(  # type: ignore[override]  # same
        self, request: pb.StreamAssetIdentifiersRequest, context: Context
    ) -> None:
        """WebSocket /assets/stream/identifiers."""
        await self._stream(Stream.IDENTIFIERS, request, context)

    async def StreamAssetTransferables(  # type: ignore[override]  # same
        self, request: pb.StreamAssetTransferablesRequest, context: Context
    ) -> None:
        """WebSocket /assets/stream/transferables."""
        await self._stream(Stream.TRANSFERABLES, request, context)

    async def _stream(self, stream: Stream, request: Request, context: Context) -> None:
        async with ErrorsAsStatus(context):
            await self._streaming.stream(self._calls.api(request.source), stream, context)


def _asset_id(request: pb.DeleteAssetRequest | pb.GetAssetRequest | pb.ListAssetFormatsRequest) -> str:
    """Return the id an asset is known by everywhere: upper case in a UUID means nothing (RFC 9562, 4)."""
    return request.asset_id.lower()


def _flag(request: Message, name: str) -> bool | None:
    """Return a flag, None when it is absent."""
    return getattr(request, name) if request.HasField(name) else None

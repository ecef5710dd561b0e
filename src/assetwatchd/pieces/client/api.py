"""Call the assets API of Pieces OS: its twelve HTTP operations, JSON documents in and out.

Source: the vendor's client 5.0.1 (paths, parameters, bodies, codes). Nothing is cached and nothing is tried twice.
Connections are PiecesServer's. The module knows neither messages of gRPC (`into` is given what makes them) nor states.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple, Unpack, cast

from pydantic import JsonValue

from assetwatchd.model.errors import AssetGone, BadAnswer, InvalidRequest, PiecesRefused
from assetwatchd.pieces.client import documents, paths
from assetwatchd.pieces.client.body import joined
from assetwatchd.pieces.client.json_splitter import Splitter
from assetwatchd.pieces.client.pace import Pace
from assetwatchd.pieces.client.paths import query
from assetwatchd.pieces.client.statuses import GONE, OK, is_refusal, undocumented
from assetwatchd.upstream.bodies import jsonbody
from assetwatchd.upstream.http.transport import Reply, raise_for_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Mapping, Sequence

    from assetwatchd.pieces.client.body import Body
    from assetwatchd.pieces.client.server import PiecesServer
    from assetwatchd.upstream.port import Listed

D = TypeVar("D")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
READ_BACK_BYTES = 16 * 1024
"""Beside its content, what the formats of an asset hold: names, times, who made it [assumed]."""
SPLIT_BYTES = 8 * 1024
"""A long list is taken apart so many bytes at a time: of nothing but brackets, that takes 5 ms."""
GIVEN_BYTES_MAX = 2 * 1024
"""What a client gives is written as JSON beside, if it is more: the worst that was found takes 0.6 ms a KiB, twice that
on a busy machine."""
TEXT_MAX = 300
"""Characters of an upstream's text that are passed on."""


class Operations(Generic[D]):
    """One Pieces OS server. A flag that is None is not sent.

    An operation that is answered with a document returns what is made of it: the document as it is, or see `into`.
    Every operation raises UpstreamError (no answer, or none that can be read), PiecesRefused and AssetGone.
    """

    def __init__(self, server: PiecesServer) -> None:
        self.server = server
        self.source = server.source
        self.settings = server.settings
        self._calls = server.calls
        self._make: Callable[[dict[str, JsonValue]], D] | None = None

    def into(self, make: Callable[[dict[str, JsonValue]], T]) -> Operations[T]:
        """Return the same server, whose operations return what make makes of a document; it is made where it is read.

        make is pickled. What it makes should be bytes: a document, or a message, costs the event loop what it was
        read beside for.
        """
        other = cast("Operations[T]", copy.copy(self))
        other._make = make
        return other

    def warn(self, kind: Hashable, text: str) -> None:
        """Log something odd of the source, now and then (`PiecesTransport.warn`)."""
        self._calls.warn(kind, text)

    async def body(self, given: bytes, write: Callable[[Reply, Unpack[Ts]], list[bytes]], *how: *Ts) -> Body:
        """Return what write makes of what a client gave, put together; beside, unless it is little.

        Raises: as write; BadAnswer when it takes longer, or more memory, than limits allow.
        """
        read = self._calls.reading.read
        return await joined(await read(Reply(OK, {}, given), write, *how, inline_bytes_max=GIVEN_BYTES_MAX))

    async def create(self, seed: Body, *, transferables: bool | None = None) -> D:
        """Seed to Asset. Raises InvalidRequest too when the formats of the asset, as JSON, could not be read back."""
        size, limit = seed.getbuffer().nbytes, self.settings.body_bytes_max - READ_BACK_BYTES
        if size > limit:
            text = f"is too large to be read back: {size} bytes as JSON, where body_bytes_max leaves {limit}"
            raise InvalidRequest(("seed", f"{text}; raise it for source {self.source}, or send less"))
        return await self._document("POST", "/assets/create", {"transferables": transferables}, seed)

    async def delete(self, asset_id: str) -> None:
        """Delete; the answer is the id, as text. Raises BadAnswer too when it is another."""
        reply = await self._call("POST", f"{paths.asset(asset_id)}/delete", asset_id=asset_id)
        answered = _beginning(reply, TEXT_MAX)
        if answered.lower() != asset_id.lower():
            raise BadAnswer(f"it was to delete asset {asset_id}, and confirms another: {answered or 'none'}")

    async def draft(self, seed: Body, *, transferables: bool | None = None) -> D:
        """Seed to Seed."""
        return await self._document("POST", "/assets/draft", {"transferables": transferables}, seed)

    async def recommended(self, recommendation: Body) -> D:
        """SeededAssetsRecommendation, the body of a GET, to Assets."""
        return await self._document("GET", "/assets/recommended", {}, recommendation)

    async def related(self, assets: Body) -> D:
        """Assets, the body of a GET, to Assets."""
        return await self._document("GET", "/assets/related", {}, assets)

    async def identifiers(self, *, pseudo: bool | None = None) -> D:
        """Return FlattenedAssets."""
        return await self._document("GET", paths.IDENTIFIERS, {"pseudo": pseudo})

    async def ids(self, read: Callable[[Reply, int], Listed]) -> Listed:
        """Return FlattenedAssets as read makes them out, which is given assets_max; long ones are read beside."""
        reply = await self._call("GET", paths.IDENTIFIERS + query({"pseudo": self.settings.pseudo}))
        return await self._calls.reading.read(reply, read, self.settings.assets_max)

    async def pseudo(self) -> D:
        """Return PseudoAssets."""
        return await self._document("GET", "/assets/pseudo", {})

    async def search(
        self,
        *,
        query: str | None = None,
        searchable_tags: str | None = None,
        transferables: bool | None = None,
        pseudo: bool | None = None,
    ) -> D:
        """Return SearchedAssets; searchable_tags is joined by commas. With neither it is refused (500)."""
        parameters = {
            "query": query,
            "transferables": transferables,
            "searchable_tags": searchable_tags,
            "pseudo": pseudo,
        }
        return await self._document("GET", "/assets/search", parameters)

    async def search_with_filters(
        self, wanted: Body, *, transferables: bool | None = None, pseudo: bool | None = None
    ) -> D:
        """AssetsSearchWithFiltersInput to AssetsSearchWithFiltersOutput."""
        parameters = {"transferables": transferables, "pseudo": pseudo}
        return await self._document("POST", "/assets/search", parameters, wanted)

    async def snapshot(
        self, *, transferables: bool | None = None, suggested: bool | None = None, pseudo: bool | None = None
    ) -> D:
        """Return Assets, all there are."""
        parameters = {"transferables": transferables, "suggested": suggested, "pseudo": pseudo}
        return await self._document("GET", "/assets", parameters)

    async def formats(self, asset_id: str, *, transferables: bool | None = None) -> D:
        """Return Formats."""
        path = f"{paths.asset(asset_id)}/formats"
        return await self._document("GET", path, {"transferables": transferables}, asset_id=asset_id)

    async def get(self, asset_id: str, *, transferables: bool | None = None) -> D:
        """Return Asset."""
        return await self._document("GET", paths.asset(asset_id), {"transferables": transferables}, asset_id=asset_id)

    async def listed(self, *, transferables: bool, pseudo: bool) -> AsyncGenerator[list[bytes]]:
        """Yield every asset of the snapshot as its JSON, some at a time while they come.

        Together they may be beyond the limit of an answer; one that is so by itself is left out.
        """
        path = "/assets" + query({"transferables": transferables, "pseudo": pseudo})
        splitter = Splitter(self.settings.body_bytes_max)
        pace = Pace()
        async with self._calls.parts("GET", path) as (reply, parts):
            self._accepted(reply)
            async for part in parts:
                pace.note(size_bytes=len(part))
                if assets := await _split(part, splitter):
                    yield assets
                await pace.wait()
        splitter.end()

    async def read_assets(self, texts: Sequence[bytes], read: Callable[[Reply, Sequence[int]], T]) -> T:
        """Return what read makes of assets as `listed` yields them, joined, with their lengths; long ones beside."""
        reply = Reply(OK, {}, b"".join(texts))
        return await self._calls.reading.read(reply, read, [len(text) for text in texts])

    async def _document(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, bool | str | None],
        body: Body | None = None,
        *,
        asset_id: str = "",
    ) -> D:
        reply = await self._call(method, path + query(parameters), body, asset_id=asset_id)
        if self._make is None:
            return cast("D", await documents.decode(reply, self._calls.reading))
        return await self._calls.reading.read(reply, _made, self._make)

    async def _call(self, method: str, path: str, body: Body | None = None, *, asset_id: str = "") -> Reply:
        """Make one call. A GET with a body is sent with it, though HTTP gives it no meaning (RFC 9110, 9.3.1)."""
        headers = None if body is None else JSON_HEADERS
        return self._accepted(await self._calls.raw(method, path, headers=headers, body=body), asset_id)

    def _accepted(self, reply: Reply, asset_id: str = "") -> Reply:
        """Return an answer of 200. Raises: AssetGone (410), PiecesRefused, UpstreamError (the server is in trouble).

        Refusals are told first: a 500 with text is about the call, and to raise_for_status about the server.
        """
        if reply.status == OK:
            return reply
        if reply.status == GONE:
            raise AssetGone(self.source, asset_id)
        if is_refusal(reply):
            text = _beginning(reply, TEXT_MAX)
            raise PiecesRefused(self.source, status=reply.status, text=text)
        raise_for_status(reply)
        raise undocumented(reply.status)


class PiecesApi(Operations[dict[str, JsonValue]]):
    """The server as it answers: with documents."""


async def _split(part: bytes, splitter: Splitter) -> list[bytes]:
    """Take a list apart further, others having a turn now and then."""
    assets: list[bytes] = []
    for begin in range(0, len(part), SPLIT_BYTES):
        assets += splitter.feed(part[begin : begin + SPLIT_BYTES])
        await asyncio.sleep(0)
    return assets


def _made(reply: Reply, make: Callable[[dict[str, JsonValue]], T]) -> T:
    return make(jsonbody.object_in(reply))


def _beginning(reply: Reply, characters: int) -> str:
    """Return the beginning of a body as text, on one line; however long the rest is, it is not looked at."""
    return jsonbody.bounded(reply.body[: 16 * characters].decode("utf-8", "replace"), characters)

"""The assets API of Pieces OS: its twelve HTTP operations and three streams, JSON documents in and out.

Source: the vendor's client 5.0.1 (paths, parameters, bodies, codes). Nothing is cached and nothing is tried twice.
"""

from __future__ import annotations

import asyncio
import enum
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp
from aiohttp import WSMsgType

from assetwatchd import jsonbody
from assetwatchd.errors import AnswerTooLarge, AssetGone, BadAnswer, InvalidRequest, PiecesRefused, Unreachable
from assetwatchd.transport import Reply, raise_for_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from assetwatchd.config import PiecesSource
    from assetwatchd.transport import Transport

OK = 200
GONE = 410
"""Of an asset deleted earlier and of one that never was, alike; the body is text."""
FAILED = 500
"""Of a draft, a list or a search it cannot do: the body is text; without text the server itself is broken [assumed]."""
NOT_REFUSALS = frozenset({401, 403, 429})
"""They mean the same with every kind of upstream."""

APPLICATION_HEADER = "X-Application-ID"
JSON_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
TEXT_MAX = 300
"""Characters of an upstream's text that are passed on."""
INLINE_BYTES_MAX = 256 * 1024
"""A larger document is decoded in a thread, so that it does not hold up everybody else."""


class Stream(enum.Enum):
    """The three streams, by their paths."""

    ASSETS = "/assets/stream"
    IDENTIFIERS = "/assets/stream/identifiers"
    TRANSFERABLES = "/assets/stream/transferables"


class PiecesApi:
    """One Pieces OS server. A flag that is None is not sent. Streams have connections of their own, apart from calls.

    Every operation raises UpstreamError (no answer, or none that can be read), PiecesRefused and AssetGone.
    """

    def __init__(self, source: str, calls: Transport, sockets: Transport, settings: PiecesSource) -> None:
        self.source = source
        self._calls = calls
        self._sockets = sockets
        self.settings = settings
        self._headers = {APPLICATION_HEADER: settings.application_id} if settings.application_id else {}

    async def close(self) -> None:
        """Give back connections."""
        await self._calls.close()
        await self._sockets.close()

    async def create(self, seed: Mapping[str, Any], *, transferables: bool | None = None) -> dict[str, Any]:
        """Seed to Asset."""
        return await self._document("POST", "/assets/create", {"transferables": transferables}, seed)

    async def delete(self, asset_id: str) -> None:
        """Delete; the answer is the id, as text. Raises BadAnswer too when it is another."""
        reply = await self._call("POST", f"/assets/{quote(asset_id, safe='')}/delete", asset_id=asset_id)
        answered = jsonbody.bounded(reply.body.decode("utf-8", "replace"))
        if answered.lower() != asset_id.lower():
            raise BadAnswer(f"it was to delete asset {asset_id}, and confirms another: {answered or 'none'}")

    async def draft(self, seed: Mapping[str, Any], *, transferables: bool | None = None) -> dict[str, Any]:
        """Seed to Seed."""
        return await self._document("POST", "/assets/draft", {"transferables": transferables}, seed)

    async def recommended(self, recommendation: Mapping[str, Any]) -> dict[str, Any]:
        """SeededAssetsRecommendation, the body of a GET, to Assets."""
        return await self._document("GET", "/assets/recommended", {}, recommendation)

    async def related(self, assets: Mapping[str, Any]) -> dict[str, Any]:
        """Assets, the body of a GET, to Assets."""
        return await self._document("GET", "/assets/related", {}, assets)

    async def identifiers(self, *, pseudo: bool | None = None) -> dict[str, Any]:
        """Return FlattenedAssets."""
        return await self._document("GET", "/assets/identifiers", {"pseudo": pseudo})

    async def pseudo(self) -> dict[str, Any]:
        """Return PseudoAssets."""
        return await self._document("GET", "/assets/pseudo", {})

    async def search(
        self,
        *,
        query: str | None = None,
        searchable_tags: str | None = None,
        transferables: bool | None = None,
        pseudo: bool | None = None,
    ) -> dict[str, Any]:
        """Return SearchedAssets; searchable_tags is joined by commas. With neither it is refused (500)."""
        parameters = {
            "query": query,
            "transferables": transferables,
            "searchable_tags": searchable_tags,
            "pseudo": pseudo,
        }
        return await self._document("GET", "/assets/search", parameters)

    async def search_with_filters(
        self, wanted: Mapping[str, Any], *, transferables: bool | None = None, pseudo: bool | None = None
    ) -> dict[str, Any]:
        """AssetsSearchWithFiltersInput to AssetsSearchWithFiltersOutput."""
        parameters = {"transferables": transferables, "pseudo": pseudo}
        return await self._document("POST", "/assets/search", parameters, wanted)

    async def snapshot(
        self, *, transferables: bool | None = None, suggested: bool | None = None, pseudo: bool | None = None
    ) -> dict[str, Any]:
        """Return Assets, all there are."""
        parameters = {"transferables": transferables, "suggested": suggested, "pseudo": pseudo}
        return await self._document("GET", "/assets", parameters)

    async def formats(self, asset_id: str, *, transferables: bool | None = None) -> dict[str, Any]:
        """Return Formats."""
        path = f"/assets/{quote(asset_id, safe='')}/formats"
        return await self._document("GET", path, {"transferables": transferables}, asset_id=asset_id)

    async def get(self, asset_id: str, *, transferables: bool | None = None) -> dict[str, Any]:
        """Return Asset."""
        path = f"/assets/{quote(asset_id, safe='')}"
        return await self._document("GET", path, {"transferables": transferables}, asset_id=asset_id)

    @asynccontextmanager
    async def connect(self, stream: Stream) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Open a stream; iterate over its frames, decoded, until it ends (Unreachable, BadAnswer).

        A server that answers no ping within half of ping_interval_s has ended it.
        """
        heartbeat_s = self.settings.ping_interval_s
        async with self._sockets.websocket(stream.value, headers=self._headers, heartbeat_s=heartbeat_s) as socket:
            yield self._frames(socket)

    async def _frames(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncGenerator[dict[str, Any], None]:
        while True:
            body = self._frame(await socket.receive())
            yield jsonbody.object_of(await _decode(Reply(OK, {}, body)), "a frame")

    def _frame(self, message: aiohttp.WSMessage) -> bytes:
        if message.type is WSMsgType.TEXT:
            text: str = message.data
            return text.encode("utf-8", "surrogatepass")
        if message.type is WSMsgType.BINARY:
            raise BadAnswer("a binary frame, where all are text")
        if isinstance(message.data, aiohttp.WebSocketError):
            if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                raise AnswerTooLarge(self.settings.body_bytes_max)
            raise BadAnswer(f"the stream broke the WebSocket protocol (code {message.data.code})")
        raise Unreachable("the stream was closed")

    async def _document(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, bool | str | None],
        body: Mapping[str, Any] | None = None,
        *,
        asset_id: str = "",
    ) -> dict[str, Any]:
        reply = await self._call(method, path + query(parameters), body, asset_id=asset_id)
        return jsonbody.object_of(await _decode(reply), "the answer")

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, asset_id: str = ""
    ) -> Reply:
        """Make one call. A GET with a body is sent with it, though HTTP gives it no meaning (RFC 9110, 9.3.1)."""
        content = None if body is None else await asyncio.to_thread(_encode, body)
        headers = self._headers if content is None else {**self._headers, **JSON_HEADERS}
        reply = await self._calls.raw(method, path, headers=headers, body=content)
        if reply.status == OK:
            return reply
        if reply.status == GONE:
            raise AssetGone(self.source, asset_id)
        if _refusal(reply):
            text = jsonbody.bounded(reply.body.decode("utf-8", "replace"), TEXT_MAX)
            raise PiecesRefused(self.source, status=reply.status, text=text)
        raise_for_status(reply)
        raise BadAnswer(f"HTTP {reply.status}, which no document mentions here; correct base_url")


def query(parameters: Mapping[str, bool | str | None]) -> str:
    """Write a query, with its question mark; parameters that are None are left out."""
    given = {
        name: ("true" if value else "false") if isinstance(value, bool) else value
        for name, value in parameters.items()
        if value is not None
    }
    return f"?{urlencode(given, quote_via=quote)}" if given else ""


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError:
        raise InvalidRequest(("", "is nested too deeply")) from None


def _refusal(reply: Reply) -> bool:
    """Whether the server speaks about the call, and not about itself."""
    if reply.status == FAILED:
        return reply.content_type == "text/plain"
    return FAILED > reply.status >= 400 and reply.status not in NOT_REFUSALS  # noqa: PLR2004 - where client errors begin


async def _decode(reply: Reply) -> Any:
    if len(reply.body) <= INLINE_BYTES_MAX:
        return jsonbody.decode(reply)
    return await asyncio.to_thread(jsonbody.decode, reply)

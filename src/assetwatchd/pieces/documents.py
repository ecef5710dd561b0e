"""JSON documents from Pieces OS: decoded without holding up others, and one after the other from a WebSocket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import WSMsgType

from assetwatchd import jsonbody
from assetwatchd.errors import AnswerTooLarge, BadAnswer, Unreachable
from assetwatchd.transport import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from assetwatchd.config import PiecesSource
    from assetwatchd.transport import Transport

OK = 200
INLINE_BYTES_MAX = 256 * 1024
"""A larger document is decoded in a thread, so that it does not hold up everybody else."""


async def decode(reply: Reply) -> Any:
    """Decode an answer's body. Raises: BadAnswer."""
    if len(reply.body) <= INLINE_BYTES_MAX:
        return jsonbody.decode(reply)
    return await asyncio.to_thread(jsonbody.decode, reply)


class Documents:
    """The frames of one WebSocket, decoded, until it ends: an UpstreamError. A wait for the next can be given up.

    size_bytes: that of the latest, as text.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, bytes_max: int) -> None:
        self._socket = socket
        self._bytes_max = bytes_max
        self.size_bytes = 0

    def __aiter__(self) -> Documents:
        return self

    async def __anext__(self) -> dict[str, Any]:
        body = self._body(await self._socket.receive())
        self.size_bytes = len(body)
        return jsonbody.object_of(await decode(Reply(OK, {}, body)), "a frame")

    def _body(self, message: aiohttp.WSMessage) -> bytes:
        if message.type is WSMsgType.TEXT:
            text: str = message.data
            return text.encode("utf-8", "surrogatepass")
        if message.type is WSMsgType.BINARY:
            raise BadAnswer("a binary frame, where all are text")
        if isinstance(message.data, aiohttp.WebSocketError):
            if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                raise AnswerTooLarge(self._bytes_max)
            raise BadAnswer(f"the stream broke the WebSocket protocol (code {message.data.code})")
        raise Unreachable("the stream was closed")


@asynccontextmanager
async def opened(
    transport: Transport, path: str, settings: PiecesSource, headers: Mapping[str, str]
) -> AsyncIterator[Documents]:
    """Open a stream. A server that answers no ping within half of ping_interval_s has ended it."""
    async with transport.websocket(path, headers=headers, heartbeat_s=settings.ping_interval_s) as socket:
        yield Documents(socket, settings.body_bytes_max)

"""Read texts off a WebSocket of Pieces OS one after the other, at a pace; and decode its JSON while others go on.

The module owns one socket, its pings and the words for its end. It does not know what a text says.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import aiohttp
from aiohttp import WSMsgType

from assetwatchd.model.errors import AnswerTooLarge, BadAnswer, Unanswered, Unreachable
from assetwatchd.pieces.client.pace import Pace
from assetwatchd.pieces.client.packed import Packed, pack, weight_of
from assetwatchd.upstream.bodies import jsonbody
from assetwatchd.upstream.bodies.reading import INLINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.http import WSMessageNoDecodeText
    from pydantic import JsonValue

    from assetwatchd.pieces.client.location import PiecesTransport
    from assetwatchd.settings.schema import PiecesSource
    from assetwatchd.upstream.bodies.reading import Reading
    from assetwatchd.upstream.http.transport import Reply

CLOSE_CODES = frozenset(aiohttp.WSCloseCode)
JSON_BEGINS = re.compile(rb"\s*\{")
"""A binary frame that begins so is text that was sent as another kind; of any other nobody can tell what it held."""
LIST = "iterable"
"""Where every list of Pieces OS has its members."""


async def decode(reply: Reply, reading: Reading) -> dict[str, JsonValue]:
    """Decode the object that is an answer's body. Raises: BadAnswer."""
    if len(reply.body) <= INLINE_BYTES_MAX:
        return await reading.read(reply, jsonbody.object_in)
    packed = await reading.read(reply, packed_object)
    async for members in packed.members():
        jsonbody.list_of(packed.rest[LIST], LIST).extend(members)
    return packed.rest


def packed_object(reply: Reply) -> Packed[dict[str, JsonValue], JsonValue]:
    """Decode the object that is an answer's body, its list taken apart; where that is none, it stays as it is."""
    document = jsonbody.object_in(reply)
    members = document.get(LIST)
    if not isinstance(members, list):
        return Packed(document, ())
    return pack({**document, LIST: []}, members, weight_of)


class Documents:
    """Iterate over the texts of one WebSocket, at a pace, until it ends. A wait for the next can be given up.

    Raises, from the iteration: Unreachable (it ended), BadAnswer (it broke the protocol), AnswerTooLarge.
    pace: where whoever reads them tells of what else they cost. reading: how to read large ones. source: its name.
    warn: where what is odd about them is told.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse[Literal[False]],
        settings: PiecesSource,
        transport: PiecesTransport,
    ) -> None:
        self.pace = Pace()
        self.reading = transport.reading
        self.warn = transport.warn
        self.source = transport.source
        self.settings = settings
        self._socket = socket

    def __aiter__(self) -> Documents:
        return self

    async def __anext__(self) -> bytes:
        while True:
            await self.pace.wait()
            message = await self._socket.receive()
            self.pace.note(frames=1, size_bytes=len(message.data) if isinstance(message.data, bytes) else 0)
            # aiohttp would answer pings inside receive(), as many as come, without the pace and without a pause.
            if message.type is WSMsgType.PING:
                await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return self._text(message)

    def _text(self, message: WSMessageNoDecodeText) -> bytes:
        binary = message.type is WSMsgType.BINARY
        if message.type is WSMsgType.TEXT or (binary and JSON_BEGINS.match(message.data)):
            text: bytes = message.data
            return text
        if binary:
            raise BadAnswer("a binary frame, where all are text")
        if isinstance(message.data, aiohttp.WebSocketError):
            if message.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
                raise AnswerTooLarge(self.settings.body_bytes_max)
            raise BadAnswer(f"the stream broke the WebSocket protocol (code {message.data.code})")
        raise self._ended(message)

    def _ended(self, message: WSMessageNoDecodeText) -> Unreachable:
        """Tell how the connection ended: by a close, for want of a pong, or without a word."""
        if message.type is WSMsgType.CLOSE:
            return closed(message.data, message.extra or "")
        if isinstance(self._socket.exception(), aiohttp.ServerTimeoutError):
            silence_s = self.settings.ping_interval_s / 2
            text = f"the stream was given up: no pong within {silence_s:g} s of a ping"
            return Unanswered(text, shows_after_s=self.settings.ping_interval_s + silence_s)
        return Unreachable("the stream broke off without a close")


def closed(code: int, reason: str) -> Unreachable:
    """Tell of a close frame, its code and reason."""
    if not code:
        return Unreachable("the stream was closed without a code")
    name = aiohttp.WSCloseCode(code).name.lower().replace("_", " ") if code in CLOSE_CODES else ""
    return Unreachable(
        f"the stream was closed with code {code}{f' ({name})' if name else ''}", said=jsonbody.bounded(reason)
    )


@asynccontextmanager
async def opened(transport: PiecesTransport, path: str, settings: PiecesSource) -> AsyncIterator[Documents]:
    """Open a stream. A server that answers no ping within ping_interval_s / 2 has ended it. Raises: UpstreamError."""
    async with transport.websocket(path, heartbeat_s=settings.ping_interval_s) as socket:
        with transport.secrets.redacting_errors():
            yield Documents(socket, settings, transport)

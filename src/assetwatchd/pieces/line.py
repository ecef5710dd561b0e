"""The identifiers stream of one server: one connection, and one reading of its frames, for all that follow it here.

These are the push behind WatchStatus and the feeds, each once: a handful, however many clients they serve.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatchd.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.pieces import documents
from assetwatchd.pieces.api import Stream
from assetwatchd.pieces.frames import Frame, Frames
from assetwatchd.pieces.listener import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from assetwatchd.config import PiecesSource
    from assetwatchd.pieces.frames import Item
    from assetwatchd.transport import Transport

log = logging.getLogger(__name__)


class Line:
    """Connected while somebody listens. Each listener's first frame lists every id there is, also a late one's.

    One that leaves too much waiting is ended, and begins anew with all of it in one frame.
    """

    def __init__(self, source: str, transport: Transport, settings: PiecesSource, headers: Mapping[str, str]) -> None:
        self._source = source
        self._transport = transport
        self._settings = settings
        self._headers = headers
        self._connection: _Connection | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Follow the line; a connection that breaks is not opened again for those who had it: they listen anew."""
        connection = self._connection or self._connect()
        listener = connection.joined()
        try:
            yield listener
        finally:
            connection.listeners.discard(listener)
            if not connection.listeners:
                if self._connection is connection:
                    self._connection = None
                connection.task.cancel()
                await asyncio.wait([connection.task])

    def _connect(self) -> _Connection:
        connection = self._connection = _Connection()
        connection.task = asyncio.create_task(self._run(connection), name=f"{self._source}.line")
        return connection

    async def _run(self, connection: _Connection) -> None:
        """Read until the connection ends, and tell everybody why it did."""
        try:
            error: UpstreamError = await self._read(connection)
        except UpstreamError as why:
            error = why
        except Exception:  # a defect here must not leave the listeners waiting
            log.exception("source %s: the identifiers stream failed", self._source)
            error = BadAnswer("the stream failed; see the log")
        if self._connection is connection:
            self._connection = None
        for listener in connection.listeners:
            listener.tell(error)

    async def _read(self, connection: _Connection) -> UpstreamError:
        stream = documents.opened(self._transport, Stream.IDENTIFIERS.value, self._settings, self._headers)
        async with stream as read:
            news = Frames(read, Stream.IDENTIFIERS)
            connection.tell(await self._first(news))
            async for frame in news:
                connection.tell(frame)
        return Unreachable("the stream was closed")

    async def _first(self, news: Frames) -> Frame:
        timeout_s = self._settings.first_frame_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(news)
        except TimeoutError:
            raise Unreachable(f"no first frame within {timeout_s:g} s") from None


class _Connection:
    """One connection: who listens, and what its frames add up to; None before the first."""

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self._there: dict[str, Item] | None = None

    def joined(self) -> Listener:
        listener = Listener()
        if self._there is not None:
            listener.tell(Frame(list(self._there.values())))
        self.listeners.add(listener)
        return listener

    def tell(self, frame: Frame) -> None:
        there = self._there = self._there or {}
        for item in frame.items:
            there.pop(item.asset_id, None)
            if not item.gone:
                there[item.asset_id] = item
        for listener in self.listeners:
            listener.tell(frame)

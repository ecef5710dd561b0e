"""Share the identifiers stream of one server: one connection, and one reading of its frames, for all that follow it.

These are the push behind WatchStatus and the feeds, each once: a handful, however many clients they serve. The module
owns the connection and what its frames add up to. It tries nothing twice, and knows neither states nor subscribers:
whoever listens decides when to listen anew.

An example. The server has the assets a and b:

    the push listens    a connection is opened; its first frame is [a, b]    push: [a, b]
    a is deleted        the server sends [a gone]                            push: [a gone]
    a feed listens      nothing is asked: the frames so far add up to [b]    feed: [b]
    c is made           the server sends [c]                                 push: [c], feed: [c]
    the feed is slow    more than WAITING_BYTES_MAX waits for it             feed: an error; listens anew, has [b, c]
    the network breaks  nobody else can listen to this connection            push and feed: the error
    both listen anew    one of them opens the next connection                push and feed: [b, c]
    both leave          it is closed, and what it told is dropped
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.pieces.client import documents, frames
from assetwatchd.pieces.client.frames import Frame, Frames, Item
from assetwatchd.pieces.client.listener import Listener
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime.slices import slices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from assetwatchd.pieces.client.location import PiecesTransport
    from assetwatchd.settings.schema import PiecesSource

HELD_TIMES = 2
"""So many times body_bytes_max is kept of all assets together: as much as the frames that told of them."""

log = logging.getLogger(__name__)


class SharedStream:
    """Stay connected while somebody listens. Each listener's first frame lists every id there is, also a late one's.

    One that leaves too much waiting is ended, and begins anew with all of it in one frame.
    """

    def __init__(self, transport: PiecesTransport, settings: PiecesSource) -> None:
        self._source = transport.source
        self._transport = transport
        self._settings = settings
        self._connection: _Connection | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """Follow the stream; a connection that breaks is not opened again for those who had it: they listen anew.

        Raises, from the listener: UpstreamError, when the connection ends or could not be opened.
        """
        connection = self._connection or self._connect()
        listener = connection.joined()
        try:
            yield listener
        finally:
            connection.listeners.discard(listener)
            if not connection.listeners:
                # It may be the next one by now: one of those who had this one was sooner to listen anew.
                if self._connection is connection:
                    self._connection = None
                await connection.end()

    def _connect(self) -> _Connection:
        connection = self._connection = _Connection(self._settings)
        connection.task = asyncio.create_task(self._run(connection), name=f"{self._source}.shared_stream")
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
        error.__traceback__ = None  # it would keep this frame, and all that the connection told
        for listener in connection.listeners:
            listener.tell(error)

    async def _read(self, connection: _Connection) -> UpstreamError:
        stream = documents.opened(self._transport, Stream.IDENTIFIERS.value, self._settings)
        async with stream as read:
            news = Frames(read, Stream.IDENTIFIERS)
            await connection.tell(await self._first(news))
            async for frame in news:
                await connection.tell(frame)
        return Unreachable("the stream was closed")

    async def _first(self, news: Frames) -> Frame:
        """Wait for the list of all; a server that has none to tell of may say null, and then nothing."""
        timeout_s = self._settings.first_frame_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await anext(news)
        except TimeoutError:
            if news.void:
                return Frame(())
            raise Unreachable(f"no first frame within {timeout_s:g} s") from None


class Kept(Collection["Item"]):
    """Keep items as bytes, and make each anew when it is iterated over.

    Hundreds of thousands of them as objects would hold up everybody whenever Python looks for garbage.
    """

    def __init__(self, items: list[bytes]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            yield Item(*pickle.loads(item))  # noqa: S301 - we wrote it


def _kept(item: Item) -> bytes:
    return pickle.dumps(item.fields)


class _Connection:
    """One connection: who listens, and what its frames add up to: items as bytes by asset id, None before the first."""

    task: asyncio.Task[None]

    def __init__(self, settings: PiecesSource) -> None:
        self.listeners: set[Listener] = set()
        self._there: dict[str, bytes] | None = None
        self._held_bytes = 0
        self._assets_max = settings.assets_max
        self._held_bytes_max = HELD_TIMES * settings.body_bytes_max

    async def end(self) -> None:
        """Disconnect, and let go of the task: how it ended has a frame that has us."""
        task = self.task
        del self.task
        task.cancel()
        await asyncio.wait([task])

    def joined(self) -> Listener:
        """Return a listener that is told all there is, if a first frame came, and then each frame.

        Nothing is awaited in between, so no frame is lost to it.
        """
        listener = Listener()
        if self._there is not None:
            listener.tell(Frame(Kept(list(self._there.values())), weight=self._held_bytes))
        self.listeners.add(listener)
        return listener

    async def tell(self, frame: Frame) -> None:
        """Take in a frame, and tell it. Raises: BadAnswer when there is more than can be kept; then nobody is told."""
        # Of a first frame nothing shows before all of it is taken in: who joins meanwhile is told it with the others.
        # Of a later one parts may show; who joins then is told those twice, which says the same.
        there = {} if self._there is None else self._there
        for items in slices(frame.items):
            for item in items:
                self._take(item, there)
            await asyncio.sleep(0)
        self._check(len(there))
        self._there = there
        for listener in self.listeners:
            listener.tell(frame)

    def _take(self, item: Item, there: dict[str, bytes]) -> None:
        self._held_bytes -= len(there.pop(item.asset_id, b""))
        if not item.gone:
            kept = there[item.asset_id] = _kept(item)
            self._held_bytes += len(kept)

    def _check(self, count: int) -> None:
        frames.check_count(count, self._assets_max)
        if self._held_bytes > self._held_bytes_max:
            limit = f"{HELD_TIMES} x body_bytes_max = {self._held_bytes_max} bytes"
            raise BadAnswer(f"what the stream tells of all assets takes more than {limit}; raise it")

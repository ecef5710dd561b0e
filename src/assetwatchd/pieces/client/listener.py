"""Hold frames for one that follows a stream: read off its connection as they come, whatever it does meanwhile.

The module owns what waits, in bytes. It knows nothing of what frames say.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from assetwatchd.model.errors import BadAnswer, Unreachable, UpstreamError
from assetwatchd.pieces.client.frames import Frame, Frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from assetwatchd.pieces.client.documents import Documents
    from assetwatchd.pieces.client.streams import Stream

WAITING_BYTES_MAX = 32 * 1024 * 1024
"""What may wait for one listener, beside one frame more; as it is in memory, which is several times its text."""
FRAME_BYTES = 1024
"""What a frame takes beside its text."""

log = logging.getLogger(__name__)


class Listener:
    """Iterate over the frames that were told, until the connection ends. Raises, from then on: UpstreamError."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Frame | UpstreamError] = asyncio.Queue()
        self._bytes = 0
        self._ended = False
        self._room = asyncio.Event()
        self._room.set()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Frame:
        told = await self._waiting.get()
        if isinstance(told, UpstreamError):
            raise told
        self._count(-told.weight - FRAME_BYTES)
        return told

    def tell(self, what: Frame | UpstreamError) -> None:
        """Let a frame, or the end, wait for it; a frame for which there is no room is the end, too.

        It never waits: one connection is told to several, and one that is slow holds up none of the others.
        """
        if self._ended:
            return
        if isinstance(what, Frame) and not self._room.is_set():
            what = Unreachable("the stream was faster than we are")
        if isinstance(what, Frame):
            self._count(what.weight + FRAME_BYTES)
        else:
            self._ended = True
        self._waiting.put_nowait(what)

    async def room(self) -> None:
        """Return once there is room for one more."""
        await self._room.wait()

    def _count(self, size_bytes: int) -> None:
        self._bytes += size_bytes
        if self._bytes > WAITING_BYTES_MAX:
            self._room.clear()
        else:
            self._room.set()


@asynccontextmanager
async def read_ahead(connecting: AbstractAsyncContextManager[Documents], stream: Stream) -> AsyncIterator[Listener]:
    """Open a stream, and read ahead of who follows it; when there is no room for more, it waits at the server.

    A connection that is not read looks dead: it answers no ping, and sees no answer to its own. Raises: UpstreamError.
    """
    listener = Listener()
    task = asyncio.create_task(_read(connecting, stream, listener), name=f"read {stream.value}")
    try:
        await anext(listener)  # it is open
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _read(connecting: AbstractAsyncContextManager[Documents], stream: Stream, listener: Listener) -> None:
    try:
        async with connecting as documents:
            listener.tell(Frame([]))  # taken by read_ahead, which so learns that it is open, or why it is not
            async for frame in Frames(documents, stream):
                await listener.room()
                listener.tell(frame)
    except UpstreamError as error:
        listener.tell(error)
    except Exception:  # a defect here must not leave the listener waiting
        log.exception("the stream %s failed", stream.value)
        listener.tell(BadAnswer("the stream failed; see the log"))

"""A way through loopback to one port that a test can cut: what is sent then is held, and goes on when it is mended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


class Relay:
    """Passes connections on to a port, both ways."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Hold all that is sent, of connections there are and of new ones."""
        self._open.clear()

    def mend(self) -> None:
        """Pass it on again, what was held too."""
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        there_reader, there_writer = await asyncio.open_connection(HOST, self._to)
        for pair in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def end(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def relay(endpoint: str) -> AsyncIterator[Relay]:
    """Relay to http://HOST:PORT on a free port, as long as the context lasts."""
    way = Relay(int(endpoint.rpartition(":")[2]))
    server = await asyncio.start_server(way.serve, HOST, 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        await way.end()

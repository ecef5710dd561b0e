"""A Pieces OS whose streams send whatever bytes a test has: frames that no library would write, floods, or nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from assetwatchd.adapters.pieces import Pieces
from assetwatchd.settings.schema import PiecesSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    Script = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]

KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
ANSWERS = {"/.well-known/health": b"ok", "/.well-known/version": b"12.0.0"}


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, bits: int = 0) -> bytes:
    """Write one WebSocket frame of a server."""
    first = bytes([(0x80 if fin else 0) | bits | opcode])
    size = len(payload)
    if size < 126:
        return first + bytes([size]) + payload
    if size < 1 << 16:
        return first + bytes([126]) + struct.pack("!H", size) + payload
    return first + bytes([127]) + struct.pack("!Q", size) + payload


def told(asset_ids: Iterable[str], **more: Any) -> bytes:
    """Write a frame of the identifiers stream."""
    return frame(json.dumps({"iterable": [{"asset": {"id": each}, **more} for each in asset_ids]}).encode())


def named(first: int, count: int) -> list[str]:
    """Make ids."""
    return [f"{number:08x}-0000-4000-8000-000000000000" for number in range(first, first + count)]


class RawStream:
    """It runs a script for each stream. received: bytes that came on streams. headers: of each upgrade."""

    def __init__(self, script: Script) -> None:
        self.url = ""
        self.received = 0
        self.headers: list[str] = []
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests, until one is an upgrade."""
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                path = head.split(" ")[1]
                if "Upgrade: websocket" in head:
                    await self._upgrade(head, reader, writer)
                    break
                body = ANSWERS.get(path.partition("?")[0], b'{"iterable": []}')
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def _upgrade(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.headers.append(head)
        [key] = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key")]
        accept = base64.b64encode(hashlib.sha1(key.encode() + KEY).digest())  # noqa: S324 - RFC 6455, 4.2.2
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept)
        script = asyncio.create_task(self._script(writer))
        try:
            while received := await reader.read(65536):
                self.received += len(received)
        finally:
            script.cancel()
            await asyncio.wait([script])


@asynccontextmanager
async def raw_stream(script: Script, **settings: Any) -> AsyncIterator[tuple[RawStream, Pieces]]:
    """Serve on a free port of loopback, with an adapter that calls it."""
    raw = RawStream(script)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(raw.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    given = {"kind": "pieces", "base_url": raw.url, "rate_per_s": 10_000, **settings}
    upstream = Pieces("desk", PiecesSource.model_validate(given))
    try:
        yield raw, upstream
    finally:
        await upstream.close()
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()
        await asyncio.sleep(0)  # what was aborted is closed in the next turn

"""A TCP proxy between any two that can delay, throttle, hold, close, reset or cut what passes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass

CHUNK_BYTES = 64 * 1024
LINGER_NOT = struct.pack("ii", 1, 0)
"""A socket that is closed with this sends RST."""


@dataclass
class Weather:
    """What happens to bytes now; both directions, all connections.

    rate_bytes_per_s: 0 is no limit. held: nothing passes, nothing is closed. cut_after_bytes: RST once so many passed.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate_bytes_per_s: float = 0.0
    held: bool = False
    cut_after_bytes: int = 0


@dataclass(eq=False)
class Pair:
    """One connection through the proxy: the client's side and, once it is made, the server's."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    passed_bytes: int = 0

    def writers(self) -> list[asyncio.StreamWriter]:
        """Both sides that are there."""
        return [self.near] if self.far is None else [self.near, self.far]


@dataclass
class Counts:
    """What the faults did, so that a run whose fault struck nothing is void. refused: nobody listened behind it."""

    connections: int = 0
    refused: int = 0
    held_chunks: int = 0
    delayed_chunks: int = 0
    resets: int = 0
    closes: int = 0


class Proxy:
    """Listens on free ports of 127.0.0.1 and passes everything on to host:port, which may change.

    ports: those it listens on, the first one first; what is behind it may tell by them who called.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.target = (host, port)
        self.weather = Weather()
        self.counts = Counts()
        self.ports: list[int] = []
        self._rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._stopped = False
        self._servers: list[asyncio.Server] = []

    @property
    def address(self) -> str:
        """HOST:PORT to connect to instead."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[str]:
        """All of them."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    async def start(self, ports: int = 1) -> None:
        """Listen on so many ports."""
        for _ in range(ports):
            server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut everything."""
        for server in self._servers:
            server.close()
        self._stopped = True
        self.heal()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The faults ------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Let everything pass again; what was held goes on."""
        self.weather = Weather()
        self._flows.set()

    def blackhole(self) -> None:
        """Hold everything, new connections too, and close nothing."""
        self.weather = Weather(held=True)
        self._flows.clear()

    def delay(self, delay_s: float, jitter_s: float) -> None:
        """Let each chunk arrive later by delay_s ± jitter_s, in order."""
        self.weather = Weather(delay_s=delay_s, jitter_s=jitter_s)

    def throttle(self, bytes_per_s: float) -> None:
        """Let so many bytes a second pass, each connection and direction."""
        self.weather = Weather(rate_bytes_per_s=bytes_per_s)

    def cut_after(self, passed_bytes: int) -> None:
        """Reset each connection once so many more bytes have passed."""
        for pair in self._pairs:
            pair.passed_bytes = 0
        self.weather = Weather(cut_after_bytes=passed_bytes)

    def reset(self) -> int:
        """Send RST to both sides of every connection; return how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            self._reset(pair)
        return len(pairs)

    def close(self) -> int:
        """Send FIN to both sides of every connection; return how many there were."""
        pairs = list(self._pairs)
        for pair in pairs:
            self.counts.closes += 1
            for writer in pair.writers():
                writer.close()
        return len(pairs)

    async def reset_repeatedly(self, *, every_s: float, for_s: float) -> None:
        """Reset everything again and again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + for_s
        while loop.time() < until:
            self.reset()
            await asyncio.sleep(every_s)

    # Passing on ------------------------------------------------------------------------------------------------------

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to what is behind it. Raises: OSError."""
        return await asyncio.open_connection(*self.target)

    def _reset(self, pair: Pair) -> None:
        self.counts.resets += 1
        for writer in pair.writers():
            if writer.transport.is_closing():
                continue
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, ValueError):  # the second: uvloop has closed it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            writer.transport.abort()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = Pair(writer)
        if self._stopped:  # it was accepted before the listening ended
            writer.transport.abort()
            return
        self._pairs.add(pair)
        self.counts.connections += 1
        task = asyncio.create_task(self._serve(pair, reader))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._over(task, pair))

    async def _serve(self, pair: Pair, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            await self._joined(pair, reader)

    def _over(self, task: asyncio.Task[None], pair: Pair) -> None:
        """Close both sides, also of a pair whose task was cancelled before it ran."""
        self._tasks.discard(task)
        self._pairs.discard(pair)
        for each in pair.writers():
            each.transport.abort()

    async def _joined(self, pair: Pair, reader: asyncio.StreamReader) -> None:
        await self._flowing()
        try:
            far_reader, pair.far = await self.connect()
        except OSError:
            self.counts.refused += 1
            return
        near_to_far = asyncio.create_task(self._pump(pair, reader, pair.far))
        far_to_near = asyncio.create_task(self._pump(pair, far_reader, pair.near))
        both = (near_to_far, far_to_near)
        try:
            await asyncio.wait(both)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _pump(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one direction on; each chunk has a moment before which it may not arrive."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
        reading = asyncio.create_task(self._read(reader, line))
        try:
            while (chunk := await self._next(line))[1]:
                writer.write(chunk[1])
                await writer.drain()
                self._count(pair, len(chunk[1]))
            writer.write_eof()
        except OSError:
            for each in pair.writers():
                each.transport.abort()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        free_at = 0.0
        while True:
            weather = self.weather
            size = CHUNK_BYTES if not weather.rate_bytes_per_s else max(1, int(weather.rate_bytes_per_s / 20))
            try:
                data = await reader.read(size)
            except OSError:
                data = b""
            weather = self.weather
            at = loop.time()
            if weather.delay_s:
                self.counts.delayed_chunks += 1
                at += max(0.0, weather.delay_s + self._rng.uniform(-weather.jitter_s, weather.jitter_s))
            if weather.rate_bytes_per_s:
                self.counts.delayed_chunks += 1
                at = max(at, free_at) + len(data) / weather.rate_bytes_per_s
            free_at = max(free_at, at)
            await line.put((free_at, data))
            if not data:
                return

    async def _next(self, line: asyncio.Queue[tuple[float, bytes]]) -> tuple[float, bytes]:
        at, data = await line.get()
        await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
        await self._flowing()
        return at, data

    async def _flowing(self) -> None:
        if not self._flows.is_set():
            self.counts.held_chunks += 1
            await self._flows.wait()

    def _count(self, pair: Pair, passed_bytes: int) -> None:
        pair.passed_bytes += passed_bytes
        if 0 < self.weather.cut_after_bytes <= pair.passed_bytes:
            pair.passed_bytes = 0
            self._reset(pair)

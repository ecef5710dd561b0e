"""The WebSocket streams: the clients connected, what waits for each, and the ways in which a stream goes bad."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING, Literal

from aiohttp import WSMsgType, web

from assetwatch_sandbox.pieces.wire import iterable_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from assetwatch_sandbox.faults import Faults
    from assetwatch_sandbox.pieces.switches import PiecesSwitches

WAITING_MAX = 250_000
CLOSE_TIMEOUT_S = 1.0


class RawFrame(str):
    """Text that is a frame already; any other text that waits is one item of a frame."""

    __slots__ = ()


class Connection:
    """One client of a stream. Muted it is half-open: what is sent is lost and no ping is answered."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, *, muted: bool) -> None:
        self.request = request
        self.socket = socket
        self.muted = muted
        self._waiting: list[str] = []
        self._wakeup = asyncio.Event()

    def push(self, text: str) -> None:
        """Let an item or a frame wait for sending; a client that leaves WAITING_MAX unread is cut off."""
        if self.muted:
            return
        if len(self._waiting) >= WAITING_MAX:
            self.abort()
            return
        self._waiting.append(text)
        self._wakeup.set()

    async def take(self) -> list[str]:
        """Wait for anything, then take all of it."""
        # Cleared before the list is taken, and nothing is awaited between: what is pushed next sets it again.
        await self._wakeup.wait()
        self._wakeup.clear()
        taken, self._waiting = self._waiting, []
        return taken

    def abort(self) -> None:
        """Cut the TCP connection without a close frame."""
        if self.request.transport is not None:
            self.request.transport.abort()

    async def read(self) -> None:
        """Answer pings until the client goes; clients send nothing else."""
        async for message in self.socket:
            if message.type is WSMsgType.PING and not self.muted:
                await self.socket.pong(message.data)


class Stream:
    """One stream path. `first` makes the frame that a new client gets before anything else, None for none."""

    def __init__(
        self, first: Callable[[], str | None], *, faults: Faults, switches: Callable[[], PiecesSwitches]
    ) -> None:
        self._first = first
        self._faults = faults
        self._switches = switches
        self._connections: set[Connection] = set()
        self._mute_new = False

    @property
    def connected(self) -> int:
        """Return the number of its clients."""
        return len(self._connections)

    def publish(self, item: str) -> None:
        """Send one changed item, as JSON text, to every client."""
        for connection in self._connections:
            connection.push(item)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one client until it goes: first frame, then changes; nothing between the two is missed."""
        socket = web.WebSocketResponse(autoping=False, compress=False, timeout=CLOSE_TIMEOUT_S)
        await socket.prepare(request)
        connection = Connection(request, socket, muted=self._mute_new)
        if (first := self._first()) is not None:
            connection.push(RawFrame(first))
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send(connection))
                await connection.read()
                sender.cancel()
        finally:
            self._connections.discard(connection)
        return socket

    def send(self, frame: str) -> int:
        """Send raw text to every client, well-formed or not; return to how many."""
        for connection in self._connections:
            connection.push(RawFrame(frame))
        return len(self._connections)

    def mute(self, *, muted: bool, also_new: bool) -> int:
        """Make the open connections half-open, or end that; new ones only when asked. Return how many."""
        self._mute_new = muted and also_new
        for connection in self._connections:
            connection.muted = muted
        return len(self._connections)

    async def drop(self, how: Literal["abort", "close"]) -> int:
        """End the open connections, by cutting TCP or with a close frame; return how many."""
        dropped = list(self._connections)
        for connection in dropped:
            if how == "abort":
                connection.abort()
            else:
                await connection.socket.close()
        return len(dropped)

    async def _send(self, connection: Connection) -> None:
        while True:
            for frame in frames(await connection.take(), self._switches()):
                try:
                    await self._faults.send_text(connection.request, connection.socket, frame)
                except ConnectionError:
                    return


def frames(waiting: Iterable[str], switches: PiecesSwitches) -> Iterator[str]:
    """Make frames of what waits: in order, one item each and once, unless a switch has it otherwise."""
    batch: list[str] = []
    for text in chain(waiting, [RawFrame()]):
        if not isinstance(text, RawFrame):
            batch.append(text)
            continue
        yield from _item_frames(batch, switches)
        batch = []
        if text:
            yield text


def _item_frames(items: list[str], switches: PiecesSwitches) -> Iterator[str]:
    if switches.frames_newest_first:
        items.reverse()
    for start in range(0, len(items), switches.frame_ids_max):
        frame = iterable_text(items[start : start + switches.frame_ids_max])
        for _ in range(switches.frame_copies):
            yield frame

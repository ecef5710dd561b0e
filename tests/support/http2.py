"""A client of HTTP/2 that does what no client of gRPC does: half a request, resets, settings never acknowledged."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from google.rpc import error_details_pb2, status_pb2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hpack import Encoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from h2.events import Event

PATIENCE_S = 30
LIST_SOURCES = "/assetwatch.v1.SourceService/ListSources"
EMPTY = b"\0\0\0\0\0"
"""A message of no bytes, as gRPC frames it."""


class Ended(NamedTuple):
    """How a call ended. status: of gRPC, None when none came. refused: before anything was done for it."""

    status: int | None
    reason: str = ""
    refused: bool = False


class Plain(Encoder):
    """Writes headers as they are: in Python, compressing large ones takes longer than the server waits."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:  # noqa: FBT001, FBT002 - hpack's
        """Encode headers."""
        return super().encode(headers, huffman=huffman)


class Client:
    """One connection. ended: the calls that have, by stream. told_to_go: by GOAWAY. sent_bytes: of requests."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, acknowledges: bool = True
    ) -> None:
        self.ended: dict[int, Ended] = {}
        self.closed = False
        self.told_to_go = False
        self.sent_bytes = 0
        self._reader, self._writer = reader, writer
        self._acknowledges = acknowledges
        self._news = asyncio.Event()
        self._statuses: dict[int, Ended] = {}
        self._http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._http.encoder = Plain()
        self._http.initiate_connection()
        self.flush()

    def begin(self, path: str, metadata: Iterable[tuple[str, str]] = (), *, end: bool = False) -> int:
        """Begin a call; return its stream. end: there is no request."""
        stream: int = self._http.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
        grpc = {"content-type": "application/grpc", "te": "trailers"}
        self._http.send_headers(stream, [*headers.items(), *grpc.items(), *metadata], end_stream=end)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> int:
        """Send as much as the server has room for; return how much that was."""
        window = max(0, self._http.local_flow_control_window(stream))  # settings that come later may take it below 0
        room = min(window, self._http.max_outbound_frame_size, len(data))
        if room or not data:
            self._http.send_data(stream, data[:room], end_stream=end and room == len(data))
        self.sent_bytes += room
        return room

    def reset(self, stream: int) -> None:
        """Take a call back."""
        self._http.reset_stream(stream, error_code=8)

    def flush(self) -> None:
        """Write what was said."""
        self._writer.write(self._http.data_to_send())

    async def call(self, path: str, request: bytes = EMPTY, metadata: Iterable[tuple[str, str]] = ()) -> Ended:
        """Make a whole call."""
        stream = self.begin(path, metadata)
        self.send(stream, request, end=True)
        self.flush()
        return await self.end_of(stream)

    async def answers(self, path: str) -> bool:
        """Make a whole call; return whether there was a status, and not the end of the connection."""
        stream = self.begin(path)
        self.send(stream, EMPTY, end=True)
        self.flush()
        await self.until(lambda: stream in self.ended)
        return stream in self.ended

    async def end_of(self, stream: int) -> Ended:
        """Wait until a call has ended."""
        await self.until(lambda: stream in self.ended)
        return self.ended[stream]

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait until what the server said has brought that about, or until it closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while not done() and not self.closed:
                await self._news.wait()
                self._news.clear()

    async def until_closed(self) -> None:
        """Wait until the server closed the connection."""
        await self.until(lambda: False)

    async def listen(self) -> None:
        """Take in what the server says, until it closes."""
        while data := await self._received():
            for event in self._http.receive_data(data):
                self._take(event)
            self.flush()
            self._news.set()
        self.closed = True
        self._news.set()

    async def _received(self) -> bytes:
        try:
            return await self._reader.read(64 * 1024)
        except ConnectionError:
            return b""

    def _take(self, event: Event) -> None:
        match event:
            case RemoteSettingsChanged() if not self._acknowledges:
                self._http.clear_outbound_data_buffer()
            case ResponseReceived() | TrailersReceived():
                self._status(event.stream_id, {str(name): str(value) for name, value in event.headers or ()})
            case DataReceived():
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.ended.setdefault(event.stream_id, self._statuses.get(event.stream_id, Ended(None)))
            case StreamReset():
                refused = event.error_code in (7, 11)  # REFUSED_STREAM, ENHANCE_YOUR_CALM
                known = self._statuses.get(event.stream_id, Ended(None, refused=refused))
                self.ended.setdefault(event.stream_id, known)
            case ConnectionTerminated():
                self.told_to_go = True

    def _status(self, stream: int, headers: dict[str, str]) -> None:
        if "grpc-status" in headers:
            self._statuses[stream] = Ended(int(headers["grpc-status"]), _reason(headers))


def _reason(headers: dict[str, str]) -> str:
    """Read the reason out of the status's details; empty without them."""
    packed = headers.get("grpc-status-details-bin", "")
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4))).details:
        detail.Unpack(info)
    return str(info.reason)


@asynccontextmanager
async def connected(address: str, *, acknowledges: bool = True) -> AsyncIterator[Client]:
    """Connect, and listen until the block ends."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    client = Client(reader, writer, acknowledges=acknowledges)
    listening = asyncio.create_task(client.listen())
    try:
        yield client
    finally:
        listening.cancel()
        writer.transport.abort()
        await asyncio.wait([listening])

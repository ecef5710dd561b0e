"""Clients that write down everything a watch tells them: recorders, churners, stalled readers, cancellers.

Plain gRPC, on purpose not the client's watch: what is judged is the service. Each stream has a channel of its own.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.asset_status_pb2 import AssetRef
from assetwatch.v1.asset_status_service_pb2_grpc import AssetStatusServiceStub
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_REMOVED
from google.rpc import error_details_pb2

from assetwatch_client import packed_details
from assetwatchd.changefeed import resume_token
from faults.rig.load import number_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from faults.rig.load import Key

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_retries", 0),
    ("grpc.min_reconnect_backoff_ms", 500),
)
SILENCE_S = 1.5
"""A stream in sync that says nothing for this long is dead; heartbeats here come every 100 ms."""
SYNC_S = 3.0
"""A stream that is not in sync yet may be silent for this long."""
PAUSE_S = 0.05
RETRY_S_MAX = 1.0


@dataclass(frozen=True)
class Wanted:
    """What a client watches."""

    sources: frozenset[str] = frozenset()
    keys: frozenset[Key] = frozenset()
    states: frozenset[int] = frozenset()

    def request(self, token: str = "") -> pb.WatchStatusRequest:
        """Write it as a request."""
        return pb.WatchStatusRequest(
            sources=sorted(self.sources),
            assets=[AssetRef(source=source, asset_id=asset_id) for source, asset_id in sorted(self.keys)],
            states=sorted(self.states),  # type: ignore[arg-type]  # the numbers of the enum
            resume_token=token,
        )

    def concerns(self, key: Key) -> bool:
        """Whether an asset was asked for."""
        return key in self.keys or key[0] in self.sources


@dataclass
class End:
    """How a stream ended. local: this side gave it up."""

    t: float
    code: str
    text: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)
    retry_s: float | None = None
    local: bool = False


@dataclass
class Stream:
    """One stream as it was: the token it began with, what came and when, how it ended."""

    opened_at: float
    token: str
    altered: bool = False
    messages: list[tuple[float, pb.WatchStatusResponse]] = field(default_factory=list)
    end: End | None = None


class Recorder:
    """One logical watch over any number of streams; keeps the map as the schema's comments say.

    numbers: of the change that each asset in the map shows. stay_s: how long the next stream is kept; None: to its end.
    """

    def __init__(self, name: str, address: Callable[[], str], wanted: Wanted) -> None:
        self.name = name
        self.wanted = wanted
        self.streams: list[Stream] = []
        self.map: dict[Key, Any] = {}
        self.numbers: dict[Key, int] = {}
        self.token = ""
        self.synced = False
        self.failed = ""
        self.stay_s: Callable[[], float] | None = None
        self._address = address

    async def run(self) -> None:
        """Watch until cancelled, or until an end that no client can do anything about."""
        while not self.failed:
            stream = Stream(time.monotonic(), self.token)
            self.streams.append(stream)
            try:
                async with asyncio.timeout(self.stay_s() if self.stay_s else None):
                    await self._follow(stream)
            except TimeoutError:
                stream.end = End(time.monotonic(), "CANCELLED", "left", local=True)
            await asyncio.sleep(self._pause_s(stream.end))

    async def _follow(self, stream: Stream) -> None:
        self.synced = False
        async with grpc.aio.insecure_channel(self._address(), options=OPTIONS) as channel:
            call = AssetStatusServiceStub(channel).WatchStatus(self.wanted.request(stream.token))
            try:
                while (message := await self._read(call)) is not grpc.aio.EOF:
                    stream.messages.append((time.monotonic(), message))
                    self.take(message)
                stream.end = End(time.monotonic(), "OK")
            except TimeoutError:
                stream.end = End(time.monotonic(), "CANCELLED", "silent", local=True)
            except grpc.aio.AioRpcError as error:
                stream.end = end_of(error)
            finally:
                call.cancel()

    async def _read(self, call: Any) -> Any:
        async with asyncio.timeout(SILENCE_S if self.synced else SYNC_S):  # wait_for may swallow a cancellation
            return await call.read()

    def take(self, message: pb.WatchStatusResponse) -> None:
        """Bring the map up to date."""
        if message.started.mode == pb.WatchStarted.MODE_SNAPSHOT:
            self.map.clear()
            self.numbers.clear()
            self.token = ""
        for change in message.changes:
            key = (change.status.asset.source, change.status.asset.asset_id)
            if change.kind == CHANGE_KIND_REMOVED:
                self.map.pop(key, None)
                self.numbers.pop(key, None)
            else:
                self.map[key] = change.status
                self.numbers[key] = number_of(change.status)
        self.token = message.resume_token or self.token
        self.synced = self.synced or message.HasField("synced")

    def _pause_s(self, end: End | None) -> float:
        """Do what the schema says about an end; return how long to pause."""
        if end is None or end.code == "OK":
            return 0.0
        if end.code == "OUT_OF_RANGE":
            self.token = ""
        elif end.code in {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}:
            self.failed = f"{end.code} {end.reason} {end.text}"
        return min(end.retry_s or PAUSE_S, RETRY_S_MAX)


class Churner(Recorder):
    """Opens streams of half a second, with a token of any moment before, or one with another revision."""

    def __init__(self, name: str, address: Callable[[], str], wanted: Wanted, *, rng: random.Random) -> None:
        super().__init__(name, address, wanted)
        self._rng = rng
        self._tokens: list[str] = []

    async def run(self) -> None:
        """Churn until cancelled."""
        while True:
            stream = self._opened()
            self.streams.append(stream)
            try:
                async with asyncio.timeout(self._rng.uniform(0.2, 0.8)):
                    await self._follow(stream)
            except TimeoutError:
                stream.end = End(time.monotonic(), "CANCELLED", "churned", local=True)
            self._tokens += [message.resume_token for _, message in stream.messages if message.resume_token]
            await asyncio.sleep(PAUSE_S)

    def _opened(self) -> Stream:
        roll = self._rng.random()
        if not self._tokens or roll < 0.15:
            return Stream(time.monotonic(), "")
        token = self._rng.choice(self._tokens)
        if roll < 0.6:
            return Stream(time.monotonic(), token)
        epoch, revision, digest = read_token(token)
        revision = max(0, revision + self._rng.randint(-100, 100))
        return Stream(
            time.monotonic(), resume_token.encode(epoch=epoch, revision=revision, digest=digest), altered=True
        )


class Stalled(Recorder):
    """Opens a stream and takes nothing until `released` is set; then reads on like anybody."""

    def __init__(self, name: str, address: Callable[[], str], wanted: Wanted) -> None:
        super().__init__(name, address, wanted)
        self.released = asyncio.Event()

    async def _follow(self, stream: Stream) -> None:
        if self.released.is_set():
            await super()._follow(stream)
            return
        async with grpc.aio.insecure_channel(self._address(), options=OPTIONS) as channel:
            call = AssetStatusServiceStub(channel).WatchStatus(self.wanted.request(stream.token))
            try:
                await self.released.wait()
                while (message := await self._read(call)) is not grpc.aio.EOF:
                    stream.messages.append((time.monotonic(), message))
                    self.take(message)
                stream.end = End(time.monotonic(), "OK")
            except TimeoutError:
                stream.end = End(time.monotonic(), "CANCELLED", "silent", local=True)
            except grpc.aio.AioRpcError as error:
                stream.end = end_of(error)
            finally:
                call.cancel()


async def cancel_at_random(address: str, wanted: Wanted, *, count: int, rng: random.Random, together: int = 50) -> int:
    """Open streams and cancel each after a moment, `together` at a time on a few channels; return how many began."""
    begun = 0
    channels = [grpc.aio.insecure_channel(address, options=OPTIONS) for _ in range(4)]
    gate = asyncio.Semaphore(together)

    async def once(number: int) -> None:
        nonlocal begun
        async with gate:
            call = AssetStatusServiceStub(channels[number % len(channels)]).WatchStatus(wanted.request())
            try:
                async with asyncio.timeout(rng.choice((0.0, 0.001, 0.01, 0.1, 1.0))):
                    while await call.read() is not grpc.aio.EOF:
                        begun += 1
            except (TimeoutError, grpc.aio.AioRpcError):
                pass
            finally:
                call.cancel()

    try:
        await asyncio.gather(*(once(number) for number in range(count)))
    finally:
        for channel in channels:
            await channel.close()
    return begun


def end_of(error: grpc.aio.AioRpcError) -> End:
    """Write down how a call ended."""
    end = End(time.monotonic(), error.code().name, error.details() or "")
    for packed in packed_details(error):
        end.details.append(packed.type_url.rpartition(".")[2])
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            end.reason = info.reason
            end.metadata = {**info.metadata, "domain": info.domain}
        if packed.Unpack(retry):
            end.retry_s = retry.retry_delay.ToMilliseconds() / 1000
    return end


def read_token(token: str) -> tuple[str, int, bytes]:
    """Look into a token, which no client may: epoch, revision, filter digest."""
    epoch, revision, digest = resume_token._decode(token)
    return epoch, revision, digest
